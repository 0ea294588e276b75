"""Every network of the zoo against NumPy.

Forward passes are compared in float64, to 1e-10. Random: nothing but the values that go in.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnzoo import registry
from bnnzoo.errors import InputError
from tests.models._tools import rng

IMAGES, SEQUENCES, TABLE = (6, 4, 2), (5, 3), (3,)
WORDS = np.array([[3, 1, 2, 0, 0], [4, 4, 1, 2, 3], [0, 0, 0, 0, 0]])


def rarely(*values):
    """A variant that `make validate` runs."""
    return pytest.param(*values, marks=pytest.mark.validate)


def network(name, **options):
    return registry.get("networks", name).build(options)


@functools.cache
def weights(bound):
    """Values of every parameter, by path; the same names have the same ones."""
    random = rng(70)
    made = {i.path: random.normal(size=i.shape) for i in bound.infos}
    return {p: 1.0 + 0.3 * w if p.endswith("scale") else 0.6 * w for p, w in made.items()}


def agrees(bound, x, wanted):
    with jax.enable_x64(True):
        given = {path: jnp.asarray(w) for path, w in weights(bound).items()}
        found = jax.jit(bound.apply)(given, jnp.asarray(x, float))
        assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)
    assert np.std(wanted) > 0.01


def inputs(shape, number=71, rows=3):
    return rng(number).normal(size=(rows, *shape))


# -- written out --------------------------------------------------------------------------------


def dense(w, name, h, ntk=False):
    kernel = w[f"{name}.kernel"]
    shrink = math.sqrt(len(kernel)) if ntk else 1.0
    return h @ kernel / shrink + w.get(f"{name}.bias", 0.0)


def convolution(kernel, images, stride=1, same=True):
    """Window by window; with ``same`` the borders are zeros, as many before as after or one less.

    Args:
        kernel: ``(height, width, in, out)``.
        images: ``(row, height, width, in)``.
    """
    sides = kernel.shape[:2]
    counts = []
    padded = images
    for axis, side in enumerate(sides, 1):
        size = images.shape[axis]
        if same:
            count = -(-size // stride)
            missing = max((count - 1) * stride + side - size, 0)
            widths = [(0, 0)] * 4
            widths[axis] = (missing // 2, missing - missing // 2)
            padded = np.pad(padded, widths)
        else:
            count = (size - side) // stride + 1
        counts.append(count)
    out = np.zeros((len(images), *counts, kernel.shape[-1]))
    for i, j in itertools.product(*map(range, counts)):
        window = padded[
            :, i * stride : i * stride + sides[0], j * stride : j * stride + sides[1], :
        ]
        out[:, i, j] = np.einsum("rabc,abco->ro", window, kernel)
    return out


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def gelu(z):
    return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def pooled(images, side, reduce):
    rows, height, width, channels = images.shape
    out = np.zeros((rows, height // side, width // side, channels))
    for i, j in itertools.product(range(height // side), range(width // side)):
        square = images[:, i * side : (i + 1) * side, j * side : (j + 1) * side]
        out[:, i, j] = reduce(square.reshape(rows, -1, channels), axis=1)
    return out


@pytest.mark.parametrize("ntk", [False, True])
def test_deep_linear_is_a_product_of_matrices(ntk):
    kind = "ntk" if ntk else "standard"
    bound = network("deep-linear", widths=[4, 5], parameterisation=kind).bind(TABLE, 2)
    w, x = weights(bound), inputs(TABLE)
    assert all(i.role == "kernel" for i in bound.infos)
    product = np.linalg.multi_dot([w[f"layers.{n}.kernel"] for n in range(3)])
    agrees(bound, x, x @ product / (math.sqrt(3 * 4 * 5) if ntk else 1.0))


@pytest.mark.parametrize(
    "options",
    [
        rarely({"channels": [3], "padding": "valid", "activation": "tanh"}),
        {
            "channels": [3, 2],
            "kernel": [3, 2],
            "pool": "average",
            "dense": [4],
            "activation": "relu",
        },
        rarely({"channels": [3, 2], "padding": ["same", "valid"], "pool": "none"}),
        {"channels": [2], "window": 3, "parameterisation": "ntk"},
    ],
)
def test_cnn_is_numpys(options):
    bound = network("cnn", **options).bind(IMAGES, 2)
    w, h = weights(bound), inputs(IMAGES)
    x, ntk = h, options.get("parameterisation") == "ntk"
    activation = np.tanh if options.get("activation") == "tanh" else lambda z: np.maximum(z, 0)
    paddings = options.get("padding", "same")
    for n in range(len(options["channels"])):
        kernel = w[f"convs.{n}.kernel"]
        shrink = math.sqrt(math.prod(kernel.shape[:3])) if ntk else 1.0
        same = (paddings if isinstance(paddings, str) else paddings[n]) == "same"
        h = activation(convolution(kernel, h, same=same) / shrink + w[f"convs.{n}.bias"])
        pool = options.get("pool", "max")
        if pool != "none":
            reduce = np.max if pool == "max" else np.mean
            h = pooled(h, options.get("window", 2), reduce)
    h = h.reshape(len(h), -1)
    for n in range(len(options.get("dense", []))):
        h = activation(dense(w, f"dense.{n}", h))
    wanted = dense(w, f"dense.{len(options.get('dense', []))}", h, ntk)
    agrees(bound, x, wanted)
    if options.get("window") == 3:  # the same images, flat and without their channel axis
        flat = network("cnn", shape=list(IMAGES), **options).bind((48,), 2)
        agrees(flat, x.reshape(3, 48), wanted)


def frn(w, name, x, threshold):
    power = np.mean(x**2, (1, 2), keepdims=True)
    y = w[f"{name}.scale"] * x / np.sqrt(power + 1e-6) + w[f"{name}.bias"]
    return np.maximum(y, w[f"{name}.threshold"]) if threshold else y


@pytest.mark.parametrize(
    "options",
    [
        {},
        rarely({"threshold": False, "shortcut": "padded", "parameterisation": "ntk"}),
        rarely({"normalisation": "none", "bias": False, "activation": "tanh"}),
    ],
)
def test_resnet_is_numpys(options):
    bound = network("resnet20", width=2, depth=8, **options).bind(IMAGES, 3)
    w, x = weights(bound), inputs(IMAGES)
    ntk = options.get("parameterisation") == "ntk"

    def f(z):
        return np.tanh(z) if options.get("activation") == "tanh" else z * sigmoid(z)

    def unit(name, h, stride=1):
        kernel = w[f"{name}.conv.kernel"]
        shrink = math.sqrt(math.prod(kernel.shape[:3])) if ntk else 1.0
        h = convolution(kernel, h, stride) / shrink + w.get(f"{name}.conv.bias", 0.0)
        if options.get("normalisation") == "none":
            return h
        return frn(w, f"{name}.norm", h, options.get("threshold", True))

    h = f(unit("first", x))
    for n, stride in enumerate((1, 2, 2)):
        z = unit(f"blocks.{n}.second", f(unit(f"blocks.{n}.first", h, stride)))
        if stride == 1:
            around = h
        elif options.get("shortcut") == "padded":
            grown = h.shape[-1]  # channels double
            around = np.zeros(z.shape)
            around[..., grown // 2 : grown // 2 + grown] = h[:, ::2, ::2]
        else:
            around = unit(f"blocks.{n}.shortcut", h, stride)
        h = f(z + around)
    agrees(bound, x, dense(w, "last", h.mean((1, 2)), ntk))


@pytest.mark.parametrize("options", [{}, rarely({"widths": [4, 3], "average": False})])
def test_additive_is_numpys_and_its_parts_sum(options):
    bound = network("additive", activation="sin", **options).bind(TABLE, 2)
    w, x = weights(bound), inputs(TABLE)
    parts = []
    for j in range(3):
        h = x[:, j : j + 1]
        count = len(options.get("widths", [16]))
        for n in range(count):
            h = np.sin(dense(w, f"features.{j}.layers.{n}", h))
        parts.append(dense(w, f"features.{j}.layers.{count}", h))
    share = 1.0 if "average" in options else 3**-0.5
    agrees(bound, x, sum(parts) * share + w["bias"])
    with jax.enable_x64(True):
        given = {p: jnp.asarray(v) for p, v in w.items()}
        found = bound.read(given, jnp.asarray(x), "parts")
    np.testing.assert_allclose(found, share * np.stack(parts, 1), rtol=1e-10, atol=1e-12)
    with pytest.raises(InputError, match="'Additive' has no method 'pairs'"):
        bound.read(given, jnp.asarray(x), "pairs")


def numpy_lstm(w, name, x, real, forget_bias, ntk):
    """One layer, one row and one step at a time."""
    units = len(w[f"{name}.recurrent.kernel"])
    states = np.zeros((*x.shape[:2], units))
    for row in range(len(x)):
        h, c = np.zeros(units), np.zeros(units)
        for step in range(x.shape[1]):
            if real[row, step]:
                z = dense(w, f"{name}.inputs", x[row, step], ntk)
                z = z + dense(w, f"{name}.recurrent", h, ntk)
                i, f, g, o = z.reshape(4, units)
                c = sigmoid(f + forget_bias) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            states[row, step] = h
    return states


@pytest.mark.parametrize(
    "options",
    [
        rarely({"units": 2}),
        {"units": 2, "depth": 2, "forget_bias": -0.5, "parameterisation": "ntk"},
        {"units": 3, "vocabulary": 5, "embedding": 2, "padding": 0},
        rarely({"units": 3, "vocabulary": 5, "embedding": 2}),
    ],
)
def test_lstm_is_numpys(options):
    words = "vocabulary" in options
    shape = (5,) if words else SEQUENCES
    bound = network("lstm", **options).bind(shape, 2)
    w, ntk = weights(bound), "parameterisation" in options
    x = WORDS.astype(float) if words else inputs(SEQUENCES)
    h = w["words.embedding"][WORDS] if words else x
    real = WORDS != 0 if "padding" in options else np.ones(x.shape[:2], bool)
    for n in range(options.get("depth", 1)):
        h = numpy_lstm(w, f"cells.{n}", h, real, options.get("forget_bias", 1.0), ntk)
    agrees(bound, x, dense(w, "last", h[:, -1], ntk))


def test_lstm_takes_one_number_a_step():
    one, flat = (network("lstm", units=2).bind(shape, 1) for shape in ((5, 1), (5,)))
    w = {p: jnp.asarray(v) for p, v in weights(flat).items()}
    x = jnp.asarray(inputs((5, 1)))
    np.testing.assert_array_equal(flat.apply(w, x[..., 0]), one.apply(w, x))


def layer_norm(w, name, x):
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return w[f"{name}.scale"] * normal + w[f"{name}.bias"]


def attention(w, name, x, real, heads, ntk):
    """Every row, head and position on its own."""
    width = x.shape[-1]
    size = width // heads
    q, k, v = (dense(w, f"{name}.{part}", x, ntk) for part in ("query", "key", "value"))
    seen = np.zeros_like(x)
    for row, head in itertools.product(range(len(x)), range(heads)):
        own = slice(head * size, (head + 1) * size)
        for place in range(x.shape[1]):
            scores = k[row, :, own] @ q[row, place, own] / math.sqrt(size)
            if real[row].any():
                scores[~real[row]] = -np.inf
            share = np.exp(scores - scores.max())
            seen[row, place, own] = share @ v[row, :, own] / share.sum()
    return dense(w, f"{name}.out", seen, ntk)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (TABLE, {"parameterisation": "ntk"}),
        rarely(SEQUENCES, {"pool": "class-token", "activation": "tanh"}),
        (IMAGES, {"patch": 2}),
        rarely((5,), {"vocabulary": 5, "padding": 0}),
        ((5,), {"vocabulary": 5, "padding": 0, "pool": "class-token"}),
    ],
)
def test_transformer_is_numpys(shape, options):
    small = {"width": 4, "heads": 2, "hidden": 3, "depth": 1 if shape == IMAGES else 2}
    bound = network("transformer", **small, **options).bind(shape, 2)
    w, ntk = weights(bound), "parameterisation" in options
    words = "vocabulary" in options
    x = WORDS.astype(float) if words else inputs(shape)
    if words:
        h = w["tokens.layer.embedding"][WORDS] + w["tokens.position"]
    elif shape == TABLE:
        h = x[..., None] * w["tokens.kernel"] + w["tokens.bias"]
    else:
        h = x
        if shape == IMAGES:
            corners = itertools.product(range(0, 6, 2), range(0, 4, 2))
            h = np.stack([x[:, i : i + 2, j : j + 2].reshape(3, -1) for i, j in corners], 1)
        h = dense(w, "tokens.layer", h) + w["tokens.position"]
    real = WORDS != 0 if words else np.ones(h.shape[:2], bool)
    own = options.get("pool") == "class-token"
    if own:
        h = np.concatenate([np.broadcast_to(w["class_token"], (3, 1, 4)), h], 1)
        real = np.concatenate([np.ones((3, 1), bool), real], 1)
    f = np.tanh if "activation" in options else gelu
    for n in range(small["depth"]):
        block = f"blocks.{n}"
        normal = layer_norm(w, f"{block}.first_norm", h)
        h = h + attention(w, f"{block}.attention", normal, real, 2, ntk)
        hidden = f(dense(w, f"{block}.up", layer_norm(w, f"{block}.second_norm", h), ntk))
        h = h + dense(w, f"{block}.down", hidden, ntk)
    h = layer_norm(w, "norm", h)
    if own:
        read = h[:, 0]
    else:
        read = np.stack(
            [r[k].mean(0) if k.any() else np.zeros(4) for r, k in zip(h, real, strict=True)]
        )
    agrees(bound, x, dense(w, "last", read, ntk))
