"""Cyclical stochastic gradient Langevin dynamics."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.cyclical import CYCLE_NUMBERS, CYCLE_STRUCTURE, Cyclical, CyclicalOptions
from bnnzoo.inference.stochastic_gradient import Moving, Place
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Positive
from bnnzoo.registry import register


class CyclicalSGLDOptions(CyclicalOptions):
    """Options of ``cyclical-sgld``."""

    learning_rate: Positive = Field(
        0.1,
        description="Step of gradient descent on the mean loss of the rows at the start of a "
        "cycle: the squared step of the dynamics is learning_rate * T / N.",
    )
    thin: Count = Field(
        2000, description="Steps of a cycle, at the end of which one draw is kept, and none before."
    )
    ramp_end: float = Field(
        0.1,
        ge=0.0,
        lt=0.8,
        description="Share of a cycle until which the temperature rises, linearly, to the "
        "target's; the same as ramp_begin: a jump.",
    )


class Metric(NamedTuple):
    """Mass of the cycle and average squared gradients, ``(dim,)`` each."""

    mass: Array
    square: Array


@functools.partial(register_dataclass, data_fields=CYCLE_NUMBERS, meta_fields=CYCLE_STRUCTURE)
@dataclass(frozen=True)
class CyclicalSGLD(Cyclical):
    """Each cycle leaves its mode by long steps without noise and samples where it arrives."""

    learning_rate: Leaf
    thin: Leaf
    ramp_begin: Leaf
    ramp_end: Leaf
    average: Leaf
    batch_size: int | None
    control_variates: bool
    cycles: bool
    precondition: bool

    def begin(self, posterior: Posterior, u: Array) -> Any:
        """Unit masses: no gradient was seen."""
        return Metric(jnp.ones_like(u), jnp.zeros_like(u))

    def move(
        self, posterior: Posterior, at: Moving, force: Any, place: Place, noise: Array
    ) -> tuple[Moving, Array]:
        """An Euler-Maruyama step in the cycle's metric (Zhang et al. 2020, algorithm 1)."""
        mass = self.mass(at.own.mass, at.own.square, posterior.sites, place)
        size = place.size / mass
        u = at.u + 0.5 * size * force + jnp.sqrt(size * place.heat) * noise
        square = self.averaged(at.own.square, place.per_datum * force)
        return Moving(u, Metric(mass, square)), jnp.zeros((), u.dtype)


@register(
    "backends",
    "cyclical-sgld",
    summary="SGLD in cycles: long steps to find a mode, short ones to draw from it once.",
    options=CyclicalSGLDOptions,
    references=(
        "Zhang, Li, Zhang, Chen & Wilson (2020), Cyclical Stochastic Gradient MCMC for Bayesian "
        "Deep Learning, eq. 1 and algorithm 1",
        "Wenzel et al. (2020), How Good is the Bayes Posterior in Deep Neural Networks Really?, "
        "appendix A, for the ramp and the layerwise metric",
    ),
    tags={"exact": False, "family": "sgmcmc", "gradients": "minibatch", "order": "1"},
    facts={
        "exact for": "a step and a batch noise of zero, in infinite cycles",
        "bias": "first order in learning_rate at a fixed step",
        "a draw costs": "a cycle of batches' gradients (2,000)",
        "memory": "seven vectors of the parameters, and the row numbers",
        "choose it": "separate modes, with minibatches",
    },
    notes="Exact for no target: cycles weigh modes by how often a descent finds them, and a cycle "
    "must be long enough to forget its descent. At a constant step (cycles = false) the bias is of "
    "first order in learning_rate, as for sgld. A draw costs a cycle of thin gradients of a batch; "
    "warmup counts cycles.",
)
def cyclical_sgld(options: CyclicalSGLDOptions) -> CyclicalSGLD:
    """The backend of these options."""
    return CyclicalSGLD(**dict(options))
