"""The residual network of CIFAR, with a normalisation that looks at one row alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from pydantic import Field, field_validator

from bnnzoo.models.activations import ActivationName, get_activation
from bnnzoo.models.filter_response import FilterResponseNorm
from bnnzoo.models.image_inputs import ImageOptions, image_shape
from bnnzoo.models.network import Network
from bnnzoo.models.scaled_layers import PARAMETERISATION, Parameterisation, conv, linear
from bnnzoo.options import Count
from bnnzoo.registry import register


class ResNetOptions(ImageOptions):
    """Options of ``resnet20``."""

    width: Count = Field(16, description="Filters of the first stage; the others have 2x and 4x.")
    depth: Count = Field(20, description="Layers with weights, shortcuts not counted: 6 n + 2.")
    activation: ActivationName = Field("silu", description="Activation; silu is swish.")
    normalisation: Literal["filter-response", "none"] = Field(
        "filter-response", description="What follows every convolution."
    )
    threshold: bool = Field(
        True, description="Normalisation ends in a thresholded linear unit, before the activation."
    )
    shortcut: Literal["projection", "padded"] = Field(
        "projection",
        description="Where a stage begins: a 1 x 1 convolution, normalised as any other, or every "
        "second pixel with channels of zeros (option A of He et al.).",
    )
    bias: bool = Field(True, description="Give convolutions a bias.")
    parameterisation: Parameterisation = Field("standard", description=PARAMETERISATION)

    @field_validator("depth")
    @classmethod
    def _stages(cls, depth: int) -> int:
        if depth < 8 or depth % 6 != 2:
            nearest = max(6 * round((depth - 2) / 6) + 2, 8)
            raise ValueError(f"should be 6 n + 2 (nearest: {nearest})")
        return depth


class _Unit(nnx.Module):
    """A convolution and its normalisation."""

    def __init__(
        self, inputs: int, outputs: int, side: int, stride: int, o: ResNetOptions, rngs: nnx.Rngs
    ) -> None:
        kinds, window = o.parameterisation, (side, side)
        self.conv = conv(inputs, outputs, window, kinds, stride=stride, bias=o.bias, rngs=rngs)
        normal = o.normalisation == "filter-response"
        self.norm = FilterResponseNorm(outputs, o.threshold) if normal else None

    def __call__(self, x: Array) -> Array:
        z = self.conv(x)
        return z if self.norm is None else self.norm(z)


class _Block(nnx.Module):
    """Two units and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, o: ResNetOptions, rngs: nnx.Rngs) -> None:
        self.stride = 1 if inputs == outputs else 2
        self.grown = outputs - inputs
        self.first = _Unit(inputs, outputs, 3, self.stride, o, rngs)
        self.second = _Unit(outputs, outputs, 3, 1, o, rngs)
        project = self.grown > 0 and o.shortcut == "projection"
        self.shortcut = _Unit(inputs, outputs, 1, self.stride, o, rngs) if project else None

    def __call__(self, x: Array, activation: Callable[[Array], Array]) -> Array:
        z = self.second(activation(self.first(x)))
        return activation(z + self._around(x))

    def _around(self, x: Array) -> Array:
        if self.shortcut is not None:
            return self.shortcut(x)
        if not self.grown:
            return x
        before = self.grown // 2
        wider = ((0, 0), (0, 0), (0, 0), (before, self.grown - before))
        return jnp.pad(x[:, :: self.stride, :: self.stride], wider)


class ResNet(nnx.Module):
    """A convolution, three stages of blocks of two, the mean over positions, a dense layer.

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
        options: ResNetOptions,
        rngs: nnx.Rngs,
    ) -> None:
        self.image = image_shape(in_shape, options.shape, "resnet20")
        self.activation = get_activation(options.activation).function
        self.first = _Unit(self.image[-1], options.width, 3, 1, options, rngs)
        self.blocks: nnx.List[_Block] = nnx.List([])
        channels = options.width
        for stage in range(3):
            for _ in range((options.depth - 2) // 6):
                outputs = options.width * 2**stage
                self.blocks.append(_Block(channels, outputs, options, rngs))
                channels = outputs
        self.last = linear(channels, out_shape[0], options.parameterisation, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Outputs ``(row, output)`` for inputs ``(row, *in_shape)``."""
        h = self.activation(self.first(x.reshape(x.shape[0], *self.image)))
        for block in self.blocks:
            h = block(h, self.activation)
        return self.last(h.mean((1, 2)))


@register(
    "networks",
    "resnet20",
    summary="Residual network of CIFAR with filter response normalisation and swish.",
    options=ResNetOptions,
    references=(
        "He, Zhang, Ren & Sun (2016), Deep residual learning for image recognition, sec. 4.2",
        "Singh & Krishnan (2020), Filter response normalization layer",
        "Izmailov et al. (2021), What Are Bayesian Neural Network Posteriors Really Like?",
    ),
    tags={"inputs": "images", "depth": "6 n + 2"},
    notes="Images are (row, height, width, channel); flat rows of pixels need shape. On images of "
    "32 x 32 x 3 and 10 classes it has 274,042 parameters (shortcut = 'padded': 271,098; with that "
    "and neither biases nor normalisation 268,346, the kernels and classifier of He et al.). "
    "Kernels have the activation's gain; normalisation has scales of mean 1 (role scale), shifts "
    "and thresholds of mean 0 (role bias). The published studies of cold posteriors (Wenzel et al. "
    "2020) and of priors (Fortuin et al. 2022) used BatchNorm here, which makes the likelihood of "
    "a row depend on its batch and is refused: their numbers are not comparable.",
)
def resnet20(options: ResNetOptions) -> Network:
    """The network of these options."""
    extra = " ntk" if options.parameterisation == "ntk" else ""
    return Network(
        factory=functools.partial(ResNet, options=options),
        gain=get_activation(options.activation).gain,
        label=f"resnet{options.depth} {options.width} {options.activation}{extra}",
    )
