"""The multilayer perceptron."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Annotated, Literal

from flax import nnx
from jax import Array
from pydantic import Field, field_validator

from bnnzoo.models.activations import get_activation
from bnnzoo.models.network import Network
from bnnzoo.options import Options
from bnnzoo.registry import register


class MLPOptions(Options):
    """Options of ``mlp``."""

    widths: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (50,), description="Units of each hidden layer, first to last; empty for a linear model."
    )
    activation: str = Field("tanh", description="Activation of the hidden layers.")
    residual: bool = Field(
        False, description="Add a layer's input to its output where both have the same width."
    )
    parameterisation: Literal["standard", "ntk"] = Field(
        "standard",
        description="ntk: kernels have unit scale and the layer multiplies by 1/sqrt(fan-in).",
    )

    @field_validator("activation")
    @classmethod
    def _known(cls, name: str) -> str:
        get_activation(name)
        return name


class ScaledLinear(nnx.Linear):
    """A linear layer that itself divides by sqrt(fan-in) (Jacot et al. 2018, eq. 1)."""

    forward_scaled = True

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        """``x @ kernel / sqrt(in_features) + bias``."""
        assert self.bias is not None
        return x @ self.kernel[...] * self.in_features**-0.5 + self.bias[...]


class MLP(nnx.Module):
    """Dense layers with an activation between them; images are flattened.

    Args:
        in_shape: shape of one input.
        out_shape: ``(outputs,)``.
        options: widths, activation, residual, parameterisation.
        rngs: random streams for the initial values, which a prior then replaces.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        options: MLPOptions,
        rngs: nnx.Rngs,
    ) -> None:
        linear = ScaledLinear if options.parameterisation == "ntk" else nnx.Linear
        sizes = (math.prod(in_shape), *options.widths, *out_shape)
        self.layers = nnx.List(linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes))
        self.activation = get_activation(options.activation).function
        self.residual = options.residual

    def __call__(self, x: Array) -> Array:
        """Outputs ``(row, output)`` for inputs ``(row, *in_shape)``."""
        h = x.reshape(x.shape[0], -1)
        *hidden, last = self.layers
        for layer in hidden:
            z = self.activation(layer(h))
            h = h + z if self.residual and z.shape == h.shape else z
        return last(h)


@register(
    "networks",
    "mlp",
    summary="Fully connected network of any depth.",
    options=MLPOptions,
    references=("Neal (1996), Bayesian Learning for Neural Networks, ch. 2",),
    tags={"inputs": "flat", "depth": "any"},
    notes="Kernels take the prior's std times gain/sqrt(fan-in); biases N(0, 1). "
    "The gain is sqrt(2) for relu, gelu and silu, else 1, in every layer.",
)
def mlp(options: MLPOptions) -> Network:
    """The network of these options."""
    widths = "x".join(map(str, options.widths)) or "linear"
    extra = " residual" if options.residual else ""
    extra += " ntk" if options.parameterisation == "ntk" else ""
    return Network(
        factory=functools.partial(MLP, options=options),
        gain=get_activation(options.activation).gain if options.widths else 1.0,
        label=f"mlp {widths} {options.activation}{extra}" if options.widths else "mlp linear",
    )
