"""ChEES: the length of trajectories, tuned during warm-up by one chain alone.

Hoffman, Radul & Sountsov (2021) choose the length that most changes the squared distance from the
posterior's centre, C = E[(|x' - m|^2 - |x - m|^2)^2] / 4, over a proposal x' from x. Here distances
are measured in the metric, where (x' - m) . dx'/dt is the plain product of x' - m and the momentum
at the end of the trajectory.

The paper's many chains share one length, m is their mean, and a gradient is an average over them.
Our chains know nothing of each other: m is the running mean of the chain's own proposals, and a
gradient comes from one trajectory. It is noisier, so Adam averages over more steps, and each chain
keeps a length of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from bnnzoo.inference.backend import Stage
from bnnzoo.models.leaf import Leaf

START = 0.5
"""First length, in units of the metric. It must be short: where trajectories turn round before they
end the criterion has further, lower maxima, and far out no slope (on Gaussians with lengths drawn
from 0 to twice their mean, the first maximum is at 1.12, the next minimum at 1.93)."""

RATE = 0.025
"""Adam's first step in the logarithm of the length: the paper's."""

DELAY = 50.0
"""Steps after which Adam's step falls, as n^-0.5: one chain's gradients would otherwise carry the
length over the minimum beyond the best one."""

MEMORY = 0.99
"""Adam's memory of squared gradients; the paper's 0.95 is for averages over chains. A step divided
by the size of its own gradient climbs to where gradients are balanced in sign, not in mean."""

MOST = 2.0
"""Greatest gradient, in units of its root mean square: its tails are heavy."""

FORGETTING = 0.75
"""The n-th step weighs n^-0.75 in averages of length and position, so that early ones fade."""


class Length(NamedTuple):
    """What is known so far of the best length.

    Attributes:
        log_length: of the next trajectory, before jitter, in units of the metric.
        log_average: average over steps, which sampling uses.
        square: Adam's average of squared gradients.
        centre: average of the proposals ``(dim,)``.
        updates: number of gradients taken in.
        windows: number of slow windows ended.
    """

    log_length: Array
    log_average: Array
    square: Array
    centre: Array
    updates: Array
    windows: Array


def init(position: Array, start: Leaf = START) -> Length:
    """Before the first trajectory.

    Args:
        position: where the chain starts ``(dim,)``.
        start: first length, in units of the metric.
    """
    zero = jnp.zeros((), position.dtype)
    log_start = jnp.log(start) + zero
    return Length(log_start, log_start, zero, position, zero, jnp.zeros((), jnp.int32))


def length(state: Length, stage: Array) -> Array:
    """The length to use: the averaged one once sampling."""
    return jnp.exp(jnp.where(stage == Stage.SAMPLE, state.log_average, state.log_length))


def gradient(
    centre: Array,
    before: Array,
    proposal: Array,
    momentum: Array,
    travelled: Array,
    metric: Array,
) -> Array:
    """One trajectory's estimate of dC / d log length (Hoffman et al. 2021, sec. 3).

    Args:
        centre: the posterior's mean, as far as it is known ``(dim,)``.
        before: position the trajectory started from ``(dim,)``.
        proposal: position it ended in ``(dim,)``.
        momentum: momentum there ``(dim,)``.
        travelled: its length, in units of the metric.
        metric: inverse mass matrix, ``(dim,)`` or ``(dim, dim)``.
    """
    gain = _square(proposal - centre, metric) - _square(before - centre, metric)
    return travelled * gain * jnp.dot(proposal - centre, momentum)


def update(
    state: Length,
    stage: Array,
    before: Array,
    proposal: Array,
    momentum: Array,
    acceptance: Array,
    travelled: Array,
    metric: Array,
    bounds: tuple[Array, Array],
    start: Leaf = START,
    restarts: Leaf = 1,
) -> Length:
    """After one trajectory; nothing changes while sampling.

    A trajectory that diverged has an acceptance of 0 or a gradient that is not finite, and counts
    for nothing. A new metric is a new unit of length, so that the search starts again; not after
    the last window, whose metric is much like the one before and leaves few steps.

    Args:
        state: so far.
        stage: of this step.
        before: position the trajectory started from ``(dim,)``.
        proposal: position it ended in, accepted or not.
        momentum: momentum there.
        acceptance: probability that it is accepted.
        travelled: its length, in units of the metric.
        metric: inverse mass matrix it was made with, ``(dim,)`` or ``(dim, dim)``.
        bounds: least and greatest length worth having.
        start: length to start again from.
        restarts: number of slow windows after which it does.
    """
    slope = acceptance * gradient(state.centre, before, proposal, momentum, travelled, metric)
    counts = (stage != Stage.SAMPLE) & jnp.isfinite(slope) & (acceptance > 0)
    counts &= jnp.isfinite(proposal).all()

    updates = state.updates + 1.0
    square = MEMORY * state.square + (1.0 - MEMORY) * slope**2
    scale = jnp.sqrt(square / (1.0 - MEMORY**updates))
    counts &= jnp.isfinite(scale) & (scale > 0)
    rate = RATE * jnp.minimum(1.0, jnp.sqrt(DELAY / updates))
    log_length = state.log_length + rate * jnp.clip(slope / scale, -MOST, MOST)
    log_length = jnp.clip(log_length, jnp.log(bounds[0]), jnp.log(bounds[1]))
    weight = updates**-FORGETTING
    moved = Length(
        log_length,
        state.log_average + weight * (log_length - state.log_average),
        square,
        state.centre + weight * (proposal - state.centre),
        updates,
        state.windows,
    )
    kept = _choose(counts, moved, state)
    ended = stage == Stage.SLOW_END
    again = init(kept.centre, start)._replace(windows=kept.windows)
    kept = _choose(ended & (kept.windows < restarts), again, kept)
    return kept._replace(windows=kept.windows + ended)


def _square(difference: Array, metric: Array) -> Array:
    """Squared length in the metric."""
    if metric.ndim == 1:
        return jnp.sum(difference**2 / metric)
    return jnp.dot(difference, jnp.linalg.solve(metric, difference))


def _choose(condition: Array, one: Length, other: Length) -> Length:
    return Length(*(jnp.where(condition, a, b) for a, b in zip(one, other, strict=True)))
