"""The squared-exponential process."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from bnnzoo.models.process import Hyper, Process, ProcessOptions, squared_distance
from bnnzoo.registry import register


class RBF(Process):
    """Infinitely smooth functions."""

    def correlation(self, x: Array, z: Array, hyper: Hyper) -> Array:
        """exp(-d^2 / 2)."""
        return jnp.exp(-0.5 * squared_distance(x, z, hyper.length_scale))


@register(
    "processes",
    "rbf",
    summary="Squared exponential: infinitely smooth functions.",
    options=ProcessOptions,
    references=(
        "Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, sec. 4.2.1",
    ),
    tags={"stationary": True},
    notes="k(x, z) = variance * exp(-d^2 / 2), d the distance in lengthscales; one a input "
    "makes it a process with relevance of its own for each (ARD).",
)
def rbf(options: ProcessOptions) -> RBF:
    """The process of these options."""
    return RBF(options)
