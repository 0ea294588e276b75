"""The Matern processes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax import Array
from pydantic import Field

from bnnzoo.models.process import Hyper, Process, ProcessOptions, squared_distance
from bnnzoo.registry import register

FLOOR = 1e-12
"""Added to squared distances, so that the root has a gradient at 0."""


class MaternOptions(ProcessOptions):
    """Options of ``matern``."""

    smoothness: Literal["1/2", "3/2", "5/2"] = Field(
        "5/2", description="nu: functions have this many derivatives, rounded down."
    )


@dataclass(frozen=True)
class Matern(Process):
    """Functions of finite smoothness."""

    options: MaternOptions

    def correlation(self, x: Array, z: Array, hyper: Hyper) -> Array:
        """See Rasmussen & Williams (2006), sec. 4.2.1."""
        d = jnp.sqrt(squared_distance(x, z, hyper.length_scale) + FLOOR)
        if self.options.smoothness == "1/2":
            return jnp.exp(-d)
        if self.options.smoothness == "3/2":
            r = math.sqrt(3.0) * d
            return (1.0 + r) * jnp.exp(-r)
        r = math.sqrt(5.0) * d
        return (1.0 + r + r**2 / 3.0) * jnp.exp(-r)


@register(
    "processes",
    "matern",
    summary="Matern: functions of a chosen smoothness.",
    options=MaternOptions,
    references=(
        "Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, sec. 4.2.1",
    ),
    tags={"stationary": True},
    notes="nu = 1/2: k = variance * exp(-d); 3/2: (1 + r) exp(-r), r = sqrt(3) d; 5/2: (1 + r "
    "+ r^2 / 3) exp(-r), r = sqrt(5) d; d the distance in lengthscales.",
)
def matern(options: MaternOptions) -> Matern:
    """The process of these options."""
    return Matern(options)
