"""Full-rank, low-rank, last-layer and flow VI where their optimum is known.

False alarms: moments of 40,000 independent draws are held to five standard errors, 0.025 in units
of a posterior standard deviation (6e-7 two-sided, under 200 comparisons: 1e-4 for the file); the
bound of a family that holds the posterior has no variance, so 1e-2 nats is all for the optimiser.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.inference.backends.flow_vi import CouplingFlow
from bnnzoo.inference.backends.full_rank_vi import Cholesky, FullGaussian
from bnnzoo.inference.backends.low_rank_vi import Factor, LowRankGaussian
from bnnzoo.inference.backends.mean_field_vi import FactorisedGaussian, Factors
from bnnzoo.inference.importance import khat
from bnnzoo.inference.output_layer import output_sites

sys.path.insert(0, str(Path(__file__).parent))
import _closed_forms as forms
from _estimates import SEEDS

DRAWS = 20_000
FULL = {"full-rank-vi": {}, "low-rank-vi": {"rank": forms.FEATURES}}


def fit(data, backend, model=forms.known_noise, **changes):
    settings = {"chains": 2, "draws": DRAWS, "warmup": 4000, "seed": 0, "progress": False}
    return bz.fit(model, data, backend, **settings | changes)


@pytest.fixture(scope="module")
def data():
    return forms.regression_data()


def log_normaliser(data, T):
    """Of the tempered known-noise posterior: a Gaussian integral about its mode."""
    mean, covariance = forms.known_noise_moments(data, T, 1.0)
    residual = data.y - data.x @ mean
    noise, prior = forms.NOISE**2, forms.PRIOR_STD**2
    at_mode = (
        -0.5 * (residual @ residual / noise + len(data.y) * np.log(2 * np.pi * noise))
        - 0.5 * (mean @ mean / prior + len(mean) * np.log(2 * np.pi * prior))
    ) / T
    return at_mode + 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]


# -- densities ---------------------------------------------------------------------------------

D = 4
FAMILIES = {
    "factorised": FactorisedGaussian(D),
    "full": FullGaussian(D),
    "low-rank": LowRankGaussian(D, 2),
    "flow": CouplingFlow(D, 5, 8),
}


def scattered(family, key):
    """Parameters away from any special place."""
    start = family.start(jnp.arange(D, dtype=float), 0.7)
    leaves, shape = jax.tree.flatten(start)
    keys = jax.random.split(key, len(leaves))
    moved = [
        leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(shape, moved)


@pytest.mark.parametrize("name", ["factorised", "full", "flow"])
def test_a_density_is_that_of_its_draws(name):
    """Change of variables: log q(u(z)) = log N(z) - log |det du/dz|, by automatic derivatives."""
    family = FAMILIES[name]
    parameters = scattered(family, jax.random.key(1))
    z = jax.random.normal(jax.random.key(2), (family.noise_size,))
    jacobian = jax.jacfwd(lambda z: family.draw(parameters, z))(z)
    expected = dist.Normal().log_prob(z).sum() - jnp.linalg.slogdet(jacobian)[1]
    found = family.log_density(parameters, family.draw(parameters, z))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def gaussian_of(parameters):
    """Mean and covariance, written out."""
    scale = jnp.exp(parameters.log_std)
    match parameters:
        case Factors():
            return parameters.mean, jnp.diag(scale**2)
        case Cholesky():
            factor = scale[:, None] * (jnp.eye(D) + jnp.tril(parameters.lower, -1) / D**0.5)
            return parameters.mean, factor @ factor.T
        case Factor():
            inner = jnp.eye(D) + parameters.factor @ parameters.factor.T
            return parameters.mean, scale[:, None] * inner * scale


@pytest.mark.validate
def test_the_low_rank_density_is_the_dense_one():
    family = FAMILIES["low-rank"]
    parameters = scattered(family, jax.random.key(1))
    u = jnp.linspace(-1.0, 2.0, D)
    dense = dist.MultivariateNormal(*gaussian_of(parameters)).log_prob(u)
    np.testing.assert_allclose(family.log_density(parameters, u), dense, rtol=1e-5)
    jacobian = jax.jacfwd(lambda z: family.draw(parameters, z))(jnp.zeros(family.noise_size))
    np.testing.assert_allclose(jacobian @ jacobian.T, gaussian_of(parameters)[1], rtol=1e-5)


def information(parameters):
    """Fisher information over the flat parameters: the Hessian of KL(q || q') at q' = q."""
    flat, unflatten = jax.flatten_util.ravel_pytree(parameters)
    mean, covariance = gaussian_of(parameters)

    def divergence(other):
        m, c = gaussian_of(unflatten(other))
        inverse = jnp.linalg.inv(c)
        square = jnp.trace(inverse @ covariance) + (m - mean) @ inverse @ (m - mean)
        return 0.5 * (square + jnp.linalg.slogdet(c)[1])

    return np.asarray(jax.hessian(divergence)(flat), float)


@pytest.mark.validate
@pytest.mark.parametrize("name", [pytest.param("factorised", marks=pytest.mark.validate), "full"])
def test_the_newton_gain_is_that_of_the_fisher_information(name):
    """|whitened gradient|^2 = g' F^-1 g for a gradient the bound can have (N's upper part: 0)."""
    family = FAMILIES[name]
    parameters = scattered(family, jax.random.key(3))
    score = jax.grad(family.log_density)(parameters, jnp.linspace(-1.0, 2.0, D))
    g = np.asarray(jax.flatten_util.ravel_pytree(score)[0], float)
    gain = g @ np.linalg.pinv(information(parameters), rcond=1e-5) @ g
    white = family.whitened(parameters, score, jnp.zeros((1, D)))
    np.testing.assert_allclose(white @ white, gain, rtol=2e-3)


@pytest.mark.validate
def test_the_low_rank_gain_has_the_exact_mean_and_the_diagonal_of_the_rest():
    family = FAMILIES["low-rank"]
    parameters = scattered(family, jax.random.key(3))
    fisher = information(parameters)
    flat, unflatten = jax.flatten_util.ravel_pytree(parameters)
    for i in range(len(flat)):
        unit = unflatten(jnp.zeros_like(flat).at[i].set(1.0))
        white = family.whitened(parameters, unit, jnp.zeros((1, D)))
        exact = np.linalg.inv(fisher[:D, :D])[i, i] if i < D else 1.0 / fisher[i, i]
        np.testing.assert_allclose(white @ white, exact, rtol=2e-3)


# -- fits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backend", ["full-rank-vi", pytest.param("low-rank-vi", marks=pytest.mark.validate)]
)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.validate
def test_a_gaussian_posterior_is_found_exactly(data, backend, seed):
    """Mean, covariance and log normaliser at T = 1, 0.3 and 0.1; nothing is flagged."""
    for T in (1.0, 0.3, 0.1):
        run = fit(data, backend, seed=seed, posterior_temperature=T, **FULL[backend])
        mean, covariance = forms.known_noise_moments(data, T, 1.0)
        w = run.tree["posterior"]["w"].to_numpy().reshape(-1, forms.FEATURES)
        z = (w - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
        elbo = run.tree["sample_stats"]["elbo"].to_numpy()
        gap = log_normaliser(data, T) - elbo.mean()
        off = np.abs(np.cov(z.T) - np.eye(forms.FEATURES)).max()
        print(f"{backend}, T={T}: mean {np.abs(z.mean(0)).max():.4f}, covariance {off:.4f}, "
              f"gap {gap:.1e} nats")  # fmt: skip
        assert np.abs(z.mean(0)).max() < 0.025
        assert off < 0.036  # five standard errors of a variance, sqrt(2 / 40,000)
        assert abs(gap) < 1e-2
        assert run.manifest["flags"] == []
        assert run.manifest["gradients"] == 2 * 4000 * 8


@pytest.mark.validate
def test_the_bound_tightens_with_the_family(data):
    """Mean-field, rank 1, full rank, and a flow beside them; the gap of the last is 0."""
    exact, gaps = log_normaliser(data, 1.0), {}
    for backend, options in {
        "mean-field-vi": {},
        "low-rank-vi": {"rank": 1},
        "full-rank-vi": {},
        "flow-vi": {},
    }.items():
        run = fit(data, backend, chains=1, **options)
        gaps[backend] = exact - float(run.tree["sample_stats"]["elbo"].mean())
    print("gaps in nats:", {name: round(gap, 3) for name, gap in gaps.items()})
    # Standard errors are under 0.02; the differences are of several tenths.
    assert gaps["mean-field-vi"] > gaps["low-rank-vi"] + 0.1
    assert gaps["low-rank-vi"] > gaps["full-rank-vi"] + 0.1
    assert abs(gaps["full-rank-vi"]) < 1e-2
    assert gaps["flow-vi"] < gaps["mean-field-vi"] - 0.5


@pytest.mark.validate
def test_minibatches_reach_the_same_optimum(data):
    """Noise of the rows moves a mean by under a tenth of a standard deviation, a scale by 10 %."""
    run = fit(data, "full-rank-vi", batch_size=10, warmup=20_000)
    mean, covariance = forms.known_noise_moments(data, 1.0, 1.0)
    w = run.tree["posterior"]["w"].to_numpy().reshape(-1, forms.FEATURES)
    z = (w - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    np.testing.assert_allclose(z.mean(0), 0.0, atol=0.2)
    np.testing.assert_allclose(z.std(0), 1.0, rtol=0.1)


def banana(x, y=None):
    """u1 ~ N(0, 1), u2 | u1 ~ N(u1^2, 0.3^2): normalised, so its log evidence is 0."""
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    numpyro.sample("b", dist.Normal(a**2, 0.3))
    numpyro.sample("y", dist.Normal(0.0, 1.0).expand([x.shape[0]]), obs=y)


@pytest.mark.validate
def test_a_flow_bends_where_a_gaussian_cannot(data):
    rows = bz.make_dataset(np.zeros((2, 1)), np.array([-1.0, 1.0]), task="regression")
    exact = 2 * float(dist.Normal().log_prob(1.0))
    bounds, flags = {}, {}
    for backend in ("full-rank-vi", "flow-vi"):
        run = fit(rows, backend, model=banana, chains=1, warmup=6000)
        bounds[backend] = float(run.tree["sample_stats"]["elbo"].mean())
        flags[backend] = [flag["message"] for flag in run.manifest["flags"]]
    print("gaps in nats:", {name: round(exact - b, 3) for name, b in bounds.items()}, flags)
    assert exact - bounds["full-rank-vi"] > 0.5
    assert -0.02 < exact - bounds["flow-vi"] < 0.1  # standard error under 0.005


# -- the output layer --------------------------------------------------------------------------

WIDTH, STD = 6, 0.3


@functools.cache
def sine():
    random = np.random.default_rng(0)
    x = random.uniform(-2, 2, size=(40, 1))
    y = np.sin(2 * x[:, 0]) + STD * random.normal(size=40)
    return bz.make_dataset(x, y, task="regression", scale="none")


def small_network(**prior):
    fixed = {"noise": "fixed", "noise_std": STD}
    options = {"network_options": {"widths": [WIDTH]}, "likelihood_options": fixed}
    return bz.make_model("mlp", prior.pop("name", "gaussian"), "gaussian", **options)


@pytest.mark.validate
@pytest.mark.parametrize(
    "T",
    [
        pytest.param(1.0, marks=pytest.mark.validate),
        pytest.param(0.3, marks=pytest.mark.validate),
        0.1,
    ],
)
def test_the_output_layer_is_exact_given_the_features(T):
    """The network is linear in it and the noise known: a Gaussian of known moments at the point."""
    run = fit(sine(), "last-layer-vi", model=small_network(), posterior_temperature=T, chains=1)
    draws = {name: values.to_numpy()[0] for name, values in run.tree["posterior"].items()}
    for name in ("layers.0.kernel", "layers.0.bias"):
        assert (draws[name] == draws[name][0]).all()
    hidden = np.tanh(sine().x @ draws["layers.0.kernel"][0] + draws["layers.0.bias"][0])
    features = np.c_[hidden, np.ones(len(hidden))]
    precision = features.T @ features / STD**2 + np.diag([float(WIDTH)] * WIDTH + [1.0])
    covariance = T * np.linalg.inv(precision)
    mean = np.linalg.solve(precision, features.T @ sine().y) / STD**2
    last = np.c_[draws["layers.1.kernel"].reshape(DRAWS, -1), draws["layers.1.bias"]]
    z = (last - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    print(f"T={T}: mean {np.abs(z.mean(0)).max():.4f}, variances {z.var(0).round(3)}")
    np.testing.assert_allclose(z.mean(0), 0.0, atol=5 / DRAWS**0.5)
    np.testing.assert_allclose(np.cov(z.T), np.eye(WIDTH + 1), atol=5 * (2 / DRAWS) ** 0.5)
    kinds = {flag["kind"] for flag in run.manifest["flags"]}
    assert kinds <= {"virial"}  # a point does not spread


@pytest.mark.validate
def test_the_others_may_be_gaussian():
    run = fit(sine(), "last-layer-vi", model=small_network(), others="mean-field", chains=1)
    assert (run.tree["posterior"]["layers.0.kernel"].std(("chain", "draw")) > 0.01).all()


def test_the_output_layer_is_found_with_what_comes_after_it():
    def found(name, likelihood, **options):
        model = bz.make_model("mlp", name, likelihood, network_options=options)
        return set(output_sites(bz.Posterior(model, sine()), None))

    assert found("gaussian", "gaussian", widths=[3, 3]) == {
        "layers.2.kernel",
        "layers.2.bias",
        "noise_std",
    }
    many = [2] * 10
    ten = found("gaussian", "gaussian", widths=many, parameterisation="ntk")
    assert ten == {"layers.10.kernel", "layers.10.bias", "noise_std"}
    assert {"layers.1.kernel", "layers.1.kernel.variance"} <= found(
        "hierarchical-gaussian", "student-t", widths=[3]
    )


def test_sites_can_be_named(data):
    post = bz.Posterior(forms.unknown_noise, data)
    assert output_sites(post, ("v",)) == ("v",)
    with pytest.raises(bz.errors.InputError, match=r"no latent site begins with 'k'; there are v"):
        output_sites(post, ("k",))


def test_a_handwritten_model_must_name_them(data):
    with pytest.raises(bz.errors.InputError, match=r"give inference\.sites, or take full-rank-vi"):
        fit(data, "last-layer-vi")


def test_a_matrix_that_does_not_fit_is_refused():
    model = bz.make_model("mlp", network_options={"widths": [4001]})
    for backend, other in {"full-rank-vi": "low-rank-vi", "last-layer-vi": "low-rank-vi"}.items():
        with pytest.raises(bz.errors.InputError, match=other):
            fit(sine(), backend, model=model)


# -- what goes wrong ---------------------------------------------------------------------------


def cliff(x, y=None):
    """A density that is NaN beyond w = 1, right of its mean."""
    w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(jnp.sqrt(1.0 - w) + 0.0 * x[:, 0], 0.5), obs=y)


@pytest.mark.validate
def test_steps_that_are_not_finite_are_not_taken():
    rows = bz.make_dataset(np.zeros((3, 1)), np.array([0.9, 1.0, 1.1]), task="regression")
    run = fit(rows, "full-rank-vi", model=cliff, learning_rate=0.5, draws=50, warmup=400)
    messages = [flag["message"] for flag in run.manifest["flags"]]
    assert any("not finite at" in m and "lower learning_rate" in m for m in messages), messages
    assert np.isfinite(run.tree["posterior"]["w"]).all()


@pytest.mark.validate
def test_a_bound_that_fell_gives_draws_from_its_best(data):
    """Steps of 3, then of 50, leave the optimum by far: draws are from where it was highest."""
    for rate in (3.0, 50.0):
        run = fit(data, "full-rank-vi", learning_rate=rate, draws=50, warmup=400)
        trace = run.tree["warmup_sample_stats"]["elbo"].to_numpy()
        drawn = run.tree["sample_stats"]["elbo"].to_numpy().mean()
        messages = [flag["message"] for flag in run.manifest["flags"]]
        print(f"rate {rate:g}: {trace[:, 0].mean():.4g} first, {drawn:.4g} drawn", messages)
        assert all("lower learning_rate" in message for message in messages), messages
        assert len(messages) == 2
        assert drawn > trace[:, 0].mean() - 20.0


def narrow(x, y=None):
    """Heavier tails than any Gaussian's."""
    numpyro.sample("w", dist.Cauchy(0.0, 1.0))
    numpyro.sample("y", dist.Normal(0.0, 1.0).expand([x.shape[0]]), obs=y)


@pytest.mark.validate
def test_khat_is_flagged_where_tails_are_missing(data):
    run = fit(data, "full-rank-vi", model=narrow, draws=5000)
    messages = [flag["message"] for flag in run.manifest["flags"]]
    assert any("too far from the posterior for importance weights" in m for m in messages)


@pytest.mark.parametrize("shape", [0.2, 0.9])
def test_khat_is_the_shape_of_the_ratios(shape):
    """Pareto ratios of known shape; the estimate of 100,000 has a standard error under 0.05."""
    ratios = np.random.default_rng(0).pareto(1.0 / shape, size=100_000) + 1.0
    assert abs(khat(np.log(ratios)) - shape) < 0.2
    assert np.isnan(khat(np.zeros(10)))
    assert khat(np.zeros(1000)) == -np.inf
    # An exact fit in single precision: ratios that differ by a last digit, most of them the same.
    rounded = np.where(np.arange(1000) % 5, np.float32(-130.0), np.float32(-130.00002))
    assert rounded.dtype == np.float32 and len(set(rounded)) == 2
    assert khat(rounded) == -np.inf


@pytest.mark.parametrize("backend", registry.list_names("backends", family="variational"))
def test_a_batch_larger_than_the_data_is_refused(data, backend):
    if backend == "pathfinder":
        with pytest.raises(bz.errors.OptionError, match="batch_size"):
            fit(data, backend, batch_size=31)
        return
    options = {"sites": ["w"]} if backend == "last-layer-vi" else {}
    with pytest.raises(bz.errors.InputError, match="batch_size = 31"):
        fit(data, backend, batch_size=31, **options)
