"""The way from prior to posterior, found by one population and then kept to by others.

What a population decides for itself (how far to temper, step sizes, metric) makes its estimate of
Z low: on linear models of 100 features 16 repeats of 128 particles were 0.2 nats low, twice their
standard error. What another population has decided makes no bias at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import RunError
from bnnzoo.inference.backends.smc import SMC, SMCOptions, smc
from bnnzoo.inference.precision import strongly_typed
from bnnzoo.inference.smc_moves import FINER, Rung
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Fraction, Options, Positive


class TuningOptions(Options):
    """How chains move that another population has tuned."""

    trajectory: Positive = Field(
        math.pi / 2,
        description="Trajectory length in units of the metric, where each coordinate has scale 1.",
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="A length is trajectory * U(1 - jitter, 1 + jitter): no resonance."
    )
    max_steps: Count = Field(100, description="Most leapfrog steps of a trajectory.")
    target_acceptance: Fraction = Field(
        0.8, description="Acceptance rate the pilot tunes step sizes to."
    )
    pilot: Annotated[int, Field(gt=1)] = Field(
        128, description="Particles of the pilot, an smc run that tunes step sizes and metrics."
    )
    max_stages: Count = Field(200, description="Stages after which the pilot jumps to the target.")


def tuning_sampler(options: TuningOptions) -> SMC:
    """The pilot.

    Args:
        options: of the chains it tunes.
    """
    shared = ("trajectory", "jitter", "max_steps", "target_acceptance")
    own = {name: getattr(options, name) for name in shared}
    return smc(SMCOptions(particles=options.pilot, **own))


TRIES = 100
"""Draws of the prior of which one has to have a likelihood."""

PILOT = 0x1ADDE5
"""Folded into a seed for the key of the population that finds the ladder."""


class Ladder(NamedTuple):
    """Inverse temperatures from the first above 0 to 1, and how to move at each.

    Attributes:
        settled: False where a population is to find its own.
        beta: ascending ``(rung,)``; beyond the rung where it is 1 nothing counts.
        step_size: largest ``(rung,)``.
        metric: inverse masses, diagonal ``(rung, dim)``.
        rounds: of moves ``(rung,)``, see :func:`bnnzoo.inference.smc_moves.move_all`.
    """

    settled: Array
    beta: Array
    step_size: Array
    metric: Array
    rounds: Array

    def rung(self, number: Array) -> Rung:
        """One of them; traced."""
        return Rung(self.settled, *(values[number] for values in self[1:]))

    def path(self) -> np.ndarray:
        """Its inverse temperatures from 0 to 1."""
        beta = np.asarray(self.beta, float)
        return np.concatenate([[0.0], beta[: int(np.argmax(beta >= 1.0)) + 1]])

    def every(self) -> Rung:
        """All rungs at once, with a leading axis: what a scan goes along."""
        settled = jnp.broadcast_to(self.settled, self.beta.shape)
        return Rung(settled, *self[1:])

    def filled(self, number: Array, rung: Rung) -> Ladder:
        """With what a population has found at one rung; as it is where it is settled; traced."""
        kept = self.rung(number)
        found = kept.unless_settled(rung)
        columns = (old.at[number].set(new) for old, new in zip(self[1:], found[1:], strict=True))
        return Ladder(self.settled, *columns)

    def downwards(self) -> Ladder:
        """The same rungs, from the posterior's end."""
        return self._replace(
            beta=self.beta[::-1],
            step_size=self.step_size[::-1],
            metric=self.metric[::-1],
            rounds=self.rounds[::-1],
        )

    def at(self, betas: np.ndarray) -> Ladder:
        """How to move at other inverse temperatures, from those of this ladder.

        Where the population needed more than a round of each kind, every second rung has them.

        Args:
            betas: ascending ``(rung,)``.
        """
        beta, size, metric, rounds = jax.device_get(self[1:])
        known = slice(0, int(np.argmax(beta >= 1.0)) + 1)
        columns = [np.log(size[known]), *np.log(metric[known]).T]
        scales = np.stack([np.exp(np.interp(betas, beta[known], column)) for column in columns], 1)
        hard = np.interp(betas, beta[known], rounds[known]) > 2.0
        short = hard & (np.arange(len(betas)) % 2 == 1)
        sizes = scales[:, 0] / np.where(short, FINER, 1)
        real = size.dtype
        return Ladder(
            jnp.asarray(True),
            jnp.asarray(betas, real),
            jnp.asarray(sizes, real),
            jnp.asarray(scales[:, 1:], real),
            jnp.ones(len(betas), jnp.int32),
        )


def unknown_ladder(posterior: Posterior, most: int) -> Ladder:
    """Room for a ladder that a population is to find.

    Args:
        posterior: the target.
        most: rungs.
    """
    real = posterior.x.dtype
    nothing = jnp.zeros(most, real)
    metric = jnp.zeros((most, posterior.dimension), real)
    return Ladder(jnp.asarray(False), nothing, nothing, metric, jnp.zeros(most, jnp.int32))


def anneal(
    sampler: SMC, posterior: Posterior, key: Array, ladder: Ladder, max_stages: Any
) -> dict[str, Any]:
    """A population's way from prior to posterior; traced.

    Args:
        sampler: particles, moves and how far to temper.
        posterior: the target.
        key: typed key.
        ladder: kept to if it is settled, else filled.
        max_stages: after which it jumps to the target.

    Returns:
        ``log_z``, ``stages``, ``gradients``, the lowest ``acceptance``, the sum of all stages'
        ``gap``, whether it was ``forced``, ``ancestors`` of the final population, the ``ladder``.
    """
    start = strongly_typed(sampler.init(posterior, jnp.zeros(posterior.dimension)))
    zero = jnp.zeros_like(start.beta)

    def unfinished(carry: Any) -> Array:
        return carry[0].beta < 1.0

    def stage(carry: Any) -> Any:
        state, ladder, gradients, lowest, gap, _ = carry
        number = state.stages
        last = number + 1 >= max_stages
        own = jax.random.fold_in(key, number)
        new, report = sampler.temper(posterior, state, last, own, ladder.rung(number))
        forced = (
            ~ladder.settled & last & (report.ess < 0.9 * sampler.target_ess * sampler.particles)
        )
        rounds = report.rounds.astype(jnp.int32)
        rung = Rung(ladder.settled, new.beta, new.step_size, new.inverse_mass_matrix, rounds)
        found = ladder.filled(number, rung)
        moved = gradients + report.n_steps
        lowest = jnp.minimum(lowest, report.acceptance)
        carry = new, found, moved, lowest, gap + report.gap, forced
        return strongly_typed(carry)

    begin = (start, ladder, zero, zero + 1.0, zero, jnp.zeros((), bool))
    state, ladder, gradients, lowest, gap, forced = jax.lax.while_loop(
        unfinished, stage, strongly_typed(begin)
    )
    return {
        "log_z": state.log_normaliser,
        "stages": state.stages,
        "gradients": gradients,
        "acceptance": lowest,
        "gap": gap,
        "forced": forced,
        "ancestors": 1 + jnp.sum(state.ancestors[1:] != state.ancestors[:-1]),
        "ladder": ladder,
    }


annealed = jax.jit(anneal)
""":func:`anneal`, compiled: of a ladder to be found and of one to be kept to, the same program."""


def find_ladder(
    sampler: SMC, posterior: Posterior, seed: int, max_stages: int
) -> tuple[Ladder, dict[str, Any]]:
    """The ladder of one population, which finds it on its way.

    Args:
        sampler: particles, moves and how far to temper.
        posterior: the target.
        seed: of the population, and of nothing else.
        max_stages: most rungs.

    Returns:
        The ladder, settled, and the rest of what :func:`anneal` gives.

    Raises:
        RunError: no prior draw has any likelihood.
    """
    room = unknown_ladder(posterior, max_stages)
    found = jax.device_get(
        annealed(sampler, posterior, pilot_key(seed), room, jnp.asarray(max_stages))
    )
    check_pilot(found, sampler.particles)
    return settle(found), found


def settle(pilot: dict[str, Any]) -> Ladder:
    """The ladder that a population has found, to be kept to by others.

    Args:
        pilot: what it gave; its ``ladder`` is taken out and ``most_rounds`` of any rung put in.
    """
    ladder: Ladder = jax.tree.map(jnp.asarray, pilot.pop("ladder"))
    pilot["most_rounds"] = int(ladder.rounds.max())
    return ladder._replace(settled=jnp.asarray(True))


def pilot_key(seed: int) -> Array:
    """Of the population that finds the ladder: no repeat has it."""
    return jax.random.fold_in(jax.random.key(seed), PILOT)


def check_pilot(found: dict[str, Any], particles: int) -> None:
    """Refuse to go on from a population whose weights were all zero.

    Args:
        found: what it gave.
        particles: it had.

    Raises:
        RunError: they were.
    """
    if not np.isfinite(found["log_z"]):
        raise RunError(
            f"none of {particles} draws of the prior has a likelihood above zero: raise "
            "particles, or look at the prior's scale"
        )


@jax.jit
def prior_draws(posterior: Posterior, keys: Array) -> Array:
    """A draw of the prior for each key ``(draw, dim)``."""
    return jax.lax.map(posterior.initial, keys)


@jax.jit
def possible_draws(posterior: Posterior, keys: Array) -> Array:
    """For each key the first draw of the prior, of some, whose likelihood is not zero.

    A chain that starts where the likelihood is zero may stay there. These are no
    draws of the prior any more: for starts of chains that forget them.

    Args:
        posterior: the target.
        keys: typed keys ``(draw,)``.
    """

    def one(key: Array) -> Array:
        def impossible(carry: tuple[Array, Array]) -> Array:
            number, u = carry
            return (number < TRIES) & ~jnp.isfinite(posterior.log_likelihood(u))

        def another(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            number, _ = carry
            return number + 1, posterior.initial(jax.random.fold_in(key, number))

        start = jnp.zeros((), jnp.int32), jnp.full(posterior.dimension, jnp.nan, posterior.x.dtype)
        return jax.lax.while_loop(impossible, another, start)[1]

    return jax.lax.map(one, keys)


def path_density(posterior: Posterior, beta: Array) -> Callable[[Array], Array]:
    """Log density at ``beta`` on the way from the prior to the posterior at temperature 1."""

    def density(u: Array) -> Array:
        return posterior.log_prior_density(u) + beta * posterior.log_likelihood(u)

    return density
