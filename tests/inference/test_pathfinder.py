"""Pathfinder: its Gaussians against dense algebra, its draws against closed forms, k-hat."""

from __future__ import annotations

import sys
from pathlib import Path

import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.inference import quasi_newton
from bnnzoo.inference.backends.pathfinder import _weights

sys.path.insert(0, str(Path(__file__).parent))
import _closed_forms as forms

D = 5


def fit(data, model=forms.known_noise, **changes):
    settings = {"chains": 1, "draws": 2000, "seed": 0, "progress": False}
    return bz.fit(model, data, "pathfinder", **settings | changes)


@pytest.fixture(scope="module")
def data():
    return forms.regression_data()


# -- one Gaussian ------------------------------------------------------------------------------


def precision_matrix():
    a = np.random.default_rng(0).normal(size=(D, D))
    return a @ a.T + np.eye(D)


def walked(memory):
    """Curvature after exact line searches of BFGS on a quadratic, with where they ended."""
    P = precision_matrix()
    u = np.arange(1.0, D + 1.0)
    known = quasi_newton.no_curvature(jnp.asarray(u), memory)
    for _ in range(D):
        g = P @ u
        H = dense(known)
        direction = -H @ g
        step = -(g @ direction) / (direction @ P @ direction)
        s = step * direction
        known = quasi_newton.remember(known, jnp.asarray(s), jnp.asarray(P @ s))
        u = u + s
    return known, u


def dense(known):
    """The inverse Hessian by the plain BFGS recursion from the diagonal alpha."""
    H = np.diag(np.asarray(known.alpha, float))
    for s, z in zip(np.asarray(known.s, float), np.asarray(known.z, float), strict=True):
        if s @ z == 0:
            continue
        V = np.eye(D) - np.outer(z, s) / (s @ z)
        H = V.T @ H @ V + np.outer(s, s) / (s @ z)
    return H


@pytest.mark.validate
@pytest.mark.parametrize("memory", [3, 8])
def test_the_factored_gaussian_is_the_bfgs_recursion(memory):
    """Mean, covariance and density, with fewer and with more places than moves."""
    with jax.enable_x64(True):
        known, u = walked(memory)
        gradient = precision_matrix() @ (u + 0.1)
        made = quasi_newton.gaussian(known, jnp.asarray(u), jnp.asarray(gradient))
        H = dense(known)
        np.testing.assert_allclose(made.mean, u - H @ gradient, rtol=1e-8)
        jacobian = np.asarray(jax.jacfwd(lambda z: made.draw(z)[0])(jnp.zeros(D)))
        np.testing.assert_allclose(jacobian @ jacobian.T, H, rtol=1e-7, atol=1e-10)
        drawn, log_q = made.draw(jnp.linspace(-1.0, 2.0, D))
        law = dist.MultivariateNormal(made.mean, jnp.asarray(H))
        np.testing.assert_allclose(log_q, law.log_prob(drawn), rtol=1e-8)
        away = drawn + jnp.arange(1.0, D + 1.0)
        np.testing.assert_allclose(made.log_density(away), law.log_prob(away), rtol=1e-8)


def test_a_newton_step_from_anywhere_ends_at_the_mode():
    """The mean is u - H g, down the gradient of minus the log density, not up it."""
    with jax.enable_x64(True):
        known, _ = walked(8)
        P = precision_matrix()
        np.testing.assert_allclose(dense(known), np.linalg.inv(P), atol=1e-6)
        away = np.linspace(-3.0, 5.0, D)
        made = quasi_newton.gaussian(known, jnp.asarray(away), jnp.asarray(P @ away))
        np.testing.assert_allclose(made.mean, 0.0, atol=1e-5)


def test_a_move_without_curvature_is_not_remembered():
    known = quasi_newton.no_curvature(jnp.ones(D), 3)
    same = quasi_newton.remember(known, jnp.ones(D), -jnp.ones(D))
    jax.tree.map(np.testing.assert_array_equal, known, same)


def test_a_climb_ends_at_the_mode_and_survives_a_cliff():
    P = jnp.asarray(precision_matrix(), jnp.float32)
    start = jnp.arange(1.0, D + 1.0)
    path = quasi_newton.climb(lambda u: -0.5 * u @ P @ u, start, 100, 5, 1e-6)
    assert 5 < path.length < 40 and path.evaluations >= path.length
    np.testing.assert_allclose(path.u[path.length - 1], 0.0, atol=1e-2)
    np.testing.assert_array_equal(path.u[0], start)
    cliff = quasi_newton.climb(lambda u: jnp.log(-u.sum()), start, 100, 5, 1e-6)
    assert cliff.length == 0


def test_weights_are_arviz_s():
    """Smoothed weights and k-hat beside ArviZ's, on ratios whose k-hat is above 1/3."""
    ratios = np.log(np.random.default_rng(0).pareto(1.5, size=(4, 250)) + 1.0)
    found, value = _weights(jnp.asarray(ratios, jnp.float32))
    expected, k = arviz_stats.base.array_stats.psislw(-ratios.ravel())
    assert abs(float(value) - float(k)) < 0.1
    weights = np.exp(expected - np.logaddexp.reduce(expected))
    np.testing.assert_allclose(np.exp(found).ravel(), weights, atol=0.02)


def test_candidates_without_density_weigh_nothing():
    ratios = jnp.zeros((2, 50)).at[1].set(-jnp.inf)
    weights, _ = _weights(ratios)
    np.testing.assert_allclose(jnp.exp(weights).sum(1), [1.0, 0.0], atol=1e-5)
    weights, value = _weights(jnp.full((2, 50), -jnp.inf))
    assert jnp.isfinite(weights).all() and jnp.isposinf(value)


# -- fits --------------------------------------------------------------------------------------


@pytest.mark.validate
@pytest.mark.parametrize("T", [1.0, 0.3, 0.1])
def test_a_gaussian_posterior(data, T):
    """2,000 draws among 8,000 candidates, means within 0.15 and variances within 25 %.

    Importance weights leave over 1,000 effective draws (k-hat below 0.7): standard errors of 0.03
    and 4.5 %, five of them; false alarms under 1e-5.
    """
    run = fit(data, posterior_temperature=T, candidates=1000)
    mean, covariance = forms.known_noise_moments(data, T, 1.0)
    w = run.tree["posterior"]["w"].to_numpy().reshape(-1, D)
    z = (w - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    value = float(run.tree["sample_stats"]["khat"][0, -1])
    print(f"T={T}: mean {z.mean(0).round(3)}, variances {z.var(0).round(3)}, k-hat {value:.2f}")
    np.testing.assert_allclose(z.mean(0), 0.0, atol=0.15)
    np.testing.assert_allclose(np.cov(z.T), np.eye(D), atol=0.25)
    assert value < 0.7 and run.manifest["flags"] == []
    assert run.tree["warmup_sample_stats"]["elbo"].shape == (1, 8)


@pytest.mark.validate
def test_one_path_without_resampling_and_more_draws_later(data, tmp_path):
    """Single-path; a run that goes on has the draws it would have had."""
    options = {"warmup": 1, "resample": "none", "draws": 300}
    run = fit(data, **options)
    first = fit(data, **options | {"draws": 100}, out=tmp_path / "run")
    longer = bz.resume(first.path, draws=300, model=forms.known_noise)
    np.testing.assert_array_equal(run.tree["posterior"]["w"], longer.tree["posterior"]["w"])
    assert len(np.unique(run.tree["posterior"]["w"][0], axis=0)) == 300


def heavy(x, y=None):
    """Five Cauchy coordinates: tails that no Gaussian has."""
    numpyro.sample("w", dist.Cauchy(0.0, 1.0).expand([D]).to_event(1))
    numpyro.sample("y", dist.Normal(0.0, 1.0).expand([x.shape[0]]), obs=y)


@pytest.mark.validate
def test_khat_is_flagged_on_heavy_tails(data):
    run = fit(data, model=heavy, draws=200)
    messages = [flag["message"] for flag in run.manifest["flags"]]
    assert any("k-hat" in m and "compare with an exact backend" in m for m in messages), messages


def test_paths_that_fail_are_said():
    backend = registry.get("backends", "pathfinder").build({})
    stats = {"elbo": np.zeros(200), "khat": np.full(200, 0.2)}
    kinds = {}
    for failed in (0, 1, 8):
        bounds = np.where(np.arange(8) < failed, -np.inf, -1.0)
        kinds[failed] = [flag.kind for flag in backend.flags(stats, {"elbo": bounds})]
    assert kinds == {0: [], 1: ["warning"], 8: ["unconverged"]}
    bad = backend.flags(stats | {"khat": np.full(200, 0.9)}, {"elbo": np.zeros(8)})
    assert "k-hat 0.90 > 0.7" in bad[0].message
