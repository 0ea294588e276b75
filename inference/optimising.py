"""Optimisation that outlives a loss that is not finite: what ensembles, SWAG and dropout share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from bnnzoo.errors import setting
from bnnzoo.inference.backend import Flag
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior

RECOVERY = 1.02
"""A halved step has its full length again after 35 good ones."""

LEFT_NATS = 0.5
"""A gain still in reach above which an optimisation counts as unfinished: posterior draws lie half
a nat a parameter below the mode."""

STARTS = 10
"""Draws from the prior that are tried for a start of finite loss."""

Loss = Callable[[Array, Array], Array]
"""Unconstrained vector ``(dim,)`` and typed key -> loss in nats, of all rows or estimated."""


class Descent(NamedTuple):
    """Where an optimisation stands.

    Attributes:
        u: the point to evaluate next ``(dim,)``.
        good: the last point whose loss and gradient were finite ``(dim,)``.
        optimiser: state of the optax transformation.
        caution: share of the step that is taken.
        refused: steps that were not taken.
    """

    u: Array
    good: Array
    optimiser: Any
    caution: Array
    refused: Array


def start(optimiser: optax.GradientTransformation, u: Array) -> Descent:
    """An optimisation that begins at ``u``."""
    one = jnp.ones((), u.dtype)
    return Descent(u, u, optimiser.init(u), one, jnp.zeros_like(one))


def advance(
    optimiser: optax.GradientTransformation, here: Descent, loss: Loss, rate: Leaf, key: Array
) -> tuple[Descent, Array]:
    """One step; where loss or gradient is not finite, back to the last good point instead.

    From there steps are half as long, and grow again while all goes well: the gradient that led out
    is the same as before.

    Args:
        optimiser: turns gradients into directions.
        here: where the optimisation stands.
        loss: to be lowered.
        rate: length of the step.
        key: typed key, of the loss.

    Returns:
        Where it stands then, and the loss at ``here.u``.
    """
    value, gradient = jax.value_and_grad(loss)(here.u, key)
    finite = jnp.isfinite(value) & jnp.isfinite(gradient).all()
    direction, moved = optimiser.update(jnp.where(finite, gradient, 0.0), here.optimiser)
    caution = jnp.where(finite, jnp.minimum(here.caution * RECOVERY, 1.0), here.caution / 2)
    made = Descent(
        u=jnp.where(finite, here.u - rate * caution * direction, here.good),
        good=jnp.where(finite, here.u, here.good),
        optimiser=jax.tree.map(lambda a, b: jnp.where(finite, a, b), moved, here.optimiser),
        caution=caution,
        refused=here.refused + jnp.where(finite, 0.0, 1.0).astype(here.refused.dtype),
    )
    return made, value


def settle(here: Descent, loss: Loss, key: Array) -> Array:
    """The point an optimisation has come to: the last good one where the next is not finite."""
    return jnp.where(jnp.isfinite(loss(here.u, key)), here.u, here.good)


def cosine(done: Array, steps: Leaf, last: float = 0.0) -> Array:
    """Share of the first step's length: from 1 along a half cosine to ``last`` after ``steps``."""
    progress = jnp.clip(done / steps, 0.0, 1.0)
    return last + (1.0 - last) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def minimise(
    loss: Loss, u: Array, steps: Leaf, learning_rate: Leaf, key: Array
) -> tuple[Array, Array]:
    """Adam from ``u``, its step falling to nothing along a cosine.

    Args:
        loss: to be lowered.
        u: the start ``(dim,)``.
        steps: their number.
        learning_rate: the first step's, unconstrained units.
        key: typed key, of the losses.

    Returns:
        The last point ``(dim,)``, and the number of steps that were refused.
    """
    adam = optax.scale_by_adam()

    def body(i: Array, here: Descent) -> Descent:
        rate = learning_rate * cosine(i.astype(u.dtype), steps)
        return advance(adam, here, loss, rate, jax.random.fold_in(key, i))[0]

    here = jax.lax.fori_loop(0, steps, body, start(adam, u))
    return settle(here, loss, jax.random.fold_in(key, steps)), here.refused


def nats_left(loss: Callable[[Array], Array], u: Array) -> Array:
    """What one exact step of steepest descent would gain: |g|^4 / (2 |g . H g|), in nats.

    A lower bound of what is left where the loss is nearly quadratic; Hessian times gradient costs
    two gradients.

    Args:
        loss: of all rows.
        u: where the optimisation ended ``(dim,)``.
    """
    gradient = jax.grad(loss)(u)
    _, curved = jax.jvp(jax.grad(loss), (u,), (gradient,))
    squared = jnp.sum(gradient**2)
    curvature = jnp.abs(jnp.sum(gradient * curved))
    return jnp.where(squared > 0, 0.5 * squared**2 / jnp.where(squared > 0, curvature, 1.0), 0.0)


def finite_start(posterior: Posterior, key: Array) -> Array:
    """The first of some draws from the prior that has positive density; the last if none has.

    Args:
        posterior: the target.
        key: typed key.
    """

    def unusable(carry: tuple[Array, Array]) -> Array:
        tried, u = carry
        return (tried < STARTS) & ~jnp.isfinite(posterior.log_density(u))

    def again(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        tried, _ = carry
        return tried + 1, posterior.initial(jax.random.fold_in(key, tried))

    nowhere = jnp.full(posterior.dimension, jnp.nan, posterior.x.dtype)
    _, u = jax.lax.while_loop(unusable, again, (jnp.zeros((), jnp.int32), nowhere))
    return u


def log_joint(posterior: Posterior, u: Array, batch: Array | None = None) -> Array:
    """Joint density log p(y|w) / L + log p(w), whose maximum is the mode: no Jacobian and no T.

    The Jacobian belongs to coordinates of ours: without it the mode is that of the parameters as
    the model writes them. T scales the whole, so that a mode is one at every T.

    Args:
        posterior: the target.
        u: unconstrained vector ``(dim,)``.
        batch: row numbers, for an estimate from them; all rows if not given.
    """
    likelihood = posterior.log_likelihood(u, batch) / posterior.likelihood_temperature
    return likelihood + posterior.log_prior(u)


def untempered(posterior: Posterior) -> Posterior:
    """The same posterior at T = 1; L stays."""
    made = copy.copy(posterior)
    made.posterior_temperature = 1.0
    return made


def refused_flags(stats: dict[str, np.ndarray], rates: str) -> list[Flag]:
    """What the statistic ``refused`` of one chain says.

    Args:
        stats: with one entry a step, or an optimisation.
        rates: the options to lower.
    """
    refused = float(stats["refused"].sum())
    if refused == 0:
        return []
    message = (
        f"{refused:.0f} optimisation steps had a loss that is not finite and were not taken; "
        f"lower {rates}, or give {setting('inference', 'dtype', 'float64')}"
    )
    return [Flag("warning", message)]


def optimisation_flags(stats: dict[str, np.ndarray], steps: str, done: str = "draws") -> list[Flag]:
    """What the statistics ``refused`` and ``nats_left`` of one chain's optimisations say.

    Args:
        stats: one entry an optimisation.
        steps: the option that holds their number of steps.
        done: what one optimisation is, for the message.
    """
    found = refused_flags(stats, "learning_rate")
    left = stats["nats_left"]
    unfinished = ~(left <= LEFT_NATS)
    if unfinished.any():
        worst = float(np.max(left[np.isfinite(left)], initial=0.0))
        message = (
            f"{int(unfinished.sum())} of {left.size} {done} ended short of a mode, by {worst:.2g} "
            f"nats or more; raise {steps}, or batch_size where it is set"
        )
        found.append(Flag("unconverged", message))
    return found
