"""Dense layers and convolutions in both parameterisations, with or without a bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from flax import nnx
from jax import Array, lax

from bnnzoo.models.convolution import convolve

Parameterisation = Literal["standard", "ntk"]
"""Who divides by sqrt(fan-in): the prior (standard), or the layer, whose kernels then have unit
scale (ntk). The law of the functions is the same; the posterior's geometry is not."""

PARAMETERISATION = "ntk: kernels have unit scale and the layer multiplies by 1/sqrt(fan-in)."
"""Description of the option, in every network that has it."""


class ScaledLinear(nnx.Linear):
    """A linear layer that itself divides by sqrt(fan-in) (Jacot et al. 2018, eq. 1)."""

    forward_scaled = True

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        """``x @ kernel / sqrt(in_features) + bias``."""
        z = x @ self.kernel[...] * self.in_features**-0.5
        return z if self.bias is None else z + self.bias[...]


class ScaledConv(nnx.Conv):
    """A convolution that itself divides by sqrt(fan-in): window times input channels."""

    forward_scaled = True

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        """The convolution, divided, plus the bias."""
        # Convolutions are linear: to divide the input spares a second pass over the result.
        return super().__call__(x * math.prod(self.kernel_shape[:-1]) ** -0.5)


def linear(
    inputs: int,
    outputs: int,
    parameterisation: Parameterisation,
    *,
    rngs: nnx.Rngs,
    bias: bool = True,
) -> nnx.Linear:
    """A dense layer.

    Args:
        inputs: its fan-in.
        outputs: its units.
        parameterisation: who divides by sqrt(fan-in).
        rngs: random streams for the initial values.
        bias: whether it has one.
    """
    layer = ScaledLinear if parameterisation == "ntk" else nnx.Linear
    return layer(inputs, outputs, use_bias=bias, rngs=rngs)


def linear_rows_last(layer: nnx.Linear, x: Array) -> Array:
    """What a layer of :func:`linear` gives, with rows as the last axis of inputs and outputs.

    Args:
        layer: with kernel ``(input, output)``.
        x: its inputs ``(input, row)``.

    Returns:
        ``(output, row)``.
    """
    z = lax.dot_general(layer.kernel[...], x, (((0,), (0,)), ((), ())))
    if isinstance(layer, ScaledLinear):
        z = z * layer.in_features**-0.5
    return z if layer.bias is None else z + layer.bias[...][:, None]


def conv(
    inputs: int,
    outputs: int,
    window: Sequence[int],
    parameterisation: Parameterisation,
    *,
    rngs: nnx.Rngs,
    stride: int = 1,
    padding: str = "SAME",
    bias: bool = True,
) -> nnx.Conv:
    """A convolution of images, channel last.

    Args:
        inputs: channels in.
        outputs: channels out.
        window: height and width of the kernel, in pixels.
        parameterisation: who divides by sqrt(fan-in).
        rngs: random streams for the initial values.
        stride: pixels between windows.
        padding: ``SAME`` or ``VALID``.
        bias: whether it has one.
    """
    layer = ScaledConv if parameterisation == "ntk" else nnx.Conv
    return layer(
        inputs,
        outputs,
        tuple(window),
        strides=stride,
        padding=padding,
        use_bias=bias,
        conv_general_dilated=convolve,
        rngs=rngs,
    )
