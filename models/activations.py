"""Activations by name, with the gain that a prior's ``std`` is multiplied by.

The gain is sqrt(2) for rectifier-like units, which halve the second moment of their input
(He et al. 2015, eq. 10), and 1 otherwise; it is applied to every kernel of a network.
``scaled-relu`` carries its constant itself, so its gain is 1: of a standard normal it has variance
1, where relu with its gain has second moment 1. Each belongs to its wiring: unit variance to
kernels whose rows sum to zero, which do not see the mean; unit second moment to independent ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
from jax import Array
from pydantic import AfterValidator

from bnnzoo.errors import UnknownNameError


class Activation(NamedTuple):
    """A pointwise function and its gain."""

    function: Callable[[Array], Array]
    gain: float


def _identity(x: Array) -> Array:
    return x


SCALED_RELU = math.sqrt(2.0 / (1.0 - 1.0 / math.pi))
"""1 / std of max(0, z), z ~ N(0, 1): its second moment is 1/2 and its mean 1 / sqrt(2 pi)."""


def _scaled_relu(x: Array) -> Array:
    return SCALED_RELU * jax.nn.relu(x)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(jax.numpy.tanh, 1.0),
    "relu": Activation(jax.nn.relu, math.sqrt(2.0)),
    "scaled-relu": Activation(_scaled_relu, 1.0),
    "erf": Activation(jax.scipy.special.erf, 1.0),
    "gelu": Activation(jax.nn.gelu, math.sqrt(2.0)),
    "silu": Activation(jax.nn.silu, math.sqrt(2.0)),
    "softplus": Activation(jax.nn.softplus, 1.0),
    "sigmoid": Activation(jax.nn.sigmoid, 1.0),
    "sin": Activation(jax.numpy.sin, 1.0),
    "identity": Activation(_identity, 1.0),
}


def get_activation(name: str) -> Activation:
    """The activation of that name; raises ``UnknownNameError``."""
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise UnknownNameError("activation", name, ACTIVATIONS) from None


def _known(name: str) -> str:
    get_activation(name)
    return name


ActivationName = Annotated[str, AfterValidator(_known)]
"""The name of an activation, as an option."""
