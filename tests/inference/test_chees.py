"""ChEES by single chains: its gradient, what it settles at, what never enters it.

On a Gaussian with standard deviations s_i and flow times t uniform on (0, 2 L) the criterion is
C(L) = sum_i s_i^4 (1/2 - s_i sin(4 L / s_i) / (8 L)), its first maximum the length to be found.

The gradient is a mean of independent draws: 5 standard errors, 6e-7 each, 3 of them. A chain's log
length after 1000 steps has a standard deviation of 0.1 over seeds (24 chains of each target), hence
a mean of 8 chains 0.035: it may be off by 0.15, that is four of them (6e-5 each, 2 of them) and a
little bias. Scores of a run's moments are bounded by 5.5: 1e-7 each, 60 of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bnnzoo as bz
from bnnzoo.errors import OptionError
from bnnzoo.inference import chees
from bnnzoo.inference.backend import Stage
from bnnzoo.models import Posterior

sys.path.insert(0, str(Path(__file__).parent))
import _closed_forms as forms
from _estimates import SEEDS, effective_draws
from _scores import worst_score

DEVIATIONS = {
    "spread": np.geomspace(0.1, 1.0, 20),
    "one long axis": np.r_[np.full(19, 0.2), 1.0],
}
WARMUP = 1000


def criterion(length, s):
    """C(L), as above."""
    return np.sum(s**4 * (0.5 - s * np.sin(4.0 * length / s) / (8.0 * length)))


def best_length(s):
    """The first maximum."""
    lengths = np.geomspace(0.05, 10.0, 20_001)
    values = np.array([criterion(length, s) for length in lengths])
    return lengths[np.argmax(np.diff(values) < 0)]


def gaussian(s):
    def model(x, y=None):
        numpyro.sample("w", dist.Normal(0.0, jnp.asarray(s)).to_event(1))
        numpyro.sample("y", dist.Normal(0.0 * x[:, 0], 1.0), obs=y)

    data = bz.make_dataset(np.arange(3.0)[:, None], np.arange(3.0), task="regression")
    return Posterior(model, data)


def hmc(**options):
    return bz.registry.get("backends", "hmc").build(options)


@jax.jit
def steps(backend, post, stages, keys):
    """Positions, leapfrogs and tuned length of steps in the unit metric, chain by chain."""

    def chain(key):
        def one(state, given):
            stage, i = given
            state, step = backend.step(post, state, stage, jax.random.fold_in(key, i))
            length = state.chain.length
            log_length = jnp.nan if length is None else length.log_average
            return state, (step.u, step.stats["n_steps"], jnp.exp(log_length))

        return jax.lax.scan(one, backend.init(post, post.initial(key)), (stages, numbers))[1]

    numbers = jnp.arange(stages.shape[0])
    return jax.lax.map(chain, keys)


def run(post, backend, draws, seed, chains):
    """Draws after a warm-up of fast stages alone, which leave the metric as it is."""
    stages = np.r_[np.full(WARMUP, Stage.FAST), np.full(draws, Stage.SAMPLE)].astype(np.int32)
    keys = jax.random.split(jax.random.key(seed), chains)
    u, leapfrogs, lengths = map(np.asarray, steps(backend, post, jnp.asarray(stages), keys))
    return u[:, WARMUP:], leapfrogs[:, WARMUP:], lengths


# -- the gradient ------------------------------------------------------------------------------


def flow(key, s, length, mean):
    """A stationary point, its image under the exact flow of a Gaussian, and the momentum there."""
    key_x, key_p, key_t = jax.random.split(key, 3)
    z = jax.random.normal(key_x, s.shape)
    p = jax.random.normal(key_p, s.shape)
    t = 2.0 * length * jax.random.uniform(key_t)
    angle = t / s
    before, after = mean + s * z, mean + s * (z * jnp.cos(angle) + p * jnp.sin(angle))
    return before, after, p * jnp.cos(angle) - z * jnp.sin(angle), t


@pytest.mark.parametrize("length", [0.3, 0.9, 1.6])
def test_the_gradient_is_the_slope_of_the_criterion(length):
    s, mean = jnp.array([0.5, 1.0, 1.4]), jnp.array([1.0, -2.0, 0.3])

    def one(key):
        before, after, momentum, t = flow(key, s, length, mean)
        return chees.gradient(mean, before, after, momentum, t, jnp.ones(3))

    drawn = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 400_000))
    drawn = np.asarray(drawn, float)
    h = 1e-5
    s = np.asarray(s, float)
    up, down = criterion(length * np.exp(h), s), criterion(length * np.exp(-h), s)
    error = drawn.std() / np.sqrt(drawn.size)
    score = (drawn.mean() - (up - down) / (2.0 * h)) / error
    print(f"L = {length}: slope {(up - down) / (2 * h):+.3f}, error {error:.3f}, z {score:+.2f}")
    assert abs(score) < 5.0
    assert abs((up - down) / (2.0 * h)) > 20 * error, "a wrong sign or factor would be seen"


def test_a_metric_is_a_change_of_units():
    """Under x = A z the gradient of z in the unit metric is that of x in the metric A A'."""
    before, after, momentum = jax.random.normal(jax.random.key(1), (3, 4))
    centre = jnp.arange(4.0)
    plain = chees.gradient(centre, before, after, momentum, jnp.float32(0.7), jnp.ones(4))
    scale = jnp.array([0.1, 1.0, 3.0, 20.0])
    a = jnp.tril(jax.random.normal(jax.random.key(2), (4, 4)), -1) + jnp.diag(scale)
    for change, metric in ((jnp.diag(scale), scale**2), (a, a @ a.T)):
        moved = chees.gradient(
            change @ centre, change @ before, change @ after,
            jnp.linalg.solve(change.T, momentum), jnp.float32(0.7), metric,
        )  # fmt: skip
        np.testing.assert_allclose(moved, plain, rtol=2e-2)


# -- what it settles at ------------------------------------------------------------------------


@pytest.mark.parametrize("target", DEVIATIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_chains_settle_at_the_first_maximum(target, seed):
    s = DEVIATIONS[target]
    _, _, lengths = run(gaussian(s), hmc(trajectory="chees"), 0, seed, 8)
    best, found = best_length(s), lengths[:, -1]
    print(f"{target}: best {best:.3f}, found {np.round(np.sort(found), 2)}")
    assert abs(np.mean(np.log(found / best))) < 0.15
    assert np.all(np.abs(np.log(found / best)) < 0.6)


@pytest.mark.parametrize(
    "target", ["spread", pytest.param("one long axis", marks=pytest.mark.validate)]
)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_tuned_length_is_worth_the_best_of_a_grid(target, seed):
    """Effective draws a gradient: at least 0.6 of the best fixed length with the same jitter.

    A chain off by a factor of 1.3 loses at most as much, 0.77: too long a length costs in
    proportion, and so does too short a one. The ratio of two effective sizes of 4 x 3000 draws has
    a standard error of about 5 %, and the best of a grid is some 5 % too high: 0.6 is three such
    errors further down. A length of 4 reaches 0.3.
    """
    post = gaussian(DEVIATIONS[target])

    def worth(**options):
        u, leapfrogs, _ = run(post, hmc(**options), 3000, seed, 4)
        return effective_draws(u) / leapfrogs.sum()

    grid = {length: worth(trajectory=length, jitter=1.0) for length in (0.5, 0.7, 1.0, 1.4, 4.0)}
    ratio = worth(trajectory="chees") / max(grid.values())
    far = grid[4.0] / max(grid.values())
    print(f"{target}: tuned {ratio:.2f} of the best of the grid, a length of 4 {far:.2f}")
    assert ratio > 0.6 > 0.45 > far


# -- what never enters it ----------------------------------------------------------------------


BOUNDS = (jnp.float32(0.1), jnp.float32(2.0))


def honest(i):
    """The i-th of some trajectories between independent points."""
    before, proposal, momentum = jax.random.normal(jax.random.key(i), (3, 3))
    return {
        "before": before,
        "proposal": proposal,
        "momentum": momentum,
        "acceptance": jnp.float32(0.9),
        "travelled": jnp.float32(0.5),
    }


def taken_in(stage=Stage.SLOW, **changes):
    """A state after 50 honest steps, and after one more that ``changes`` describe."""
    state = chees.init(jnp.zeros(3))
    rest = {"metric": jnp.ones(3), "bounds": BOUNDS}
    for i in range(50):
        state = chees.update(state, jnp.int32(Stage.SLOW), **honest(i), **rest)
    return state, chees.update(state, jnp.int32(stage), **(honest(50) | changes), **rest)


NOT_FINITE = [jnp.nan, jnp.inf, -jnp.inf]


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("where", ["proposal", "momentum", "acceptance", "travelled", "before"])
def test_what_is_not_finite_changes_nothing(where, bad):
    shape = () if where in ("acceptance", "travelled") else (3,)
    state, after = taken_in(**{where: jnp.full(shape, bad, jnp.float32)})
    jax.tree.map(np.testing.assert_array_equal, state, after)


def test_a_rejected_or_sampling_step_changes_nothing_and_an_honest_one_does():
    for changes in ({"acceptance": jnp.float32(0.0)}, {"stage": Stage.SAMPLE}):
        state, after = taken_in(**changes)
        jax.tree.map(np.testing.assert_array_equal, state, after)
    state, after = taken_in()
    assert all(np.any(a != b) for a, b in zip(state[:5], after[:5], strict=True))
    assert chees.length(after, jnp.int32(Stage.SAMPLE)) == jnp.exp(after.log_average)
    assert chees.length(after, jnp.int32(Stage.FAST)) == jnp.exp(after.log_length)


def test_the_search_starts_again_with_a_new_metric_but_the_last():
    _, after = taken_in(Stage.SLOW_END)
    assert after.log_length == jnp.log(chees.START) and after.updates == 0 and after.windows == 1
    later = after
    for i in range(3):
        later = chees.update(
            later, jnp.int32(Stage.SLOW_END), **honest(i), metric=jnp.ones(3), bounds=BOUNDS
        )
    assert later.updates == 3 and later.windows == 4 and later.log_length != after.log_length
    ends = int(np.sum(hmc().schedule(1000) == Stage.SLOW_END))
    assert ends == 5 and hmc().planned(1000).restarts == 4
    assert hmc().planned(100).restarts == hmc().planned(0).restarts == 1


@pytest.mark.validate
def test_lengths_stay_within_bounds_on_a_density_with_holes():
    """NaN beyond a wall: divergent and impossible proposals abound."""

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([5]).to_event(1))
        mean = jnp.where(jnp.abs(w).max() > 1.0, jnp.nan, 0.0) * x[:, 0]
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    post = Posterior(model, gaussian(np.ones(1)).data)
    backend = jax.tree.map(jnp.asarray, hmc(trajectory="chees", max_steps=50))
    state = jax.jit(backend.init)(post, jnp.zeros(5))
    step = jax.jit(lambda state, key: backend.step(post, state, jnp.int32(Stage.FAST), key))
    refused = 0
    for i in range(300):
        state, out = step(state, jax.random.fold_in(jax.random.key(3), i))
        length, size = state.chain.length, out.stats["step_size"]
        refused += int(out.stats["acceptance_rate"] == 0)
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(length))
    assert 0.99 * size <= jnp.exp(length.log_length) <= 51 * size
    assert refused > 20 and length.updates > 50


# -- in a run ----------------------------------------------------------------------------------


@pytest.mark.validate
@pytest.mark.parametrize("seed", SEEDS)
def test_draws_with_a_tuned_length_have_the_closed_form(seed):
    data = forms.regression_data()
    for T in (1.0, 0.3, 0.1):
        fitted = bz.fit(
            forms.known_noise, data, "hmc", chains=4, draws=4000, warmup=500, seed=seed,
            posterior_temperature=T, dtype="float64", progress=False, trajectory="chees",
        )  # fmt: skip
        draws = forms.known_noise_draws(fitted)
        score = worst_score(draws, *forms.known_noise_moments(data, T, 1.0))
        print(f"known noise, T={T}: worst of 20 scores {score:.2f}")
        assert score < 5.5


def test_a_length_is_a_number_or_chees():
    for wrong in ("cheese", -1.0, float("inf"), float("nan")):
        with pytest.raises(OptionError, match="should be a number above 0, or 'chees'"):
            hmc(trajectory=wrong)
    assert hmc(trajectory=2).trajectory == 2.0
    assert hmc(trajectory="chees").jitter == 1.0 and hmc().jitter == 0.2
    assert hmc(trajectory="chees", jitter=0.5).jitter == 0.5
