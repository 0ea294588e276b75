"""Elliptical slice sampling: closed forms, quadrature, exactness of the split, refusals, NaN.

Bounds are 5.5 Monte Carlo standard errors (two-sided 4e-8 each if normal; estimated errors make it
some 1e-7), 240 comparisons a temperature at most and about 900 in the file: 1e-4 in all.
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
from scipy import stats

import bnnzoo as bz
from bnnzoo.errors import InputError
from bnnzoo.inference.backends import elliptical_slice as es
from bnnzoo.inference.precision import precision
from bnnzoo.models import Posterior

sys.path.insert(0, str(Path(__file__).parent))
from _estimates import SEEDS
from _scores import grid_moments, worst_score

BOUND = 5.5
TEMPERATURES = [(1.0, 1.0), (0.3, 1.0), (0.1, 2.0)]
FEATURES, ROWS = 20, 8
NOISE, PRIOR_STD = 1.0, np.geomspace(0.1, 1.5, FEATURES)


def regression(x, y=None):
    w = numpyro.sample("w", dist.Normal(jnp.zeros(FEATURES), PRIOR_STD).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


def regression_data():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(ROWS, FEATURES))
    return bz.make_dataset(x, x @ rng.normal(size=FEATURES), task="regression", scale="none")


def regression_moments(data, T, L):
    x, y = data.x, data.y
    precision_ = x.T @ x / (NOISE**2 * T * L) + np.diag(1.0 / (PRIOR_STD**2 * T))
    covariance = np.linalg.inv(precision_)
    return covariance @ (x.T @ y) / (NOISE**2 * T * L), covariance


def sample(model, data, T, L, seed, draws, **options):
    return bz.fit(
        model, data, "elliptical-slice", chains=4, draws=draws, warmup=500, seed=seed,
        posterior_temperature=T, likelihood_temperature=L, dtype="float64", progress=False,
        **options,
    )  # fmt: skip


@pytest.mark.validate
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "pairs", [TEMPERATURES[1:2], pytest.param(TEMPERATURES, marks=pytest.mark.validate)]
)
def test_a_correlated_regression_has_its_closed_form(seed, pairs):
    data = regression_data()
    for T, L in pairs:
        mean, covariance = regression_moments(data, T, L)
        assert np.linalg.cond(covariance) > 100
        draws = sample(regression, data, T, L, seed, 3000).tree["posterior"]["w"]
        score = worst_score(draws.to_numpy(), mean, covariance)
        print(f"d = {FEATURES}, T={T}, L={L}: worst of 230 scores {score:.2f}")
        assert score < BOUND
        for other in (2.0 * T, T / 2.0):
            wrong = worst_score(draws.to_numpy(), *regression_moments(data, other, L))
            assert wrong > 2 * BOUND, "an ignored temperature would be seen"


NOISES = {
    "half-normal": (dist.HalfNormal(0.8), stats.halfnorm(scale=0.8)),
    "log-normal": (dist.LogNormal(-0.3, 0.6), stats.lognorm(s=0.6, scale=np.exp(-0.3))),
    "half-cauchy": (dist.HalfCauchy(0.5), stats.halfcauchy(scale=0.5)),
}


@pytest.mark.validate
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", list(NOISES))
def test_learned_noise_agrees_with_quadrature(family, seed):
    prior, law = NOISES[family]

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal(0.5, 1.5))
        noise = numpyro.sample("noise", prior)
        numpyro.sample("y", dist.Normal(w * x[:, 0], noise), obs=y)

    rng = np.random.default_rng(1)
    x = rng.normal(size=(8, 1))
    y = 1.2 * x[:, 0] + 0.4 * rng.normal(size=8)
    data = bz.make_dataset(x, y, task="regression", scale="none")
    for T, L in TEMPERATURES:

        def log_density(w, u, T=T, L=L):
            s = np.exp(u)
            residuals = y[:, None] - x * w
            likelihood = -8 * u - 0.5 * np.sum(residuals**2, axis=0) / s**2
            return likelihood / (T * L) + stats.norm.logpdf(w, 0.5, 1.5) / T + law.logpdf(s) / T + u

        exact = grid_moments(log_density, np.linspace(-6, 9, 601), np.linspace(-5, 5, 601))
        run = sample(model, data, T, L, seed, 3000)
        posterior = run.tree["posterior"]
        u = np.log(posterior["noise"].to_numpy())
        score = worst_score(np.stack([posterior["w"].to_numpy(), u], axis=-1), *exact)
        print(f"{family}, T={T}, L={L}: worst of 5 scores {score:.2f}")
        assert score < BOUND


def small_posterior(T=1.0, L=1.0, **kw):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 2))
    data = bz.make_dataset(x, x[:, 0] + 0.1 * rng.normal(size=12), task="regression")
    model = bz.make_model(network_options={"widths": [3]}, **kw)
    return Posterior(model, data, T, L)


def mixed(x, y=None):
    """Every kind of site the backend takes, one of them correlated."""
    tril = jnp.array([[1.0, 0.0], [0.8, 0.3]])
    a = numpyro.sample("a", dist.MultivariateNormal(jnp.array([1.0, -2.0]), scale_tril=tril))
    with numpyro.plate("three", 3):
        b = numpyro.sample("b", dist.LogNormal(0.2, 0.7))
        c = numpyro.sample("c", dist.Gamma(2.0, 3.0))
    d = numpyro.sample("d", dist.Normal(jnp.arange(2.0), 2.0).to_event(1))
    numpyro.sample("y", dist.Normal(x @ (a * d) + b.sum(), c.sum()), obs=y)


@pytest.mark.validate
@pytest.mark.parametrize("which", ["network", "mixed"])
@pytest.mark.parametrize(
    ("T", "L"), [(0.3, 2.0), pytest.param(1.0, 1.0, marks=pytest.mark.validate)]
)
def test_reference_times_remainder_is_the_target(which, T, L):
    """And draws from the reference have the density that is divided out."""
    with precision("float64"):
        post = small_posterior(T, L)
        if which == "mixed":
            post = Posterior(mixed, post.data, T, L)
        target = es.reference(post)
        keys = jax.random.split(jax.random.key(0), 2000)
        deviations = jax.vmap(target.deviation)(keys)
        # What is divided out must be a Gaussian density about the reference's mean: its precision
        # is read off the Hessian in one point, and holds in others.
        points = target.mean + deviations[:6]

        def divided(u):
            return post.log_density(u) - target.remainder(u)

        split = jax.jit(jax.vmap(divided))(points)
        exact = jax.jit(jax.hessian(divided))(points[0])
    inverse = np.linalg.inv(-np.asarray(exact))
    gaussian = stats.multivariate_normal(np.asarray(target.mean), inverse)
    differences = np.asarray(split) - gaussian.logpdf(np.asarray(points))
    np.testing.assert_allclose(differences, differences[0], rtol=0, atol=1e-9)
    draws = np.asarray(target.mean + deviations)
    assert worst_independent(draws, np.asarray(target.mean), inverse) < BOUND


def worst_independent(draws, mean, covariance):
    """Largest z-score of means and second moments of independent normal draws, whitened."""
    z = (draws - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    n, d = z.shape
    second = z.T @ z / n - np.eye(d)
    errors = np.sqrt((1.0 + np.eye(d)) / n)
    return max(np.abs(z.mean(0)).max() * np.sqrt(n), np.abs(second / errors).max())


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ("laplace", "site 'layers.0.kernel' has a Laplace prior;"),
        ("student-t", "site 'layers.0.kernel' has a StudentT prior;"),
        (
            "hierarchical-gaussian",
            "'layers.0.kernel' has a Normal prior that depends on other sites;",
        ),
    ],
)
def test_other_priors_are_refused_by_name(prior, said):
    post = small_posterior(prior=prior)
    backend = bz.registry.get("backends", "elliptical-slice").build({})
    with pytest.raises(InputError, match="nuts, hmc") as caught:
        backend.check(post)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.validate
def test_nan_is_outside_every_slice():
    """Where the likelihood is NaN for w > 0 the posterior is a half-normal on the other side."""

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
        mean = jnp.where(w > 0, jnp.nan, 0.0) * x[:, 0]
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    data = bz.make_dataset(np.ones((2, 1)), np.zeros(2), task="regression", scale="none")
    w = sample(model, data, 1.0, 1.0, 0, 2000).tree["posterior"]["w"].to_numpy()[..., None]
    assert w.max() < 0
    mean = -np.sqrt(2.0 / np.pi)
    assert worst_score(w, np.array([mean]), np.array([[1.0 - mean**2]])) < BOUND


@pytest.mark.parametrize("flat", [True, False])
def test_a_slice_ends_where_the_level_rounds_to_the_value(flat):
    """A log-likelihood of -1e9 in float32 resolves no level; nothing may loop for ever."""
    normal = lambda key: jax.random.normal(key, (3,))  # noqa: E731
    falling = 0.0 if flat else 1e9
    target = es.Reference(jnp.zeros(3), normal, lambda u: -1e9 - falling * jnp.sum(jnp.abs(u)))
    state = es.SliceState(jnp.zeros(3), jnp.float32(-1e9))
    one = jax.jit(jax.vmap(lambda key: es.slice_once(target, state, key)))
    after, tried, _ = one(jax.random.split(jax.random.key(1), 500))
    assert tried.max() <= es.MOST_SHRINKS and jnp.isfinite(after.u).all()
    assert (tried == 1).all() if flat else (jnp.abs(after.u).max() < 1e-4)


@pytest.mark.validate
def test_a_chain_that_hardly_turns_is_flagged():
    data = regression_data()

    def sharp(x, y=None):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([FEATURES]).to_event(1))
        numpyro.sample("y", dist.Normal(x @ w, 1e-3), obs=y)

    run = sample(sharp, data, 1.0, 1.0, 0, 100, sweeps=1)
    flags = [flag for flag in run.manifest["flags"] if flag["kind"] == "stuck"]
    assert len(flags) == 4 and "use hmc or nuts" in flags[0]["message"]
    assert run.manifest["gradients"] == 0
    easy = sample(regression, data, 1.0, 1.0, 0, 200)
    assert not easy.manifest["flags"]
    assert (easy.tree["sample_stats"]["n_steps"].to_numpy() >= 11).all(), "10 slices and lp"


@pytest.mark.validate
def test_a_stopped_run_goes_on_to_the_same_draws(tmp_path):
    sizes = {"chains": 2, "draws": 150, "warmup": 100, "seed": 3, "progress": False}
    data = regression_data()
    whole = bz.fit(regression, data, "elliptical-slice", **sizes)
    out = tmp_path / "run"
    with pytest.raises(bz.errors.RunError, match="before the first draw"):
        bz.fit(regression, data, "elliptical-slice", out=out, max_time=0.0, **sizes)
    again = bz.resume(out, regression, progress=False)
    a, b = (run.tree["posterior"]["w"].to_numpy() for run in (whole, again))
    np.testing.assert_array_equal(a, b)
