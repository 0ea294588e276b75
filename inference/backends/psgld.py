"""Preconditioned stochastic gradient Langevin dynamics."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.stochastic_gradient import (
    DECAY_NUMBERS,
    DECAY_STRUCTURE,
    Decaying,
    DecayOptions,
    Estimate,
    Moving,
    Place,
)
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Fraction, Positive
from bnnzoo.registry import register


class PSGLDOptions(DecayOptions):
    """Options of ``psgld``."""

    learning_rate: Positive = Field(
        3e-4,
        description="Step of RMSprop on the mean loss of the rows: of the order of a move a step, "
        "in unconstrained units, whatever the gradient's scale.",
    )
    average: Fraction = Field(
        0.99, description="What the average of squared gradients keeps at each step."
    )
    floor: Positive = Field(
        1e-5, description="Added to the root of that average: bounds the preconditioner."
    )
    correction: bool = Field(
        True,
        description="Add the drift of the preconditioner's own slope, from a Hessian-vector "
        "product a step. Published uses leave it out, and then no step is small enough.",
    )


class Average(NamedTuple):
    """Exponential averages over the batches so far.

    Attributes:
        square: of the squared gradient of the mean loss ``(dim,)``.
        slope: its derivative, each coordinate's with respect to itself ``(dim,)``.
    """

    square: Array
    slope: Array


@functools.partial(
    register_dataclass,
    data_fields=(*DECAY_NUMBERS, "average", "floor"),
    meta_fields=(*DECAY_STRUCTURE, "correction"),
)
@dataclass(frozen=True)
class PSGLD(Decaying):
    """SGLD in the metric G = 1 / (floor + sqrt(V)), V the average of squared gradients.

    The diffusion with matrix G has the target for its law only with the drift
    (1/2) (G grad log p + Gamma), Gamma_i = dG_ii / du_i. Here V depends on where the chain was. But
    within the memory of the average a chain moves by O(sqrt(e)), and what the law of u needs is
    d E[G | u] / du alone, which is the mean of -G^2 V' / (2 sqrt(V)) over batches, V' the same
    average of 2 g dg/du from the same batches. dg_i/du_i is estimated by z_i (H z)_i with signs z
    drawn anew each step: in V' it enters linearly, so without bias. The average is taken before
    the batch that drives the step, and batches are independent: else G and the noise of that batch
    would be correlated, which is a drift that no step is small enough for.
    """

    learning_rate: Leaf
    thin: Leaf
    decay_power: Leaf
    decay_steps: Leaf
    average: Leaf
    floor: Leaf
    batch_size: int | None
    control_variates: bool
    step_schedule: str
    correction: bool

    independent = True

    @property
    def probes(self) -> int:  # type: ignore[override]
        """A Hessian-vector product costs about another gradient."""
        return 2 if self.correction else 1

    def begin(self, posterior: Posterior, u: Array) -> Any:
        """Averages that take short steps at first: nothing is known yet."""
        return Average(jnp.ones_like(u), jnp.zeros_like(u))

    def look(self, estimate: Estimate, u: Array, key: Array) -> Any:
        """Gradient, and an estimate of the diagonal of its Jacobian."""
        if not self.correction:
            return estimate(u), jnp.zeros_like(u)
        signs = jax.random.rademacher(key, u.shape, u.dtype)
        gradient, product = jax.jvp(estimate, (u,), (signs,))
        return gradient, signs * product

    def gradient_of(self, force: Any) -> Array:
        """The gradient in what :meth:`look` gave."""
        return force[0]

    def move(
        self, posterior: Posterior, at: Moving, force: Any, place: Place, noise: Array
    ) -> tuple[Moving, Array]:
        """Li et al. (2016), eqs. 4 to 6, with Gamma."""
        gradient, curvature = force
        root = jnp.sqrt(jnp.maximum(at.own.square, jnp.finfo(at.u.dtype).tiny))
        metric = 1.0 / (self.floor + root)
        drift = metric * gradient - metric**2 * at.own.slope / (2.0 * root)
        u = at.u + 0.5 * place.size * drift + jnp.sqrt(place.size * place.heat * metric) * noise
        keep, unit = self.average, place.per_datum
        square = keep * at.own.square + (1.0 - keep) * (unit * gradient) ** 2
        slope = keep * at.own.slope + (1.0 - keep) * 2.0 * unit**2 * gradient * curvature
        return Moving(u, Average(square, slope)), jnp.zeros((), u.dtype)


@register(
    "backends",
    "psgld",
    summary="SGLD with RMSprop's scale for every weight, and the drift that this scale calls for.",
    options=PSGLDOptions,
    references=(
        "Li, Chen, Carlson & Carin (2016), Preconditioned Stochastic Gradient Langevin Dynamics "
        "for Deep Neural Networks",
        "Hutchinson (1990), A Stochastic Estimator of the Trace of the Influence Matrix, for the "
        "diagonal of the Hessian",
    ),
    tags={"exact": False, "family": "sgmcmc", "gradients": "minibatch", "order": "1"},
    facts={
        "exact for": "a step and a batch noise of zero",
        "bias": "first order in learning_rate; without its correction it never vanishes",
        "a draw costs": "thin batches' gradients and Hessian-vector products",
        "memory": "seven vectors of the parameters",
        "choose it": "minibatches, and scales that differ",
    },
    notes="Exact for no target at a fixed step; the bias vanishes with the step (first order). "
    "With correction = false it does not: small steps then sample a law proportional to p / G in "
    "one dimension. A draw costs thin gradients and Hessian-vector products of a batch. With few "
    "rows and full batches V is small near a mode and steps are long there: prefer sgld.",
)
def psgld(options: PSGLDOptions) -> PSGLD:
    """The backend of these options."""
    return PSGLD(**dict(options))
