"""Kernels of infinitely wide networks: closed forms, quadrature, wide networks, refusals.

Random: averages of products of hidden units over wide networks, whose last layer is thereby summed
over. They are compared at 5 standard errors of the 24 or more networks (Student-t of 23 degrees of
freedom or more: 5e-5 a comparison, below 1e-3 a network), and finite width moves a deep one by less
than a quarter of one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from scipy import integrate, special

from bnnzoo.errors import InputError
from bnnzoo.models import load_model, make_model, nngp_kernel
from bnnzoo.models.activations import ACTIVATIONS
from bnnzoo.models.infinite import Dense, dense_kernel, moments
from bnnzoo.models.scaled_layers import linear
from tests.models._tools import key, rng

X = np.array([[1.0, -0.5, 0.3], [0.2, 0.9, -1.1], [-1.2, 0.1, 0.8], [2.0, -1.1, 0.6]])
PRIOR = {"std": 1.3, "bias_std": 0.6}


def make(activation="erf", widths=(3, 3, 3), prior="gaussian", prior_options=None, **network):
    options = {"widths": list(widths), "activation": activation, **network}
    chosen = PRIOR if prior_options is None else prior_options
    return make_model("mlp", prior, network_options=options, prior_options=chosen)


# -- moments -----------------------------------------------------------------------------------

VARIANCES = np.array([1e-3, 0.5, 1.0, 4.0, 100.0])
CORRELATIONS = np.array([-1.0, -0.7, 0.0, 0.3, 0.99, 0.9999999, 1.0])


def gaussian_pairs():
    a, b, r = (x.ravel() for x in np.meshgrid(VARIANCES, VARIANCES, CORRELATIONS))
    return jnp.asarray(a), jnp.asarray(b), jnp.asarray(r * np.sqrt(a * b))


def test_quadrature_gives_the_closed_forms():
    """Of erf and relu: within 1e-7 of E[phi^2], for standard deviations up to 10."""
    with jax.enable_x64(True):
        a, b, c = gaussian_pairs()
        for name in ("erf", "relu"):
            exact = moments.product_moment(name, a, b, c)
            size = jnp.sqrt(moments.product_moment(name, a, a, a))
            size *= jnp.sqrt(moments.product_moment(name, b, b, b))
            for odd in {False, name in moments.ODD}:
                found = moments.plane_moment(ACTIVATIONS[name].function, odd, a, b, c)
                assert float(jnp.max(jnp.abs(found - exact) / size)) < 1e-7, (name, odd)


def test_quadrature_gives_what_hermite_nodes_give():
    """Smooth activations without a closed form, and their means: 150 x 150 Gauss-Hermite nodes."""
    a, b, c = 2.3, 0.7, 0.8
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    weights = weights / np.sqrt(2 * np.pi)
    u = np.sqrt(a) * nodes
    v = c / np.sqrt(a) * nodes[:, None] + np.sqrt(b - c**2 / a) * nodes
    with jax.enable_x64(True):
        for name in ("tanh", "gelu", "softplus"):
            phi = ACTIVATIONS[name].function
            by_u, by_v = (np.asarray(phi(jnp.asarray(z))) for z in (u, v))
            found = float(moments.product_moment(name, *map(jnp.asarray, (a, b, c))))
            assert abs(found - (weights * by_u) @ by_v @ weights) < 1e-9, name
            assert abs(float(moments.mean(name, jnp.asarray(a))) - weights @ by_u) < 1e-9, name


def test_closed_forms_are_the_integrals():
    """Of sin, relu and its mean, by brute force over the plane."""
    a, b, c = 1.7, 0.6, -0.5
    root = np.linalg.cholesky([[a, c], [c, b]])
    for name, phi in (("sin", np.sin), ("relu", lambda u: max(u, 0.0)), ("erf", special.erf)):

        def density(t, s, phi=phi):
            u, v = root @ [s, t]
            return phi(u) * phi(v) * np.exp(-0.5 * (s**2 + t**2)) / (2 * np.pi)

        brute = integrate.dblquad(density, -8, 8, -8, 8, epsabs=1e-7)[0]
        with jax.enable_x64(True):
            found = float(moments.product_moment(name, *map(jnp.asarray, (a, b, c))))
        assert abs(found - brute) < 1e-6, name
    assert float(moments.mean("relu", jnp.asarray(2.0))) == pytest.approx((1 / np.pi) ** 0.5)


# -- wide networks -----------------------------------------------------------------------------


def wide_kernel(model, width, networks, x=X, seed=0):
    """Estimated covariance of an output of wide networks, and its standard errors.

    The network itself runs, its last kernel the unit matrix, so that it returns its hidden units;
    the last layer's own variances are put in afterwards.
    """
    bound = model.network.bind(x.shape[1:], width)
    *hidden, kernel, bias = sorted(bound.infos, key=lambda i: (i.path[:9], i.role != "kernel"))
    eye = np.sqrt(width) * np.eye(width) if kernel.forward_scaled else np.eye(width)
    fixed = {kernel.path: jnp.asarray(eye, jnp.float32), bias.path: jnp.zeros(width)}
    times = 1.0 if kernel.forward_scaled else width
    with handlers.seed(rng_seed=0):
        laws = {i.path: model.prior.distribution(i) for i in (kernel, bias)}
    weight = times * float(np.ravel(laws[kernel.path].variance)[0])
    offset = float(np.ravel(laws[bias.path].variance)[0])

    @jax.jit
    def one(key):
        with handlers.seed(rng_seed=key):
            drawn = model.prior.sample(hidden)
        units = bound.apply({**drawn, **fixed}, jnp.asarray(x, jnp.float32))
        return offset + weight * units @ units.T / width

    keys = jax.random.split(key(seed), networks)
    found = np.array([one(k) for k in keys], float)
    return found.mean(0), found.std(0, ddof=1) / np.sqrt(networks)


def assert_limit(model, width, networks, seed=0):
    """The kernel of ``model`` is that of its networks of this width."""
    expected = nngp_kernel(model, X)
    found, error = wide_kernel(model, width, networks, seed=seed)
    worst = float(np.max(np.abs(found - expected) / error))
    size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    print(f"{model.label}: worst {worst:.2f}, errors up to {np.max(error / size):.4f}")
    assert worst < 5.0


def test_kernel_is_that_of_wide_networks():
    """Quadrature, units of positive mean, a residual connection and biases."""
    assert_limit(make("gelu", [500] * 2, residual="1", parameterisation="ntk"), 500, 24)


@pytest.mark.validate
@pytest.mark.parametrize("parameterisation", ["standard", "ntk"])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_kernel_is_that_of_wide_networks(activation, depth, parameterisation):
    width = 4000 if depth == 1 else 1000
    model = make(activation, [width] * depth, parameterisation=parameterisation)
    assert_limit(model, width, 32, seed=1 if parameterisation == "ntk" else 4)


@pytest.mark.validate
@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
def test_kernel_of_deep_residual_networks(activation):
    """Rectifiers have units of positive mean, which residual connections carry on; no biases."""
    assert_limit(
        make(activation, [1000] * 3, residual="1/sqrt(blocks)", bias=False), 1000, 32, seed=2
    )


@pytest.mark.validate
@pytest.mark.parametrize(("prior", "width"), [("laplace", 1000), ("student-t", 300)])
def test_kernel_of_weights_that_are_not_gaussian(prior, width):
    """Finite variance is enough where sums are over many: hidden and last layers."""
    rule = {"layers.0.kernel": {"name": "gaussian", "std": 1.3}}
    options = {**PRIOR, "rules": rule}
    model = make("relu", [width] * 3, prior, options)
    assert_limit(model, width, 32, seed=3)
    same = make("relu", [width] * 3, "gaussian", PRIOR)
    np.testing.assert_allclose(nngp_kernel(model, X), nngp_kernel(same, X), rtol=1e-12)


@pytest.mark.validate
def test_few_inputs_keep_the_shape_of_their_weights():
    """Of heavy-tailed weights on three inputs the Gaussian recursion is wrong, and says so."""
    model = make("erf", [4000], "student-t", {"df": 2.3, "std": 2.0, "bias_std": 0.2})
    with pytest.raises(
        InputError, match=r"layers.0.kernel.*StudentT.*3 inputs.*approximate_inputs"
    ):
        nngp_kernel(model, X)
    approximate = nngp_kernel(model, X, approximate_inputs=True)
    found, error = wide_kernel(model, 4000, 24)
    assert np.max(np.abs(found - approximate) / error) > 20


# -- the recursion -------------------------------------------------------------------------------


def test_kernel_by_hand():
    """Two erf layers of either parameterisation; widths do not matter."""
    k = 0.36 + 1.69 * X @ X.T / 3
    for _ in range(2):
        size = 1 + 2 * np.diag(k)
        k = 0.36 + 1.69 * 2 / np.pi * np.arcsin(2 * k / np.sqrt(np.outer(size, size)))
    for widths, parameterisation in (([3, 3], "standard"), ([70, 2], "ntk")):
        model = make("erf", widths, parameterisation=parameterisation)
        np.testing.assert_allclose(nngp_kernel(model, X), k, rtol=1e-13)


def test_linear_model_and_rules():
    """No hidden layer, one width an input; rules and absolute widths are read as they are."""
    rules = {"layers.1.*": {"std": 0.5, "bias_std": 0.1}}
    found = nngp_kernel(make("relu", [9], prior_options={**PRIOR, "rules": rules}), X)
    hidden = 0.36 + 2 * 1.69 * X @ X.T / 3
    with jax.enable_x64(True):
        d = jnp.asarray(np.diag(hidden))
        units = moments.product_moment("relu", d[:, None], d[None], jnp.asarray(hidden))
        units = np.asarray(units)
    np.testing.assert_allclose(found, 0.01 + 2 * 0.25 * units, rtol=1e-12)
    linear = make("relu", [], prior_options={"std": 0.3, "absolute": True, "bias_std": 2.0})
    np.testing.assert_allclose(nngp_kernel(linear, X), 4 + 0.09 * X @ X.T, rtol=1e-13)


def test_a_width_an_input():
    """dense_kernel takes one variance an input, as of relevance priors."""
    v = np.array([3.0, 0.0, 1.5])
    with jax.enable_x64(True):
        found = dense_kernel(jnp.asarray(X), None, [Dense(jnp.asarray(v), 0.0)], "erf")
    np.testing.assert_allclose(found, X @ np.diag(v / 3) @ X.T, rtol=1e-13)


@pytest.mark.parametrize("activation", [pytest.param("relu", marks=pytest.mark.validate), "tanh"])
def test_symmetric_positive_and_float64(activation):
    """To the last bit, in either precision of the caller; blocks agree with the whole."""
    x = rng(400).normal(size=(40, 3))
    x[7], x[9] = 0.0, x[8]
    model = make(activation, [9, 9])
    whole = nngp_kernel(model, x)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(nngp_kernel(model, x), whole)
    assert whole.dtype == np.float64 and (whole == whole.T).all()
    assert np.linalg.eigvalsh(whole).min() > -1e-9 * np.diag(whole).max()
    np.testing.assert_allclose(nngp_kernel(model, x, x[:5]), whole[:, :5], rtol=1e-9)


def test_images_are_flattened():
    x = rng(401).normal(size=(4, 2, 3, 1))
    flat = nngp_kernel(make(), x.reshape(4, 6))
    np.testing.assert_array_equal(nngp_kernel(make(), x), flat)


# -- what has no limit ----------------------------------------------------------------------------


def other_network(in_shape, out_shape, *, rngs):
    return linear(in_shape[0], out_shape[0], "ntk", rngs=rngs)


def named(path, name, **options):
    return {**PRIOR, "rules": {path: {"name": name, **options}}}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make_model(other_network), "other_network.*no infinitely wide limit"),
        (
            lambda: make(prior="hierarchical-gaussian"),
            "'layers.0.kernel.variance' is sampled.*mixture",
        ),
        (
            lambda: make(prior="student-t", prior_options={"df": 1.8, "match": "iqr"}),
            "StudentT has no finite variance",
        ),
        (
            lambda: make(prior_options=named("layers.1.bias", "laplace")),
            "layers.1.bias.*Laplace.*not summed over",
        ),
        (lambda: lambda x, y=None: None, "hand-written model"),
    ],
)
def test_refused(build, message):
    with pytest.raises(InputError, match=message):
        nngp_kernel(build(), X)


def test_refused_inputs():
    with pytest.raises(InputError, match="not finite"):
        nngp_kernel(make(), [[np.nan, 0.0, 0.0]])
    with pytest.raises(InputError, match="x2 has 2 features a row, but x 3"):
        nngp_kernel(make(), X, X[:, :2])
    with pytest.raises(InputError, match="rows of inputs"):
        nngp_kernel(make(), [])


def test_named_models_have_their_limit():
    assert nngp_kernel(load_model("bo-surrogate-mlp"), X).shape == (4, 4)
