"""Sequential Monte Carlo from the prior to the posterior, moved by Hamiltonian trajectories."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.prior_checks import check_drawable
from bnnzoo.inference.smc_moves import STUCK_ACCEPTANCE, Rung, Trajectories
from bnnzoo.inference.smc_stages import Sampling, next_stage
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Fraction, Options, Positive
from bnnzoo.registry import register

FEWEST_ANCESTORS = 20
"""Prior draws behind the final population under which a run is flagged: with so many the weight of
a mode is uncertain by 0.1 and more."""


LAG = 3.2
"""Standard deviations of the product of all mean weights that are too much for the sum of all gaps,
four of those that chance makes of it; see :class:`bnnzoo.inference.smc_stages.Tempering`."""


class SMCOptions(Options):
    """Options of ``smc``."""

    particles: Annotated[int, Field(gt=1)] = Field(
        512, description="Particles of each chain; a chain is one whole SMC run."
    )
    target_ess: Fraction = Field(
        0.5,
        description="Share of the particles that must stay effective in a stage; it sets how far "
        "the stage tempers.",
    )
    moves: Annotated[int, Field(gt=0)] = Field(
        5,
        description="Trajectories of every particle in a round of long steps, and of one before "
        "it is a draw; a stage has as many rounds as it needs.",
    )
    target_acceptance: Fraction = Field(
        0.8, description="Acceptance rate the step size is steered to, from stage to stage."
    )
    trajectory: Positive = Field(
        math.pi / 2,
        description="Trajectory length in units of the metric, where each coordinate has scale 1.",
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="A length is trajectory * U(1 - jitter, 1 + jitter): no resonance."
    )
    max_steps: Annotated[int, Field(gt=0)] = Field(
        100, description="Most leapfrog steps of a trajectory."
    )
    at_once: Annotated[int, Field(gt=0)] = Field(
        128,
        description="Particles whose gradients are in memory at the same time; best a divisor of "
        "particles.",
    )


class SMCState(NamedTuple):
    """A population at one inverse temperature.

    Attributes:
        u: particles ``(particle, dim)``, equally weighted.
        ancestors: the prior draw each descends from ``(particle,)``.
        stages: tempering stages done; the particles are drawn in the first.
        beta: inverse temperature on the path from the prior (0) to the target (1).
        log_normaliser: estimate of log Z at ``beta``; the prior has 0.
        step_size: of the next trajectories, in units of the metric.
        inverse_mass_matrix: diagonal ``(dim,)``, the particles' squared scales.
        cursor: the particle the next step shows, and moves where tempering is over.
    """

    u: Array
    ancestors: Array
    stages: Array
    beta: Array
    log_normaliser: Array
    step_size: Array
    inverse_mass_matrix: Array
    cursor: Array


class _Report(NamedTuple):
    """What a stage or a single move says."""

    lp: Array
    acceptance: Array
    step_size: Array
    n_steps: Array
    ess: Array
    rounds: Array
    gap: Array


@functools.partial(
    register_dataclass,
    data_fields=("target_ess", "target_acceptance", "trajectory", "jitter", "max_steps"),
    meta_fields=("particles", "moves", "at_once"),
)
@dataclass(frozen=True)
class SMC(Backend):
    """Adaptive tempered SMC; a warm-up step is a stage until the target is reached.

    The path is geometric, log pi_beta = (1 - beta) log prior + beta log target, from the untempered
    prior, so Z is the integral of ``exp(log_density)``: the evidence at T = L = 1.
    """

    target_ess: Leaf
    target_acceptance: Leaf
    trajectory: Leaf
    jitter: Leaf
    max_steps: Leaf
    particles: int
    moves: int
    at_once: int

    splits_rows = True
    stats = (
        "lp",
        "acceptance_rate",
        "step_size",
        "n_steps",
        "beta",
        "ess",
        "log_normaliser",
        "gap",
        "ancestors",
    )
    default_warmup = 500

    def schedule(self, warmup: int) -> np.ndarray:
        """Stages as far as the weights allow; the last step goes to the target at once."""
        stages = np.full(warmup, Stage.SLOW, np.int32)
        stages[-1:] = Stage.SLOW_END
        return stages

    def check(self, posterior: Posterior) -> None:
        """The prior can be drawn from, and its density is that of the draws."""
        check_drawable(posterior, "smc")

    def init(self, posterior: Posterior, u: Array) -> SMCState:
        """Nothing but shapes: the first step draws the particles."""
        zero = jnp.zeros((), u.dtype)
        count = jnp.zeros((), jnp.int32)
        return SMCState(
            u=jnp.broadcast_to(u, (self.particles, u.size)),
            ancestors=jnp.arange(self.particles, dtype=jnp.int32),
            stages=count,
            beta=zero,
            log_normaliser=zero,
            # In units of the metric the error of a trajectory grows as dim * step_size^4.
            step_size=jnp.asarray(u.size**-0.25, u.dtype),
            inverse_mass_matrix=jnp.ones_like(u),
            cursor=count,
        )

    def step(
        self, posterior: Posterior, state: SMCState, stage: Array, key: Array
    ) -> tuple[SMCState, Step]:
        """One tempering stage of all particles, or the moves of one particle at the target.

        Loops of no or one pass, not ``cond``: vmapped over chains, ``cond`` would run both.
        """
        tempering = (state.beta < 1.0).astype(jnp.int32)
        jump = stage != Stage.SLOW

        def temper(_: Array, carry: Any) -> tuple[SMCState, _Report]:
            return self.temper(posterior, carry[0], jump, key)

        def move(_: Array, carry: Any) -> tuple[SMCState, _Report]:
            return self._move_one(posterior, carry[0], key)

        carry = state, _Report(*[jnp.zeros_like(state.beta)] * len(_Report._fields))
        carry = jax.lax.fori_loop(0, tempering, temper, carry)
        state, report = jax.lax.fori_loop(0, 1 - tempering, move, carry)
        stats = {
            "lp": report.lp,
            "acceptance_rate": report.acceptance,
            "step_size": report.step_size,
            "n_steps": report.n_steps,
            "beta": state.beta,
            "ess": report.ess,
            "log_normaliser": state.log_normaliser,
            "gap": report.gap,
            "ancestors": _distinct(state.ancestors),
        }
        shown = state.u[state.cursor]
        cursor = (state.cursor + 1) % self.particles
        return state._replace(cursor=cursor), Step(shown, stats)

    def temper(
        self,
        posterior: Posterior,
        state: SMCState,
        jump: Array,
        key: Array,
        planned: Rung | None = None,
    ) -> tuple[SMCState, _Report]:
        """Reweight to the next beta, resample, move every particle.

        Args:
            posterior: the target.
            state: the population.
            jump: go to the target at once.
            key: typed key.
            planned: where to go and how to move, instead of finding out from the particles.
        """
        key_draw, key_stage = jax.random.split(key)
        u = jax.lax.fori_loop(
            0,
            (state.stages == 0).astype(jnp.int32),
            lambda *_: self.draw(posterior, key_draw),
            state.u,
        )
        done = next_stage(
            functools.partial(_path, posterior),
            lambda u: posterior.log_density(u) - posterior.log_prior_density(u),
            u,
            key_stage,
            sampling=Sampling(self.target_ess, self.trajectories, self.moves, self.at_once),
            beta=state.beta,
            step_size=state.step_size,
            jump=jump,
            planned=planned,
        )
        weighed, moved = done.weighed, done.moved
        report = _Report(
            moved.lp[state.cursor],
            moved.acceptance,
            moved.used,
            done.n_steps,
            weighed.ess,
            moved.needed,
            done.gap,
        )
        state = SMCState(
            # With every weight NaN there is no population: the loop stops a chain that shows NaN.
            u=jnp.where(jnp.isfinite(weighed.log_increment), moved.u, jnp.nan),
            ancestors=state.ancestors[done.parents],
            stages=state.stages + 1,
            beta=weighed.beta,
            log_normaliser=state.log_normaliser + weighed.log_increment,
            step_size=moved.step_size,
            inverse_mass_matrix=done.rung.metric,
            cursor=state.cursor,
        )
        return state, _like(report, state.beta)

    def draw(self, posterior: Posterior, key: Array) -> Array:
        """Particles from the prior, one by one: batched, its samplers take seconds to compile."""
        return jax.lax.map(posterior.initial, jax.random.split(key, self.particles))

    def _move_one(
        self, posterior: Posterior, state: SMCState, key: Array
    ) -> tuple[SMCState, _Report]:
        """The particle at the cursor is moved; nothing is tuned any more.

        Draws that are as many apart as there are particles are of the same one, which no estimate
        of effective draws sees: it has to have forgotten where it was.
        """
        steps, largest = self.trajectories.leapfrogs(state.step_size)
        u, lp, acceptance = self.trajectories.move(
            _path(posterior, state.beta),
            state.u[state.cursor],
            key,
            step_size=largest,
            steps=steps,
            metric=state.inverse_mass_matrix,
            count=self.moves,
        )
        gradients = 1 + self.moves * steps
        count, one, none = jnp.asarray(self.particles), jnp.ones(()), jnp.zeros(())
        report = _Report(lp, acceptance, largest, gradients, count, one, none)
        return state._replace(u=state.u.at[state.cursor].set(u)), _like(report, state.beta)

    @property
    def trajectories(self) -> Trajectories:
        return Trajectories(self.trajectory, self.jitter, self.max_steps, self.target_acceptance)

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """One a leapfrog step and one at the start of a particle's trajectories."""
        return int(np.nansum(stats["n_steps"])) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """A target reached by force, few ancestors, particles that hardly moved."""
        found = []
        beta, ess, acceptance, gap = (
            np.concatenate([warmup.get(name, np.zeros(0)), stats[name]])
            for name in ("beta", "ess", "acceptance_rate", "gap")
        )
        last = int(np.argmax(beta >= 1.0))  # the stage that reached the target
        forced = last == max(len(beta) - len(stats["beta"]) - 1, 0)
        if forced and ess[last] < 0.9 * self.target_ess * self.particles:
            before = beta[last - 1] if last else 0.0
            found.append(
                Flag(
                    "unconverged",
                    f"tempering was at beta = {before:.3g} when the warm-up ended; the jump to 1 "
                    f"left {ess[last]:.3g} of {self.particles} particles effective; raise warmup",
                )
            )
        ancestors = int(stats["ancestors"][-1])
        if ancestors < FEWEST_ANCESTORS:
            found.append(
                Flag(
                    "warning",
                    f"the particles descend from {ancestors} draws of the prior: the normaliser "
                    "and the weights of modes rest on few; raise particles",
                )
            )
        lag = float(gap[: last + 1].sum())
        if lag > LAG * math.sqrt(float(np.sum(1.0 / ess[: last + 1] - 1.0 / self.particles))):
            found.append(
                Flag(
                    "warning",
                    f"by bridges between stages log_normaliser is {lag:.2g} nats higher: "
                    "the particles lagged behind the temperature; raise particles",
                )
            )
        lowest = int(np.argmin(acceptance[: last + 1]))
        if acceptance[lowest] < STUCK_ACCEPTANCE:
            found.append(
                Flag(
                    "warning",
                    f"acceptance {acceptance[lowest]:.2f} at beta = {beta[lowest]:.3g}: particles "
                    "were copied there and hardly moved",
                )
            )
        rate = float(stats["acceptance_rate"].mean())
        if rate < STUCK_ACCEPTANCE:
            found.append(
                Flag(
                    "stuck",
                    f"acceptance {rate:.2f}, aimed at {self.target_acceptance:g}: "
                    "the particles hardly move",
                )
            )
        return found


def _path(posterior: Posterior, beta: Array) -> Callable[[Array], Array]:
    """Log density at ``beta`` on the way from the prior to the target."""

    def density(u: Array) -> Array:
        return (1.0 - beta) * posterior.log_prior_density(u) + beta * posterior.log_density(u)

    return density


def _like(report: _Report, real: Array) -> _Report:
    return jax.tree.map(lambda value: jnp.asarray(value, real.dtype), report)


def _distinct(ancestors: Array) -> Array:
    """Number of different values of an array in ascending order."""
    return 1 + jnp.sum(ancestors[1:] != ancestors[:-1])


@register(
    "backends",
    "smc",
    summary="Sequential Monte Carlo from prior to posterior: exact, many modes, the evidence.",
    options=SMCOptions,
    references=(
        "Del Moral, Doucet & Jasra (2006), Sequential Monte Carlo Samplers, sec. 3",
        "Jasra et al. (2011), Inference for Levy-Driven Stochastic Volatility Models via Adaptive "
        "Sequential Monte Carlo",
        "Beskos et al. (2016), On the Convergence of Adaptive Sequential Monte Carlo Methods",
        "Buchholz, Chopin & Jacob (2021), Adaptive Tuning of Hamiltonian Monte Carlo Within "
        "Sequential Monte Carlo",
    ),
    tags={"exact": True, "family": "smc", "gradients": "full-batch", "evidence": True},
    facts={
        "exact for": "any posterior as particles grow, any temperature",
        "bias": "1 / particles",
        "a draw costs": "five trajectories, after the tempering of all particles",
        "memory": "all particles at once",
        "choose it": "few parameters in separate modes, or the evidence is wanted",
    },
    notes="A chain is one independent run: it draws its particles from the prior and takes them "
    "to the target in as many warm-up steps as the weights ask for; a warm-up step after that is "
    "the moves of one particle. A draw is the next particle of the population, moved by some "
    "trajectories more, and draws beyond the number of particles are the same particles moved on. "
    "Neighbouring particles are relatives, which the effective sample size of a chain sees as "
    "autocorrelation; what all particles share, such as the weights of modes that no trajectory "
    "joins, it does not see, and more draws do not improve: compare chains. "
    "Stages are as long as the weights allow before and after the moves, and every population "
    "is moved by long steps and short until it no longer rises and has forgotten where it was. "
    "log_normaliser estimates the log integral of the target on the targets as modelled: the log "
    "evidence at T = L = 1, at other temperatures the normaliser of the tempered posterior and no "
    "evidence. It is consistent in the number of particles; adaptation leaves a bias of order "
    "1/particles in Z, and log Z is low by half its variance. The spread over chains is the "
    "spread of log Z.",
)
def smc(options: SMCOptions) -> SMC:
    """The backend of these options."""
    return SMC(
        options.target_ess,
        options.target_acceptance,
        options.trajectory,
        options.jitter,
        options.max_steps,
        options.particles,
        options.moves,
        options.at_once,
    )
