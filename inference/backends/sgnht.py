"""The stochastic gradient Nose-Hoover thermostat."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.stochastic_gradient import (
    COMMON_NUMBERS,
    COMMON_STRUCTURE,
    Moving,
    Place,
    Stepwise,
    StochasticOptions,
)
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Fraction, Positive
from bnnzoo.registry import register


class SGNHTOptions(StochasticOptions):
    """Options of ``sgnht``."""

    thin: Count = Field(50, description="Steps, each with its own batch, of one kept draw.")

    friction: Fraction = Field(
        0.05, description="Rate of the injected noise, per step, and the thermostat's first value."
    )
    coupling: Positive = Field(
        0.01,
        description="By how much the friction rises in a step whose kinetic temperature is twice "
        "the target's.",
    )


class Thermostat(NamedTuple):
    """Momentum ``(dim,)`` of unit variance, and the friction per step that keeps it so."""

    momentum: Array
    friction: Array


@functools.partial(
    register_dataclass,
    data_fields=(*COMMON_NUMBERS, "friction", "coupling"),
    meta_fields=COMMON_STRUCTURE,
)
@dataclass(frozen=True)
class SGNHT(Stepwise):
    """Langevin dynamics whose friction rises where momenta are hot and falls where they are cold.

    One unknown: batch noise is balanced where it is alike in all coordinates. The equations are
    split symmetrically (kick, drift, thermostat, friction, thermostat, drift); Euler's steps, which
    the first paper took, have a bias that a fixed friction per step does not let vanish.
    """

    learning_rate: Leaf
    thin: Leaf
    friction: Leaf
    coupling: Leaf
    batch_size: int | None
    control_variates: bool

    stats = (*Stepwise.stats, "kinetic_temperature", "friction")
    independent = True

    def begin(self, posterior: Posterior, u: Array) -> Any:
        """At rest, with the friction that full batches need."""
        return Thermostat(jnp.zeros_like(u), jnp.full((), self.friction, u.dtype))

    def move(
        self, posterior: Posterior, at: Moving, force: Any, place: Place, noise: Array
    ) -> tuple[Moving, Array]:
        """BADODAB of Leimkuhler & Shang (2016), its two half kicks in one."""
        h = jnp.sqrt(place.size)
        p, rate = at.own
        p = p + h * force
        u = at.u + 0.5 * h * p
        before = jnp.mean(p**2)
        rate = rate + 0.5 * self.coupling * (before - 1.0)
        # Exact for dp = -rate p dt + sqrt(2 friction) dW over a step; (1 - e^-2r) / r is 2 at 0.
        near = jnp.abs(rate) < 1e-6
        spread = jnp.where(near, 2.0, -jnp.expm1(-2.0 * rate) / jnp.where(near, 1.0, rate))
        p = jnp.exp(-rate) * p + jnp.sqrt(self.friction * spread) * noise
        after = jnp.mean(p**2)
        rate = rate + 0.5 * self.coupling * (after - 1.0)
        return Moving(u + 0.5 * h * p, Thermostat(p, rate)), 0.5 * (before + after)

    def report(self, own: Any) -> dict[str, Array]:
        """The thermostat's friction per step."""
        return {"friction": own.friction}


@register(
    "backends",
    "sgnht",
    summary="Langevin dynamics with a thermostat that balances batch noise of unknown strength.",
    options=SGNHTOptions,
    references=(
        "Ding, Fang, Babbush, Chen, Skeel & Neven (2014), Bayesian Sampling Using Stochastic "
        "Gradient Thermostats",
        "Leimkuhler & Shang (2016), Adaptive Thermostats for Noisy Gradient Systems, for the "
        "splitting",
    ),
    tags={"exact": False, "family": "sgmcmc", "gradients": "minibatch", "order": "2"},
    facts={
        "exact for": "Gaussians with full batches; a step of zero",
        "bias": "second order in learning_rate; first where batch noise is uneven",
        "a draw costs": "thin batches' gradients (50)",
        "memory": "five vectors of the parameters",
        "choose it": "full or large batches; not small ones at low temperatures",
    },
    notes="Exact for no target at a fixed step; at a given friction per step the discretisation's "
    "bias is of second order in learning_rate. Batch noise that is alike for all parameters is "
    "balanced; what differs between them leaves a bias of first order, which no thermometer shows "
    "and which grows as temperatures fall: with minibatches of a network prefer sghmc. One "
    "thermostat needs many parameters (tens) to be steady. A draw costs thin gradients of a "
    "batch. No metric: slow where scales differ.",
)
def sgnht(options: SGNHTOptions) -> SGNHT:
    """The backend of these options."""
    return SGNHT(**dict(options))
