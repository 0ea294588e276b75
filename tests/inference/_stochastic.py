"""Chains of stochastic-gradient kernels, and the exact law of their linear recursions.

The target is a location model, y_i ~ N(w, diag(s^2)): the gradient of a batch is that of all rows
plus a noise which does not depend on w, so that every linear kernel has a Gaussian stationary law
whose covariance solves a discrete Lyapunov equation, minibatches included.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.linalg import solve_discrete_lyapunov

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.inference.backend import Stage
from bnnzoo.inference.precision import precision

ROWS, BATCH = 24, 6
NOISE = np.array([0.4, 1.0])
PRIOR_STD = 2.0
CHAINS, STEPS = 1000, 40


def location(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, PRIOR_STD).expand([2]).to_event(1))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.Normal(w, NOISE).to_event(1), obs=y)


def location_data():
    """Targets whose columns are correlated, so that the noise of a batch is no sphere."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=(ROWS, 2)) @ np.array([[0.5, 0.4], [0.0, 0.9]]) + np.array([0.7, -1.0])
    return bz.make_dataset(np.zeros((ROWS, 1)), y, task="regression", scale="none")


@functools.cache
def location_posterior(T=1.0, L=1.0):
    with precision("float64"):
        return bz.Posterior(location, location_data(), T, L)


def moments(T=1.0, L=1.0):
    """Mean and (diagonal) precision ``(2,)`` each."""
    y = location_data().y
    precisions = ROWS / (NOISE**2 * T * L) + 1.0 / (PRIOR_STD**2 * T)
    return y.sum(0) / (NOISE**2 * T * L) / precisions, precisions


def batch_noise(T=1.0, L=1.0, independent=False):
    """Covariance of a batch gradient's noise, and that of two batches of one pass.

    Of batch means: S / B (1 - B / N) and -S / N without replacement, S the covariance with divisor
    N - 1; with replacement that with divisor N over B, and none.
    """
    y = location_data().y
    scale = ROWS / (T * L) * np.diag(1.0 / NOISE**2)
    if independent:
        return scale @ np.cov(y.T, ddof=0) @ scale / BATCH, np.zeros((2, 2))
    spread = np.cov(y.T)
    own = spread / BATCH * (1.0 - BATCH / ROWS)
    return scale @ own @ scale, -scale @ spread @ scale / ROWS


def law(force, kick, noise, steps=1, T=1.0, L=1.0, batches=None):
    """Stationary covariance of z <- A z + B n + C xi at the ends of passes.

    Args:
        force: A ``(k d, k d)``.
        kick: B ``(k d, d)``, what the gradient's noise does.
        noise: C ``(k d, any)``, on white noise of unit covariance.
        steps: of a pass.
        T: temperature.
        L: likelihood temperature.
        batches: None for all rows, "passes" or "independent".
    """
    powers = [np.linalg.matrix_power(force, steps - 1 - k) for k in range(steps)]
    total = sum(P @ noise @ noise.T @ P.T for P in powers)
    if batches:
        own, other = batch_noise(T, L, batches == "independent")
        for j, P in enumerate(powers):
            for k, Q in enumerate(powers):
                total += P @ kick @ (own if j == k else other) @ kick.T @ Q.T
    return solve_discrete_lyapunov(np.linalg.matrix_power(force, steps), total)


def make(name, **options):
    return registry.get("backends", name).build(options)


@jax.jit
def _simulate(backend, posterior, starts, key, stages):
    def chain(u, key):
        def one(state, given):
            stage, own = given
            state, step = backend.step(posterior, state, stage, own)
            return state, (step.u, step.stats)

        keys = jax.random.split(key, stages.shape[0])
        state, out = jax.lax.scan(one, backend.init(posterior, u), (stages, keys))
        return out, state

    return jax.vmap(chain)(starts, jax.random.split(key, starts.shape[0]))


def simulate(backend, posterior, starts, seed=0, warm=STEPS // 2, steps=STEPS):
    """Draws ``(chain, draw, dim)`` after ``warm`` of the ``steps``, all statistics, last states."""
    stages = np.full(steps, Stage.SAMPLE, np.int32)
    stages[:warm] = backend.schedule(warm)
    with precision("float64"):
        (u, stats), state = _simulate(
            backend, posterior, jnp.asarray(starts), jax.random.key(seed), jnp.asarray(stages)
        )
    u = np.asarray(u)[:, warm:]
    return u, {name: np.asarray(values)[:, warm:] for name, values in stats.items()}, state


def near_the_mode(T=1.0, L=1.0, chains=CHAINS):
    """Starts from the true posterior."""
    mean, precisions = moments(T, L)
    rng = np.random.default_rng(11)
    return mean + rng.normal(size=(chains, 2)) / np.sqrt(precisions)


def second_moment_scores(u, mean, covariance):
    """Errors of E[(u - m)(u - m)'] and E[u - m] in standard errors over independent chains."""
    z = (u - mean) / np.sqrt(np.diag(covariance))
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    rows, columns = np.triu_indices(z.shape[-1])
    products = (z[..., rows] * z[..., columns]).mean(1) - correlation[rows, columns]
    both = np.concatenate([products, z.mean(1)], axis=1)
    return both.mean(0) / (both.std(0, ddof=1) / np.sqrt(len(both)))


def check(u, mean, covariance, said):
    """Every first and second moment within 5 standard errors (two-sided 6e-7 each)."""
    scores = second_moment_scores(u, mean, covariance)
    print(f"{said}: worst score {np.abs(scores).max():.2f}")
    assert np.abs(scores).max() < 5.0, said
