"""Stochastic gradient Langevin dynamics."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.stochastic_gradient import (
    DECAY_NUMBERS,
    DECAY_STRUCTURE,
    Decaying,
    DecayOptions,
    Moving,
    Place,
)
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Positive
from bnnzoo.registry import register


class SGLDOptions(DecayOptions):
    """Options of ``sgld``."""

    learning_rate: Positive = Field(
        0.03,
        description="Step of gradient descent on the mean loss of the rows: the squared step of "
        "the dynamics is learning_rate * T / N, stable alike at every N and temperature.",
    )


@functools.partial(register_dataclass, data_fields=DECAY_NUMBERS, meta_fields=DECAY_STRUCTURE)
@dataclass(frozen=True)
class SGLD(Decaying):
    """Half the squared step along the gradient, and noise of the squared step."""

    learning_rate: Leaf
    thin: Leaf
    decay_power: Leaf
    decay_steps: Leaf
    batch_size: int | None
    control_variates: bool
    step_schedule: str

    def begin(self, posterior: Posterior, u: Array) -> Any:
        """A position is all there is."""
        return ()

    def move(
        self, posterior: Posterior, at: Moving, force: Any, place: Place, noise: Array
    ) -> tuple[Moving, Array]:
        """One Euler-Maruyama step of the overdamped Langevin equation (Welling & Teh, eq. 4)."""
        u = at.u + 0.5 * place.size * force + jnp.sqrt(place.size * place.heat) * noise
        return Moving(u, at.own), jnp.zeros((), u.dtype)


@register(
    "backends",
    "sgld",
    summary="Langevin steps along minibatch gradients: cheap draws of a bias set by the step.",
    options=SGLDOptions,
    references=(
        "Welling & Teh (2011), Bayesian Learning via Stochastic Gradient Langevin Dynamics",
        "Baker, Fearnhead, Fox & Nemeth (2019), Control Variates for Stochastic Gradient MCMC",
        "Vollmer, Zygalakis & Teh (2016), (Non-)asymptotic Properties of SGLD, for the bias",
    ),
    tags={"exact": False, "family": "sgmcmc", "gradients": "minibatch", "order": "1"},
    facts={
        "exact for": "a step and a batch noise of zero",
        "bias": "first order in learning_rate",
        "a draw costs": "thin batches' gradients (100); twice with control variates",
        "memory": "three vectors of the parameters, and the row numbers",
        "choose it": "the simplest baseline with minibatches",
    },
    notes="Exact for no target at a fixed step. The bias is of first order in learning_rate, the "
    "discretisation's (variances 1 / (1 - e c / 4) too large, c the precision) and that of the "
    "batch's noise; it vanishes with step_schedule = 'polynomial'. A draw costs thin gradients of "
    "a batch (with control_variates twice as many) and one log density of all rows. No metric: "
    "slow where scales differ.",
)
def sgld(options: SGLDOptions) -> SGLD:
    """The backend of these options."""
    return SGLD(**dict(options))
