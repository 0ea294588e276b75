"""Hamiltonian moves of the particles of sequential Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
from jax import Array

from bnnzoo.inference.precision import strongly_typed
from bnnzoo.models.leaf import Leaf

LOW_ACCEPTANCE = 0.5
"""Share of the target acceptance under which a population is moved again."""

STUCK_ACCEPTANCE = 0.2
"""Mean acceptance rate under which moves count as stuck."""

MOST_ROUNDS = 40
"""Rounds of moves of one population at most."""

FINER = 4
"""Steps of every second round are so many times shorter.

One step size does for all particles while they live at one scale. Where some have to go to a
smaller one (a learned noise that falls, a scale of a hierarchical prior), long steps are refused at
its door and accepted everywhere else: no acceptance rate shows it.
"""

DRIFT = 2.0
"""Standard errors by which heights may rise in a round of short steps: by the mean alone one
population in 44 rises more that has nowhere to go."""

MEMORY = 0.1
"""Most rank correlation of the particles' heights with those before the first round, or two of its
standard errors, 2 / sqrt(particles).

Where few particles at a time cross to where the next temperature wants them, their mean rises by
less in a round than its own error. It can be trusted once they have all been anywhere.
"""

FADING = 0.95
"""Of the memory two rounds ago, what is left where it still fades. In modes that no trajectory
joins it does not, and rounds would be for nothing."""

Density = Callable[[Array], Array]


class Trajectories(NamedTuple):
    """How particles move.

    Attributes:
        length: of a trajectory, in units of the metric.
        jitter: lengths are spread over ``length * (1 - jitter, 1 + jitter)``.
        max_steps: most leapfrog steps of one.
        target_acceptance: what the step size is steered to.
    """

    length: Leaf
    jitter: Leaf
    max_steps: Leaf
    target_acceptance: Leaf

    def leapfrogs(self, step_size: Array) -> tuple[Array, Array]:
        """Leapfrog steps of every trajectory, and the largest step that makes up its length.

        All particles take as many, so that none waits for another; jitter is in their step sizes,
        of which ``step_size`` is the upper bound.
        """
        longest = self.length * (1.0 + self.jitter)
        count = jnp.clip(jnp.ceil(longest / step_size), 1, self.max_steps)
        return count.astype(jnp.int32), jnp.minimum(step_size, longest / count)

    def move(
        self,
        density: Density,
        u: Array,
        key: Array,
        *,
        step_size: Array,
        steps: Array,
        metric: Array,
        count: Leaf,
    ) -> tuple[Array, Array, Array]:
        """One particle after ``count`` trajectories.

        A trajectory's step size is drawn without looking at the particle: each is reversible.

        Args:
            density: log density that the moves leave as it is.
            u: position ``(dim,)``.
            key: typed key.
            step_size: largest.
            steps: leapfrog steps of each.
            metric: inverse mass, diagonal ``(dim,)``.
            count: trajectories.

        Returns:
            Position, log density, mean acceptance rate.
        """
        kernel = blackjax.hmc.build_kernel()
        least = (1.0 - self.jitter) / (1.0 + self.jitter)

        def trajectory(number: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
            chain, total = carry
            key_size, key_move = jax.random.split(jax.random.fold_in(key, number))
            size = step_size * jax.random.uniform(key_size, minval=least, maxval=1.0)
            chain, info = kernel(key_move, chain, density, size, metric, steps)
            rate = info.acceptance_rate
            return chain, total + jnp.where(jnp.isfinite(rate), rate, 0.0)

        start = blackjax.hmc.init(u, density)
        begin = start, jnp.zeros_like(start.logdensity)
        chain, total = jax.lax.fori_loop(0, count, trajectory, begin)
        return chain.position, chain.logdensity, total / count


class Rung(NamedTuple):
    """An inverse temperature and how particles move there.

    Attributes:
        settled: whether it is to be kept to; if not, the particles at hand decide.
        beta: inverse temperature on the path from prior to target.
        step_size: largest.
        metric: inverse mass, diagonal ``(dim,)``.
        rounds: of moves, see :func:`move_all`.
    """

    settled: Array
    beta: Array
    step_size: Array
    metric: Array
    rounds: Array

    def unless_settled(self, found: Rung) -> Rung:
        """This one if it is settled, else what the particles at hand have found."""
        return jax.tree.map(lambda kept, new: jnp.where(self.settled, kept, new), self, found)


def found_rung(beta: Array, step_size: Array, metric: Array) -> Rung:
    """A rung that a population finds for itself.

    Args:
        beta: inverse temperature.
        step_size: to begin with.
        metric: inverse mass, diagonal ``(dim,)``.
    """
    return Rung(jnp.zeros((), bool), beta, step_size, metric, jnp.zeros((), jnp.int32))


class Moved(NamedTuple):
    """A population after its moves.

    Attributes:
        u: particles ``(particle, dim)``.
        lp: their log densities.
        heights: theirs ``(particle,)``.
        acceptance: mean acceptance rate of the last round of long steps.
        used: largest step size of that round.
        step_size: for the next population.
        n_steps: gradients of all rounds and particles.
        rounds: their number.
        rise: of the heights in the last round of short steps, in standard errors.
        memory: rank correlation of heights with those before the first round, after the last three.
    """

    u: Array
    lp: Array
    heights: Array
    acceptance: Array
    used: Array
    step_size: Array
    n_steps: Array
    rounds: Array
    rise: Array
    memory: Array

    @property
    def needed(self) -> Array:
        """Rounds without the second, where that only showed that one had been enough."""
        most = _most_memory(self.heights.size)
        return jnp.where((self.rounds == 2) & (self.memory[1] <= most), 1, self.rounds)


def unmoved(u: Array, heights: Array, step_size: Array) -> Moved:
    """A population before its moves.

    Args:
        u: particles ``(particle, dim)``.
        heights: theirs ``(particle,)``.
        step_size: of the first round.
    """
    zero, none = jnp.zeros_like(step_size), jnp.zeros((), jnp.int32)
    memory = jnp.ones(3, heights.dtype)
    return Moved(
        u, jnp.zeros_like(heights), heights, zero, zero, step_size, none, none, zero, memory
    )


def move_all(
    density: Density,
    height: Density,
    u: Array,
    heights: Array,
    key: Array,
    *,
    trajectories: Trajectories,
    rung: Rung,
    count: int,
    at_once: int,
) -> Moved:
    """Every particle after as many rounds of moves as the population needs.

    Rounds have long steps and short ones in turn, :data:`FINER` apart; those of short steps have
    half as many trajectories. A population that comes from a higher temperature is low: heights
    rise until it has arrived. Rounds go on until long steps are accepted, one of short steps has
    not raised heights by :data:`DRIFT` standard errors, and particles are no longer where they were
    (:data:`MEMORY`) or will not leave (:data:`FADING`). A rung that is settled has its number of
    rounds and its step size, whatever comes of them: then every round leaves the density as it is.

    Args:
        density: log density that the moves leave as it is.
        height: log-likelihood that the path of temperatures raises.
        u: particles ``(particle, dim)``.
        heights: theirs ``(particle,)``; where none is finite nothing moves.
        key: typed key.
        trajectories: how they move.
        rung: step size of the first round, metric, and rounds if they are settled.
        count: trajectories of a particle in a round of long steps.
        at_once: particles whose gradients are in memory at the same time.
    """
    particles = u.shape[0]
    most, possible = _most_memory(particles), jnp.isfinite(heights).any()

    def restless(moved: Moved) -> Array:
        refused = moved.acceptance < LOW_ACCEPTANCE * trajectories.target_acceptance
        rises = (moved.rounds < 2) | (moved.rise > DRIFT)
        before, _, memory = moved.memory
        remembers = (memory > most) & ((moved.rounds < 4) | (memory < FADING * before))
        found = (refused | rises | remembers) & (moved.rounds < MOST_ROUNDS)
        return possible & jnp.where(rung.settled, moved.rounds < rung.rounds, found)

    def another(moved: Moved) -> Moved:
        long = moved.rounds % 2 == 0
        steps, largest = trajectories.leapfrogs(moved.step_size / jnp.where(long, 1, FINER))
        times = jnp.where(long, count, max(1, count // 2))
        own = jax.random.split(jax.random.fold_in(key, moved.rounds), particles)

        def one(given: tuple[Array, Array]) -> tuple[Array, Array, Array, Array]:
            u, lp, rate = trajectories.move(
                density, *given, step_size=largest, steps=steps, metric=rung.metric, count=times
            )
            return u, lp, height(u), rate

        u, lp, now, rates = jax.lax.map(one, (moved.u, own), batch_size=min(at_once, particles))
        rate = rates.mean()
        size = moved.step_size * jnp.exp(rate - trajectories.target_acceptance)
        size = jnp.minimum(size, trajectories.length)
        memory = jnp.corrcoef(_ranks(heights), _ranks(now))[0, 1]
        return Moved(
            u,
            lp,
            now,
            jnp.where(long, rate, moved.acceptance),
            jnp.where(long, largest, moved.used),
            jnp.where(long & ~rung.settled, size, moved.step_size),
            moved.n_steps + particles * (1 + times * steps),
            moved.rounds + 1,
            jnp.where(long, moved.rise, _rise(now - moved.heights)),
            jnp.append(moved.memory[1:], memory),
        )

    return jax.lax.while_loop(
        restless, another, strongly_typed(unmoved(u, heights, rung.step_size))
    )


def _most_memory(particles: int) -> float:
    return max(MEMORY, 2.0 / math.sqrt(particles))


def _ranks(values: Array) -> Array:
    """From 1, in the order of the values ``(particle,)``."""
    return 1.0 + jnp.argsort(jnp.argsort(values)).astype(values.dtype)


def _rise(rises: Array) -> Array:
    """By how many standard errors values are above 0, by their mean or by signed ranks.

    Moves that leave a density as it is and are reversible change heights up and down alike. The
    mean sees the few that rise by much, ranks the many where one of heavy tails rules the mean.
    """
    error = jnp.maximum(jnp.std(rises) / math.sqrt(rises.size), jnp.finfo(rises.dtype).tiny)
    ranks = _ranks(jnp.abs(rises))
    signed = jnp.sum(jnp.sign(rises) * ranks) / jnp.sqrt(jnp.sum(ranks**2))
    return jnp.maximum(rises.mean() / error, signed)
