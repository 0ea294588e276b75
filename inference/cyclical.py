"""Cycles of steps and temperatures, and one scale a layer: what cyclical samplers share."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field, model_validator

from bnnzoo.inference import step_schedules
from bnnzoo.inference.stochastic_gradient import (
    COMMON_NUMBERS,
    COMMON_STRUCTURE,
    Place,
    Stepwise,
    StochasticOptions,
)
from bnnzoo.models.layout import Site
from bnnzoo.models.leaf import Leaf
from bnnzoo.options import Count, Fraction

FLOOR = 1e-7
"""Added to a layer's mean squared gradient (Wenzel et al. 2020, algorithm 2)."""

SETTLED = 0.8
"""Share of a cycle after which its temperatures are read."""


class CyclicalOptions(StochasticOptions):
    """Options of cyclical samplers."""

    thin: Count = Field(
        1000, description="Steps of a cycle, at the end of which one draw is kept, and none before."
    )
    cycles: bool = Field(
        True,
        description="The squared step falls along a cosine and the temperature rises in each "
        "cycle; false keeps both constant.",
    )
    ramp_begin: float = Field(
        0.1, ge=0.0, lt=1.0, description="Share of a cycle without noise, an optimiser's."
    )
    ramp_end: float = Field(
        0.3,
        ge=0.0,
        lt=0.8,
        description="Share of a cycle until which the temperature rises, linearly, to the "
        "target's; the same as ramp_begin: a jump.",
    )
    precondition: bool = Field(
        True,
        description="Shorter steps in layers of large gradients: root mean squares, one a site, "
        "over the smallest of them, brought up to date at the start of each cycle.",
    )
    average: Fraction = Field(
        0.99, description="What the average of squared gradients keeps at each step."
    )

    @model_validator(mode="after")
    def _in_order(self) -> CyclicalOptions:
        if self.ramp_end < self.ramp_begin:
            raise ValueError(
                f"ramp_end = {self.ramp_end:g} should not be below ramp_begin = {self.ramp_begin:g}"
            )
        return self


def layerwise(square: Array, sites: tuple[Site, ...]) -> Array:
    """Mass of every parameter: its layer's root mean squared gradient over the least; traced.

    Args:
        square: average squared gradient of the mean loss ``(dim,)``.
        sites: the layers.

    Returns:
        ``(dim,)``, 1 in the layer of smallest gradients.

    Source:
        Wenzel et al. (2020), algorithm 2.
    """
    means = [jnp.mean(square[site.offset : site.offset + site.size]) for site in sites]
    roots = jnp.sqrt(FLOOR + jnp.stack(means))
    sizes = np.array([site.size for site in sites])
    return jnp.repeat(roots / jnp.min(roots), sizes, total_repeat_length=int(sizes.sum()))


class Cyclical(Stepwise):
    """A draw is a cycle; the metric stands still in it."""

    cycles: bool
    ramp_begin: Leaf
    ramp_end: Leaf
    precondition: bool
    average: Leaf

    default_warmup = 10
    warmer = "raise thin"

    def factors(self, taken: Array, within: Array) -> tuple[Array, Array]:
        """The cosine of Zhang et al., the ramp of Wenzel et al.; ones without cycles."""
        one = jnp.ones_like(taken)
        if not self.cycles:
            return one, one
        heat = step_schedules.ramp(within, self.thin, self.ramp_begin, self.ramp_end)
        return step_schedules.cosine(within, self.thin), heat

    def settled(self, within: Array) -> Array:
        """In the last fifth of a cycle: before, it has not forgotten its descent."""
        return within >= SETTLED * self.thin if self.cycles else super().settled(within)

    def mass(self, mass: Array, square: Array, sites: tuple[Site, ...], place: Place) -> Array:
        """The cycle's metric: that of the step before, or a new one; traced.

        A cycle forgets where it began, and with it what its metric was made of. Without cycles a
        chain does not, and a metric renewed from its last steps would bias the draws: there it is
        that of warm-up.

        Args:
            mass: of the step before ``(dim,)``.
            square: average squared gradient ``(dim,)``.
            sites: the layers.
            place: where in the cycle the step is.
        """
        if not self.precondition:
            return mass
        renewed = place.first if self.cycles else place.first & place.warming
        return jnp.where(renewed, layerwise(square, sites), mass)

    def averaged(self, square: Array, gradient: Array) -> Array:
        """The average of squared gradients after one more; traced.

        Args:
            square: before ``(dim,)``.
            gradient: of the mean loss ``(dim,)``.
        """
        return self.average * square + (1.0 - self.average) * gradient**2


CYCLE_NUMBERS = (*COMMON_NUMBERS, "ramp_begin", "ramp_end", "average")
CYCLE_STRUCTURE = (*COMMON_STRUCTURE, "cycles", "precondition")
