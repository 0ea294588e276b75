"""Where a chain starts: the best of several draws from the prior, after a short climb.

A draw from a network's prior fits nothing, and a chain that falls from there at full speed may be
caught by the first basin it meets: on `uci/yacht` with heteroscedastic noise chains from the prior
were reported stuck at an acceptance of 0.36, and reach 0.9 from here. A few hundred steps of Adam
cost as much as a few trajectories.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from bnnzoo.models.posterior import Posterior

CANDIDATES = 10

CLIMB_STEPS = 300

CLIMB_RATE = 0.02
"""Adam's step in unconstrained units: a start moves by at most ``CLIMB_STEPS`` of them."""


def find_start(posterior: Posterior, key: Array) -> tuple[Array, Array]:
    """The candidate of highest log density among prior draws; traced.

    Args:
        posterior: the target.
        key: typed key.

    Returns:
        Unconstrained position ``(dim,)``, and its log density (not finite where no candidate has
        positive density).
    """

    def candidate(own: Array) -> tuple[Array, Array]:
        u = posterior.initial(own)
        value = posterior.log_density(u)
        return u, jnp.where(jnp.isfinite(value), value, -jnp.inf)

    u, value = jax.lax.map(candidate, jax.random.split(key, CANDIDATES))
    best = jnp.argmax(value)
    return u[best], value[best]


def climb(posterior: Posterior, u: Array) -> Array:
    """From ``u`` up the log density by Adam, to the point of highest likelihood on the way; traced.

    Of highest likelihood, not density: in a hierarchy the density is highest in the neck of the
    funnel, where no chain should start, and there the likelihood gains nothing.
    """
    optimiser = optax.adam(CLIMB_RATE)

    def loss(u: Array) -> tuple[Array, Array]:
        return -posterior.log_density(u), posterior.log_likelihood(u)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        u, state, best, highest = carry
        (_, likelihood), gradient = jax.value_and_grad(loss, has_aux=True)(u)
        better = likelihood > highest  # False for NaN
        best = jnp.where(better, u, best)
        highest = jnp.where(better, likelihood, highest)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
        update, state = optimiser.update(gradient, state)
        return (u + update, state, best, highest), None

    start = (u, optimiser.init(u), u, jnp.asarray(-jnp.inf, u.dtype))
    (_, _, best, _), _ = jax.lax.scan(step, start, None, CLIMB_STEPS)
    return best
