"""Hamiltonian moves of the particles of sequential Monte Carlo."""

from __future__ import annotations

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
"""Standard errors by which the mean height may rise in a round of short steps: by chance one
population in 44 rises more that has nowhere to go."""

MEMORY = 0.1
"""Most correlation of the particles' heights with those before the first round.

Where few particles at a time cross to where the next temperature wants them, their mean rises by
less in a round than its own error. It can be trusted once they have all been anywhere.
"""

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
        rise: of the mean height in the last round of short steps, in standard errors.
        memory: correlation of heights with those before the first round.
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
        """Rounds before the one that only showed that nothing rises any more."""
        return jnp.maximum(self.rounds - 1, 1)


def unmoved(u: Array, heights: Array, step_size: Array) -> Moved:
    """A population before its moves.

    Args:
        u: particles ``(particle, dim)``.
        heights: theirs ``(particle,)``.
        step_size: of the first round.
    """
    zero, none = jnp.zeros_like(step_size), jnp.zeros((), jnp.int32)
    lp = jnp.zeros_like(heights)
    return Moved(u, lp, heights, zero, zero, step_size, none, none, zero, zero)


def move_all(
    density: Density,
    height: Density,
    u: Array,
    key: Array,
    *,
    trajectories: Trajectories,
    rung: Rung,
    count: int,
    at_once: int,
) -> Moved:
    """Every particle after as many rounds of moves as the population needs.

    Rounds have long steps and short ones in turn, :data:`FINER` apart; those of short steps have
    half as many trajectories. A population that comes from a higher temperature is low: its mean
    height rises until it has arrived. Rounds go on until long steps are accepted, one of short
    steps has not raised the mean by :data:`DRIFT` standard errors, and particles are no longer
    where they were (:data:`MEMORY`). Each leaves the density as it is. A rung that is settled has
    its number of rounds, whatever comes of them.

    Args:
        density: log density that the moves leave as it is.
        height: log-likelihood that the path of temperatures raises.
        u: particles ``(particle, dim)``, whose heights are finite.
        key: typed key.
        trajectories: how they move.
        rung: step size of the first round, metric, and rounds if they are settled.
        count: trajectories of a particle in a round of long steps.
        at_once: particles whose gradients are in memory at the same time.
    """
    particles = u.shape[0]
    group = min(at_once, particles)
    begun = jax.lax.map(height, u, batch_size=group)

    def restless(moved: Moved) -> Array:
        refused = moved.acceptance < LOW_ACCEPTANCE * trajectories.target_acceptance
        rises = (moved.rounds < 2) | (moved.rise > DRIFT)
        found = (refused | rises | (moved.memory > MEMORY)) & (moved.rounds < MOST_ROUNDS)
        return jnp.where(rung.settled, moved.rounds < rung.rounds, found)

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

        u, lp, heights, rates = jax.lax.map(one, (moved.u, own), batch_size=group)
        rate, rises = rates.mean(), heights - moved.heights
        error = jnp.maximum(jnp.std(rises) / jnp.sqrt(particles), jnp.finfo(rises.dtype).tiny)
        size = moved.step_size * jnp.exp(rate - trajectories.target_acceptance)
        return Moved(
            u,
            lp,
            heights,
            jnp.where(long, rate, moved.acceptance),
            jnp.where(long, largest, moved.used),
            jnp.where(long, jnp.minimum(size, trajectories.length), moved.step_size),
            moved.n_steps + particles * (1 + times * steps),
            moved.rounds + 1,
            jnp.where(long, moved.rise, rises.mean() / error),
            jnp.corrcoef(begun, heights)[0, 1],  # NaN of equal heights, which is no memory
        )

    return jax.lax.while_loop(restless, another, strongly_typed(unmoved(u, begun, rung.step_size)))
