"""Convolutions and pooling, then dense layers: from two filters' layers to LeNet-5."""

from __future__ import annotations

import functools
import itertools
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.models.activations import ActivationName, get_activation
from bnnzoo.models.image_inputs import ImageOptions, image_shape
from bnnzoo.models.network import Network
from bnnzoo.models.scaled_layers import PARAMETERISATION, Parameterisation, conv, linear
from bnnzoo.options import Count
from bnnzoo.registry import register

Padding = Literal["same", "valid"]


class CNNOptions(ImageOptions):
    """Options of ``cnn``."""

    channels: tuple[Count, ...] = Field(
        (50, 50), description="Filters of each convolution, first to last.", min_length=1
    )
    kernel: Count | tuple[Count, ...] = Field(
        3, description="Side of the filters in pixels: one number, or one a convolution."
    )
    padding: Padding | tuple[Padding, ...] = Field(
        "same",
        description="same keeps height and width, valid takes whole windows alone; one word, or "
        "one a convolution.",
    )
    pool: Literal["max", "average", "none"] = Field(
        "max", description="What follows the activation of every convolution."
    )
    window: Count = Field(2, description="Side of the pooled squares, which do not overlap.")
    dense: tuple[Count, ...] = Field(
        (), description="Units of hidden dense layers after the convolutions."
    )
    activation: ActivationName = Field(
        "relu", description="Activation of every layer but the last."
    )
    parameterisation: Parameterisation = Field("standard", description=PARAMETERISATION)


class CNN(nnx.Module):
    """Convolutions, each with activation and pooling; flattened; dense layers.

    Args:
        in_shape: shape of one input.
        out_shape: ``(outputs,)``.
        options: of the network.
        rngs: random streams for the initial values, which a prior then replaces.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        options: CNNOptions,
        rngs: nnx.Rngs,
    ) -> None:
        height, width, channels = self.image = image_shape(in_shape, options.shape, "cnn")
        self.activation = get_activation(options.activation).function
        self.pool, self.window = options.pool, options.window
        count = len(options.channels)
        sides = each(options.kernel, count, "kernel")
        paddings = each(options.padding, count, "padding")
        self.convs: nnx.List[nnx.Conv] = nnx.List([])
        for number, (filters, side, padding) in enumerate(
            zip(options.channels, sides, paddings, strict=True)
        ):
            self.convs.append(
                conv(
                    channels,
                    filters,
                    (side, side),
                    options.parameterisation,
                    padding=padding.upper(),
                    rngs=rngs,
                )
            )
            channels = filters
            lost = side - 1 if padding == "valid" else 0
            step = 1 if self.pool == "none" else self.window
            height, width = (height - lost) // step, (width - lost) // step
            if min(height, width) < 1:
                raise InputError(
                    f"cnn: images of shape {self.image[:2]} are used up by convolution {number}: "
                    "give fewer network.channels, or network.pool = 'none'"
                )
        sizes = (height * width * channels, *options.dense, *out_shape)
        self.dense = nnx.List(
            linear(a, b, options.parameterisation, rngs=rngs) for a, b in itertools.pairwise(sizes)
        )

    def __call__(self, x: Array) -> Array:
        """Outputs ``(row, output)`` for inputs ``(row, *in_shape)``."""
        h = x.reshape(x.shape[0], *self.image)
        for filters in self.convs:
            h = self._pooled(self.activation(filters(h)))
        h = h.reshape(h.shape[0], -1)
        *hidden, last = self.dense
        for layer in hidden:
            h = self.activation(layer(h))
        return last(h)

    def _pooled(self, h: Array) -> Array:
        if self.pool == "none":
            return h
        side = self.window
        # A last row or column that fills no square is left out.
        height, width = (size // side * side for size in h.shape[1:3])
        places = itertools.product(range(side), repeat=2)
        # Pixel by pixel of all squares: quicker on a CPU than to reduce over axes of two.
        pixels = [h[:, i:height:side, j:width:side] for i, j in places]
        if self.pool == "max":
            return functools.reduce(jnp.maximum, pixels)
        return functools.reduce(jnp.add, pixels) / side**2


def each[T](given: T | tuple[T, ...], count: int, option: str) -> tuple[T, ...]:
    """One value a convolution.

    Args:
        given: one for all, or one each.
        count: of convolutions.
        option: its name, for the message.

    Raises:
        InputError: another number of values.
    """
    if not isinstance(given, tuple):
        return (given,) * count
    if len(given) != count:
        raise InputError(
            f"network.{option} has {len(given)} entries, network.channels has {count}: give one "
            "value, or one a convolution"
        )
    return given


@register(
    "networks",
    "cnn",
    summary="Convolutions with pooling, then dense layers.",
    options=CNNOptions,
    references=(
        "LeCun, Bottou, Bengio & Haffner (1998), Gradient-based learning applied to document "
        "recognition, sec. II, for LeNet-5",
        "Fortuin et al. (2022), Bayesian Neural Network Priors Revisited, sec. 4, for the default",
    ),
    tags={"inputs": "images", "depth": "any"},
    notes="Images are (row, height, width, channel), or (row, height, width) for one channel; flat "
    "rows of pixels need shape. A kernel's fan-in is its window times the channels below. The gain "
    "is that of the activation, in every layer. Without options it is the network of Priors "
    "Revisited: on 28 x 28 x 1 images and 10 classes 47,560 parameters. LeNet-5 is channels = [6, "
    "16], kernel = 5, padding = ['same', 'valid'], pool = 'average', dense = [120, 84], activation "
    "= 'tanh': 61,706 there (its published pooling had weights and its last layer radial units; "
    "both are plain here).",
)
def cnn(options: CNNOptions) -> Network:
    """The network of these options."""
    for option in ("kernel", "padding"):
        each(getattr(options, option), len(options.channels), option)
    widths = "x".join(map(str, options.channels))
    dense = "".join(f"-{n}" for n in options.dense)
    extra = " ntk" if options.parameterisation == "ntk" else ""
    return Network(
        factory=functools.partial(CNN, options=options),
        gain=get_activation(options.activation).gain,
        label=f"cnn {widths}{dense} {options.activation}{extra}",
    )
