"""Where a chain starts: the best of several draws from the prior."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from bnnzoo.models.posterior import Posterior

CANDIDATES = 10


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
