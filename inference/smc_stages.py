"""One stage of tempered sequential Monte Carlo: weigh, resample, move, and look back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from bnnzoo.inference.smc_moves import (
    Density,
    Moved,
    Rung,
    Trajectories,
    found_rung,
    move_all,
    unmoved,
)
from bnnzoo.inference.smc_weights import Reweighted, bridged, resample, reweight, spreads
from bnnzoo.models.leaf import Leaf

GAP = 1.5
"""A stage is too long whose ``gap`` is more than that many standard deviations of its mean weight,
sqrt(1 / ess - 1 / particles): twice those of the gap itself, which are 0.8 of them where nothing is
amiss."""

MOST_TRIES = 8
"""Lengths of one stage, each half the one before."""


class Sampling(NamedTuple):
    """How a population goes from one inverse temperature to the next.

    Attributes:
        target_ess: share of the particles that must stay effective.
        trajectories: how they move.
        moves: trajectories in a round.
        at_once: particles whose gradients are in memory at the same time.
    """

    target_ess: Leaf
    trajectories: Trajectories
    moves: int
    at_once: int


class Tempering(NamedTuple):
    """A population at its next inverse temperature.

    Attributes:
        weighed: how far it went, and what that adds to log Z.
        rung: how it moved.
        parents: of the particles ``(particle,)``.
        moved: the particles.
        gap: what the stage adds to log Z by a bridge from where the particles are now to where they
            were, less what it adds by the weights before they moved and what a log mean is low by.
            Nothing but noise is left of populations that follow the temperature. A part of the
            next density in which no particle was is not in the weights; once some moved there, it
            is in the bridge.
        n_steps: gradients of all tries.
        tries: lengths tried.
        longest: length of the next to try.
    """

    weighed: Reweighted
    rung: Rung
    parents: Array
    moved: Moved
    gap: Array
    n_steps: Array
    tries: Array
    longest: Array


def next_stage(
    path: Callable[[Array], Density],
    height: Density,
    u: Array,
    key: Array,
    *,
    sampling: Sampling,
    beta: Array,
    step_size: Array,
    jump: Array,
    planned: Rung | None = None,
) -> Tempering:
    """Temper as far as particles follow; traced.

    A stage goes as far as the weights allow, and half as far until its gap is one of chance.

    Args:
        path: log density at an inverse temperature.
        height: log of the target's density over the prior's.
        u: particles ``(particle, dim)``, equally weighted at ``beta``.
        key: typed key.
        sampling: how far to go and how to move.
        beta: inverse temperature now.
        step_size: of the first trajectories.
        jump: go to the target at once, whatever is left.
        planned: where to go and how to move, if that is settled.
    """
    key_parents, key_moves = jax.random.split(key)
    particles = u.shape[0]
    ratios = jax.lax.map(height, u, batch_size=min(sampling.at_once, particles))
    settled = jnp.zeros((), bool) if planned is None else planned.settled

    def too_long(stage: Tempering) -> Array:
        torn = stage.gap > GAP * jnp.sqrt(1.0 / stage.weighed.ess - 1.0 / particles)
        return torn & ~settled & ~jump & (stage.tries < MOST_TRIES)

    def attempt(stage: Tempering) -> Tempering:
        fixed = None if planned is None else (settled, planned.beta)
        weighed = reweight(ratios, beta, sampling.target_ess, jump, stage.longest, fixed)
        rung = found_rung(weighed.beta, step_size, spreads(u, weighed.weights))
        if planned is not None:
            rung = planned.unless_settled(rung)
        parents = resample(key_parents, weighed.weights).astype(jnp.int32)
        moved = move_all(
            path(weighed.beta),
            height,
            u[parents],
            ratios[parents],
            jax.random.fold_in(key_moves, stage.tries),
            trajectories=sampling.trajectories,
            rung=rung,
            count=sampling.moves,
            at_once=sampling.at_once,
        )
        rise = weighed.beta - beta
        gap = bridged(rise * ratios, rise * moved.heights) - weighed.log_increment
        gap = gap - 0.5 * (1.0 / weighed.ess - 1.0 / particles)
        return Tempering(
            weighed,
            rung,
            parents,
            moved,
            jnp.where(jnp.isfinite(gap), gap, 0.0),
            stage.n_steps + moved.n_steps,
            stage.tries + 1,
            0.5 * rise,
        )

    zero, none = jnp.zeros_like(beta), jnp.zeros((), jnp.int32)
    nowhere = Tempering(
        Reweighted(zero, zero, jnp.zeros_like(ratios), zero),
        found_rung(beta, step_size, jnp.zeros_like(u[0])),
        jnp.arange(particles, dtype=jnp.int32),
        unmoved(u, ratios, step_size),
        jnp.full_like(zero, jnp.inf),
        none,
        none,
        jnp.ones_like(zero),
    )
    return jax.lax.while_loop(lambda stage: too_long(stage) | (stage.tries == 0), attempt, nowhere)
