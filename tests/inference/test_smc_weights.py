"""Reweighting, resampling and scales of sequential Monte Carlo against NumPy.

Resampling is held to five standard errors at 200 particles (1e-4 together); the rest is exact up
to rounding.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnzoo.inference import smc_stages, smc_weights
from bnnzoo.inference.bridging import bridge
from bnnzoo.inference.smc_moves import (
    DRIFT,
    MOST_ROUNDS,
    Trajectories,
    found_rung,
    move_all,
)
from bnnzoo.inference.smc_stages import Sampling, next_stage
from bnnzoo.inference.smc_weights import bridged


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e8])
def test_reweighting_against_numpy(scale):
    ratio = (scale * np.random.default_rng(0).normal(size=400)).astype(np.float32)
    ratio[:100] = [-np.inf, np.nan] * 50
    new = smc_weights.reweight(jnp.asarray(ratio), jnp.float32(0.0), 0.5, jnp.bool_(False))
    delta, alive = float(new.beta), np.isfinite(ratio)
    exact = np.where(alive, np.exp(delta * (ratio - ratio[alive].max()).astype(float)), 0.0)
    increment = np.log(exact.mean()) + delta * float(ratio[alive].max())
    np.testing.assert_allclose(new.log_increment, increment, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(new.weights, exact / exact.sum(), rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(new.ess, exact.sum() ** 2 / (exact**2).sum(), rtol=1e-3)
    np.testing.assert_allclose(new.ess, 0.5 * 300, rtol=1e-2)
    jumped = smc_weights.reweight(jnp.asarray(ratio), jnp.float32(0.25), 0.5, jnp.bool_(True))
    assert float(jumped.beta) == 1.0
    np.testing.assert_allclose(jumped.ess, _ess(0.75 * ratio[alive].astype(float)), rtol=1e-3)


def _ess(log_weights):
    w = np.exp(log_weights - log_weights.max())
    return w.sum() ** 2 / (w**2).sum()


def test_resampling_is_systematic_ordered_and_never_takes_weight_zero():
    """A parent of weight w has floor(P w) or ceil(P w) children, P w on average (to 5 errors)."""
    weights = np.random.default_rng(1).exponential(size=200)
    weights[[0, 5, 199]] = 0.0
    weights /= weights.sum()
    keys = jax.random.split(jax.random.key(0), 4000)
    parents = np.asarray(
        jax.jit(jax.vmap(smc_weights.resample, in_axes=(0, None)))(keys, jnp.asarray(weights))
    )
    assert (np.diff(parents, axis=1) >= 0).all()
    children = np.stack([np.bincount(row, minlength=200) for row in parents])
    assert (children[:, weights == 0] == 0).all()
    assert (np.abs(children - 200 * weights) < 1 + 1e-3).all()
    assert (np.abs(children.mean(0) - 200 * weights) < 5 * 0.5 / np.sqrt(4000)).all()


def test_spreads_of_a_normal_are_variances_and_one_far_draw_does_not_count():
    """40,000 weighted draws; the mean absolute deviation is known to 0.4 %, its square to 0.8 %."""
    random = np.random.default_rng(2)
    u = random.normal(size=(40_000, 2)) * [1.0, 10.0]
    weights = random.uniform(size=40_000)
    u[0, 0], weights[0] = np.inf, 0.0
    u[1, 1] = 1e4
    spreads = smc_weights.spreads(jnp.asarray(u), jnp.asarray(weights / weights.sum()))
    np.testing.assert_allclose(spreads, [1.0, 100.0], rtol=0.07)


@pytest.mark.parametrize("apart", [0.5, 2.0])
def test_the_bridge_of_two_populations_is_that_of_draws_and_right(apart):
    """N(0, 1) to exp(a x - 3) N(0, 1): log ratio a^2 / 2 - 3, and a fifth of no density."""
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=4_000), apart + rng.normal(size=4_000)
    weights = [apart * x - 3.0 for x in (before, after)]
    found = float(bridged(*map(jnp.asarray, weights)))
    assert found == pytest.approx(bridge(weights[1][None], weights[0]).log_z, abs=1e-3)
    assert found == pytest.approx(apart**2 / 2 - 3.0, abs=0.1)  # four errors of 0.025
    dead = np.concatenate([weights[0], np.full(1_000, -np.inf)])
    assert float(bridged(jnp.asarray(dead), jnp.asarray(weights[1]))) == pytest.approx(
        found + np.log(0.8), abs=1e-4
    )


def _lagging(rounds, settled, seed=1):
    """Normal particles, the heights of which are low by three standard deviations, after moves."""
    trajectories = Trajectories(0.5, 0.2, 100, 0.8)
    rung = found_rung(jnp.ones(()), jnp.array(0.3), jnp.ones(1))
    rung = rung._replace(settled=jnp.array(settled), rounds=jnp.array(rounds, jnp.int32))
    u = 3.0 + jax.random.normal(jax.random.key(0), (256, 1))
    return move_all(
        lambda u: -0.5 * jnp.sum(u**2),
        lambda u: -u[0],
        u,
        -u[:, 0],
        jax.random.key(seed),
        trajectories=trajectories,
        rung=rung,
        count=2,
        at_once=128,
    )


def test_a_population_is_moved_until_it_has_arrived():
    """Five rounds or more take the mean to zero within 5 standard errors; one alone does not."""
    moved = _lagging(0, False)
    assert 5 <= int(moved.rounds) < MOST_ROUNDS
    assert int(moved.needed) == int(moved.rounds)
    assert float(moved.memory[-1]) <= 2 / 16 and float(moved.rise) <= DRIFT
    assert abs(float(moved.u.mean())) < 5 / 16
    alone = _lagging(1, True)
    assert int(alone.rounds) == 1
    assert float(alone.u.mean()) > 1.0


def test_a_settled_rung_is_moved_alike_whatever_its_particles():
    """Rounds and step sizes are the rung's, or what they did would depend on where they went."""
    found = [_lagging(5, True, seed) for seed in (1, 2)]
    assert [int(moved.rounds) for moved in found] == [5, 5]
    assert float(found[0].used) == float(found[1].used)
    assert float(found[0].acceptance) != float(found[1].acceptance)


def test_modes_that_no_trajectory_joins_are_not_moved_for_nothing():
    """Equal modes of different height: particles remember theirs, and rounds end all the same."""
    u = jnp.repeat(jnp.array([[-50.0], [50.0]]), 128, 0) + jax.random.normal(
        jax.random.key(0), (256, 1)
    )
    moved = move_all(
        lambda u: -0.5 * (jnp.abs(u[0]) - 50.0) ** 2,
        lambda u: jnp.where(u[0] > 0, 9.0, 0.0) + jnp.sin(u[0]),
        u,
        jnp.where(u[:, 0] > 0, 9.0, 0.0) + jnp.sin(u[:, 0]),
        jax.random.key(1),
        trajectories=Trajectories(1.5, 0.2, 100, 0.8),
        rung=found_rung(jnp.ones(()), jnp.array(0.5), jnp.ones(1)),
        count=5,
        at_once=128,
    )
    assert float(moved.memory[-1]) > 0.5
    assert int(moved.rounds) < MOST_ROUNDS / 3


def _opened(u):
    """The door: 12 nats more where one draw of N(0, 1) in 740 is."""
    return 12.0 * jax.nn.sigmoid(4.0 * (u[0] - 3.0))


def _path(beta):
    return lambda u: -0.5 * u[0] ** 2 + beta * _opened(u)


@pytest.mark.parametrize("looks_back", [True, False])
def test_a_part_of_the_next_density_that_no_weight_has_seen_is_seen_from_behind(
    looks_back, monkeypatch
):
    """Weights of 256 draws say that one stage will do, which is nats too low by quadrature.

    Stages that are cut where bridges disagree are right within 0.5, with six other seeds by hand
    as well; with two of these a draw was beyond the door, and one stage was right too.
    """
    if not looks_back:
        monkeypatch.setattr(smc_stages, "GAP", math.inf)
    sampling = Sampling(0.5, Trajectories(1.5, 0.2, 100, 0.8), 5, 128)

    @jax.jit
    def stage(u, beta, key):
        size, jump = jnp.array(0.5), jnp.zeros((), bool)
        done = next_stage(
            _path, _opened, u, key, sampling=sampling, beta=beta, step_size=size, jump=jump
        )
        return done.moved.u, done.weighed.beta, done.weighed.log_increment

    u = jax.random.normal(jax.random.key(2), (256, 1))
    beta, log_z, stages = jnp.zeros(()), 0.0, 0
    while beta < 1.0:
        u, beta, rise = stage(u, beta, jax.random.fold_in(jax.random.key(3), stages))
        log_z, stages = log_z + float(rise), stages + 1
    x = np.linspace(-10, 20, 30_001)
    density = np.exp(-0.5 * x**2 + 12.0 / (1.0 + np.exp(-4.0 * (x - 3.0)))) / np.sqrt(2 * np.pi)
    truth = math.log(np.trapezoid(density, x))
    if looks_back:
        assert stages > 2
        assert log_z == pytest.approx(truth, abs=0.5)
    else:
        assert log_z < truth - 1.0
