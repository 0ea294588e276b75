"""Where a chain starts: the best of a few short climbs from draws of the prior.

A draw from a network's prior fits nothing, and a chain that falls from there at full speed may be
caught by the first basin it meets: on `uci/yacht` with heteroscedastic noise chains from the prior
were reported stuck at an acceptance of 0.36, and reach 0.9 from here. A few hundred steps of Adam
cost as much as a few trajectories; one climb that is caught itself is replaced by another.
"""

from __future__ import annotations

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from bnnzoo.errors import RunError
from bnnzoo.inference.processes import on_host
from bnnzoo.models import score
from bnnzoo.models.posterior import Posterior

CANDIDATES = 10
"""Draws from the prior that are looked at, for each attempt."""

CLIMBERS = 3
"""The best of them, each of which climbs."""

ATTEMPTS = 10
"""Sets of candidates that are drawn where none has positive density."""

CLIMB_STEPS = 300

CLIMB_RATE = 0.02
"""Adam's step in unconstrained units: a start moves by at most ``CLIMB_STEPS`` of them."""


def find_candidates(posterior: Posterior, key: Array) -> tuple[Array, Array]:
    """The candidates of highest log density among prior draws; traced.

    Args:
        posterior: the target.
        key: typed key.

    Returns:
        Unconstrained positions ``(climber, dim)``, best first, and their log densities, minus
        infinity where the density is not positive.
    """

    def candidate(own: Array) -> tuple[Array, Array]:
        u = posterior.initial(own)
        value = posterior.log_density(u)
        return u, jnp.where(jnp.isfinite(value), value, -jnp.inf)

    u, value = jax.lax.map(candidate, jax.random.split(key, CANDIDATES))
    best, index = jax.lax.top_k(value, CLIMBERS)
    return u[index], best


def climb_best(posterior: Posterior, u: Array) -> Array:
    """The end of highest likelihood of the climbs from ``u`` ``(climber, dim)``; traced."""
    ends, highest = jax.lax.map(lambda start: climb(posterior, start), u)
    return ends[jnp.argmax(highest)]


def climb(posterior: Posterior, u: Array) -> tuple[Array, Array]:
    """From ``u`` up the log density by Adam, to the point of highest likelihood on the way; traced.

    Of highest likelihood, not density: in a hierarchy the density is highest in the neck of the
    funnel, where no chain should start, and there the likelihood gains nothing.

    Returns:
        That point, and its log-likelihood (minus infinity where it was never finite).
    """
    optimiser = optax.adam(CLIMB_RATE)

    def loss(u: Array) -> tuple[Array, Array]:
        density, likelihood = posterior.log_densities(u)
        return -density, likelihood

    def step(carry: Any, _: None) -> tuple[Any, None]:
        u, state, best, highest = carry
        (negative, likelihood), gradient = jax.value_and_grad(loss, has_aux=True)(u)
        better = (likelihood > highest) & jnp.isfinite(negative)  # False for NaN
        best = jnp.where(better, u, best)
        highest = jnp.where(better, likelihood, highest)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
        update, state = optimiser.update(gradient, state)
        return (u + update, state, best, highest), None

    start = (u, optimiser.init(u), u, jnp.asarray(-jnp.inf, u.dtype))
    (_, _, best, highest), _ = jax.lax.scan(step, start, None, CLIMB_STEPS)
    return best, highest


# It runs once a chain and its random draws are long to compile: unoptimised, that takes half the
# time. Backends share both programs.
_find_candidates = jax.jit(find_candidates, compiler_options={"xla_backend_optimization_level": 0})
_climb_best = jax.jit(climb_best)

_TRACING = threading.Lock()
"""NumPyro's handlers are not safe in two threads, where chains look for their starts."""


def find_start(posterior: Posterior, key: Array, who: str) -> Array:
    """Where to begin: the end of the best climb from draws of the prior ``(dim,)``.

    Args:
        posterior: the target.
        key: typed key.
        who: asks, for the message.

    Raises:
        RunError: no draw has positive density; the site to blame is named.
    """
    for attempt in range(ATTEMPTS):
        own = jax.random.fold_in(key, attempt) if attempt else key
        u, value = _find_candidates(posterior, own)
        if np.isfinite(on_host(value)[0]):
            return _climb_best(posterior, u)
    with _TRACING:
        blamed = culprit(posterior, key)
    raise RunError(
        f"{who}: no starting point of positive density among the prior's draws: {blamed}"
    )


def culprit(posterior: Posterior, key: Array) -> str:
    """Which site has no positive density at a draw from the prior, in words.

    Args:
        posterior: the target.
        key: typed key.
    """
    u = posterior.initial(key)
    supply = score.from_vector(u, posterior.sites)
    seen = score.run(posterior.model, posterior.x, posterior.y, supply)
    for name, (fn, value, _) in seen.observed.items():
        if name in seen.factors:
            if not np.isfinite(fn.log_prob(value)).all():
                return f"the factor {name!r} is not finite"
            continue
        bad = ~np.isfinite(np.atleast_1d(fn.log_prob(value)))
        if bad.any():
            rows = int(bad.reshape(len(bad), -1).any(1).sum())
            family = type(score.base(fn)).__name__
            return (
                f"observed site {name!r} gives {rows} of {len(bad)} rows no density under its "
                f"{family}; check its support and scale"
            )
    for name, fn in seen.fns.items():
        if not np.isfinite(fn.log_prob(seen.values[name])).all():
            family = type(score.base(fn)).__name__
            return f"site {name!r} has no density under its own {family} prior"
    return "the sum over sites is not finite"
