"""Reweighting, resampling and scales of sequential Monte Carlo against NumPy.

Resampling is held to five standard errors at 200 particles (1e-4 together); the rest is exact up
to rounding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnzoo.inference import smc_weights


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
