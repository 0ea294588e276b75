"""Convolutions whose gradients are fast inside a loop on a CPU.

XLA brings convolutions into the one form that its fast CPU kernels take, but only those outside
loops and branches. Every sampler is a loop, and the gradients of a convolution are convolutions of
another form: they ran through a scalar fallback, ten to twenty times slower. Here a gradient is a
sum of matrix products, one for each pixel of the window, which are fast anywhere.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

Pads = tuple[tuple[int, int], ...]


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
        change = change + products(dx, kernel, strides, pads)
    if not isinstance(dkernel, SymbolicZero):
        change = change + products(x, dkernel, strides, pads)
    return made, change


_convolve.defjvp(_convolve_jvp, symbolic_zeros=True)


def products(x: Array, kernel: Array, strides: Sequence[int], pads: Pads) -> Array:
    """The same convolution as a sum of matrix products.

    Args:
        x: images, channels last.
        kernel: ``(height, width, channel, filter)``.
        strides: pixels between windows.
        pads: rows and columns of zeros around an image.
    """
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = (
        (size - side) // stride + 1
        for size, side, stride in zip(padded.shape[1:3], kernel.shape[:2], strides, strict=True)
    )
    down, right = strides
    terms = []
    for i, j in itertools.product(*map(range, kernel.shape[:2])):
        rows = slice(i, i + (height - 1) * down + 1, down)
        columns = slice(j, j + (width - 1) * right + 1, right)
        terms.append(padded[:, rows, columns] @ kernel[i, j])
    return functools.reduce(jnp.add, terms)
