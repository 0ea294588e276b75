"""Sequential Monte Carlo against closed forms: evidence, moments, weights of modes, failures.

Errors are judged by the spread of independent runs (a chain is one), which needs no model of the
particles' dependence: a mean of R runs is compared with the exact value by Student's t with R - 1
degrees of freedom, at a false-alarm rate of ALARM = 1e-6 a comparison. There are under 300 of
them, so this file fails by chance less than once in 3000 times. Every such test also holds the
standard error itself under a bar, so that a useless estimate does not pass.
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
from scipy import special, stats

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.inference import loop, smc_stages, smc_weights
from bnnzoo.inference.backend import Stage
from bnnzoo.models import Posterior

sys.path.insert(0, str(Path(__file__).parent))

import _closed_forms as forms

ALARM = 1e-6
RUNS = 32
TEMPERATURES = [(1.0, 1.0), (0.3, 1.0), (0.1, 1.0), (2.0, 0.5)]


def known_noise_normaliser(data, T, L):
    """log of the integral of N(y; x w, noise^2)^(1/TL) N(w; 0, s^2)^(1/T)."""
    n, d = data.x.shape
    mean, covariance = forms.known_noise_moments(data, T, L)
    squares = mean @ np.linalg.solve(covariance, mean)
    return (
        -(n * np.log(2 * np.pi * forms.NOISE**2) + data.y @ data.y / forms.NOISE**2) / (2 * T * L)
        - d * np.log(2 * np.pi * forms.PRIOR_STD**2) / (2 * T)
        + 0.5 * (squares + d * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1])
    )


def unknown_noise_normaliser(data, T, L):
    """The same of the normal-inverse-gamma model, in whose prior w | v is N(0, T v s^2)."""
    x, y = data.x, data.y
    n, d = x.shape
    precision = x.T @ x / (T * L) + np.eye(d) / (forms.PRIOR_STD**2 * T)
    mean = np.linalg.solve(precision, x.T @ y) / (T * L)
    shape = (forms.SHAPE + 1.0) / T - 1.0 + n / (2 * T * L)
    rate = forms.RATE / T + 0.5 * (y @ y / (T * L) - mean @ precision @ mean)
    return (
        (forms.SHAPE * np.log(forms.RATE) - special.gammaln(forms.SHAPE)) / T
        - n * np.log(2 * np.pi) / (2 * T * L)
        - 0.5 * (d * np.log(T * forms.PRIOR_STD**2) + np.linalg.slogdet(precision)[1])
        + special.gammaln(shape)
        - shape * np.log(rate)
    )


MODELS = {
    "known": (
        forms.known_noise,
        forms.known_noise_moments,
        forms.known_noise_draws,
        known_noise_normaliser,
    ),
    "unknown": (
        forms.unknown_noise,
        forms.unknown_noise_moments,
        forms.unknown_noise_draws,
        unknown_noise_normaliser,
    ),
}


@pytest.fixture(scope="module")
def data():
    return forms.regression_data()


def sample(model, data, T=1.0, L=1.0, **settings):
    sizes = {"chains": RUNS, "particles": 256, "draws": 256, "warmup": 40, "seed": 0}
    settings = sizes | settings
    return bz.fit(
        model,
        data,
        "smc",
        posterior_temperature=T,
        likelihood_temperature=L,
        dtype="float64",
        progress=False,
        **settings,
    )


def log_normalisers(run):
    """Each run's estimate of log Z."""
    return run.tree["sample_stats"]["log_normaliser"].to_numpy()[:, -1]


def assert_mean(values, exact, largest_error, said=""):
    """The mean over runs ``(run, quantity)`` is exact, as far as the spread of the runs tells."""
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    t = (values.mean(0) - exact) / error
    bound = stats.t.isf(ALARM / 2, len(values) - 1)
    said = f"{said}: |t| up to {np.abs(t).max():.2f} of {bound:.2f}, error {error.max():.3g}"
    print(said)
    assert (error < largest_error).all(), said
    assert (np.abs(t) < bound).all(), said


def assert_normaliser(run, exact, largest_error, said=""):
    """The mean of Z / exact Z is 1."""
    assert_mean(np.exp(log_normalisers(run) - exact)[:, None], 1.0, largest_error, said)


def moments_by_run(draws, mean, covariance):
    """First and second moments of each run in whitened coordinates ``(run, moment)``."""
    d = len(mean)
    z = (draws - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    second = (z[..., :, None] * z[..., None, :]).mean(1)[:, *np.triu_indices(d)]
    return np.concatenate([z.mean(1), second], 1), np.append(
        np.zeros(d), np.eye(d)[np.triu_indices(d)]
    )


@pytest.mark.validate
@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("seed", range(11))
def test_normaliser_and_moments_at_every_temperature(seed, which, data):
    model, exact_moments, extract, normaliser = MODELS[which]
    for T, L in TEMPERATURES:
        run = sample(model, data, T, L, seed=seed)
        said = f"{which} noise, T={T}, L={L}"
        assert_normaliser(run, normaliser(data, T, L), 0.1, said)
        estimated, exact = moments_by_run(extract(run), *exact_moments(data, T, L))
        assert_mean(estimated, exact, 0.05, said)
        beta = run.tree["warmup_sample_stats"]["beta"].to_numpy()
        assert (np.diff(beta) >= 0).all() and (beta[:, 0] < 0.1).all() and (beta[:, -1] == 1).all()
        assert run.manifest["flags"] == []


def without_one_increment(log_ratio, beta, *given):
    """A planted bug: what the first stage adds to log Z is forgotten."""
    new = smc_weights.reweight(log_ratio, beta, *given)
    return new._replace(log_increment=jnp.where(beta == 0, 0.0, new.log_increment))


def without_resampling(key, weights):
    """A planted bug: weights are counted in log Z and then forgotten."""
    return jnp.arange(weights.size)


@pytest.mark.validate
@pytest.mark.parametrize(
    ("name", "bug"),
    [("reweight", without_one_increment), ("resample", without_resampling)],
)
def test_planted_bugs_are_caught(name, bug, data, monkeypatch):
    monkeypatch.setattr(smc_stages, name, bug)
    particles = {"reweight": 250, "resample": 251}[name]  # that no other test has: compiled anew
    run = sample(forms.known_noise, data, particles=particles, moves=2, at_once=251)
    with pytest.raises(AssertionError):
        assert_normaliser(run, known_noise_normaliser(data, 1.0, 1.0), 10.0)


SMALL = {"particles": 64, "chains": 256, "draws": 1, "warmup": 60}


@pytest.mark.validate
def test_normaliser_is_unbiased_and_its_spread_over_chains_is_its_error(data):
    """Many small runs, where log Z is off by half a nat.

    Adaptation leaves a bias of order 1/particles in Z, well under the standard error here. The sum
    of squared errors of log Z over that of deviations within groups of 8 is held to the quantiles
    of F at ALARM: log Z is about normal. Its mean is low by half its variance.
    """
    run = sample(forms.known_noise, data, **SMALL)
    error = log_normalisers(run) - known_noise_normaliser(data, 1.0, 1.0)
    assert 0.2 < error.std() < 0.7
    assert_mean(np.exp(error)[:, None], 1.0, 0.05, "Z")
    assert_mean((error + error.var(ddof=1) / 2)[:, None], 0.0, 0.05, "log Z + variance / 2")
    groups = (error + error.var() / 2).reshape(-1, 8)
    ratio = np.mean(groups**2) / np.mean(groups.var(1, ddof=1))
    law = stats.f(groups.size, groups.size - len(groups))
    print(f"squared error over squared spread: {ratio:.3f}")
    assert law.ppf(ALARM / 2) < ratio < law.isf(ALARM / 2)


# -- several modes -----------------------------------------------------------------------------

SEPARATION, WIDTH, SHARE = 2.0, 0.3, 0.6
TWO_ROWS = bz.make_dataset(np.zeros((2, 1)), np.array([0.1, -0.1]), task="regression")


def two_modes(x, y=None):
    """w near -2 or near 2, twelve widths apart from the ridge between them."""
    w = numpyro.sample("w", dist.Normal(0.0, 2.0))
    centres = jnp.stack([w - SEPARATION, w + SEPARATION])
    mixing = dist.Categorical(probs=jnp.array([SHARE, 1.0 - SHARE]))
    law = dist.MixtureSameFamily(mixing, dist.Normal(centres, WIDTH))
    numpyro.deterministic("f", jnp.zeros(x.shape[0]))
    numpyro.sample("y", law.expand([x.shape[0]]), obs=y)


def two_modes_exact(T):
    """Probability of the right mode and log normaliser, by quadrature."""
    w = np.linspace(-6.0, 6.0, 200_001)
    y = TWO_ROWS.y[:, None]
    terms = [
        np.log(share) + stats.norm.logpdf(y, w + sign * SEPARATION, WIDTH)
        for share, sign in ((SHARE, -1), (1.0 - SHARE, 1))
    ]
    log_p = (np.logaddexp(*terms).sum(0) + stats.norm.logpdf(w, 0.0, 2.0)) / T
    p = np.exp(log_p - log_p.max())
    return p[w > 0].sum() / p.sum(), log_p.max() + np.log(p.sum() * (w[1] - w[0]))


def share_of_right(run):
    return (run.tree["posterior"]["w"].to_numpy() > 0).mean(1)


@pytest.mark.validate
@pytest.mark.parametrize("seed", range(11))
def test_weights_of_two_modes_where_hmc_stays_in_one(seed):
    hmc = bz.fit(two_modes, TWO_ROWS, "hmc", chains=4, draws=1000, seed=seed, progress=False)
    assert set(share_of_right(hmc)) <= {0.0, 1.0}
    for T in (1.0, 0.3):
        run = sample(two_modes, TWO_ROWS, T, seed=seed)
        share, normaliser = two_modes_exact(T)
        assert 0.05 < share < 0.95 or T < 1.0
        shares = share_of_right(run)
        assert_mean(shares[:, None], share, 0.02, f"share of the right mode, T={T}")
        # 400 runs gave 1.6 times the binomial spread at T = 1: three times is once in 1e10.
        assert shares.std() < 3 * np.sqrt(share * (1 - share) / 256)
        assert_normaliser(run, normaliser, 0.1, f"two modes, T={T}")


# -- warm-up too short -------------------------------------------------------------------------


@pytest.mark.validate
@pytest.mark.parametrize("warmup", [0, 5])
def test_a_warm_up_too_short_jumps_to_the_target_and_says_so(warmup, data):
    """The jump is a stage like any other, with few particles left: Z stays right."""
    run = sample(forms.known_noise, data, warmup=warmup, draws=20)
    assert (run.tree["sample_stats"]["beta"].to_numpy() == 1).all()
    flags = run.manifest["flags"]
    assert {f["chain"] for f in flags if f["kind"] == "unconverged"} == set(range(RUNS))
    assert "the jump to 1 left" in flags[0]["message"]
    if warmup:
        beta = run.tree["warmup_sample_stats"]["beta"].to_numpy()
        assert (beta[:, -2] < 0.5).all() and (beta[:, -1] == 1).all()
        assert_normaliser(run, known_noise_normaliser(data, 1.0, 1.0), 0.5)


# -- stopped and resumed, threads and vmap -----------------------------------------------------


@pytest.mark.validate
def test_a_run_stopped_within_a_segment_of_tempering_resumes_to_the_same_draws(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "SEGMENT_STEPS", 7)
    settings = {"chains": 2, "draws": 80, "warmup": 20, "particles": 64, "seed": 4}
    whole = sample(forms.known_noise, data, **settings)
    assert 7 < (whole.tree["warmup_sample_stats"]["beta"].to_numpy() < 1).sum(1).min() < 14
    folder = tmp_path / "run"
    with pytest.raises(bz.errors.RunError, match="before the first draw"):
        sample(forms.known_noise, data, out=folder, max_time=0.0, **settings)
    stops = 0
    while True:
        try:
            run = bz.resume(folder, forms.known_noise, progress=False, max_time=1e-6)
        except bz.errors.RunError:
            stops += 1
            continue
        if run.manifest["state"] == "complete":
            break
    assert stops >= 1
    for group in ("posterior", "sample_stats", "warmup_sample_stats"):
        for name in whole.tree[group].data_vars:
            expected = whole.tree[group][name].to_numpy()
            np.testing.assert_array_equal(run.tree[group][name].to_numpy(), expected, err_msg=name)


@pytest.mark.validate
def test_vmapped_chains_in_other_batches_are_the_same_chains(data, monkeypatch):
    """In float64 rounding does not grow enough in a dozen stages to turn a rejection."""
    settings = {"chains": 2, "draws": 20, "warmup": 20, "particles": 64, "seed": 4}
    ours = sample(forms.known_noise, data, **settings)
    monkeypatch.setattr(loop, "chains_on_threads", lambda: False)
    theirs = sample(forms.known_noise, data, at_once=40, **settings)
    for group, name in (("posterior", "w"), ("sample_stats", "log_normaliser")):
        np.testing.assert_allclose(theirs.tree[group][name], ours.tree[group][name], rtol=1e-6)
    for name in ("n_steps", "ancestors"):
        np.testing.assert_array_equal(
            theirs.tree["sample_stats"][name], ours.tree["sample_stats"][name]
        )


# -- one step at a time ------------------------------------------------------------------------


def steps(posterior, backend, stages, seed=0):
    """Final state and stacked reports of some steps, without the loop."""

    @jax.jit
    def step(posterior, state, stage, key):
        return backend.step(posterior, state, stage, key)

    state = backend.init(posterior, jnp.zeros(posterior.dimension, posterior.x.dtype))
    reports = []
    for i, stage in enumerate(stages):
        key = jax.random.fold_in(jax.random.key(seed), i)
        state, report = step(posterior, state, jnp.int32(stage), key)
        reports.append(report)
    return state, jax.tree.map(lambda *leaves: np.stack(leaves), *reports)


def build(**options):
    return registry.get("backends", "smc").build(options)


def cut_off(x, y=None):
    """A standard normal that only counts above 1.5: no likelihood for 93 % of the prior."""
    w = numpyro.sample("w", dist.Normal())
    numpyro.factor("support", jnp.where(w > 1.5, 0.0, -jnp.inf))
    numpyro.sample("y", dist.Normal(0.0, 1.0).expand([x.shape[0]]), obs=y)


def impossible(x, y=None):
    w = numpyro.sample("w", dist.Normal())
    numpyro.factor("support", jnp.where(w > 50.0, 0.0, -jnp.inf))
    numpyro.sample("y", dist.Normal(0.0, 1.0).expand([x.shape[0]]), obs=y)


@pytest.mark.validate
def test_a_likelihood_that_most_of_the_prior_does_not_have():
    """2000 prior draws: Z is a binomial share, held to 5 standard errors (6e-7)."""
    posterior = Posterior(cut_off, TWO_ROWS)
    state, reports = steps(posterior, build(particles=2000, at_once=2000), [Stage.SLOW] * 3)
    assert (reports.stats["beta"] == 1).all(), "the survivors' weights are equal"
    assert (state.u > 1.5).all()
    p = stats.norm.sf(1.5)
    z = np.exp(reports.stats["log_normaliser"][-1] - stats.norm.logpdf(TWO_ROWS.y).sum())
    assert abs(z - p) < 5 * np.sqrt(p * (1 - p) / 2000)
    assert abs(reports.stats["ess"][0] / 2000 - z) < 1e-4


@pytest.mark.validate
def test_no_prior_draw_with_a_likelihood_stops_the_chain_as_nan():
    _, reports = steps(Posterior(impossible, TWO_ROWS), build(particles=50), [Stage.SLOW] * 2)
    assert np.isnan(reports.u).all()
    assert (reports.stats["log_normaliser"] == -np.inf).all()


@pytest.mark.validate
def test_gradients_are_counted_exactly(data):
    """A callback counts the backward passes through the likelihood, of which a gradient of the path
    has one. Passes for weights and heights have none."""
    passes = []

    @jax.custom_vjp
    def seen(w):
        return w

    def backward(_, slope):
        jax.debug.callback(lambda _: passes.append(1), slope[0])
        return (slope,)

    seen.defvjp(lambda w: (w, None), backward)

    def counting(x, y=None):
        w = numpyro.sample("w", dist.Normal(0.0, 1.5).expand([forms.FEATURES]).to_event(1))
        numpyro.sample("y", dist.Normal(x @ seen(w), forms.NOISE), obs=y)

    posterior, backend = Posterior(counting, data), build(particles=20, at_once=20)
    stages = [Stage.SLOW] * 15 + [Stage.SAMPLE] * 5
    passes.clear()
    _, reports = steps(posterior, backend, stages)
    jax.effects_barrier()
    tempering = int((np.append(0, reports.stats["beta"][:-1]) < 1).sum())
    assert 3 < tempering < 15
    assert len(passes) == backend.gradients(reports.stats)


# -- refusals and flags ------------------------------------------------------------------------


def improper(x, y=None):
    w = numpyro.sample("w", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.sample("y", dist.Normal(w, 1.0).expand([x.shape[0]]), obs=y)


def masked(x, y=None):
    w = numpyro.sample("w", dist.Normal().expand([2]).mask(jnp.array([True, False])).to_event(1))
    numpyro.sample("y", dist.Normal(w[0], 1.0).expand([x.shape[0]]), obs=y)


@pytest.mark.parametrize(
    ("model", "reason"), [(improper, "cannot be drawn from; nuts and hmc"), (masked, "is masked")]
)
def test_priors_that_give_no_particles_are_refused(model, reason):
    with pytest.raises(bz.errors.InputError, match=f"site 'w' {reason}"):
        bz.fit(model, TWO_ROWS, "smc", progress=False)


def test_flags():
    backend = build(particles=100)
    warmup = {
        "beta": np.array([0.1, 0.4, 1.0, 1.0]),
        "ess": np.array([50.0, 50.0, 60.0, 100.0]),
        "acceptance_rate": np.array([0.9, 0.8, 0.7, 0.8]),
        "gap": np.array([0.3, -0.1, 0.3, 0.0]),
    }
    draws = {
        "beta": np.ones(5),
        "ess": np.full(5, 100.0),
        "acceptance_rate": np.full(5, 0.8),
        "ancestors": np.full(5, 30.0),
        "gap": np.zeros(5),
    }

    def kinds(draws, warmup):
        return [(flag.kind, flag.message.split()[0]) for flag in backend.flags(draws, warmup)]

    assert kinds(draws, warmup) == []
    jumped = {name: values[:3] for name, values in warmup.items()}
    assert kinds(draws, jumped) == [], "it arrived in its last step with weights to spare"
    jumped["ess"] = np.array([50.0, 50.0, 4.0])
    assert kinds(draws, jumped) == [("unconverged", "tempering")]
    assert "beta = 0.4" in backend.flags(draws, jumped)[0].message
    assert kinds(draws | {"ancestors": np.full(5, 3.0)}, warmup) == [("warning", "the")]
    # 3.2 standard deviations of the product of mean weights, sqrt(2 / 50 + 1 / 60 - 3 / 100).
    lags = warmup | {"gap": np.array([0.3, -0.1, 0.34, 9.0])}
    assert kinds(draws, lags) == [("warning", "by")]
    assert "0.54 nats higher" in backend.flags(draws, lags)[0].message
    still = warmup | {"acceptance_rate": np.array([0.9, 0.05, 0.7, 0.0])}
    assert kinds(draws, still) == [("warning", "acceptance")]
    assert "0.05 at beta = 0.4" in backend.flags(draws, still)[0].message
    assert kinds(draws | {"acceptance_rate": np.full(5, 0.1)}, warmup) == [("stuck", "acceptance")]
