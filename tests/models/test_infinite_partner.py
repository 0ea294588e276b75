"""Infinitely wide partners read off models of our own: cnn, and inverse-gamma-scale priors.

Random: averages of products of what the last layer reads, over networks of many channels drawn from
the model's own prior, at 4 standard errors of 48 networks (Student-t of 47 degrees of freedom: 2e-4
a comparison, 1.3e-3 a model of 6); and one p-value below 1e-6.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from scipy import stats

from bnnzoo import make_dataset
from bnnzoo.errors import InputError
from bnnzoo.inference import InfiniteNetwork
from bnnzoo.models import make_model, nngp_kernel
from bnnzoo.models.infinite import Conv, ConvNetwork, Pool, conv_kernel, conv_variances
from tests.models._tools import ALARM, key, rng

IMAGES = rng(500).normal(size=(3, 6, 5, 2))


def make(prior="gaussian", options=None, **network):
    given = {"channels": [4, 4], "kernel": 3, "pool": "average", "activation": "relu", **network}
    chosen = {"std": 1.2, "bias_std": 0.4} if options is None else options
    return make_model(
        "cnn", prior, network_options=given, prior_options=chosen,
        likelihood_options={"noise": "fixed", "noise_std": 0.3},
    )  # fmt: skip


def wide_kernel(model, networks, seed):
    """Covariance of the output given the hidden layers, averaged over networks; standard errors.

    What the last kernel multiplies is the slope of the output by it.
    """
    bound = model.network.bind(IMAGES.shape[1:], 1)
    number = sum(i.path.startswith("dense") for i in bound.infos) // 2 - 1
    by_path = {i.path: i for i in bound.infos}
    last, bias = (f"dense.{number}.{part}" for part in ("kernel", "bias"))
    weight, offset = (
        float(np.ravel(model.prior.distribution(by_path[path]).variance)[0])
        for path in (last, bias)
    )

    @jax.jit
    def one(own):
        with handlers.seed(rng_seed=own):
            drawn = model.prior.sample(bound.infos)
        at = jnp.asarray(IMAGES, jnp.float32)
        read = jax.jacrev(lambda k: bound.apply({**drawn, last: k}, at)[:, 0])(drawn[last])
        read = read.reshape(len(at), -1)
        return offset + weight * read @ read.T

    found = np.array([one(k) for k in jax.random.split(key(510 + seed), networks)], float)
    return found.mean(0), found.std(0, ddof=1) / np.sqrt(networks)


MODELS = {
    "correlated": lambda n: make(
        "correlated-conv", {"std": 1.2, "bias_std": 0.4, "length_scale": 1.5}, channels=[n, n]
    ),
    "flat": lambda n: make(channels=[n, n], pool="none", activation="tanh", padding="valid"),
    "erf": lambda n: make(channels=[n, n], activation="erf", parameterisation="ntk", kernel=[3, 2]),
    "dense": lambda n: make(channels=[n], dense=[n, n], activation="relu"),
}  # fmt: skip


def assert_limit(name, channels, networks, seed):
    expected = nngp_kernel(MODELS[name](3), IMAGES)
    found, error = wide_kernel(MODELS[name](channels), networks, seed)
    worst = float(np.max(np.abs(found - expected) / error))
    size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    print(f"{name}: worst {worst:.2f}, errors up to {np.max(error / size):.4f}")
    assert worst < 4.0


@pytest.mark.validate
@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_is_that_of_wide_ones(name):
    assert_limit(name, 300, 48, 1 + list(MODELS).index(name))


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.validate)])
def test_the_description_is_the_models(count):
    """By hand: variances, gains, pooling, and both forms of the correlated prior."""
    gain, places = 2.0, np.stack(np.indices((2, 2)), -1).reshape(-1, 2)
    distance = np.sqrt(((places[:, None] - places) ** 2).sum(-1))
    conv = Conv((2, 2), 1.44 * gain, 0.16, covariance=np.exp(-distance / 1.5))
    plain = ConvNetwork((conv, Pool((2, 2))) * count, "relu", 1.44 * gain, 0.16)
    expected = conv_kernel(plain, IMAGES)
    options = {"std": 1.2, "bias_std": 0.4, "length_scale": 1.5}
    for centred in (False, True):
        given = {**options, "centred": centred}
        model = make("correlated-conv", given, channels=[4] * count, kernel=2)
        np.testing.assert_allclose(nngp_kernel(model, IMAGES), expected, rtol=1e-6)
    np.testing.assert_allclose(conv_variances(plain, IMAGES), np.diag(expected), rtol=1e-12)


@pytest.mark.validate
def test_hidden_dense_layers_symmetry_and_blocks():
    model = make(channels=[3], dense=[7, 7])
    whole = nngp_kernel(model, IMAGES)
    assert (whole == whole.T).all() and np.linalg.eigvalsh(whole).min() > 0
    np.testing.assert_allclose(nngp_kernel(model, IMAGES, IMAGES[:2]), whole[:, :2], rtol=1e-12)


DATA = make_dataset(IMAGES, np.array([0.3, -1.0, 0.6]), task="regression", scale="none")


@pytest.mark.validate
def test_regression_with_a_cnn():
    found = InfiniteNetwork(make(), DATA)
    kernel = nngp_kernel(make(), IMAGES) + 0.09 * np.eye(3)
    expected = stats.multivariate_normal(np.zeros(3), kernel).logpdf(DATA.y)
    assert found.log_evidence == pytest.approx(expected, abs=1e-9)
    said = found.predict(IMAGES[:2])
    mean = (kernel - 0.09 * np.eye(3))[:2] @ np.linalg.solve(kernel, DATA.y)
    np.testing.assert_allclose(said.mean, mean, rtol=1e-9)
    with pytest.raises(InputError, match="take differences of log_evidence"):
        _ = found.evidence_gradient


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make(pool="max"), r"network.pool = 'max'.*'average' or 'none'"),
        (
            lambda: make("laplace"),
            r"'convs.0.kernel': Laplace, but there are 18 inputs however wide",
        ),
        *(
            pytest.param(lambda n=name: make(n, {}), message, marks=pytest.mark.validate)
            for name, message in (
                ("matrix-normal", "no random variable of its own|not independent"),
                ("multivariate-student-t", "no random variable of its own|not independent"),
                ("horseshoe", "sampled with the weights"),
                ("wired", "no random variable of its own"),
            )
        ),
    ],
)
def test_refused(build, message):
    with pytest.raises(InputError, match=message):
        nngp_kernel(build(), IMAGES)


# -- the Student-t process of a random scale -------------------------------------------------------

X = rng(501).normal(size=(5, 3))
ROWS = make_dataset(X, np.sin(X[:, 0]), task="regression", scale="none")


def scaled(widths=(4, 4), **options):
    given = {"shape": 1.7, "rate": 0.9, "std": 1.3, "bias_std": 0.5, **options}
    return make_model(
        "mlp", "inverse-gamma-scale", prior_options=given,
        network_options={"widths": list(widths), "activation": "erf"},
        likelihood_options={"noise": "fixed", "noise_std": 0.3},
    )  # fmt: skip


def plain():
    return make_model(
        "mlp", prior_options={"std": 1.3, "bias_std": 0.5},
        network_options={"widths": [4, 4], "activation": "erf"},
    )  # fmt: skip


def test_evidence_of_a_random_scale_is_scipys_multivariate_t():
    found = InfiniteNetwork(scaled(), ROWS, scale_mixture="prior")
    matrix = 0.9 / 1.7 * (nngp_kernel(plain(), X) + 0.09 * np.eye(5))
    expected = stats.multivariate_t(np.zeros(5), matrix, df=3.4).logpdf(ROWS.y)
    assert found.log_evidence == pytest.approx(expected, abs=1e-9)
    assert found.predict(X[:1]).df == pytest.approx(3.4 + 5)


@pytest.mark.validate
def test_evidence_of_a_cnn_with_a_random_scale():
    cnn = make("inverse-gamma-scale", {"shape": 2.0, "std": 1.2, "bias_std": 0.4})
    matrix = 0.5 * (nngp_kernel(make(), IMAGES) + 0.09 * np.eye(3))
    expected = stats.multivariate_t(np.zeros(3), matrix, df=4.0).logpdf(DATA.y)
    found = InfiniteNetwork(cnn, DATA, scale_mixture="prior")
    assert found.log_evidence == pytest.approx(expected, abs=1e-9)


@pytest.mark.validate
def test_functions_of_a_wide_network_are_the_process():
    """f' K^-1 f / n times a/b is F(n, 2a), by Kolmogorov-Smirnov of 2,000 networks of 400 units."""
    model = scaled((400, 400)).bind(ROWS)

    @jax.jit
    def draw(own):
        with handlers.seed(rng_seed=own):
            drawn = model.prior.sample(model.bound.infos)
        return model.bound.apply(drawn, jnp.asarray(X[:3], jnp.float32))[:, 0]

    f = np.asarray(jax.lax.map(draw, jax.random.split(key(520), 2000)), float)
    kernel = nngp_kernel(plain(), X[:3])
    squares = np.einsum("di,ij,dj->d", f, np.linalg.inv(kernel), f) / 3 * 1.7 / 0.9
    assert stats.kstest(squares, stats.f(3, 3.4).cdf).pvalue > ALARM
    assert stats.kstest(squares, stats.chi2(3, scale=1 / 3).cdf).pvalue < ALARM


def test_scales_that_are_no_process():
    with pytest.raises(InputError, match="no random variance of its output layer"):
        InfiniteNetwork(make(), DATA, scale_mixture="prior")
    with pytest.raises(InputError, match="scale_bias = false"):
        InfiniteNetwork(scaled(scale_bias=False), ROWS, scale_mixture="prior")
    with pytest.raises(InputError, match=r"output = 'layers.1.kernel' names other kernels"):
        InfiniteNetwork(scaled(output="layers.1.kernel"), ROWS, scale_mixture="prior")
    with pytest.raises(InputError, match=r"network.output_variance.*scale_mixture='prior'"):
        InfiniteNetwork(scaled(), ROWS)
    with pytest.raises(InputError, match="scale_mixture = 'priors': 'prior', or a shape"):
        InfiniteNetwork(scaled(), ROWS, scale_mixture="priors")
