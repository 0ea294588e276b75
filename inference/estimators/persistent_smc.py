"""Sequential Monte Carlo that forgets no particle: every stage draws from all before it."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp
from jax.tree_util import register_dataclass
from pydantic import Field, model_validator

from bnnzoo.inference.annealing import (
    Ladder,
    check_pilot,
    path_density,
    pilot_key,
    settle,
    unknown_ladder,
)
from bnnzoo.inference.backends.smc import SMC
from bnnzoo.inference.backends.smc import smc as sampler_of
from bnnzoo.inference.estimators._populations import population_estimate
from bnnzoo.inference.estimators.smc import SMCEvidenceOptions
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.precision import strongly_typed
from bnnzoo.inference.repeats import repeat
from bnnzoo.inference.smc_moves import found_rung, move_all
from bnnzoo.inference.smc_weights import bridged, effective_size, largest_step, resample, spreads
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Positive
from bnnzoo.registry import register


class PersistentSMCOptions(SMCEvidenceOptions):
    """Options of ``persistent-smc``."""

    particles: Annotated[int, Field(gt=1)] = Field(
        256, description="Particles that each stage adds to the pool."
    )
    target_ess: Positive = Field(
        1.0,
        description="Particles of the pool that must stay effective in a stage, as a multiple of "
        "those a stage adds; it may be above 1, for the pool grows.",
    )
    moves: Annotated[int, Field(gt=0)] = Field(
        10,
        description="Trajectories of every particle in a round of long steps; a stage has as many "
        "rounds as it needs. What is left of a particle's parent is in the pool twice.",
    )
    max_stages: Count = Field(
        64,
        description="Stages after which the pilot jumps to the target. The pool has room for as "
        "many times particles.",
    )

    @model_validator(mode="after")
    def _room(self) -> PersistentSMCOptions:
        if self.max_stages < self.first + 1:
            raise ValueError(
                f"max_stages = {self.max_stages} leaves no stage after the {self.first} of prior "
                f"draws that target_ess = {self.target_ess:g} asks for"
            )
        return self

    @property
    def first(self) -> int:
        """Stages of prior draws the pool begins with: twice what must be effective."""
        return max(1, math.ceil(2.0 * self.target_ess))


class _State(NamedTuple):
    """Everything drawn so far.

    Attributes:
        pool: particles ``(stage, particle, dim)``; stages to come are zeros.
        log_likelihood: theirs ``(stage, particle)``.
        ancestors: the prior draw each descends from ``(stage, particle)``.
        betas: inverse temperature of each stage ``(stage,)``.
        log_zs: estimate of log Z at each of them ``(stage,)``.
        stages: done.
        beta: last reached.
        log_z: there.
        ess: effective particles of the pool there.
        origins: different ancestors of a population drawn from the pool there.
        step_size: of the next trajectories, in units of the metric.
        gradients: spent.
        lowest: acceptance of any stage.
        gap: by how much log Z is higher by bridges between stages.
        forced: the last stage was a jump.
        ladder: how far each stage went, and how particles moved there.
    """

    pool: Array
    log_likelihood: Array
    ancestors: Array
    betas: Array
    log_zs: Array
    stages: Array
    beta: Array
    log_z: Array
    ess: Array
    origins: Array
    step_size: Array
    gradients: Array
    lowest: Array
    gap: Array
    forced: Array
    ladder: Ladder


@functools.partial(
    register_dataclass,
    data_fields=("sampler", "target_ess", "ladder"),
    meta_fields=("first", "max_stages", "repeats"),
)
@dataclass(frozen=True)
class PersistentSMC(Estimator):
    """Stages of which each resamples from the particles of all stages before.

    These are draws from a mixture of the stages' densities, in equal parts (the balance
    heuristic), and are weighted as such.
    """

    sampler: SMC
    target_ess: Any
    ladder: Any
    first: int
    max_stages: int
    repeats: int

    kind = "consistent"
    needs_draws = True

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """Independent runs on one ladder, their Z averaged."""
        room = unknown_ladder(posterior, self.max_stages)
        # The program does not look at repeats, and would be compiled anew for another number.
        planned = dataclasses.replace(self, ladder=room, repeats=0)
        pilot = jax.device_get(_populate(planned, posterior, pilot_key(seed)))
        check_pilot(pilot, self.first * self.sampler.particles)
        planned = dataclasses.replace(planned, ladder=settle(pilot))
        found = repeat(_run, planned, posterior, seed, self.repeats, dtype)
        more = {"pool_ess": float(found["ess"].mean())}
        return population_estimate(found, pilot, self.sampler.particles, self.max_stages, more)


def _run(estimator: PersistentSMC, posterior: Posterior, key: Array) -> dict[str, Array]:
    found = _populate(estimator, posterior, key)
    return {name: value for name, value in found.items() if name != "ladder"}


@jax.jit
def _populate(estimator: PersistentSMC, posterior: Posterior, key: Array) -> dict[str, Any]:
    sampler, first, most = estimator.sampler, estimator.first, estimator.max_stages
    size, at_once = sampler.particles, min(sampler.at_once, sampler.particles)
    key_draw, key_stages = jax.random.split(key)
    drawn = jax.lax.map(posterior.initial, jax.random.split(key_draw, first * size))
    likelihoods = jax.lax.map(posterior.log_likelihood, drawn, batch_size=at_once)
    real = drawn.dtype
    numbers = jnp.arange(first * size, dtype=jnp.int32).reshape(first, size)

    def room(filled: Array) -> Array:
        empty = jnp.zeros((most, *filled.shape[1:]), filled.dtype)
        return empty.at[:first].set(filled)

    def stage(state: _State) -> _State:
        rung = state.ladder.rung(state.stages)
        there = jnp.arange(most)[:, None] < state.stages
        alive = there & jnp.isfinite(state.log_likelihood)
        likelihood = jnp.where(alive, state.log_likelihood, 0.0)

        def add(number: Array, mixture: Array) -> Array:
            density = state.betas[number] * likelihood - state.log_zs[number]
            return jnp.logaddexp(mixture, density)

        mixture = jax.lax.fori_loop(0, state.stages, add, jnp.full((most, size), -jnp.inf, real))

        def weigh(beta: Array) -> Array:
            # Sums over the pool of Z_beta-weights: the mixture's 1 / stages cancels their number.
            return jnp.where(alive, beta * likelihood - mixture, -jnp.inf) - jnp.log(
                jnp.asarray(size, real)
            )

        rest = 1.0 - state.beta
        jump = state.stages + 1 >= most
        delta = largest_step(
            lambda step: effective_size(weigh(state.beta + step)),
            rest,
            estimator.target_ess * size,
        )
        beta = jnp.where(jump | (delta >= rest), 1.0, state.beta + delta)
        beta = jnp.where(rung.settled, rung.beta, beta)
        log_weights = weigh(beta)
        log_z = logsumexp(log_weights)
        effective = effective_size(log_weights)
        forced = ~rung.settled & jump & (effective < 0.9 * estimator.target_ess * size)
        weights = jnp.exp(log_weights - log_z).ravel()
        key_parents, key_moves = jax.random.split(jax.random.fold_in(key_stages, state.stages))
        parents = resample(key_parents, weights, size)
        origins = state.ancestors.ravel()[parents]
        seen = jnp.zeros(first * size, jnp.int32).at[origins].set(1)
        state = state._replace(
            beta=beta,
            log_z=log_z,
            ess=effective,
            origins=seen.sum(dtype=jnp.int32),
            forced=forced,
            ladder=state.ladder._replace(beta=state.ladder.beta.at[state.stages].set(beta)),
        )
        moving = ((beta < 1.0) & jnp.isfinite(log_z)).astype(jnp.int32)
        state = jax.lax.fori_loop(
            0, moving, lambda _, s: moved_on(s, weights, parents, origins, key_moves), state
        )
        # With no weight above zero there is nowhere to go.
        stop = ~jnp.isfinite(log_z)
        return strongly_typed(
            state._replace(stages=state.stages + 1, beta=jnp.where(stop, 1.0, state.beta))
        )

    def moved_on(
        state: _State, weights: Array, parents: Array, origins: Array, key: Array
    ) -> _State:
        """The population drawn from the pool, moved, is its next stage."""
        number, rung = state.stages, state.ladder.rung(state.stages)
        flat = state.pool.reshape(most * size, -1)
        rung = rung.unless_settled(found_rung(state.beta, state.step_size, spreads(flat, weights)))
        moved = move_all(
            path_density(posterior, state.beta),
            posterior.log_likelihood,
            flat[parents],
            state.log_likelihood.ravel()[parents],
            key,
            trajectories=sampler.trajectories,
            rung=rung,
            count=sampler.moves,
            at_once=sampler.at_once,
        )
        # As in bnnzoo.inference.smc_stages.Tempering: by a bridge from the stage before.
        before = state.log_likelihood[number - 1]
        rise = state.beta - state.betas[number - 1]
        forth = state.log_z - state.log_zs[number - 1]
        gap = bridged(rise * before, rise * moved.heights) - forth
        used = rung._replace(step_size=moved.step_size, rounds=moved.needed)
        return strongly_typed(
            state._replace(
                pool=state.pool.at[number].set(moved.u),
                log_likelihood=state.log_likelihood.at[number].set(moved.heights),
                ancestors=state.ancestors.at[number].set(origins),
                betas=state.betas.at[number].set(state.beta),
                log_zs=state.log_zs.at[number].set(state.log_z),
                step_size=moved.step_size,
                gradients=state.gradients + moved.n_steps,
                lowest=jnp.minimum(state.lowest, moved.acceptance),
                gap=state.gap + gap,
                ladder=state.ladder.filled(number, used),
            )
        )

    zero = jnp.zeros((), real)
    start = _State(
        pool=room(drawn.reshape(first, size, -1)),
        log_likelihood=room(likelihoods.reshape(first, size)),
        ancestors=room(numbers),
        betas=jnp.zeros(most, real),
        log_zs=jnp.zeros(most, real),
        stages=jnp.asarray(first, jnp.int32),
        beta=zero,
        log_z=zero,
        ess=zero,
        origins=jnp.zeros((), jnp.int32),
        step_size=jnp.asarray(drawn.shape[1] ** -0.25, real),
        gradients=zero,
        lowest=zero + 1.0,
        gap=zero,
        forced=jnp.zeros((), bool),
        ladder=estimator.ladder,
    )
    end = jax.lax.while_loop(lambda state: state.beta < 1.0, stage, start)
    return {
        "log_z": end.log_z,
        "ladder": end.ladder,
        "ess": end.ess,
        "stages": end.stages,
        "gradients": end.gradients,
        "acceptance": end.lowest,
        "gap": end.gap,
        "forced": end.forced,
        "ancestors": end.origins,
    }


@register(
    "estimators",
    "persistent-smc",
    summary="Tempered sequential Monte Carlo that weighs the particles of all its stages.",
    options=PersistentSMCOptions,
    references=(
        "Karamanis & Seljak (2025), Persistent Sampling: Enhancing the Efficiency of Sequential "
        "Monte Carlo",
        "Veach & Guibas (1995), Optimally Combining Sampling Techniques for Monte Carlo Rendering, "
        "for the balance heuristic",
    ),
    tags={"kind": "consistent", "family": "sampling"},
    facts={
        "number": "consistent",
        "standard error": "spread of independent repeats",
        "wrong when": "a mode too small for any prior draw to lie near it; particles that do not "
        "move (acceptance, ancestors) or lag behind the temperature (gap), as with a learned noise",
        "choose it": "gradients are dear: fewer stages and a smaller spread than smc's for as many",
    },
    notes="The pool begins with draws of the prior. A stage weighs all of it for the next inverse "
    "temperature, as draws from the mixture of all stages' densities, whose normalisers are those "
    "estimated on the way; log Z is the log mean of these weights. The stage then draws from the "
    "pool, moves what it drew and adds it. Its normalisers are themselves estimates, which leaves "
    "a bias of order 1/particles in Z; so do particles that are still like their parents, beside "
    "whom they stay in the pool (with 5 moves a mean z of 0.5 on linear models of 100 features). "
    "The way is found by a first population, as in smc, but "
    "stages are not cut; after the last nothing is moved, so that no gap sees it.",
)
def persistent_smc(options: PersistentSMCOptions) -> PersistentSMC:
    """The estimator of these options."""
    shared = SMCEvidenceOptions(**{name: getattr(options, name) for name in SHARED})
    return PersistentSMC(
        sampler_of(shared),
        options.target_ess,
        None,
        options.first,
        options.max_stages,
        options.repeats,
    )


SHARED = ("particles", "moves", "target_acceptance", "trajectory", "jitter", "max_steps", "at_once")
"""Options that are the sampler's."""
