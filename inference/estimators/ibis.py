"""Evidence by adding the data block by block: how well each block was predicted by those before."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp
from jax.tree_util import register_dataclass
from pydantic import Field
from scipy import special

from bnnzoo.errors import OptionError
from bnnzoo.inference.annealing import Ladder, check_pilot, pilot_key, settle, unknown_ladder
from bnnzoo.inference.backends.smc import SMC
from bnnzoo.inference.backends.smc import smc as sampler_of
from bnnzoo.inference.estimators._populations import population_estimate
from bnnzoo.inference.estimators.smc import SMCEvidenceOptions
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.precision import strongly_typed
from bnnzoo.inference.repeats import repeat
from bnnzoo.inference.smc_moves import Rung, found_rung, move_all
from bnnzoo.inference.smc_weights import effective_size, largest_step, resample, spreads
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Fraction
from bnnzoo.registry import register

LEAST_ESS = 0.1
"""Effective share of the particles after a block under which the pilot's way was too bold."""

BLOCKS = 10
"""Blocks where nobody says."""


class IBISOptions(SMCEvidenceOptions):
    """Options of ``ibis``."""

    target_ess: Fraction = Field(
        0.7,
        description="Share of the particles that must stay effective; a block that leaves fewer "
        "is added by degrees.",
    )
    blocks: Count | None = Field(
        None,
        description=f"Blocks the rows are cut into, as equal as can be; if not given {BLOCKS}, or "
        "one a row where rows are fewer.",
    )
    order: Literal["given", "shuffled"] = Field(
        "given",
        description="Order in which rows come; shuffled: by the seed, the same for all repeats. "
        "The evidence is the same, what each block adds to it is not.",
    )


class _State(NamedTuple):
    """Particles that stand for the posterior of the rows so far.

    Attributes:
        u: particles ``(particle, dim)``.
        log_weights: normalised ``(particle,)``.
        ancestors: the prior draw each descends from ``(particle,)``.
        block: being added.
        beta: how much of it is in the density already, an inverse temperature.
        predictive: log p(block | blocks before) of each block ``(block,)``.
        ess: effective share of the particles when the block was in ``(block,)``.
        bridges: resamplings inside each block ``(block,)``.
        step_size: of the next trajectories, in units of the metric.
        stages: reweightings done.
        gradients: spent.
        lowest: acceptance of any population.
        forced: a block was added at one go for want of stages.
        ladder: how far each stage went, and how particles moved there.
    """

    u: Array
    log_weights: Array
    ancestors: Array
    block: Array
    beta: Array
    predictive: Array
    ess: Array
    bridges: Array
    step_size: Array
    stages: Array
    gradients: Array
    lowest: Array
    forced: Array
    ladder: Ladder


@functools.partial(
    register_dataclass,
    data_fields=("sampler", "max_stages", "owner", "ladder"),
    meta_fields=("blocks", "shuffled", "repeats"),
)
@dataclass(frozen=True)
class IBIS(Estimator):
    """Iterated batch importance sampling, tempered inside a block where it is too much at once.

    ``owner`` is the block of every row, once the rows are known; ``ladder`` how much of a block
    each stage adds, once a population has found that out.
    """

    sampler: SMC
    max_stages: Any
    owner: Any
    ladder: Any
    blocks: int | None
    shuffled: bool
    repeats: int

    kind = "unbiased"
    needs_draws = True

    def check(self, posterior: Posterior) -> None:
        """There are no more blocks than rows, and each row has a likelihood of its own."""
        if self.blocks is not None and self.blocks > posterior.rows:
            raise OptionError(
                f"estimator.blocks = {self.blocks}: there are {posterior.rows} training rows; "
                f"give at most {posterior.rows}"
            )
        blocks = min(BLOCKS, posterior.rows) if self.blocks is None else self.blocks
        if self.max_stages < blocks:
            raise OptionError(
                f"estimator.max_stages = {self.max_stages}: {blocks} blocks take a stage each at "
                "least"
            )
        here = jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype)
        jax.eval_shape(posterior.pointwise_log_likelihood, here)

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """Independent runs, their Z averaged after every block."""
        rows = posterior.rows
        blocks = min(BLOCKS, rows) if self.blocks is None else self.blocks
        owner = np.arange(rows, dtype=np.int32) * blocks // rows
        if self.shuffled:
            owner = np.random.default_rng(seed).permutation(owner)
        room = unknown_ladder(posterior, self.max_stages)
        # What the program does not look at is set to one value, or it would be compiled anew.
        planned = dataclasses.replace(
            self, owner=jnp.asarray(owner), ladder=room, blocks=blocks, shuffled=False, repeats=0
        )
        pilot = jax.device_get(_populate(planned, posterior, pilot_key(seed)))
        check_pilot(pilot, self.sampler.particles)
        planned = dataclasses.replace(planned, ladder=settle(pilot))
        found = repeat(_run, planned, posterior, seed, self.repeats, dtype)
        # Of the first b blocks each: their differences add up to the value, which the mean of the
        # repeats' own logarithms would not.
        prefixes = np.cumsum(found["predictive"].astype(float), axis=1)
        means = special.logsumexp(prefixes, axis=0) - np.log(self.repeats)
        more = {
            "block_rows": np.bincount(owner, minlength=blocks).tolist(),
            "block_log_predictive": np.diff(means, prepend=0.0).tolist(),
            "block_ess": found["ess"].mean(0).tolist(),
            "block_bridges": found["bridges"].mean(0).tolist(),
        }
        said = population_estimate(found, pilot, self.sampler.particles, self.max_stages, more)
        if (least := float(found["ess"].mean(0).min())) < LEAST_ESS:
            line = f"{least:.1%} of the particles were effective after a block; raise particles"
            said = said._replace(warnings=(*said.warnings, line))
        return said


def _run(estimator: IBIS, posterior: Posterior, key: Array) -> dict[str, Array]:
    found = _populate(estimator, posterior, key)
    return {name: value for name, value in found.items() if name != "ladder"}


@jax.jit
def _populate(estimator: IBIS, posterior: Posterior, key: Array) -> dict[str, Any]:
    sampler, blocks = estimator.sampler, estimator.blocks
    assert blocks is not None
    at_once = min(sampler.at_once, sampler.particles)
    key_draw, key_stages = jax.random.split(key)
    u = sampler.draw(posterior, key_draw)
    nothing, none = jnp.zeros(blocks, u.dtype), jnp.zeros((), jnp.int32)

    def unfinished(state: _State) -> Array:
        return state.block < blocks

    def stage(state: _State) -> _State:
        """Add as much of the block as the weights allow; resample and move if that is not all."""
        mine = estimator.owner == state.block

        def of_block(u: Array) -> Array:
            return jnp.where(mine, posterior.pointwise_log_likelihood(u), 0.0).sum()

        ratio = jax.lax.map(of_block, state.u, batch_size=at_once)
        alive = jnp.isfinite(ratio) & jnp.isfinite(state.log_weights)
        safe = jnp.where(alive, ratio, 0.0)
        before = jnp.where(alive, state.log_weights, -jnp.inf)
        rung = state.ladder.rung(state.stages)
        jump = state.stages + 1 >= estimator.max_stages - (blocks - 1 - state.block)
        rest = 1.0 - state.beta
        delta = largest_step(
            lambda step: effective_size(before + step * safe),
            rest,
            sampler.target_ess * alive.sum(),
        )
        delta = jnp.where(rung.settled, rung.beta - state.beta, jnp.where(jump, rest, delta))
        arrived = jnp.where(rung.settled, rung.beta >= 1.0, delta >= rest)
        log_weights = before + delta * safe
        increment = logsumexp(log_weights)
        log_weights = log_weights - increment
        effective = effective_size(log_weights)
        low = ~rung.settled & jump & (effective < 0.9 * sampler.target_ess * alive.sum())
        state = state._replace(
            log_weights=log_weights,
            beta=jnp.where(arrived, 1.0, state.beta + delta),
            predictive=state.predictive.at[state.block].add(increment),
            ess=state.ess.at[state.block].set(effective / sampler.particles),
            stages=state.stages + 1,
            forced=state.forced | low,
            ladder=state.ladder._replace(
                beta=state.ladder.beta.at[state.stages].set(
                    jnp.where(arrived, 1.0, state.beta + delta)
                )
            ),
        )
        own = jax.random.fold_in(key_stages, state.stages)
        state = jax.lax.fori_loop(
            0, (~arrived).astype(jnp.int32), lambda _, s: bridged(s, rung, ratio, own), state
        )
        return strongly_typed(
            state._replace(block=state.block + arrived, beta=jnp.where(arrived, 0.0, state.beta))
        )

    def bridged(state: _State, rung: Rung, heights: Array, key: Array) -> _State:
        """Equal weights again, and every particle moved; heights are log-likelihoods of the block.

        Of the rows so far the likelihood need not rise as the block comes in.
        """
        number = state.stages - 1
        key_parents, key_moves = jax.random.split(key)
        weights = jnp.exp(state.log_weights)
        parents = resample(key_parents, weights)
        rung = rung.unless_settled(
            found_rung(state.beta, state.step_size, spreads(state.u, weights))
        )
        mine = estimator.owner == state.block
        moved = move_all(
            _prefix(posterior, estimator.owner, state.block, state.beta),
            lambda u: jnp.where(mine, posterior.pointwise_log_likelihood(u), 0.0).sum(),
            state.u[parents],
            heights[parents],
            key_moves,
            trajectories=sampler.trajectories,
            rung=rung,
            count=sampler.moves,
            at_once=sampler.at_once,
        )
        used = rung._replace(step_size=moved.step_size, rounds=moved.needed)
        return strongly_typed(
            state._replace(
                u=moved.u,
                log_weights=jnp.full_like(state.log_weights, -np.log(sampler.particles)),
                ancestors=state.ancestors[parents],
                bridges=state.bridges.at[state.block].add(1.0),
                step_size=moved.step_size,
                gradients=state.gradients + moved.n_steps,
                lowest=jnp.minimum(state.lowest, moved.acceptance),
                ladder=state.ladder.filled(number, used),
            )
        )

    start = _State(
        u=u,
        log_weights=jnp.full(sampler.particles, -np.log(sampler.particles), u.dtype),
        ancestors=jnp.arange(sampler.particles, dtype=jnp.int32),
        block=none,
        beta=jnp.zeros((), u.dtype),
        predictive=nothing,
        ess=nothing,
        bridges=nothing,
        step_size=jnp.asarray(u.shape[1] ** -0.25, u.dtype),
        stages=none,
        gradients=jnp.zeros((), u.dtype),
        lowest=jnp.ones((), u.dtype),
        forced=jnp.zeros((), bool),
        ladder=estimator.ladder,
    )
    end = jax.lax.while_loop(unfinished, stage, start)
    return {
        "log_z": end.predictive.sum(),
        "ladder": end.ladder,
        "predictive": end.predictive,
        "ess": end.ess,
        "bridges": end.bridges,
        "stages": end.stages,
        "gradients": end.gradients,
        "acceptance": end.lowest,
        "forced": end.forced,
        "ancestors": 1 + jnp.sum(end.ancestors[1:] != end.ancestors[:-1]),
    }


def _prefix(
    posterior: Posterior, owner: Array, block: Array, beta: Array
) -> Callable[[Array], Array]:
    """Log density of the rows before a block, and of the block to the power ``beta``.

    All rows are computed and those to come weigh nothing, so that every prefix is one program.
    """
    weights = jnp.where(owner < block, 1.0, jnp.where(owner == block, beta, 0.0))

    def density(u: Array) -> Array:
        rows = posterior.pointwise_log_likelihood(u)
        return posterior.log_prior_density(u) + jnp.where(weights > 0, weights * rows, 0.0).sum()

    return density


@register(
    "estimators",
    "ibis",
    summary="Data added block by block: the evidence as how well rows predict the next ones.",
    options=IBISOptions,
    references=(
        "Chopin (2002), A Sequential Particle Filter Method for Static Models",
        "Dawid (1984), Statistical Theory: The Prequential Approach",
        "Del Moral, Doucet & Jasra (2006), Sequential Monte Carlo Samplers, sec. 3",
    ),
    tags={"kind": "unbiased", "family": "sampling"},
    facts={
        "number": "unbiased",
        "standard error": "spread of independent repeats",
        "wrong when": "a mode too small for any prior draw to lie near it, early rows that lead "
        "all particles to one mode, or particles that do not move (acceptance, ancestors)",
        "choose it": "the evidence is wanted as a sum of predictions, row after row",
    },
    notes="The log evidence is the sum over blocks of log p(block | blocks before), in diagnostics "
    "as block_log_predictive; its order decides the terms and not the sum. A first population "
    "finds out which blocks have to be added by degrees, with a resampling and moves at each "
    "(block_bridges), and how particles move; the repeats keep to that, so that Z is unbiased. A "
    "gradient counts as one of all rows, though rows to come weigh nothing in it. Needs one "
    "likelihood term a row; the terms of the sum are predictions where rows are independent "
    "given the weights.",
)
def ibis(options: IBISOptions) -> IBIS:
    """The estimator of these options."""
    return IBIS(
        sampler_of(options),
        options.max_stages,
        None,
        None,
        options.blocks,
        options.order == "shuffled",
        options.repeats,
    )
