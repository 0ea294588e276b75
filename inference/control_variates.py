"""Gradients of less noise: a full one at a centre, and a batch's difference from there."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from bnnzoo.models.posterior import Posterior

CLIMB_RATE = 0.01
"""Adam's first step towards the centre, unconstrained units."""

CLIMB_HALVED = 20.0
"""Steps after which it is half of that; it falls as 1 / t, so that the centre settles."""


class Centre(NamedTuple):
    """Where the full gradient is known, and how it is being looked for.

    Attributes:
        position: ``(dim,)``.
        gradient: of the full log density there ``(dim,)``.
        optimiser: Adam's state.
        taken: its steps so far.
    """

    position: Array
    gradient: Array
    optimiser: Any
    taken: Array


def begin(posterior: Posterior, u: Array) -> Centre:
    """A centre at ``u``, with its gradient; traced.

    Args:
        posterior: the target.
        u: unconstrained position ``(dim,)``.
    """
    gradient = jax.grad(posterior.log_density)(u)
    adam = optax.scale_by_adam().init(u)
    return Centre(u, gradient, adam, jnp.zeros((), u.dtype))


def climb(posterior: Posterior, centre: Centre) -> Centre:
    """One full-batch step of Adam up the log density; traced.

    Args:
        posterior: the target.
        centre: the centre so far.
    """
    uphill, optimiser = optax.scale_by_adam().update(centre.gradient, centre.optimiser)
    rate = CLIMB_RATE / (1.0 + centre.taken / CLIMB_HALVED)
    position = centre.position + rate * uphill
    gradient = jax.grad(posterior.log_density)(position)
    moved = Centre(position, gradient, optimiser, centre.taken + 1.0)
    # Where the density ends the centre stays: an estimate about NaN is NaN for ever.
    return jax.tree.map(
        lambda new, old: jnp.where(jnp.isfinite(gradient).all(), new, old), moved, centre
    )


def estimate(posterior: Posterior, centre: Centre, u: Array, batch: Array) -> Array:
    """Unbiased estimate of the gradient of the log density at ``u`` ``(dim,)``; traced.

    Args:
        posterior: the target.
        centre: where the full gradient is known.
        u: unconstrained position ``(dim,)``.
        batch: row numbers.

    Source:
        Baker, Fearnhead, Fox & Nemeth (2019), Control Variates for Stochastic Gradient MCMC, eq. 5.
    """
    gradient = jax.grad(posterior.log_density)
    here, there = jax.vmap(gradient, (0, None))(jnp.stack([u, centre.position]), batch)
    return centre.gradient + here - there
