"""Kernels of convolutional networks with infinitely many channels.

Random: averages of products of what the last layer reads, over networks of many channels, at 5
standard errors of 24 networks or more (Student-t of 23 degrees of freedom or more: 5e-5 a
comparison, below 1e-3 a network).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnzoo.errors import InputError
from bnnzoo.models.activations import ACTIVATIONS
from bnnzoo.models.infinite import Conv, ConvNetwork, Dense, Pool, conv_kernel, dense_kernel
from tests.models._tools import key, rng

IMAGES = rng(420).normal(size=(3, 5, 4, 2))


def squared_exponential(height, width, length_scale):
    places = np.stack(np.indices((height, width)), -1).reshape(-1, 2)
    distance = ((places[:, None] - places) ** 2).sum(-1)
    return np.exp(-0.5 * distance / length_scale**2)


def wide_kernel(network, channels, networks, x=IMAGES, seed=0):
    """Estimated covariance of an output of networks of many channels, and its standard errors."""

    def draw(key, layer, fan_in):
        places = int(np.prod(layer.size))
        scale = np.sqrt(layer.weight_variance / (places * fan_in))
        weights = jax.random.normal(key, (places, fan_in, channels)) * scale
        if layer.covariance is not None:
            values, vectors = np.linalg.eigh(layer.covariance)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            weights = jnp.einsum("pq,qio->pio", jnp.asarray(root, jnp.float32), weights)
        return weights.reshape(*layer.size, fan_in, channels)

    @jax.jit
    def one(key):
        h = jnp.asarray(x, jnp.float32)
        for number, layer in enumerate(network.layers):
            if isinstance(layer, Pool):
                window, strides = (1, *layer.size, 1), (1, *(layer.strides or layer.size), 1)
                total = jax.lax.reduce_window(h, 0.0, jax.lax.add, window, strides, "VALID")
                h = total / np.prod(layer.size)
                continue
            first, second = jax.random.split(jax.random.fold_in(key, number))
            padding = layer.padding
            if padding == "CIRCULAR":
                ends = [((k - 1) // 2, k // 2) for k in layer.size]
                h, padding = jnp.pad(h, [(0, 0), *ends, (0, 0)], mode="wrap"), "VALID"
            h = jax.lax.conv_general_dilated(
                h,
                draw(first, layer, h.shape[-1]),
                layer.strides,
                padding,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            h += jnp.sqrt(layer.bias_variance) * jax.random.normal(second, (channels,))
            h = ACTIVATIONS[network.activation].function(h)
        flat = h.reshape(len(x), -1, channels)
        if network.readout == "average":
            read = jnp.einsum("npc,mqc->nm", flat, flat) / flat.shape[1] ** 2
        else:
            weights = np.eye(flat.shape[1]) if network.covariance is None else network.covariance
            read = jnp.einsum("npc,mqc,pq->nm", flat, flat, weights) / flat.shape[1]
        return network.bias_variance + network.weight_variance * read / channels

    found = np.array([one(k) for k in jax.random.split(key(430 + seed), networks)], float)
    return found.mean(0), found.std(0, ddof=1) / np.sqrt(networks)


NETWORKS = {
    "independent": ConvNetwork(
        (Conv((3, 3), 2.0, 0.1), Conv((3, 2), 1.5, 0.2, (2, 1), "VALID")), "relu", 1.3, 0.1
    ),
    "correlated": ConvNetwork(
        (
            Conv((3, 3), 2.0, 0.1, covariance=squared_exponential(3, 3, 1.0)),
            Conv((2, 3), 2.0, 0.1, (2, 2), "SAME", squared_exponential(2, 3, 2.0)),
        ),
        "erf",
        1.3,
        0.1,
        covariance=squared_exponential(3, 2, 1.5),
    ),
    "pooled": ConvNetwork(
        (Conv((3, 3), 2.0, 0.1, padding="CIRCULAR"), Pool((2, 2)), Conv((2, 2), 2.0)),
        "relu",
        1.0,
        0.0,
        "average",
    ),
    "three-layers": ConvNetwork(
        (
            Conv((3, 3), 2.0, 0.1, covariance=squared_exponential(3, 3, 0.7)),
            Conv((3, 3), 2.0, 0.1, padding="VALID"),
            Conv((2, 2), 1.0, 0.3, covariance=np.ones((4, 4))),
        ),
        "relu",
        1.0,
        0.2,
    ),
    "tanh": ConvNetwork((Conv((3, 3), 2.0, 0.1), Conv((3, 3), 2.0, 0.1)), "tanh", 1.0, 0.2),
}


def assert_limit(name, channels, networks, seed=0):
    expected = conv_kernel(NETWORKS[name], IMAGES)
    found, error = wide_kernel(NETWORKS[name], channels, networks, seed=seed)
    worst = float(np.max(np.abs(found - expected) / error))
    size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    print(f"{name}: worst {worst:.2f}, errors up to {np.max(error / size):.4f}")
    assert worst < 5.0


def test_kernel_is_that_of_many_channels():
    assert_limit("correlated", 300, 24)


@pytest.mark.validate
@pytest.mark.parametrize("name", NETWORKS)
def test_every_kernel_is_that_of_many_channels(name):
    assert_limit(name, 600, 32, seed=1)


def test_one_place_is_a_dense_layer():
    """Filters as large as their images, and images of one pixel."""
    dense = [Dense(2.0, 0.1), Dense(1.5, 0.2), Dense(1.3, 0.1)]
    flat = IMAGES.reshape(3, -1)
    with jax.enable_x64(True):
        expected = dense_kernel(jnp.asarray(flat), None, dense, "relu")
    layers = (Conv((5, 4), 2.0, 0.1, padding="VALID"), Conv((1, 1), 1.5, 0.2))
    network = ConvNetwork(layers, "relu", 1.3, 0.1, "average")
    np.testing.assert_allclose(conv_kernel(network, IMAGES), expected, rtol=1e-12)


def test_covariances_by_their_definition():
    """The unit matrix is independence; ones at the read-out are the average, times the places."""
    layers = (Conv((3, 3), 2.0, 0.1),)
    unit = (Conv((3, 3), 2.0, 0.1, covariance=np.eye(9)),)
    base = ConvNetwork(layers, "relu", 1.0)
    np.testing.assert_allclose(
        conv_kernel(base, IMAGES), conv_kernel(base._replace(layers=unit), IMAGES), rtol=1e-12
    )
    ones = conv_kernel(base._replace(covariance=np.ones((20, 20))), IMAGES)
    average = conv_kernel(base._replace(readout="average"), IMAGES)
    np.testing.assert_allclose(ones, 20 * average, rtol=1e-12)


def test_pieces_and_blocks_agree(monkeypatch):
    network = NETWORKS["correlated"]
    whole = conv_kernel(network, IMAGES)
    assert (whole == whole.T).all() and whole.dtype == np.float64
    assert np.linalg.eigvalsh(whole).min() > 0
    np.testing.assert_allclose(conv_kernel(network, IMAGES, IMAGES[:2]), whole[:, :2], rtol=1e-12)
    monkeypatch.setattr("bnnzoo.models.infinite.convolutional.PIECE_ELEMENTS", 1000)
    np.testing.assert_allclose(conv_kernel(network, IMAGES), whole, rtol=1e-12)


CONV = Conv((3, 3), 1.0)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (ConvNetwork((CONV._replace(padding="SAMR"),), "relu", 1.0), "'SAMR'; did you mean 'SAME'"),
        (ConvNetwork((CONV._replace(size=(7, 1), padding="VALID"),), "relu", 1.0), "larger than"),
        (
            ConvNetwork((CONV, Pool((9, 9))), "relu", 1.0),
            r"layer 1.*larger than its input \(5, 4\)",
        ),
        (ConvNetwork((CONV._replace(covariance=np.eye(4)),), "relu", 1.0), "it has 9 weights"),
        (
            ConvNetwork((CONV._replace(covariance=np.eye(9) - 0.5),), "relu", 1.0),
            "not positive semi-definite",
        ),
        (ConvNetwork((CONV._replace(weight_variance=-1.0),), "relu", 1.0), "weight_variance = -1"),
        (ConvNetwork((CONV,), "relo", 1.0), "did you mean 'relu'"),
        (ConvNetwork((Pool((2, 2)),), "relu", 1.0), "needs a convolution"),
        (ConvNetwork((CONV,), "relu", 1.0, covariance=np.eye(3)), "last layer.*it has 20 weights"),
    ],
)
def test_refused(network, message):
    with pytest.raises(InputError, match=message):
        conv_kernel(network, IMAGES)


def test_refused_images():
    with pytest.raises(InputError, match=r"\(row, height, width, channel\)"):
        conv_kernel(NETWORKS["pooled"], IMAGES[0])
