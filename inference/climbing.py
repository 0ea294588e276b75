"""L-BFGS up a log density, with a line search that goes down by no more than rounding.

It begins from an inverse curvature that is given, for where widths differ by orders it would need
far more steps than it remembers to find out. The program has the density in it once, and little
else: to compile it is most of a climb for a small network, and takes about three times as long with
optax's zoom, which has the density several times over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

MEMORY = 10
"""Steps that L-BFGS remembers."""

MOST_EVALUATIONS = 20
"""Of one line search."""

LOWER = 1e-4
"""Share of the drop that the slope promises which a step must keep (Nocedal & Wright, eq. 3.6a)."""

FLATTER = 0.9
"""Share of the slope that may be left at its end (eq. 3.6b)."""

NOISE = 10.0
"""Rounding errors by which a value may differ from what it should be: sums over rows."""

WITHIN = 0.1
"""Least distance of a trial from the ends of its interval, in lengths of that."""


class Search(NamedTuple):
    """Where a climb is.

    Attributes:
        u: position ``(dim,)``.
        value: of minus the log density there.
        gradient: of that ``(dim,)``.
        moves: the last steps, newest last ``(memory, dim)``; 0 where there are none yet.
        turns: changes of the gradient over them ``(memory, dim)``.
        scaled: H times those, H the inverse curvature that is given; without the last of them.
        pull: H times the gradient where the last step began ``(dim,)``.
        resting: another step gains less than rounding, or none was found even along the gradient.
    """

    u: Array
    value: Array
    gradient: Array
    moves: Array
    turns: Array
    scaled: Array
    pull: Array
    resting: Array


class _Point(NamedTuple):
    """A length of step, and the loss there: value, slope along the direction, gradient."""

    t: Array
    value: Array
    slope: Array
    gradient: Array


class _Line(NamedTuple):
    """A line search: a minimum is between ``low`` and ``high``, or beyond ``low`` yet."""

    low: _Point
    high: _Point
    trial: Array
    done: Array
    evaluations: Array


def begin(u: Array, value: Array, gradient: Array, memory: int = MEMORY) -> Search:
    """A climb that remembers nothing yet.

    Args:
        u: position ``(dim,)``.
        value: of minus the log density there.
        gradient: of that ``(dim,)``.
        memory: steps that it will remember.
    """
    empty = jnp.zeros((memory, u.size), u.dtype)
    none = jnp.zeros_like(u)
    return Search(u, value, gradient, empty, empty, empty, none, jnp.asarray(False))


def climb_step(
    density: Callable[[Array], Array], search: Search, inverse: Callable[[Array], Array]
) -> tuple[Search, Array]:
    """One step; traced. Where no step is found the climb stays, and forgets.

    Args:
        density: the log density.
        search: where the climb is.
        inverse: about the inverse curvature of minus the log density times a vector ``(dim,)``.

    Returns:
        Where it is then, and gradients taken.
    """

    def loss(u: Array) -> tuple[Array, Array]:
        return jax.value_and_grad(lambda v: -density(v))(u)

    pull = inverse(search.gradient)
    known = search.moves[-1] @ search.turns[-1] > 0
    scaled = jnp.where(known, _pushed(search.scaled, pull - search.pull), 0.0)
    direction, gain = _newton(search, pull, scaled)
    rounding = jnp.finfo(gain.dtype).eps * jnp.abs(search.value)
    settled = search.resting | (gain < rounding)
    line = _line_search(loss, search, direction, settled)
    low = line.low
    # Nearer than rounding any step passes, and leads nowhere.
    moved = (low.t > 0) & (line.done | (low.value < search.value))
    move, turn = low.t * direction, low.gradient - search.gradient
    # Curvature along a step that ended still steep may be negative, and spoils what is remembered.
    keep = line.done & moved
    moves = jnp.where(keep, _pushed(search.moves, move), 0.0)
    turns = jnp.where(keep, _pushed(search.turns, turn), 0.0)
    resting = settled | (~moved & ~known)
    u = jnp.where(moved, search.u + move, search.u)
    value = jnp.where(moved, low.value, search.value)
    gradient = jnp.where(moved, low.gradient, search.gradient)
    made = Search(u, value, gradient, moves, turns, scaled, pull, resting)
    return made, line.evaluations


def _pushed(known: Array, new: Array) -> Array:
    return jnp.concatenate([known[1:], new[None]])


def _newton(search: Search, pull: Array, scaled: Array) -> tuple[Array, Array]:
    """Where L-BFGS would go ``(dim,)``, and what it gains if the density is as it remembers.

    The two-loop recursion (Nocedal & Wright 2006, algorithm 7.4) from a multiple of H, of which
    products with the gradient and with its changes are enough: it is applied once a step. Without
    memory the step is at most 1 long in that metric.
    """
    products = jnp.sum(search.moves * search.turns, axis=1)
    weights = jnp.where(products > 0, 1.0 / products, 0.0)

    def newest_first(
        carry: tuple[Array, Array], pair: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        q, r = carry
        s, y, z, weight = pair
        share = weight * (s @ q)
        return (q - share * y, r - share * z), share

    def oldest_first(r: Array, pair: tuple[Array, ...]) -> tuple[Array, None]:
        s, y, share, weight = pair
        return r + (share - weight * (y @ r)) * s, None

    pairs = (search.moves, search.turns, scaled, weights)
    start = (search.gradient, pull)
    (_, r), shares = jax.lax.scan(newest_first, start, pairs, reverse=True)
    fresh = products[-1] <= 0
    scale = products[-1] / jnp.where(fresh, 1.0, search.turns[-1] @ scaled[-1])
    r = jnp.where(fresh, 1.0, scale) * r
    r, _ = jax.lax.scan(oldest_first, r, (search.moves, search.turns, shares, weights))
    gain = 0.5 * (search.gradient @ r)
    longest = jnp.where(fresh, jnp.minimum(1.0, (2.0 * gain) ** -0.5), 1.0)
    return -longest * r, gain


def _line_search(
    loss: Callable[[Array], tuple[Array, Array]], search: Search, direction: Array, settled: Array
) -> _Line:
    """A length that lowers the loss enough and leaves it flat enough: weak Wolfe conditions.

    One evaluation a turn: too high a trial bounds the interval from above, too steep a one from
    below, and the next is the minimum of the cubic between, or twice as far while nothing bounds it
    (Nocedal & Wright 2006, section 3.5, in the one loop of Lewis & Overton 2013, algorithm 2.6).
    Where values differ by rounding alone slopes decide (Hager & Zhang 2005, eq. 4.1).
    """
    start = _Point(
        jnp.zeros((), search.u.dtype), search.value, search.gradient @ direction, search.gradient
    )
    possible = ~settled & (start.slope < 0)
    noise = NOISE * jnp.finfo(search.value.dtype).eps * jnp.abs(start.value)

    def turn(line: _Line) -> _Line:
        t = line.trial
        value, gradient = loss(search.u + t * direction)
        here = _Point(t, value, gradient @ direction, gradient)
        drop = value <= start.value + LOWER * t * start.slope
        level = (value <= start.value + noise) & (here.slope <= (2 * LOWER - 1) * start.slope)
        usable = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient)) & (drop | level)
        steep = here.slope < FLATTER * start.slope
        low = _chosen(usable, here, line.low)
        high = _chosen(usable, line.high, here)
        trial = jnp.where(jnp.isinf(high.t), 2.0 * t, _between(low, high))
        return _Line(low, high, trial, usable & ~steep, line.evaluations + 1)

    def going(line: _Line) -> Array:
        return ~line.done & (line.evaluations < MOST_EVALUATIONS) & possible

    nowhere = _Point(jnp.full_like(start.t, jnp.inf), start.value, start.slope, start.gradient)
    whole = jnp.ones_like(start.t)
    none = jnp.zeros((), jnp.result_type(int))
    return jax.lax.while_loop(going, turn, _Line(start, nowhere, whole, jnp.asarray(False), none))


def _between(low: _Point, high: _Point) -> Array:
    """The minimum of the cubic through two values and slopes, the middle where it has none."""
    width = high.t - low.t
    a = low.slope + high.slope - 3.0 * (high.value - low.value) / width
    root = jnp.sqrt(a * a - low.slope * high.slope)
    share = 1.0 - (high.slope + root - a) / (high.slope - low.slope + 2.0 * root)
    share = jnp.where(jnp.isfinite(share), share, 0.5)
    return low.t + jnp.clip(share, WITHIN, 1.0 - WITHIN) * width


def _chosen(first: Array, a: _Point, b: _Point) -> _Point:
    return jax.tree.map(lambda x, y: jnp.where(first, x, y), a, b)


def ascend(
    density: Callable[[Array], Array],
    u: Array,
    steps: int,
    inverse: Callable[[Array], Array] = lambda v: v,
) -> tuple[Array, Array]:
    """So many steps from a position, or to where the climb rests; traced.

    Args:
        density: the log density.
        u: position ``(dim,)``.
        steps: of L-BFGS.
        inverse: as for :func:`climb_step`.

    Returns:
        The last position, and gradients taken.
    """
    value, gradient = jax.value_and_grad(lambda v: -density(v))(u)

    def one(carry: tuple[Search, Array, Array]) -> tuple[Search, Array, Array]:
        search, done, spent = carry
        search, used = climb_step(density, search, inverse)
        return search, done + 1, spent + used

    def going(carry: tuple[Search, Array, Array]) -> Array:
        return (carry[1] < steps) & ~carry[0].resting

    none = jnp.zeros((), jnp.result_type(int))
    begun = begin(u, value, gradient)
    search, _, spent = jax.lax.while_loop(going, one, (begun, none, none + 1))
    return search.u, spent
