"""Convolutions whose gradients are fast inside a loop on a CPU.

XLA brings convolutions into the one form that its fast CPU kernels take, but only those outside
loops and branches. Every sampler is a loop, and the gradients of a convolution are convolutions of
another form: they ran through a scalar fallback, about ten times slower. Here a gradient is of
matrix products, which are fast anywhere.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

Pads = tuple[tuple[int, int], ...]

SMALL = 128
"""Numbers in a window up to which one product beats one for each of its pixels."""


def convolve(
    x: Array, kernel: Array, strides: Sequence[int], padding: Any, **options: Any
) -> Array:
    """``lax.conv_general_dilated``, for the argument of that name of ``nnx.Conv``.

    Args:
        x: images, channels last ``(row, height, width, channel)``.
        kernel: ``(height, width, channel, filter)``.
        strides: pixels between windows.
        padding: as ``lax`` takes it.
        **options: of ``lax.conv_general_dilated``.
    """
    pads = padding
    if isinstance(padding, str):
        pads = lax.padtype_to_pads(x.shape[1:-1], kernel.shape[:-2], strides, padding)
    plain = x.ndim == 4 and x.shape[-1] == kernel.shape[-2] and not _dilated(options)
    if jax.default_backend() != "cpu" or not plain:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return _convolve(x, kernel, tuple(strides), tuple(map(tuple, pads)))


def _dilated(options: dict[str, Any]) -> bool:
    given = (options.get("lhs_dilation"), options.get("rhs_dilation"))
    return any(d != 1 for each in given if each is not None for d in each)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=layout)


def _convolve_jvp(
    strides: tuple[int, ...], pads: Pads, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    made = _convolve(x, kernel, strides, pads)
    change = jnp.zeros_like(made)
    if not isinstance(dx, SymbolicZero):
        small = math.prod(kernel.shape[:-1]) <= SMALL
        change = change + (as_product if small else as_products)(dx, kernel, strides, pads)
    if not isinstance(dkernel, SymbolicZero):
        change = change + as_product(x, dkernel, strides, pads)
    return made, change


_convolve.defjvp(_convolve_jvp, symbolic_zeros=True)


def as_product(x: Array, kernel: Array, strides: Sequence[int], pads: Pads) -> Array:
    """The same convolution as one matrix product of all windows with the kernel.

    Quickest for the gradient of a kernel; windows take memory, several times that of ``x``.

    Args:
        x: images, channels last.
        kernel: ``(height, width, channel, filter)``.
        strides: pixels between windows.
        pads: rows and columns of zeros around an image.
    """
    windows = jnp.concatenate(_pixels(x, kernel.shape, strides, pads), axis=-1)
    return windows @ kernel.reshape(-1, kernel.shape[-1])


def as_products(x: Array, kernel: Array, strides: Sequence[int], pads: Pads) -> Array:
    """The same convolution as a sum of products, one for each pixel of the window.

    Quickest for the gradient of images of many channels.

    Args:
        x: images, channels last.
        kernel: ``(height, width, channel, filter)``.
        strides: pixels between windows.
        pads: rows and columns of zeros around an image.
    """
    pixels = _pixels(x, kernel.shape, strides, pads)
    weights = kernel.reshape(-1, *kernel.shape[2:])
    return functools.reduce(jnp.add, (p @ w for p, w in zip(pixels, weights, strict=True)))


def _pixels(x: Array, shape: Sequence[int], strides: Sequence[int], pads: Pads) -> list[Array]:
    """Of every window its first pixel, then its second, and so on, row by row."""
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    (down, right), (high, wide) = strides, shape[:2]
    height = (padded.shape[1] - high) // down + 1
    width = (padded.shape[2] - wide) // right + 1
    found = []
    for i, j in itertools.product(range(high), range(wide)):
        rows = slice(i, i + (height - 1) * down + 1, down)
        columns = slice(j, j + (width - 1) * right + 1, right)
        found.append(padded[:, rows, columns])
    return found
