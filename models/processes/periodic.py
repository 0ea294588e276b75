"""The periodic process."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from pydantic import Field

from bnnzoo.models.process import Hyper, Process, ProcessOptions
from bnnzoo.options import Positive
from bnnzoo.registry import register


class PeriodicOptions(ProcessOptions):
    """Options of ``periodic``."""

    period: Positive = Field(1.0, description="Period of every input, modelled units.")


@dataclass(frozen=True)
class Periodic(Process):
    """Functions that repeat themselves."""

    options: PeriodicOptions

    def correlation(self, x: Array, z: Array, hyper: Hyper) -> Array:
        """exp(-2 sum sin^2(pi (x - z) / period) / length_scale^2)."""
        angle = jnp.pi * (x[:, None] - z[None]) / self.options.period
        return jnp.exp(-2.0 * jnp.sum((jnp.sin(angle) / hyper.length_scale) ** 2, axis=-1))


@register(
    "processes",
    "periodic",
    summary="Periodic: functions that repeat themselves.",
    options=PeriodicOptions,
    references=("Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, eq. 4.31",),
    tags={"stationary": True},
    notes="k(x, z) = variance * exp(-2 sum sin^2(pi (x - z) / period) / length_scale^2). A "
    "network of bounded or rectified units can follow it within a box, not beyond.",
)
def periodic(options: PeriodicOptions) -> Periodic:
    """The process of these options."""
    return Periodic(options)
