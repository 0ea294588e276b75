"""Cyclical stochastic gradient Hamiltonian Monte Carlo, as in the study of cold posteriors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.cyclical import CYCLE_NUMBERS, CYCLE_STRUCTURE, Cyclical, CyclicalOptions
from bnnzoo.inference.stochastic_gradient import Moving, Place, Stepwise
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Fraction
from bnnzoo.registry import register


class CyclicalSGHMCOptions(CyclicalOptions):
    """Options of ``cyclical-sghmc``."""

    momentum: Fraction = Field(0.98, description="Share of the momentum kept at each step.")


class Wheel(NamedTuple):
    """Momentum of unit variance, the cycle's mass, average squared gradients, ``(dim,)`` each."""

    momentum: Array
    mass: Array
    square: Array


@functools.partial(
    register_dataclass, data_fields=(*CYCLE_NUMBERS, "momentum"), meta_fields=CYCLE_STRUCTURE
)
@dataclass(frozen=True)
class CyclicalSGHMC(Cyclical):
    """Symplectic Euler steps of underdamped Langevin dynamics, in cycles."""

    learning_rate: Leaf
    thin: Leaf
    ramp_begin: Leaf
    ramp_end: Leaf
    average: Leaf
    momentum: Leaf
    batch_size: int | None
    control_variates: bool
    cycles: bool
    precondition: bool

    stats = (*Stepwise.stats, "kinetic_temperature")

    def begin(self, posterior: Posterior, u: Array) -> Any:
        """At rest, with unit masses: no gradient was seen."""
        zero = jnp.zeros_like(u)
        return Wheel(zero, jnp.ones_like(u), zero)

    def move(
        self, posterior: Posterior, at: Moving, force: Any, place: Place, noise: Array
    ) -> tuple[Moving, Array]:
        """Wenzel et al. (2020), algorithm 1, lines 7 to 9."""
        mass = self.mass(at.own.mass, at.own.square, posterior.sites, place)
        h = jnp.sqrt(place.size / mass)
        kept = self.momentum
        p = kept * at.own.momentum + h * force
        p = p + jnp.sqrt(2.0 * (1.0 - kept) * place.heat) * noise
        # A free particle's mean square is 2 / (1 + momentum) of its temperature in these steps.
        kinetic = 0.5 * (1.0 + kept) * jnp.mean(p**2)
        square = self.averaged(at.own.square, place.per_datum * force)
        return Moving(at.u + h * p, Wheel(p, mass, square)), kinetic


@register(
    "backends",
    "cyclical-sghmc",
    summary="Underdamped Langevin dynamics in cycles of step and temperature, a draw a cycle.",
    options=CyclicalSGHMCOptions,
    references=(
        "Wenzel et al. (2020), How Good is the Bayes Posterior in Deep Neural Networks Really?, "
        "algorithms 1 and 2",
        "Zhang, Li, Zhang, Chen & Wilson (2020), Cyclical Stochastic Gradient MCMC for Bayesian "
        "Deep Learning, eq. 1",
    ),
    tags={"exact": False, "family": "sgmcmc", "gradients": "minibatch", "order": "1"},
    facts={
        "exact for": "a step and a batch noise of zero, in infinite cycles",
        "bias": "first order in learning_rate at a fixed step",
        "a draw costs": "a cycle of batches' gradients (1,000)",
        "memory": "nine vectors of the parameters, and the row numbers",
        "choose it": "cold-posterior studies with minibatches",
    },
    notes="Exact for no target: cycles weigh modes by how often a descent finds them, and a cycle "
    "must be long enough to forget its descent. At a constant step (cycles = false) the bias is of "
    "first order in learning_rate. A draw costs a cycle of thin gradients of a batch; warmup "
    "counts cycles.",
)
def cyclical_sghmc(options: CyclicalSGHMCOptions) -> CyclicalSGHMC:
    """The backend of these options."""
    return CyclicalSGHMC(**dict(options))
