"""The neural additive model: a small network a feature, summed."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.models.activations import ActivationName, get_activation
from bnnzoo.models.network import Network
from bnnzoo.models.networks.mlp import MLP, MLPOptions
from bnnzoo.models.scaled_layers import PARAMETERISATION, Parameterisation, linear
from bnnzoo.options import Count, Options
from bnnzoo.registry import register


class AdditiveOptions(Options):
    """Options of ``additive``."""

    widths: tuple[Count, ...] = Field(
        (16,), description="Units of each hidden layer of a feature's network, first to last."
    )
    activation: ActivationName = Field("tanh", description="Activation of the hidden layers.")
    average: bool = Field(
        True,
        description="Divide the sum by the square root of the number of features, so that the "
        "variance of functions does not grow with it.",
    )
    parameterisation: Parameterisation = Field("standard", description=PARAMETERISATION)


class Additive(nnx.Module):
    """f(x) = bias + sum of f_j(x_j), each f_j a multilayer perceptron of one input.

    Args:
        in_shape: ``(features,)``.
        out_shape: ``(outputs,)``.
        options: of the network.
        rngs: random streams for the initial values, which a prior then replaces.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        options: AdditiveOptions,
        rngs: nnx.Rngs,
    ) -> None:
        if len(in_shape) != 1:
            raise InputError(
                f"additive: its inputs are rows of features, but these have shape {in_shape} "
                "(nearest: network = 'mlp' flattens them, 'cnn' is for images)"
            )
        mlp = MLPOptions(
            widths=options.widths,
            activation=options.activation,
            parameterisation=options.parameterisation,
        )
        self.features = nnx.List(
            MLP((1,), out_shape, options=mlp, rngs=rngs) for _ in range(in_shape[0])
        )
        # The networks' last biases would be told apart by nothing: one is theirs together.
        last = options.widths[-1] if options.widths else 1
        for network in self.features:
            network.layers[-1] = linear(
                last, out_shape[0], options.parameterisation, bias=False, rngs=rngs
            )
        self.bias = nnx.Param(jnp.zeros(out_shape))
        self.share = in_shape[0] ** -0.5 if options.average else 1.0

    def parts(self, x: Array) -> Float[Array, "row feature output"]:
        """What every feature adds; with the bias they sum to the network's outputs.

        Args:
            x: inputs ``(row, feature)``, modelled units.
        """
        made = [network(x[:, j : j + 1]) for j, network in enumerate(self.features)]
        return jnp.stack(made, 1) * self.share

    def __call__(self, x: Array) -> Array:
        """Outputs ``(row, output)`` for inputs ``(row, feature)``."""
        total = sum(network(x[:, j : j + 1]) for j, network in enumerate(self.features))
        return total * self.share + self.bias[...]


@register(
    "networks",
    "additive",
    summary="Neural additive model: a small network a feature, summed.",
    options=AdditiveOptions,
    references=(
        "Agarwal et al. (2021), Neural Additive Models: interpretable machine learning with "
        "neural nets, eq. 1",
        "Bouchiat et al. (2024), Improving neural additive models with Bayesian principles",
    ),
    tags={"inputs": "flat", "depth": "any"},
    notes="One function a feature and no interactions: BoundNetwork.read(parameters, x, 'parts') "
    "gives them, (row, feature, output). Parts are told apart up to constants, so compare them "
    "centred. Parameters of feature j are features.j.layers.*, so that a prior's rules can give "
    "each feature its own width (rules 'features.0.*'); the networks share one output bias. "
    "Kernels take the gain of the activation. 13 features, 16 units and one output are 625 "
    "parameters. Every feature is a program of its own: with hundreds, compiling takes long.",
)
def additive(options: AdditiveOptions) -> Network:
    """The network of these options."""
    widths = "x".join(map(str, options.widths)) or "linear"
    extra = " ntk" if options.parameterisation == "ntk" else ""
    return Network(
        factory=functools.partial(Additive, options=options),
        gain=get_activation(options.activation).gain if options.widths else 1.0,
        label=f"additive {widths} {options.activation}{extra}",
    )
