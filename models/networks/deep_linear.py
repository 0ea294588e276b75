"""The deep linear network: a product of matrices, all of whose depth is in the prior."""

from __future__ import annotations

import functools

from pydantic import Field

from bnnzoo.models.network import Network
from bnnzoo.models.networks.mlp import MLP, MLPOptions
from bnnzoo.models.scaled_layers import PARAMETERISATION, Parameterisation
from bnnzoo.options import Count, Options
from bnnzoo.registry import register


class DeepLinearOptions(Options):
    """Options of ``deep-linear``."""

    widths: tuple[Count, ...] = Field(
        (50, 50), description="Units of each hidden layer, first to last."
    )
    bias: bool = Field(False, description="Give every layer a bias.")
    parameterisation: Parameterisation = Field("standard", description=PARAMETERISATION)


@register(
    "networks",
    "deep-linear",
    summary="A product of matrices: linear functions with a deep network's prior and posterior.",
    options=DeepLinearOptions,
    references=(
        "Saxe, McClelland & Ganguli (2014), Exact solutions to the nonlinear dynamics of learning "
        "in deep linear neural networks",
        "Roberts, Yaida & Hanin (2022), The Principles of Deep Learning Theory, ch. 3",
    ),
    tags={"inputs": "flat", "depth": "any"},
    notes="f(x) = W_L ... W_1 x, every W of gain 1. Under Gaussian weights of std 1 and no "
    "bias the variance of f is |x|^2 / inputs at any depth, and E f^4 / (E f^2)^2 is 3 times the "
    "product of 1 + 2/n over the hidden widths n: depth shows in the tails alone. The posterior "
    "has the symmetries and the saddles of deep networks. Images are flattened. 13 inputs, two "
    "layers of 50 and one output are 3,200 parameters.",
)
def deep_linear(options: DeepLinearOptions) -> Network:
    """The network of these options."""
    widths = "x".join(map(str, options.widths)) or "none"
    extra = " ntk" if options.parameterisation == "ntk" else ""
    given = options.model_dump()
    return Network(
        factory=functools.partial(MLP, options=MLPOptions(activation="identity", **given)),
        label=f"deep-linear {widths}{extra}",
    )
