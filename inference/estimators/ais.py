"""Annealed importance sampling from the prior, and back from the posterior."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field
from scipy.special import expit, logsumexp

from bnnzoo import registry
from bnnzoo.errors import RunError
from bnnzoo.inference.annealing import (
    Ladder,
    TuningOptions,
    find_ladder,
    path_density,
    prior_draws,
    tuning_sampler,
)
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.loop import run_chains
from bnnzoo.inference.repeats import in_groups
from bnnzoo.inference.smc_moves import STUCK_ACCEPTANCE, Rung, Trajectories
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count
from bnnzoo.registry import register

STEEPNESS = 4.0
"""Of the sigmoid: half of its rungs lie outside inverse temperatures of 0.1 and 0.9."""

FEWEST_WEIGHTS = 20
"""Effective number of forward chains under which their mean is not to be trusted."""

BACKWARD_CHAINS = 8
"""Chains that draw from the posterior; their spread is in the upper bound's standard error."""


class AISOptions(TuningOptions):
    """Options of ``ais``."""

    chains: Annotated[int, Field(gt=1)] = Field(128, description="Independent annealed chains.")
    rungs: Annotated[int, Field(gt=1)] = Field(1000, description="Inverse temperatures above 0.")
    schedule: Literal["pilot", "sigmoid", "geometric"] = Field(
        "pilot",
        description="Inverse temperatures. pilot: as many between each two stages of the pilot, "
        "which are alike hard; sigmoid: dense at both ends; geometric: dense at the prior, from "
        "`first`.",
    )
    first: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-4, description="First inverse temperature of the geometric schedule."
    )
    moves: Count = Field(1, description="Trajectories at each rung.")
    reverse: bool = Field(
        True,
        description="Also anneal as many posterior draws back to the prior, for the upper bound.",
    )
    warmup: Count = Field(500, description="Warm-up steps of the hmc chains these come from.")
    thin: Count = Field(10, description="Steps of hmc from one of them to the next.")
    at_once: Count = Field(64, description="Chains whose gradients are in memory at a time.")

    def betas(self, path: np.ndarray) -> np.ndarray:
        """The inverse temperatures, from 0 to 1 ``(rungs + 1,)``.

        Args:
            path: those of the pilot, from 0 to 1.
        """
        share = np.linspace(0.0, 1.0, self.rungs + 1)
        if self.schedule == "sigmoid":
            curve = expit(STEEPNESS * (2.0 * share - 1.0))
            return (curve - curve[0]) / (curve[-1] - curve[0])
        if self.schedule == "geometric":
            return np.concatenate([[0.0], np.geomspace(self.first, 1.0, self.rungs)])
        return np.interp(share, np.linspace(0.0, 1.0, len(path)), path)


@functools.partial(
    register_dataclass,
    data_fields=("trajectories", "rises", "ladder"),
    meta_fields=("moves",),
)
@dataclass(frozen=True)
class Walk:
    """What the program of a group of chains needs beside the posterior.

    Attributes:
        trajectories: how chains move.
        rises: of the inverse temperature, one a weighting.
        ladder: where they move between weightings; turned round it leads back.
        moves: trajectories at each rung.
    """

    trajectories: Trajectories
    rises: Array
    ladder: Ladder
    moves: int

    def back(self) -> Walk:
        """From the posterior to the prior."""
        return dataclasses.replace(self, rises=self.rises[::-1], ladder=self.ladder.downwards())


@dataclass(frozen=True)
class AIS(Estimator):
    """Chains that are weighted and moved at each rung of a ladder that is settled beforehand."""

    options: AISOptions

    kind = "unbiased"
    needs_draws = True

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The mean weight of forward chains; bounds from both directions beside it."""
        options, sampler = self.options, tuning_sampler(self.options)
        tuned, pilot = find_ladder(sampler, posterior, seed, options.max_stages)
        betas = options.betas(tuned.path())
        rises = jnp.asarray(np.diff(betas), posterior.x.dtype)
        forth = Walk(sampler.trajectories, rises, tuned.at(betas[1:-1]), options.moves)
        draw_key, walk_key, back_key = jax.random.split(jax.random.key(seed), 3)
        starts = prior_draws(posterior, jax.random.split(draw_key, options.chains))
        found = in_groups(_walk, forth, posterior, walk_key, starts, options.at_once, dtype)
        log_weights = found["sum"].astype(float)
        gradients = int(pilot["gradients"]) + int(found["gradients"].sum())
        lower, lower_error = _mean(log_weights)
        value, error, effective = _log_mean(log_weights)
        acceptance = found["acceptance"].mean(0)
        diagnostics = {
            "lower_bound": lower,
            "lower_bound_error": lower_error,
            "effective_chains": effective,
            "spread": lower_error * math.sqrt(options.chains),
            "inverse_temperatures": betas.tolist(),
            "acceptance": acceptance.tolist(),
        }
        warnings = _doubts(effective, acceptance)
        if options.reverse:
            back = forth.back()
            more = self._backwards(back, posterior, seed, back_key, dtype)
            diagnostics |= more.diagnostics
            warnings += more.warnings
            gradients += more.gradients
            noise = math.hypot(lower_error, more.standard_error)
            if lower - more.value > 3.0 * noise:
                warnings += (
                    f"the lower bound is {lower - more.value:.2g} nats above the upper one: the "
                    "posterior draws miss a part of the posterior; raise warmup",
                )
        return Estimate(value, error, gradients, diagnostics, warnings)

    def _backwards(
        self, back: Walk, posterior: Posterior, seed: int, key: Array, dtype: str
    ) -> Estimate:
        """The upper bound, from draws of the posterior."""
        options = self.options
        count = min(BACKWARD_CHAINS, options.chains)
        each = options.chains // count
        hmc = registry.get("backends", "hmc").build({}, "options")
        drawn = run_chains(
            hmc.planned(options.warmup),
            posterior,
            chains=count,
            draws=each * options.thin,
            warmup=options.warmup,
            seed=seed,
            dtype=dtype,
        )
        starts = drawn.u.all()[:, options.thin - 1 :: options.thin]
        starts = starts[np.isfinite(starts).all((1, 2))]  # hmc flags a chain that it stopped
        if not len(starts):
            raise RunError("ais: no hmc chain gave draws for the upper bound; set reverse = false")
        count, each = starts.shape[:2]
        starts = jnp.asarray(starts.reshape(count * each, -1))
        ends = in_groups(_walk, back, posterior, key, starts, options.at_once, dtype)
        sums = ends["sum"].astype(float)
        upper, independent = _mean(sums)
        by_chain = sums.reshape(count, each).mean(1)
        # Draws of one chain are relatives: where chains differ by more than that allows, they say.
        between = float(by_chain.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
        error = max(independent, between)
        mean, _, effective = _log_mean(-sums)
        diagnostics = {
            "upper_bound": upper,
            "upper_bound_error": error,
            "reverse_estimate": -mean,
            "effective_reverse_chains": effective,
        }
        gradients = int(ends["gradients"].sum()) + sum(
            hmc.gradients({name: values[chain] for name, values in stats.items()})
            for stats in (drawn.stats, drawn.warmup_stats)
            for chain in range(len(drawn.states))
        )
        said = tuple(f"posterior draws, chain {c}: {flag.message}" for c, flag in drawn.flags)
        return Estimate(upper, error, gradients, diagnostics, said)


def _mean(values: np.ndarray) -> tuple[float, float]:
    if not np.isfinite(values).all():
        return -math.inf, math.inf  # a chain of no weight bounds nothing
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _log_mean(logs: np.ndarray) -> tuple[float, float, float]:
    """Log mean of exponentials, its standard error, and how many of them count."""
    log = float(logsumexp(logs) - math.log(len(logs)))
    ratios = np.exp(logs - log)
    effective = float(ratios.sum() ** 2 / np.sum(ratios**2))
    return log, float(ratios.std(ddof=1) / math.sqrt(len(logs))), effective


def _doubts(effective: float, acceptance: np.ndarray) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    if effective < FEWEST_WEIGHTS:
        found += (
            f"the mean weight rests on {effective:.1f} chains and its standard error is too "
            "small; raise rungs, then chains",
        )
    if (lowest := float(acceptance.min())) < STUCK_ACCEPTANCE:
        found += (f"acceptance {lowest:.2f} at a rung: chains hardly moved there",)
    return found


@jax.jit
def _walk(walk: Walk, posterior: Posterior, given: tuple[Array, Array]) -> dict[str, Array]:
    """A group of chains from one end of the ladder to the other."""
    key, start = given
    trajectories = walk.trajectories
    likelihood = jax.vmap(posterior.log_likelihood)

    def at_rung(carry: Any, level: tuple[Array, Rung, Array]) -> tuple[Any, Array]:
        u, total, gradients = carry
        rise, rung, number = level
        total = total + rise * likelihood(u)
        steps, largest = trajectories.leapfrogs(rung.step_size)
        own = jax.random.split(jax.random.fold_in(key, number), u.shape[0])

        def move(u: Array, key: Array) -> tuple[Array, Array, Array]:
            return trajectories.move(
                path_density(posterior, rung.beta),
                u,
                key,
                step_size=largest,
                steps=steps,
                metric=rung.metric,
                count=walk.moves,
            )

        u, _, rates = jax.vmap(move)(u, own)
        gradients = gradients + 1 + walk.moves * steps
        return (u, total, gradients), rates.mean()

    rungs = walk.rises.size - 1
    levels = (walk.rises[:-1], walk.ladder.every(), jnp.arange(rungs))
    begin = (start, jnp.zeros_like(start[:, 0]), jnp.zeros((), jnp.int32))
    (u, total, gradients), rates = jax.lax.scan(at_rung, begin, levels)
    total = total + walk.rises[-1] * likelihood(u)
    # A chain that met a point of no likelihood is of no weight.
    total = jnp.where(jnp.isnan(total), -jnp.inf, total)
    size = len(total)
    return {
        "sum": total,
        "gradients": jnp.full(size, gradients),
        "acceptance": jnp.tile(rates, (size, 1)),
    }


@register(
    "estimators",
    "ais",
    summary="Chains annealed from the prior, and back from the posterior: bounds on both sides.",
    options=AISOptions,
    references=(
        "Neal (2001), Annealed Importance Sampling",
        "Grosse, Ghahramani & Adams (2015), Sandwiching the Marginal Likelihood Using "
        "Bidirectional Monte Carlo",
    ),
    tags={"kind": "unbiased", "family": "sampling"},
    facts={
        "number": "unbiased",
        "standard error": "spread of the weights of independent chains",
        "wrong when": "few chains carry the weight (effective_chains), a mode too small for any "
        "chain to find, and for the upper bound posterior draws that miss a part",
        "choose it": "bounds on both sides are wanted, or chains on many devices",
    },
    notes="The value is the log of the forward chains' mean weight. Their mean log weight is below "
    "the evidence in expectation (lower_bound), and that of chains annealed from posterior draws "
    "to the prior above it (upper_bound), as far as those draws are from the posterior: they are "
    "hmc's, and a part of the posterior that all of them miss makes the bound too low. Step "
    "sizes, metrics and with schedule = pilot the rungs come from a smc run before, so that Z is "
    "unbiased.",
)
def ais(options: AISOptions) -> AIS:
    """The estimator of these options."""
    return AIS(options)
