"""Covariance of the outputs of convolutional networks with infinitely many channels.

The covariance of pre-activations lives on pairs of places of two images. A layer sums it over pairs
of a filter's elements, weighted with their prior covariance. With independent elements and a flat
read-out only equal places matter, and only they are computed; correlated elements, pooling or a
correlated read-out need all pairs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.errors import InputError, hint
from bnnzoo.models.activations import get_activation
from bnnzoo.models.infinite.moments import product_moment

PIECE_ELEMENTS = 2_000_000
"""Covariances worked on at once: some 100 MB with what is made of them."""

PADDINGS = ("SAME", "VALID", "CIRCULAR")


class Conv(NamedTuple):
    """A convolution, with the activation after it.

    Attributes:
        size: rows and columns of its filters.
        weight_variance: fan-in times the variance of a weight.
        bias_variance: of the bias, one a channel; 0 for none.
        strides: rows and columns between places.
        padding: ``SAME`` (with zeros), ``VALID`` or ``CIRCULAR``.
        covariance: of the elements of one filter, ``(element, element)``, elements row by row, in
            units of the variance of a weight; None for independent elements.
    """

    size: tuple[int, int]
    weight_variance: float
    bias_variance: float = 0.0
    strides: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    covariance: np.ndarray | None = None


class Pool(NamedTuple):
    """Averages over windows, without padding.

    Attributes:
        size: rows and columns of a window.
        strides: rows and columns between windows; those of ``size`` if not given.
    """

    size: tuple[int, int]
    strides: tuple[int, int] | None = None


class ConvNetwork(NamedTuple):
    """A convolutional network and its prior.

    Attributes:
        layers: first to last.
        activation: its name, after every convolution.
        weight_variance: of the last, fully connected layer: fan-in times the variance of a weight.
        bias_variance: of its bias.
        readout: what it reads: every place (``flatten``), or channels averaged over places
            (``average``).
        covariance: of its weights from the places of one channel, ``(place, place)``, in units of
            the variance of a weight; None for independent ones. ``flatten`` only.
    """

    layers: tuple[Conv | Pool, ...]
    activation: str
    weight_variance: float
    bias_variance: float = 0.0
    readout: Literal["flatten", "average"] = "flatten"
    covariance: np.ndarray | None = None


def conv_kernel(network: ConvNetwork, x: Any, x2: Any = None) -> np.ndarray:
    """Prior covariance of an output of a network as the channels of its hidden layers grow.

    Filters of different channels are independent, of mean 0 and of finite variance; those of the
    first layer, whose channels are the images' own, and the biases are Gaussian. Computed in
    float64, some pairs of images at a time, so that memory does not grow with their number.

    Args:
        network: the network and its prior.
        x: images ``(row, height, width, channel)``, modelled units.
        x2: others, for the covariance between; None for ``x`` itself.

    Returns:
        ``(row, row2)``; symmetric to the last bit if ``x2`` is not given.

    Raises:
        InputError: a layer that does not fit the images, or a covariance that is not symmetric and
            positive semi-definite.

    Source: Garriga-Alonso & van der Wilk (2021), Correlated Weights in Infinite Limits of Deep
    Convolutional Neural Networks; for independent weights Novak et al. (2019), Bayesian Deep
    Convolutional Networks with Many Channels are Gaussian Processes.
    """
    images = _images(x, "x")
    others = images if x2 is None else _images(x2, "x2")
    if others.shape[1:] != images.shape[1:]:
        raise InputError(f"x2 has images {others.shape[1:]}, but x {images.shape[1:]}")
    if x2 is None:
        first, second = np.triu_indices(len(images))
    else:
        first, second = (i.ravel() for i in np.indices((len(images), len(others))))
    values = _covariances(network, images, None if x2 is None else others, first, second)
    kernel = np.empty((len(images), len(others)))
    kernel[first, second] = values
    if x2 is None:
        kernel[second, first] = values
    return kernel


def conv_variances(network: ConvNetwork, x: Any) -> np.ndarray:
    """Diagonal of :func:`conv_kernel` ``(row,)``, without the rest of it.

    Args:
        network: the network and its prior.
        x: images ``(row, height, width, channel)``, modelled units.

    Raises:
        InputError: as :func:`conv_kernel`.
    """
    images = _images(x, "x")
    rows = np.arange(len(images))
    return _covariances(network, images, None, rows, rows)


def _covariances(
    network: ConvNetwork,
    images: np.ndarray,
    others: np.ndarray | None,
    first: np.ndarray,
    second: np.ndarray,
) -> np.ndarray:
    """Of pairs of images, by their numbers; ``others`` is None for the images themselves."""
    places = _check(network, images.shape[1:3])
    plan, arrays = _split(network)
    largest = max(math.prod(p) for p in places)
    piece = max(1, PIECE_ELEMENTS // (largest**2 if plan.pairs else largest))
    with jax.enable_x64(True):
        own = _own_variances(plan, arrays, images, piece)
        own2 = own if others is None else _own_variances(plan, arrays, others, piece)
        partners = images if others is None else others
        parts = []
        for rows in _pieces(len(first), piece):
            i, j = first[rows], second[rows]
            given = tuple(
                (jnp.asarray(a[i]), jnp.asarray(b[j])) for a, b in zip(own, own2, strict=True)
            )
            pair = jnp.asarray(images[i]), jnp.asarray(partners[j])
            parts.append(_walk(plan, arrays, *pair, given)[0])
        return np.concatenate([np.asarray(part) for part in parts])[: len(first)]


# -- the recursion -------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """What a compiled program depends on besides numbers: hashable.

    Attributes:
        layers: their shapes; a convolution's, whether its filters are correlated.
        activation: its name.
        readout: as in :class:`ConvNetwork`, or ``covariance``.
        pairs: all pairs of places are computed, not equal ones alone.
    """

    layers: tuple[tuple[Any, ...], ...]
    activation: str
    readout: str
    pairs: bool


def _split(network: ConvNetwork) -> tuple[_Plan, list[Any]]:
    """Structure and numbers."""
    layers: list[tuple[Any, ...]] = []
    arrays: list[Any] = []
    pairs = network.readout == "average" or network.covariance is not None
    for layer in network.layers:
        if isinstance(layer, Pool):
            layers.append(("pool", layer.size, layer.strides or layer.size))
            arrays.append(None)
            pairs = True
            continue
        correlated = layer.covariance is not None
        pairs |= correlated
        shape = (layer.size, layer.strides, layer.padding)
        layers.append(("correlated" if correlated else "independent", *shape))
        arrays.append((layer.weight_variance, layer.bias_variance, layer.covariance))
    readout = "covariance" if network.covariance is not None else network.readout
    arrays.append((network.weight_variance, network.bias_variance, network.covariance))
    return _Plan(tuple(layers), network.activation, readout, pairs), arrays


def _own_variances(
    plan: _Plan, arrays: list[Any], images: np.ndarray, piece: int
) -> list[np.ndarray]:
    """Variances of pre-activations ``(row, height, width)`` after every convolution."""
    found = []
    for rows in _pieces(len(images), piece):
        part = jnp.asarray(images[np.arange(len(images))[rows]])
        found.append([np.asarray(a) for a in _walk(plan, arrays, part, part, None)[1]])
    return [np.concatenate(layer)[: len(images)] for layer in zip(*found, strict=True)]


def _pieces(count: int, piece: int) -> Iterator[np.ndarray]:
    """Row numbers a piece at a time; the last repeats a row, so that one program serves all."""
    piece = min(piece, count)
    for start in range(0, count, piece):
        yield np.minimum(np.arange(start, start + piece), count - 1)


@functools.partial(jax.jit, static_argnums=0)
def _walk(
    plan: _Plan,
    arrays: list[Any],
    x: Array,
    x2: Array,
    given: tuple[tuple[Array, Array], ...] | None,
) -> tuple[Array, list[Array]]:
    """Covariances of the output at pairs of images, and variances on the way where they are equal.

    Args:
        plan: the structure.
        arrays: the numbers.
        x: the first image of each pair ``(pair, height, width, channel)``.
        x2: the second.
        given: variances of both by layer; None where the two images are the same.
    """
    equation = "nhwc,nijc->nhwij" if plan.pairs else "nhwc,nhwc->nhw"
    units = jnp.einsum(equation, x, x2) / x.shape[-1]
    own: list[Array] = []
    for (kind, *shape), numbers in zip(plan.layers, arrays[:-1], strict=True):
        if kind == "pool":
            size, strides = shape
            share = jnp.full((math.prod(size),) * 2, math.prod(size) ** -2.0)
            units = _summed(units, size, strides, "VALID", share, plan.pairs)
            continue
        size, strides, padding = shape
        weight, bias, covariance = numbers
        cross = _summed(units, size, strides, padding, covariance, plan.pairs)
        cross = bias + weight / math.prod(size) * cross
        if given is None:
            variance = _equal_places(cross) if plan.pairs else cross
            a = b = variance
        else:
            a, b = given[len(own)]
            variance = a
        own.append(variance)
        if plan.pairs:
            a, b = a[:, :, :, None, None], b[:, None, None]
        units = product_moment(plan.activation, a, b, cross)
    weight, bias, covariance = arrays[-1]
    if plan.readout == "average":
        read = units.mean((1, 2, 3, 4))
    elif plan.readout == "covariance":
        flat = units.reshape(len(units), *covariance.shape)
        read = (flat * covariance).sum((1, 2)) / len(covariance)
    else:
        read = (_equal_places(units) if plan.pairs else units).mean((1, 2))
    return bias + weight * read, own


def _equal_places(pairs: Array) -> Array:
    """From ``(row, h, w, h, w)`` the elements of equal places ``(row, h, w)``."""
    count, height, width = pairs.shape[:3]
    square = pairs.reshape(count, height * width, height * width)
    return jnp.diagonal(square, axis1=1, axis2=2).reshape(count, height, width)


def _summed(
    units: Array,
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
    covariance: Array | None,
    pairs: bool,
) -> Array:
    """Sums over the elements of a filter, or over pairs of them with their covariance."""
    places = 2 if pairs else 1
    shape = units.shape[1:3]
    before_after = [
        _padding(n, k, s, padding) for n, k, s in zip(shape, size, strides, strict=True)
    ]
    mode = "wrap" if padding == "CIRCULAR" else "constant"
    padded = jnp.pad(units, [(0, 0), *before_after * places], mode=mode)
    ends = [n - k + 1 for n, k in zip(padded.shape[1:3], size, strict=True)]
    elements = np.moveaxis(np.indices(size), 0, -1).reshape(-1, 2)
    if covariance is None:
        table = np.tile(elements, (1, places))
        weights = jnp.ones(len(table), units.dtype)
    else:
        first, second = (i.ravel() for i in np.indices((len(elements),) * 2))
        table = np.concatenate([elements[first], elements[second]], 1)
        weights = covariance.ravel()

    def add(total: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
        start, weight = item
        window = jax.lax.dynamic_slice(padded, [0, *start], (len(units), *ends * places))
        step = (slice(None), *(slice(None, None, s) for s in strides * places))
        return total + weight * window[step], None

    rows, columns = (-(-end // s) for end, s in zip(ends, strides, strict=True))
    zero = jnp.zeros((len(units), *(rows, columns) * places), units.dtype)
    return jax.lax.scan(add, zero, (jnp.asarray(table), weights))[0]


def _padding(count: int, size: int, stride: int, padding: str) -> tuple[int, int]:
    """Places before and after, as XLA and flax put them."""
    if padding == "VALID":
        return 0, 0
    if padding == "CIRCULAR":
        return (size - 1) // 2, size // 2
    total = max((-(-count // stride) - 1) * stride + size - count, 0)
    return total // 2, total - total // 2


# -- checks ----------------------------------------------------------------------------------------


def _images(x: Any, name: str) -> np.ndarray:
    images = np.asarray(x, float)
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(
            f"{name} of shape {images.shape}: images (row, height, width, channel) are needed"
        )
    if not np.isfinite(images).all():
        raise InputError(f"{name} holds a value that is not finite")
    return images


def _check(network: ConvNetwork, places: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Raise where a layer does not fit; gives height and width before and after every layer."""
    get_activation(network.activation)
    if not any(isinstance(layer, Conv) for layer in network.layers):
        raise InputError("a convolutional network needs a convolution")
    if network.readout not in ("flatten", "average"):
        raise InputError(
            f"readout = {network.readout!r}{hint(str(network.readout), ('flatten', 'average'))}"
        )
    if network.covariance is not None and network.readout != "flatten":
        raise InputError("covariance of the last layer's weights: readout = 'flatten' alone has it")
    seen = [tuple(places)]
    for number, layer in enumerate(network.layers):
        where = f"layer {number}"
        strides = layer.strides or layer.size
        if min(*layer.size, *strides) < 1:
            raise InputError(
                f"{where}: size {layer.size} and strides {strides} have to be positive"
            )
        padding = "VALID"
        if isinstance(layer, Conv):
            padding = layer.padding
            if padding not in PADDINGS:
                raise InputError(f"{where}: padding {padding!r}{hint(padding, PADDINGS)}")
            _check_variances(where, layer.weight_variance, layer.bias_variance)
            _check_covariance(where, layer.covariance, math.prod(layer.size))
        sizes = []
        for n, k, s in zip(seen[-1], layer.size, strides, strict=True):
            whole = n + sum(_padding(n, k, s, padding))
            if whole < k:
                raise InputError(f"{where}: size {layer.size} is larger than its input {seen[-1]}")
            if padding == "CIRCULAR" and k > n:
                raise InputError(f"{where}: size {layer.size} wraps its input {seen[-1]} twice")
            sizes.append((whole - k) // s + 1)
        seen.append(tuple(sizes))
    _check_variances("last layer", network.weight_variance, network.bias_variance)
    _check_covariance("last layer", network.covariance, math.prod(seen[-1]))
    return seen


def _check_variances(where: str, weight: float, bias: float) -> None:
    for name, value in (("weight_variance", weight), ("bias_variance", bias)):
        if not (math.isfinite(value) and value >= 0.0):
            raise InputError(f"{where}: {name} = {value!r}: 0 or a positive number is needed")


def _check_covariance(where: str, covariance: np.ndarray | None, count: int) -> None:
    if covariance is None:
        return
    matrix = np.asarray(covariance, float)
    if matrix.shape != (count, count):
        raise InputError(f"{where}: covariance of shape {matrix.shape}, but it has {count} weights")
    if not np.isfinite(matrix).all() or abs(matrix - matrix.T).max() > 1e-8 * abs(matrix).max():
        raise InputError(f"{where}: covariance is not a symmetric matrix of finite numbers")
    least, largest = np.linalg.eigvalsh(matrix)[[0, -1]]
    if least < -1e-8 * abs(largest) or largest <= 0:
        raise InputError(
            f"{where}: covariance is not positive semi-definite (smallest eigenvalue {least:.2g})"
        )
