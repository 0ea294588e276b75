"""The posterior's densities against an independent reference, its gradients and its minibatches.

Nothing here is random but the points that densities are compared at.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density, potential_energy
from scipy import stats

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import InputError
from bnnzoo.models import Posterior, make_model
from tests.models._tools import rng

ROWS, FEATURES, WIDTH = 12, 3, 4
X = 5 + 2 * rng(10).normal(size=(ROWS, FEATURES))
Y = 100 + 30 * np.sin(X[:, 0]) + 5 * rng(11).normal(size=ROWS)
REGRESSION = make_dataset(X, Y, task="regression")
SEVERAL = make_dataset(X, np.stack([Y, -2 * Y + X[:, 1]], 1), task="regression")
CLASSES = make_dataset(X, np.arange(ROWS) % 3, task="classification")


def tiny(likelihood="gaussian", prior="student-t", **likelihood_options):
    return make_model(
        "mlp", prior, likelihood,
        network_options={"widths": [WIDTH]},
        prior_options={"std": 1.4, "bias_std": 0.8},
        likelihood_options=likelihood_options,
    )  # fmt: skip


CASES = {
    "learned noise": (tiny(noise_scale=0.7), REGRESSION),
    "fixed noise": (tiny(noise="fixed", noise_std=0.4), REGRESSION),
    "heteroscedastic": (tiny(noise="heteroscedastic"), REGRESSION),
    "two outputs": (tiny(noise_scale=0.7), SEVERAL),
    "two outputs, heteroscedastic": (tiny(noise="heteroscedastic"), SEVERAL),
    "classes": (tiny("categorical"), CLASSES),
}


@functools.cache
def posterior(case, T=1.0, L=1.0):
    """In float64: the tests below are inside `enable_x64`."""
    return Posterior(*CASES[case], T, L)


@jax.jit
def evaluate(post, u):
    """Everything at once: one program a case, shared by temperatures."""
    theirs, _ = log_density(post.model, (post.x, post.y), {}, post.constrain(u))
    return {
        "density": post.log_density(u),
        "prior": post.log_prior(u),
        "prior density": post.log_prior_density(u),
        "likelihood": post.log_likelihood(u),
        "terms": post.pointwise_log_likelihood(u),
        "numpyro": theirs,
    }


def standardised(values):
    return (values - values.mean(0)) / values.std(0)


def naive(post, u, T, L):
    """The target density with scipy: student-t(5) weights of matched variance, tempered."""
    data, parts = post.data, {s.name: u[s.offset : s.offset + s.size] for s in post.sites}
    w = {s.name: parts[s.name].reshape(s.shape) for s in post.sites}
    x = standardised(data.x)
    head = np.tanh(x @ w["layers.0.kernel"] + w["layers.0.bias"])
    head = head @ w["layers.1.kernel"] + w["layers.1.bias"]
    log_prior = log_jacobian = 0.0
    for layer, fan_in in ((0, FEATURES), (1, WIDTH)):
        scale = 1.4 / np.sqrt(fan_in) * np.sqrt(3 / 5)
        log_prior += stats.t.logpdf(w[f"layers.{layer}.kernel"], 5, scale=scale).sum()
        log_prior += stats.norm.logpdf(w[f"layers.{layer}.bias"], scale=0.8).sum()
    if data.task == "classification":
        log_p = head - np.log(np.exp(head).sum(1, keepdims=True))
        return log_p[np.arange(ROWS), data.y].sum() / (T * L) + log_prior / T
    y = standardised(data.y).reshape(ROWS, -1)
    outputs, noise = y.shape[1], post.model.likelihood.noise
    if noise == "heteroscedastic":
        std = np.log1p(np.exp(head[:, outputs:])) + 1e-3
    elif noise == "fixed":
        std = 0.4
    else:
        std = np.exp(w["noise_std"])
        log_prior += stats.halfnorm.logpdf(std, scale=0.7).sum()
        log_jacobian = np.sum(w["noise_std"])
    log_likelihood = stats.norm.logpdf(y, head[:, :outputs], std).sum()
    return log_likelihood / (T * L) + log_prior / T + log_jacobian


def point(post, number=0):
    return jnp.asarray(0.7 * rng(20 + number).normal(size=post.dimension), post.x.dtype)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("T", "L"), [(1.0, 1.0), (0.3, 2.0), (1.7, 0.5)])
def test_density_is_the_naive_one(case, T, L):
    with jax.enable_x64(True):
        post = posterior(case, T, L)
        u = point(post)
        wanted = naive(post, np.asarray(u), T, L)
        assert float(evaluate(post, u)["density"]) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_prior_and_likelihood_are_never_tempered(case):
    with jax.enable_x64(True):
        plain, cold = posterior(case), posterior(case, 0.3, 2.0)
        u = point(plain)
        one, other = evaluate(plain, u), evaluate(cold, u)
        for name in ("prior", "prior density", "likelihood", "terms"):
            np.testing.assert_array_equal(one[name], other[name])
        # At T = 1, L = 2 half the log-likelihood is missing from the naive density.
        difference = naive(plain, np.asarray(u), 1.0, 1.0) - naive(plain, np.asarray(u), 1.0, 2.0)
        assert float(one["likelihood"]) == pytest.approx(2 * difference, rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_density_is_numpyros_at_temperature_one(case):
    with jax.enable_x64(True):
        post = posterior(case)
        u = point(post)
        found = evaluate(post, u)
        jacobian = sum(jnp.sum(s.take(u)) for s in post.sites if s.name == "noise_std")
        joint = float(found["numpyro"])
        assert float(found["density"]) == pytest.approx(joint + float(jacobian), rel=1e-12)
        assert float(found["prior"] + found["likelihood"]) == pytest.approx(joint, rel=1e-12)
        in_u = float(found["prior"] + jacobian)
        assert float(found["prior density"]) == pytest.approx(in_u, rel=1e-12)


@pytest.mark.parametrize("case", ["learned noise", "two outputs, heteroscedastic", "classes"])
def test_gradient_is_that_of_finite_differences(case):
    with jax.enable_x64(True):
        post = posterior(case, 0.3, 2.0)
        u = point(post)
        gradient = jax.jit(jax.grad(post.log_density))(u)
        step = 1e-5
        bumps = step * np.eye(post.dimension)
        density = jax.jit(jax.vmap(post.log_density))(jnp.concatenate([u + bumps, u - bumps]))
        numeric = (density[: post.dimension] - density[post.dimension :]) / (2 * step)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["learned noise", "two outputs, heteroscedastic", "classes"])
def test_minibatches_of_a_partition_average_to_the_whole(case):
    with jax.enable_x64(True):
        post = posterior(case, 0.3, 2.0)
        u = point(post)
        batches = jnp.asarray(rng(30).permutation(ROWS).reshape(4, 3))
        whole = evaluate(post, u)
        densities = jax.jit(jax.vmap(post.log_density, (None, 0)))(u, batches)
        assert np.mean(densities) == pytest.approx(float(whole["density"]), rel=1e-12)
        estimates = jax.jit(jax.vmap(post.log_likelihood, (None, 0)))(u, batches)
        assert np.mean(estimates) == pytest.approx(float(whole["likelihood"]), rel=1e-12)
        assert np.std(estimates) > 0.1, "each batch sees its own rows"


@pytest.mark.parametrize("case", ["learned noise", "two outputs", "classes"])
def test_pointwise_terms_sum_to_the_whole(case):
    with jax.enable_x64(True):
        post = posterior(case, 0.3, 2.0)
        u = point(post)
        terms = post.pointwise_log_likelihood(u)
        assert terms.shape == (ROWS,)
        assert float(terms.sum()) == pytest.approx(float(post.log_likelihood(u)), rel=1e-12)
        batch = jnp.array([7, 2])
        np.testing.assert_allclose(
            post.pointwise_log_likelihood(u, batch), terms[batch], rtol=1e-12
        )


def test_weighted_rows_count_as_often_as_they_weigh():
    weight = jnp.arange(1.0, ROWS + 1)

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal().expand((FEATURES,)).to_event(1))
        with numpyro.plate("data", x.shape[0]), numpyro.handlers.scale(scale=weight):
            numpyro.sample("y", dist.Normal(x @ w, 100.0), obs=y)

    post = Posterior(model, REGRESSION)
    terms = post.pointwise_log_likelihood(jnp.ones(FEATURES))
    plain = stats.norm.logpdf(Y, X.sum(1), 100.0)
    np.testing.assert_allclose(terms, np.arange(1, ROWS + 1) * plain, rtol=1e-5)
    assert float(post.log_likelihood(jnp.ones(FEATURES))) == pytest.approx(
        float(terms.sum()), rel=1e-6
    )


def test_an_observation_beside_the_rows_has_no_minibatch():
    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal().expand((FEATURES,)).to_event(1))
        numpyro.sample("total", dist.Normal(w.sum(), 1.0), obs=0.5)
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)

    post, u = Posterior(model, REGRESSION), jnp.ones(FEATURES)
    assert jnp.isfinite(post.log_density(u))
    for refused in (post.log_density, post.log_likelihood):
        with pytest.raises(InputError, match=r"observed site 'total' has .*not one a row"):
            refused(u, jnp.array([0, 1]))


# -- supports ----------------------------------------------------------------------------------


def dynamic():
    low = numpyro.sample("low", dist.Normal(0.0, 1.0))
    return numpyro.sample("site", dist.Uniform(low, low + 3.0).expand((2,)).to_event(1))


def plates():
    with numpyro.plate("outer", 2, dim=-2), numpyro.plate("inner", 3, dim=-1):
        a = numpyro.sample("site", dist.HalfNormal(2.0))
    with numpyro.plate("alone", 4):
        b = numpyro.sample("vector", dist.Dirichlet(jnp.ones(3)))
    return a.sum() + b[:, 0].sum()


def simple(make):
    return lambda: numpyro.sample("site", make())


SUPPORTS = {
    "real": simple(lambda: dist.Normal(jnp.zeros(2), 1.0)),
    "positive": simple(lambda: dist.Gamma(jnp.ones(3), 2.0).to_event(1)),
    "unit": simple(lambda: dist.Beta(2.0, 3.0)),
    "interval": simple(lambda: dist.Uniform(-2.0, 5.0)),
    "above": simple(lambda: dist.Pareto(2.0, 3.0)),
    "simplex": simple(lambda: dist.Dirichlet(jnp.array([1.0, 2.0, 3.0]))),
    "simplices": simple(lambda: dist.Dirichlet(jnp.ones((2, 3))).to_event(1)),
    "correlation": simple(lambda: dist.LKJ(3, 1.5)),
    "correlation cholesky": simple(lambda: dist.LKJCholesky(3, 1.5)),
    "ordered": simple(
        lambda: dist.TransformedDistribution(
            dist.Normal(jnp.zeros(3), 1.0).to_event(1), dist.transforms.OrderedTransform()
        )
    ),
    "covariance": simple(lambda: dist.Wishart(4.0, jnp.eye(2))),
    "vector": simple(lambda: dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2) + 0.3)),
    "truncated": simple(lambda: dist.TruncatedNormal(0.0, 1.0, low=0.5)),
    "sample_shape": lambda: numpyro.sample("site", dist.HalfNormal(1.0), sample_shape=(2, 3)),
    "dynamic": dynamic,
    "plates": plates,
}


def test_a_sample_shape_counts():
    def model(x, y=None):
        SUPPORTS["sample_shape"]()
        with numpyro.plate("two", 2):
            numpyro.sample("in a plate", dist.Normal(), sample_shape=(3, 1))

    assert [site.shape for site in Posterior(model, REGRESSION).sites] == [(2, 3), (3, 2)]


@pytest.mark.parametrize("support", SUPPORTS)
def test_coordinates_are_inverse_and_the_jacobian_is_numpyros(support):
    def model(x, y=None):
        level = jnp.sum(SUPPORTS[support]())
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", dist.Normal(level, 50.0), obs=y)

    with jax.enable_x64(True):
        post = Posterior(model, REGRESSION)

        @jax.jit
        def both(u):
            values = post.constrain(u)
            given = numpyro.handlers.substitute(model, values)
            sites = numpyro.handlers.trace(given).get_trace(post.x, post.y)
            inside = {name: jnp.all(sites[name]["fn"].support(values[name])) for name in values}
            free = {site.name: site.take(u) for site in post.sites}
            theirs = -potential_energy(model, (post.x, post.y), {}, free)
            return values, inside, post.unconstrain(values), post.log_density(u), theirs

        u = point(post)
        values, inside, back, ours, theirs = both(u)
        assert {n: v.shape for n, v in values.items()} == {s.name: s.shape for s in post.sites}
        assert all(inside.values())
        np.testing.assert_allclose(back, u, rtol=1e-8, atol=1e-8)
        assert float(ours) == pytest.approx(float(theirs), rel=1e-10)
        assert sum(s.size for s in post.sites) == post.dimension
