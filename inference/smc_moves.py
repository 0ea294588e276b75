"""Hamiltonian moves of the particles of sequential Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
from jax import Array

from bnnzoo.models.leaf import Leaf

LOW_ACCEPTANCE = 0.5
"""Share of the target acceptance under which a population is moved again."""

STUCK_ACCEPTANCE = 0.2
"""Mean acceptance rate under which moves count as stuck."""

MOST_ROUNDS = 5
"""Rounds of moves of one population at most."""

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
        count: int,
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

        def trajectory(chain: Any, key: Array) -> tuple[Any, Array]:
            key_size, key_move = jax.random.split(key)
            size = step_size * jax.random.uniform(key_size, minval=least, maxval=1.0)
            chain, info = kernel(key_move, chain, density, size, metric, steps)
            rate = info.acceptance_rate
            return chain, jnp.where(jnp.isfinite(rate), rate, 0.0)

        start = blackjax.hmc.init(u, density)
        chain, rates = jax.lax.scan(trajectory, start, jax.random.split(key, count))
        return chain.position, chain.logdensity, rates.mean()


class Rung(NamedTuple):
    """An inverse temperature and how particles move there.

    Attributes:
        settled: whether it is to be kept to; if not, the particles at hand decide.
        beta: inverse temperature on the path from prior to target.
        step_size: largest.
        metric: inverse mass, diagonal ``(dim,)``.
    """

    settled: Array
    beta: Array
    step_size: Array
    metric: Array


class Moved(NamedTuple):
    """A population after its moves.

    Attributes:
        u: particles ``(particle, dim)``.
        lp: their log densities.
        acceptance: mean acceptance rate of the last round.
        used: largest step size of the last round.
        step_size: for the next population.
        n_steps: gradients of all rounds and particles.
        rounds: their number.
    """

    u: Array
    lp: Array
    acceptance: Array
    used: Array
    step_size: Array
    n_steps: Array
    rounds: Array


def move_all(
    density: Density,
    u: Array,
    key: Array,
    *,
    trajectories: Trajectories,
    step_size: Array,
    metric: Array,
    count: int,
    at_once: int,
    most_rounds: Leaf = MOST_ROUNDS,
) -> Moved:
    """Every particle after ``count`` trajectories, more where hardly any moved.

    A round under half the target acceptance is followed by another with smaller steps: each round
    leaves the density as it is, and copies that do not part are lost to the stages to come.

    Args:
        density: log density that the moves leave as it is.
        u: particles ``(particle, dim)``.
        key: typed key.
        trajectories: how they move.
        step_size: of the first round.
        metric: inverse mass, diagonal ``(dim,)``.
        count: trajectories of a particle in one round.
        at_once: particles whose gradients are in memory at the same time.
        most_rounds: 1 for moves that are settled beforehand, whatever comes of them.
    """
    particles = u.shape[0]

    def unmoved(moved: Moved) -> Array:
        low = moved.acceptance < LOW_ACCEPTANCE * trajectories.target_acceptance
        return low & (moved.rounds < most_rounds)

    def another(moved: Moved) -> Moved:
        steps, largest = trajectories.leapfrogs(moved.step_size)
        own = jax.random.split(jax.random.fold_in(key, moved.rounds), particles)

        def one(given: tuple[Array, Array]) -> tuple[Array, Array, Array]:
            return trajectories.move(
                density, *given, step_size=largest, steps=steps, metric=metric, count=count
            )

        u, lp, rates = jax.lax.map(one, (moved.u, own), batch_size=min(at_once, particles))
        rate = rates.mean()
        size = moved.step_size * jnp.exp(rate - trajectories.target_acceptance)
        return Moved(
            u,
            lp,
            rate,
            largest,
            jnp.minimum(size, trajectories.length),
            moved.n_steps + particles * (1 + count * steps),
            moved.rounds + 1,
        )

    zero, none = jnp.zeros_like(step_size), jnp.zeros((), jnp.int32)
    start = Moved(u, jnp.zeros_like(u[:, 0]), zero, zero, step_size, none, none)
    return jax.lax.while_loop(unmoved, another, start)
