"""Networks: the MLP against NumPy, modules by factory, and the functions a prior gives.

Random: variances of functions, at 6 standard errors (`_tools.assert_variance`, below 1e-6 each).
"""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnnzoo import registry
from bnnzoo.datasets import make_dataset
from bnnzoo.errors import InputError, OptionError, UnknownNameError
from bnnzoo.models import Posterior, load_model, make_model, network
from bnnzoo.models.activations import ACTIVATIONS
from bnnzoo.models.model import build_model
from bnnzoo.models.network import Network
from bnnzoo.specs import Component, RunSpec
from tests.models._tools import assert_variance, key, rng

X = rng(60).normal(size=(5, 3))
DATA = make_dataset(X, X[:, 0], task="regression")


def parameters(bound, seed=0):
    random = rng(61 + seed)
    return {i.path: jnp.asarray(random.normal(size=i.shape), jnp.float32) for i in bound.infos}


# -- the MLP -----------------------------------------------------------------------------------


def erf(z):
    return np.vectorize(math.erf)(z)


NUMPY = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "scaled-relu": lambda z: np.maximum(z, 0) * np.sqrt(2 / (1 - 1 / np.pi)),
    "erf": erf,
    # JAX's gelu is the tanh form.
    "gelu": lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "sin": np.sin,
    "identity": lambda z: z,
}


def test_gains_are_those_of_the_card():
    def gain(activation, widths=(4,)):
        options = {"activation": activation, "widths": list(widths)}
        infos = make_model(network_options=options).bind(DATA).bound.infos
        (gain,) = {i.gain for i in infos if i.role == "kernel"}
        return gain

    rectifiers = {"relu", "gelu", "silu"}
    assert {a: gain(a) for a in ACTIVATIONS} == {
        a: math.sqrt(2) if a in rectifiers else 1.0 for a in ACTIVATIONS
    }
    assert gain("relu", widths=()) == 1.0, "nothing is rectified in a linear model"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("residual", "ntk"), [("none", False), ("1", False), ("1/blocks", False), ("none", True)]
)
def test_mlp_is_numpys(activation, residual, ntk):
    options = {"widths": [4, 4, 4], "activation": activation, "residual": residual}
    options["parameterisation"] = "ntk" if ntk else "standard"
    bound = make_model(network_options=options).bind(DATA).bound
    w = {name: np.asarray(value, float) for name, value in parameters(bound).items()}

    def layer(number, h):
        kernel = w[f"layers.{number}.kernel"]
        shrink = math.sqrt(len(kernel)) if ntk else 1.0
        return h @ kernel / shrink + w[f"layers.{number}.bias"]

    f = NUMPY[activation]
    h = f(layer(0, X))  # 3 -> 4: no shortcut
    stay, share = {"none": (0.0, 1.0), "1": (1.0, 1.0), "1/blocks": (1.0, 0.5)}[residual]
    for number in (1, 2):
        h = stay * h + share * f(layer(number, h))
    found = bound.apply(parameters(bound), jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(found, layer(3, h), rtol=2e-4, atol=2e-4)


def first_product(apply, weights, x):
    """Shape of the first product of a network's program."""
    for equation in jax.make_jaxpr(apply)(weights, x).eqns:
        if equation.primitive.name == "dot_general":
            return equation.outvars[0].aval.shape
    raise AssertionError("no product")


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {"residual": "1/blocks"},
        {"parameterisation": "ntk", "activation": "relu"},
        {"bias": False},
        {"widths": []},
    ],
)
def test_narrow_layers_with_rows_last_are_the_same(options, outputs):
    """Values, and both gradients, to the rounding of float64."""
    given = {"widths": [4, 4, 5], **options}
    bound = registry.get("networks", "mlp").build(given).bind((3,), outputs)
    with jax.enable_x64(True):
        x = jnp.asarray(rng(63).normal(size=(network.MANY_ROWS, 3)))
        w = {i.path: jnp.asarray(rng(64).normal(size=i.shape)) for i in bound.infos}
        pull = jnp.asarray(rng(65).normal(size=(len(x), outputs)))

        def both(apply):
            def pulled(w, x):
                return jnp.sum(pull * jnp.sin(apply(w, x)))

            return apply(w, x), jax.grad(pulled, (0, 1))(w, x)

        found, wanted = jax.tree.leaves(both(bound.apply)), jax.tree.leaves(both(bound.by_rows))
        assert first_product(bound.by_rows, w, x)[0] == len(x)
        assert first_product(bound.apply, w, x)[1] == len(x), "rows are last"
    assert len(found) == len(wanted) == 2 + len(w)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("widths", "rows", "turned"),
    [
        ([network.NARROW], network.MANY_ROWS, True),
        ([4, network.NARROW + 1], network.MANY_ROWS, False),
        ([network.NARROW], network.MANY_ROWS - 1, False),
    ],
)
def test_rows_are_last_where_layers_are_narrow_and_rows_are_many(widths, rows, turned):
    bound = registry.get("networks", "mlp").build({"widths": widths}).bind((3,), 1)
    shape = first_product(bound.apply, parameters(bound), jnp.zeros((rows, 3)))
    assert shape == ((widths[0], rows) if turned else (rows, widths[0]))


def test_images_are_flattened_and_no_widths_is_linear():
    images = make_dataset(rng(62).normal(size=(6, 2, 2)), np.arange(6.0), task="regression")
    bound = make_model(network_options={"widths": []}).bind(images).bound
    w = parameters(bound)
    x = jnp.asarray(images.x, jnp.float32)
    wanted = x.reshape(6, 4) @ w["layers.0.kernel"] + w["layers.0.bias"]
    np.testing.assert_allclose(bound.apply(w, x), wanted, rtol=1e-5)


@pytest.mark.validate
@pytest.mark.parametrize("prior", ["gaussian", "laplace"])
def test_ntk_gives_the_same_functions(prior):
    """The same base draws give the same function in both parameterisations, so the same law."""
    functions = []
    for parameterisation in ("standard", "ntk"):
        options = {"widths": [20], "activation": "relu", "parameterisation": parameterisation}
        post = Posterior(make_model("mlp", prior, network_options=options), DATA)
        draw = jax.jit(jax.vmap(lambda k, post=post: post.predict(post.initial(k), post.x)))
        functions.append(draw(jax.random.split(key(7), 50)))
    assert np.std(functions[0]) > 0.1
    np.testing.assert_allclose(functions[0], functions[1], rtol=1e-4, atol=1e-4)


def width(law):
    """Standard deviation, or where there is none what the density at 0 is inverse to."""
    variance = float(law.variance.max())
    at = jnp.zeros(law.event_shape)
    return math.exp(-float(law.log_prob(at)) / at.size) if math.isnan(variance) else variance**0.5


def priors_of_any_network():
    names = registry.list_names("priors")
    return [name for name in names if "needs" not in registry.describe("priors", name).tags]


@pytest.mark.parametrize("prior", priors_of_any_network())
def test_ntk_moves_the_fan_in_into_the_layer(prior):
    widths = {}
    for parameterisation in ("standard", "ntk"):
        options = {"widths": [20], "activation": "relu", "parameterisation": parameterisation}
        model = make_model("mlp", prior, network_options=options).bind(DATA)
        laws = {i.path: model.prior.distribution(i) for i in model.bound.infos}
        widths[parameterisation] = {n: width(d) for n, d in laws.items()}
    standard, ntk = widths["standard"], widths["ntk"]
    fan_in = {"layers.0.kernel": 3, "layers.1.kernel": 20}
    for name in standard:
        stretch = math.sqrt(fan_in.get(name, 1))
        assert ntk[name] == pytest.approx(stretch * standard[name], rel=1e-5)


@pytest.mark.parametrize(
    ("prior", "parameterisation", "activation"),
    [
        ("gaussian", "standard", "relu"),
        ("gaussian", "ntk", "identity"),
        ("laplace", "standard", "identity"),
        ("laplace", "ntk", "relu"),
    ],
)
def test_variance_of_functions_is_the_closed_form(prior, parameterisation, activation):
    """Var f = q + 1 with q = gain^2 |x|^2/d + 1 the second moment of a hidden unit.

    Relu halves it and its gain, squared, doubles it. Holds for families matched by variance.
    """
    options = {"widths": [10], "activation": activation, "parameterisation": parameterisation}
    data = make_dataset(X, X[:, 0], task="regression", scale="none")
    post = Posterior(make_model("mlp", prior, network_options=options), data)
    x = jnp.array([[0.5, -2.0, 1.0]])
    draw = jax.jit(jax.vmap(lambda k: post.predict(post.initial(k), x)))
    f = draw(jax.random.split(key(8), 20_000))
    hidden = (2.0 if activation == "relu" else 1.0) * 5.25 / 3 + 1
    assert_variance(f, hidden + 1)
    with pytest.raises(AssertionError):
        assert_variance(f, 0.7 * hidden + 1)  # what a gain 16 % too small would give


# -- modules by factory ------------------------------------------------------------------------


class Convolutional(nnx.Module):
    """(6, 6, 1) images to logits."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.conv = nnx.Conv(in_shape[-1], 4, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, out_shape[0], rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))


def test_a_convolution_on_images_has_a_posterior():
    images = rng(63).normal(size=(9, 6, 6, 1))
    data = make_dataset(images, np.arange(9) % 3, task="classification")
    model = make_model(Convolutional, likelihood="categorical", network_options={"gain": 1.5})
    post = Posterior(model, data, 0.5)
    names = {"conv.kernel", "conv.bias", "norm.scale", "norm.bias", "head.kernel", "head.bias"}
    assert {s.name for s in post.sites} == names
    u = post.initial(key(10))
    value, gradient = jax.jit(jax.value_and_grad(post.log_density))(u)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all() and jnp.all(gradient != 0)
    # Logits against the module itself, run with the same parameters.
    module = Convolutional((6, 6, 1), (3,), rngs=nnx.Rngs(0))
    for name, array in post.constrain(u).items():
        owner, last = name.split(".")
        setattr(getattr(module, owner), last, nnx.Param(array))
    np.testing.assert_allclose(post.predict(u, jnp.asarray(images)), module(post.x), rtol=1e-4)
    kernel = post.model.prior.distribution(post.model.bound.infos[1])
    np.testing.assert_allclose(kernel.variance, np.full((3, 3, 1, 4), 1.5**2 / 9), rtol=1e-5)


def with_layer(make):
    class Module(nnx.Module):
        def __init__(self, in_shape, out_shape, *, rngs):
            self.linear = nnx.Linear(in_shape[0], out_shape[0], rngs=rngs)
            self.other = make(out_shape[0], rngs)

        def __call__(self, x):
            h = self.linear(x)
            return self.other(h) if callable(self.other) else h + self.other

    return Module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n, rngs: nnx.BatchNorm(n, rngs=rngs), "batch statistics make the likelihood of a"),
        (lambda n, rngs: nnx.Dropout(0.5, rngs=rngs), r"\(RngCount, RngKey\).*leave the layer out"),
        (lambda n, rngs: jnp.ones(n), "'other' is an array that is not an nnx.Param"),
        (lambda n, rngs: nnx.Linear(n, 7, rngs=rngs), r"returns shape \(2, 7\)"),
        (lambda n, rngs: nnx.Linear(n + 1, n, rngs=rngs), r"does not run on inputs \(3,\)"),
        (lambda n, rngs: nnx.Linear(n, -1, rngs=rngs), r"cannot be built for inputs \(3,\)"),
    ],
)
def test_a_module_without_a_posterior_is_refused_with_the_reason(make, message):
    for _ in range(2):  # what JAX has cached must not change the message
        with pytest.raises(InputError, match=f"^net: .*{message}") as caught:
            Network(with_layer(make), label="net").bind((3,), 1)
        assert "\n" not in str(caught.value)


def test_a_module_without_parameters_is_refused():
    class Nothing(nnx.Module):
        def __init__(self, in_shape, out_shape, *, rngs):
            self.size = out_shape[0]

        def __call__(self, x):
            return x[:, : self.size]

    with pytest.raises(InputError, match=r"no nnx\.Param"):
        make_model(Nothing).bind(DATA)


def test_a_module_that_holds_a_lambda_still_shares_programs():
    """A new lambda is equal to no other: binding the same model again must not make one."""

    class Lambda(nnx.Module):
        def __init__(self, in_shape, out_shape, *, rngs):
            self.layers = nnx.Sequential(
                nnx.Linear(in_shape[0], 4, rngs=rngs),
                lambda h: jnp.sin(3 * h),
                nnx.Linear(4, out_shape[0], rngs=rngs),
            )

        def __call__(self, x):
            return self.layers(x)

    model = make_model(Lambda)
    other = make_dataset(X, 2 * X[:, 1], task="regression")
    posts = [Posterior(model, data) for data in (DATA, other)]
    assert len({jax.tree.structure(post) for post in posts}) == 1


def test_a_model_that_was_bound_can_still_be_pickled():
    model = make_model(network_options={"widths": [3]})
    first = model.bind(DATA)
    again = pickle.loads(pickle.dumps(model)).bind(DATA)
    assert jax.tree.structure(again) == jax.tree.structure(first)


def test_shared_layers_are_one_parameter():
    class Tied(nnx.Module):
        def __init__(self, in_shape, out_shape, *, rngs):
            self.first = nnx.Linear(3, 3, rngs=rngs)
            self.again = self.first
            self.last = nnx.Linear(3, out_shape[0], rngs=rngs)

        def __call__(self, x):
            return self.last(self.again(self.first(x)))

    assert make_model(Tied).bind(DATA).parameter_count == 3 * 3 + 3 + 3 + 1


# -- the model that is made of the parts -------------------------------------------------------


def test_model_and_data_must_agree():
    classes = make_dataset(X, np.arange(5) % 2, task="classification")
    with pytest.raises(InputError, match=r"is for regression, but data set 'arrays' .*categorical"):
        make_model().bind(classes)
    with pytest.raises(InputError, match="is for classification"):
        make_model(likelihood="categorical").bind(DATA)
    with pytest.raises(InputError, match=r"likelihood.outputs = 2, but data set 'arrays' has 1"):
        make_model(likelihood_options={"outputs": 2}).bind(DATA)
    with pytest.raises(InputError, match=r"no shapes yet: call model\.bind"):
        _ = make_model().parameter_count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "fixed"}, "give likelihood.noise_std as well"),
        ({"noise_std": 0.1}, "likelihood.noise_std has no effect"),
        ({"noise": "heteroscedastic", "noise_scale": 0.1}, "likelihood.noise_scale has no effect"),
        ({"noise": "fixed", "noise_std": 0.0}, "likelihood.noise_std = 0.0"),
    ],
)
def test_noise_options_that_contradict(options, message):
    with pytest.raises(OptionError, match=message):
        make_model(likelihood_options=options)


def test_names_and_options_are_checked():
    with pytest.raises(UnknownNameError, match="unknown likelihood 'gausian'; did you mean"):
        make_model(likelihood="gausian")
    with pytest.raises(OptionError, match=r"network\.activation = 'tahn'.*did you mean 'tanh'"):
        make_model(network_options={"activation": "tahn"})
    with pytest.raises(OptionError, match=r"unknown option network\.wdiths.*did you mean 'widths'"):
        make_model(network_options={"wdiths": [3]})
    with pytest.raises(InputError, match=r"unknown option network\.width of a factory"):
        make_model(Convolutional, network_options={"width": 3})
    spec = RunSpec(model=Component(name="bo-surrogate-mlp"), prior=Component(name="laplace"))
    with pytest.raises(InputError, match=r"already fixes the prior: leave \[prior\] out"):
        build_model(spec)


def test_named_models_of_the_zoo_have_their_published_shape():
    surrogate = load_model("bo-surrogate-mlp").bind(DATA)
    assert [i.shape for i in surrogate.bound.infos if i.role == "kernel"] == [
        (3, 128), (128, 128), (128, 128), (128, 1)
    ]  # fmt: skip
    digits = make_dataset(rng(64).normal(size=(20, 784)), np.arange(20) % 10, task="classification")
    revisited = load_model("priors-revisited-fcnn", prior="laplace").bind(digits)
    kernel = revisited.bound.infos[1]
    assert kernel.shape == (784, 50)
    law = revisited.prior.distribution(kernel)  # published: the scale, not the variance
    np.testing.assert_allclose(law.variance[0, 0], 2 * 2 / 784, rtol=1e-5)
