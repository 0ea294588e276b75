"""Weights of sequential Monte Carlo: how far to temper, what that adds to log Z, who survives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from blackjax.smc import resampling, solver
from blackjax.smc.ess import ess_solver
from jax import Array
from jax.scipy.special import logsumexp

from bnnzoo.models.leaf import Leaf

HALVINGS = 50
"""Of the interval in which :func:`largest_step` looks: to 1e-15 of it."""


class Reweighted(NamedTuple):
    """A population taken from one inverse temperature to the next.

    Attributes:
        beta: the next inverse temperature.
        log_increment: estimate of log(Z_next / Z), the log mean of the incremental weights.
        weights: normalised ``(particle,)``; 0 where the density ratio is not finite.
        ess: effective number of particles, (sum w)^2 / sum w^2.
    """

    beta: Array
    log_increment: Array
    weights: Array
    ess: Array


def reweight(
    log_ratio: Array,
    beta: Array,
    target_ess: Leaf,
    jump: Array,
    longest: Leaf = 1.0,
    planned: tuple[Array, Array] | None = None,
) -> Reweighted:
    """Weights (pi_next / pi)^(next - beta), the next beta as large as ``target_ess`` allows.

    Particles whose ratio is not finite weigh nothing; ``target_ess`` is the share of the others
    that must count, or else no beta would do where most of the prior has no likelihood. With every
    ratio not finite all weights are NaN and the increment is minus infinity.

    Args:
        log_ratio: log target - log prior of each particle ``(particle,)``.
        beta: inverse temperature the particles are equally weighted at.
        target_ess: effective share of particles to keep, in (0, 1).
        jump: go to 1 at once, whatever is left.
        longest: most that beta may rise otherwise.
        planned: whether the next beta is settled, and which it is; it then is no function of these
            particles, whose mean weight is unbiased.
    """
    alive = jnp.isfinite(log_ratio)
    count = alive.sum()
    top = jnp.max(jnp.where(alive, log_ratio, -jnp.inf))
    below = jnp.where(alive, log_ratio - top, -jnp.inf)
    rest = 1.0 - beta
    share = target_ess * jnp.maximum(count, 1) / log_ratio.size
    delta = ess_solver(lambda ratios: ratios, below, share, rest, solver.dichotomy)
    delta = jnp.minimum(delta, longest)
    arrived = jump | (delta >= rest)
    delta = jnp.where(arrived, rest, delta)
    if planned is not None:
        settled, next_beta = planned
        arrived = jnp.where(settled, next_beta >= 1.0, arrived)
        delta = jnp.where(settled, next_beta - beta, delta)
    log_weights = jnp.where(alive, delta * below, -jnp.inf)
    total = logsumexp(log_weights)
    weights = jnp.exp(log_weights - total)
    increment = total + delta * top - jnp.log(log_ratio.size)
    return Reweighted(
        jnp.where(arrived, 1.0, beta + delta),
        jnp.where(count > 0, increment, -jnp.inf),
        weights,
        1.0 / jnp.sum(weights**2),
    )


def largest_step(effective: Callable[[Array], Array], rest: Array, target: Array) -> Array:
    """The largest step in [0, ``rest``] that leaves ``target`` effective, by bisection.

    Args:
        effective: effective sample size after a step.
        rest: most that is left to go.
        target: least effective sample size; where no step leaves it the step is 0 or all but 0.
    """

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        enough = effective(middle) >= target
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low, _ = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(rest), rest))
    return jnp.where(effective(rest) >= target, rest, low)


def bridged(before: Array, after: Array) -> Array:
    """Log Z_next / Z by the optimal bridge between two populations (Meng & Wong 1996, sec. 3).

    Of the populations' own weights it takes those where the two overlap, so that it is not ruled by
    the tails of either, as the mean weight is looking forth and its inverse's looking back.

    Args:
        before: log weights pi_next / pi of particles of pi ``(particle,)``; those that are not
            finite are outside of what both can be compared on, and left out.
        after: the same of particles of pi_next, all finite.
    """
    alive = jnp.isfinite(before)
    count = alive.sum()
    share = jnp.log(count / after.size)
    safe = jnp.where(alive, before, 0.0)
    low = jnp.minimum(jnp.min(jnp.where(alive, before, jnp.inf)), after.min())
    high = jnp.maximum(jnp.max(jnp.where(alive, before, -jnp.inf)), after.max())

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        forth = jnp.where(alive, jax.nn.sigmoid(safe - middle - share), 0.0).sum()
        more = forth > jax.nn.sigmoid(middle + share - after).sum()
        return jnp.where(more, middle, low), jnp.where(more, high, middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (low, high))
    return 0.5 * (low + high) + jnp.log(count / before.size)


def effective_size(log_weights: Array) -> Array:
    """(sum w)^2 / sum w^2 of weights given as logarithms, in any shape; 0 where none is above 0."""
    squared = jnp.exp(2.0 * logsumexp(log_weights) - logsumexp(2.0 * log_weights))
    return jnp.where(jnp.isfinite(squared), squared, 0.0)


def resample(key: Array, weights: Array, count: int | None = None) -> Array:
    """Parents of the next population ``(particle,)``, in order: siblings stay side by side.

    Systematic resampling. Rounding may give a place to a particle of weight 0 at either end; the
    heaviest takes it.

    Args:
        key: typed key.
        weights: normalised.
        count: of parents; as many as weights if not given.
    """
    parents = resampling.systematic(key, weights, weights.size if count is None else count)
    return jnp.where(weights[parents] > 0, parents, jnp.argmax(weights))


def spreads(u: Array, weights: Array) -> Array:
    """Squared scale of each coordinate ``(dim,)``: the variance, were it normal.

    From the mean absolute deviation, since one far draw of a heavy-tailed prior would make a
    variance useless as a metric. Floored at 1e-6 of the largest, for coordinates a resampling has
    made equal.
    """
    weights = weights[:, None]
    u = jnp.where(weights > 0, u, 0.0)  # a particle of weight 0 may be infinite
    mean = jnp.sum(weights * u, axis=0)
    squared = 0.5 * jnp.pi * jnp.sum(weights * jnp.abs(u - mean), axis=0) ** 2
    return jnp.maximum(squared, 1e-6 * squared.max())
