"""Schedules of steps and temperatures, cycles and their metric, against papers and loops."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bnnzoo as bz
from bnnzoo.inference import step_schedules
from bnnzoo.inference.cyclical import layerwise
from bnnzoo.inference.stochastic_gradient import Place

sys.path.insert(0, str(Path(__file__).parent))

import _stochastic as lin

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))


def test_the_schedules_are_those_of_the_papers():
    k = np.arange(10.0)
    cosine = np.array([step_schedules.cosine(jnp.asarray(i), 10) for i in k])
    np.testing.assert_allclose(cosine, 0.5 * (np.cos(np.pi * np.mod(k, 10) / 10) + 1), atol=1e-6)
    ramp = [float(step_schedules.ramp(jnp.asarray(i), 10, 0.2, 0.6)) for i in k]
    np.testing.assert_allclose(ramp, [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1], atol=1e-6)
    jump = [float(step_schedules.ramp(jnp.asarray(i), 10, 0.3, 0.3)) for i in k]
    np.testing.assert_allclose(jump, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
    fall = step_schedules.polynomial(jnp.asarray([0.0, 10.0, 70.0]), 1.0 / 3.0, 10.0)
    np.testing.assert_allclose(fall, [1.0, 2 ** (-1 / 3), 0.5], rtol=1e-6)


@pytest.mark.parametrize("name", ["cyclical-sgld", "cyclical-sghmc"])
def test_a_draw_is_the_end_of_a_cycle_against_a_naive_loop(name):
    """With the ramp beyond its end a cycle has no noise: steps of length cos, twice over."""
    steps, rate, kept = 7, 0.2, 0.8
    options = {"momentum": kept} if name == "cyclical-sghmc" else {}
    made = lin.make(name, learning_rate=rate, thin=steps, precondition=False, **options)
    backend = dataclasses.replace(made, ramp_begin=1.0, ramp_end=1.0)
    mean, precisions = lin.moments()
    starts = lin.near_the_mode(chains=2)
    draws, stats, _ = lin.simulate(backend, lin.location_posterior(), starts, SEED, 0, 2)
    u, p = starts, np.zeros_like(starts)
    for draw in range(2):
        for k in range(steps):
            e = rate / lin.ROWS * 0.5 * (np.cos(np.pi * k / steps) + 1.0)
            force = precisions * (mean - u)
            p = kept * p + np.sqrt(e) * force
            u = u + (0.5 * e * force if name == "cyclical-sgld" else np.sqrt(e) * p)
        np.testing.assert_allclose(draws[:, draw], u, rtol=1e-6)
        np.testing.assert_allclose(stats["step_size"][:, draw], np.sqrt(e), rtol=1e-6)
    assert (stats["n_steps"] == steps).all()


@pytest.mark.parametrize("name", ["cyclical-sgld", "cyclical-sghmc"])
def test_without_cycles_the_metric_is_that_of_warm_up(name):
    """Renewed from a chain's last steps it biases draws that have not forgotten them."""
    sites = bz.Posterior(two_layers, TWO_LAYERS).sites
    before, square = jnp.full(5, 7.0), jnp.asarray([4.0, 2.0, 1.0, 0.5, 0.0])
    for cycles in (True, False):
        backend = lin.make(name, cycles=cycles)
        for warming in (True, False):
            for first in (True, False):
                place = Place(*jnp.ones(3), jnp.asarray(warming), jnp.asarray(first))
                renewed = first and (cycles or warming)
                wanted = layerwise(square, sites) if renewed else before
                np.testing.assert_array_equal(backend.mass(before, square, sites, place), wanted)


def two_numbers(x, y=None):
    numpyro.sample("a", dist.Normal())
    numpyro.sample("b", dist.Normal())
    numpyro.sample("y", dist.Normal(0.0, 1.0).expand([x.shape[0]]), obs=y)


@pytest.mark.validate
def test_draws_that_remember_the_last_have_the_right_variance():
    """E u^2 = 1 where a draw keeps 60 % of the one before; 1.23 with a metric renewed at each.

    About 7,000 independent squares: a standard error of 0.017, of which 5 are one in a million.
    """
    data = bz.make_dataset(np.zeros((4, 1)), np.arange(4.0), scale="none", task="regression")
    options = {"cycles": False, "thin": 100, "learning_rate": 0.04, "progress": False}
    run = bz.fit(two_numbers, data, "cyclical-sgld", chains=4, draws=4000, **options, seed=SEED)
    for name in ("a", "b"):
        values = run.tree["posterior"][name].to_numpy()
        assert abs((values**2).mean() - 1.0) < 5 * 0.017


def two_layers(x, y=None):
    a = numpyro.sample("a", dist.Normal().expand([2]).to_event(1))
    b = numpyro.sample("b", dist.Normal().expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(a.sum() + b.sum(), 1.0).expand([x.shape[0]]), obs=y)


TWO_LAYERS = bz.make_dataset(np.zeros((4, 1)), np.arange(4.0))


def test_the_layerwise_metric_is_the_root_mean_square_over_the_least():
    posterior = bz.Posterior(two_layers, TWO_LAYERS)
    mass = layerwise(jnp.asarray([4.0, 2.0, 1.0, 0.5, 0.0]), posterior.sites)
    np.testing.assert_allclose(mass, [np.sqrt(3.0 / 0.5)] * 2 + [1.0] * 3, rtol=1e-5)
