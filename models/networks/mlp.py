"""The multilayer perceptron."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

from flax import nnx
from jax import Array
from pydantic import Field, field_validator

from bnnzoo.models.activations import ActivationName, get_activation
from bnnzoo.models.network import Network
from bnnzoo.models.scaled_layers import (
    PARAMETERISATION,
    Parameterisation,
    linear,
    linear_rows_last,
)
from bnnzoo.options import Count, Options
from bnnzoo.registry import register

Residual = Literal["none", "1", "1/sqrt(blocks)", "1/blocks"]


class MLPOptions(Options):
    """Options of ``mlp``."""

    widths: tuple[Count, ...] = Field(
        (50,), description="Units of each hidden layer, first to last; empty for a linear model."
    )
    activation: ActivationName = Field("tanh", description="Activation of the hidden layers.")
    residual: Residual = Field(
        "none",
        description="A hidden layer as wide as its input is a block: its output, times this, is "
        "added to its input. none: no shortcuts.",
    )
    bias: bool = Field(True, description="Give every layer a bias.")
    parameterisation: Parameterisation = Field("standard", description=PARAMETERISATION)

    @field_validator("residual", mode="before")
    @classmethod
    def _text(cls, given: Any) -> Any:
        # On the command line and in TOML a lone 1 is a number.
        return "1" if given == 1 and not isinstance(given, bool) else given


class MLP(nnx.Module):
    """Dense layers with an activation between them; images are flattened.

    Args:
        in_shape: shape of one input.
        out_shape: ``(outputs,)``.
        options: widths, activation, residual, bias, parameterisation.
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
        sizes = (math.prod(in_shape), *options.widths, *out_shape)
        self.layers = nnx.List(
            linear(a, b, options.parameterisation, bias=options.bias, rngs=rngs)
            for a, b in itertools.pairwise(sizes)
        )
        self.activation = get_activation(options.activation).function
        blocks = sum(a == b for a, b in itertools.pairwise(sizes[:-1]))
        self.share = residual_share(options.residual, blocks)

    def __call__(self, x: Array) -> Array:
        """Outputs ``(row, output)`` for inputs ``(row, *in_shape)``."""
        return self._through(x.reshape(x.shape[0], -1), lambda layer, h: layer(h))

    def rows_last(self, x: Array) -> Array:
        """The same, computed with rows as the last axis: quicker where layers are narrow."""
        return self._through(x.reshape(x.shape[0], -1).T, linear_rows_last).T

    def _through(self, h: Array, apply: Callable[[nnx.Linear, Array], Array]) -> Array:
        *hidden, last = self.layers
        for layer in hidden:
            z = self.activation(apply(layer, h))
            h = h + self.share * z if self.share is not None and z.shape == h.shape else z
        return apply(last, h)


def residual_share(residual: Residual, blocks: int) -> float | None:
    """What a block's output is multiplied by; None without shortcuts.

    Args:
        residual: the option.
        blocks: their number.
    """
    if residual == "none":
        return None
    count = max(blocks, 1)
    return {"1": 1.0, "1/sqrt(blocks)": count**-0.5, "1/blocks": 1.0 / count}[residual]


@register(
    "networks",
    "mlp",
    summary="Fully connected network of any depth.",
    options=MLPOptions,
    references=(
        "Neal (1996), Bayesian Learning for Neural Networks, ch. 2",
        "Roberts, Yaida & Hanin (2022), The Principles of Deep Learning Theory, ch. 5, for "
        "criticality",
        "Veit, Wilber & Belongie (2016), Residual networks behave like ensembles of relatively "
        "shallow networks, for the paths of residual ones",
    ),
    tags={"inputs": "flat", "depth": "any"},
    notes="Kernels take the prior's std times gain/sqrt(fan-in); biases N(0, 1). "
    "The gain is sqrt(2) for relu, gelu and silu, else 1, in every layer. "
    "Deep networks neither explode nor forget their inputs at criticality: relu, tanh, sin and "
    "identity with prior.std = 1 and network.bias = false, erf with prior.std = 0.886 and no bias, "
    "gelu with prior.std = 0.9958 and prior.bias_std = 0.4158, silu with 0.9970 and 0.7451. "
    "scaled-relu has unit variance, not unit second moment: it is for kernels whose rows sum to "
    "zero; under independent weights its second moment grows by 1.467 a layer. "
    "With residual = 1 the variance of functions doubles with every block; with 1/sqrt(blocks) it "
    "grows e-fold at most, and with 1/blocks the blocks vanish as their number grows. "
    "13 inputs, 50 units and one output are 751 parameters; 784-50-50-10 are 42,310.",
)
def mlp(options: MLPOptions) -> Network:
    """The network of these options."""
    widths = "x".join(map(str, options.widths)) or "linear"
    words = f"{widths} {options.activation}" if options.widths else widths
    extra = "" if options.residual == "none" else f" residual {options.residual}"
    extra += "" if options.bias else " no bias"
    extra += " ntk" if options.parameterisation == "ntk" else ""
    return Network(
        factory=functools.partial(MLP, options=options),
        gain=get_activation(options.activation).gain if options.widths else 1.0,
        label=f"mlp {words}{extra}",
    )
