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
from bnnzoo.inference.annealing import (
    Ladder,
    find_ladder,
    path_density,
    prior_draws,
)
from bnnzoo.inference.backends.smc import SMC, SMCOptions
from bnnzoo.inference.backends.smc import smc as sampler_of
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.hamiltonian import STUCK_ACCEPTANCE
from bnnzoo.inference.loop import run_chains
from bnnzoo.inference.repeats import repeat_each
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options
from bnnzoo.registry import register

STEEPNESS = 4.0
"""Of the sigmoid: half of its rungs lie outside inverse temperatures of 0.1 and 0.9."""

FEWEST_WEIGHTS = 20
"""Effective number of forward chains under which their mean is not to be trusted."""

PILOT_STAGES = 500
"""Most stages of the pilot."""

BACKWARD_CHAINS = 8
"""Chains that draw from the posterior; their spread is in the upper bound's standard error."""


class AISOptions(Options):
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
    trajectory: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        math.pi / 2,
        description="Trajectory length in units of the metric, where each coordinate has scale 1.",
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="A length is trajectory * U(1 - jitter, 1 + jitter): no resonance."
    )
    max_steps: Count = Field(100, description="Most leapfrog steps of a trajectory.")
    target_acceptance: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.8, description="Acceptance rate the pilot tunes step sizes to."
    )
    pilot: Annotated[int, Field(gt=1)] = Field(
        128, description="Particles of the pilot, an smc run that tunes step sizes and metrics."
    )
    reverse: bool = Field(
        True,
        description="Also anneal as many posterior draws back to the prior, for the upper bound.",
    )
    warmup: Count = Field(500, description="Warm-up steps of the hmc chains these come from.")
    thin: Count = Field(10, description="Steps of hmc from one of them to the next.")
    at_once: Count = Field(64, description="Chains whose gradients are in memory at a time.")


@functools.partial(
    register_dataclass,
    data_fields=("pilot", "steps", "ladder", "first"),
    meta_fields=(
        "moves",
        "chains",
        "rungs",
        "schedule",
        "reverse",
        "warmup",
        "thin",
        "at_once",
    ),
)
@dataclass(frozen=True)
class AIS(Estimator):
    """Chains that are weighted and moved at each rung of a ladder that is settled beforehand.

    ``steps`` are the rises of the inverse temperature before each rung but the first's, and
    ``ladder`` says how to move at the rungs between; turned round they lead back.
    """

    pilot: SMC
    steps: Any
    ladder: Any
    first: Any
    moves: int
    chains: int
    rungs: int
    schedule: str
    reverse: bool
    warmup: int
    thin: int
    at_once: int

    kind = "unbiased"
    needs_draws = True

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The mean weight of forward chains; bounds from both directions beside it."""
        tuned, pilot = find_ladder(self.pilot, posterior, seed, PILOT_STAGES)
        betas = self._betas(jax.device_get(tuned.beta).astype(float))
        forth = dataclasses.replace(
            self,
            steps=jnp.asarray(np.diff(betas), posterior.x.dtype),
            ladder=tuned.at(betas[1:-1]),
        )
        draw_key, walk_key, back_key = jax.random.split(jax.random.key(seed), 3)
        starts = prior_draws(posterior, jax.random.split(draw_key, self.chains))
        found = self._walk_all(forth, posterior, walk_key, starts, dtype)
        log_weights = found["sum"]
        gradients = int(pilot["gradients"]) + found["gradients"]
        lower, lower_error = _mean(log_weights)
        value, error, effective = _log_mean(log_weights)
        acceptance = found["acceptance"]
        diagnostics = {
            "lower_bound": lower,
            "lower_bound_error": lower_error,
            "effective_chains": effective,
            "spread": float(np.std(log_weights, ddof=1)),
            "inverse_temperatures": betas.tolist(),
            "acceptance": acceptance.tolist(),
        }
        warnings = _doubts(effective, acceptance)
        if self.reverse:
            back = dataclasses.replace(
                forth, steps=forth.steps[::-1], ladder=forth.ladder.downwards()
            )
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

    def _betas(self, pilot: np.ndarray) -> np.ndarray:
        """The schedule, from 0 to 1 ``(rung + 1,)``."""
        share = np.linspace(0.0, 1.0, self.rungs + 1)
        if self.schedule == "sigmoid":
            curve = expit(STEEPNESS * (2.0 * share - 1.0))
            return (curve - curve[0]) / (curve[-1] - curve[0])
        if self.schedule == "geometric":
            return np.concatenate([[0.0], np.geomspace(float(self.first), 1.0, self.rungs)])
        known = np.concatenate([[0.0], pilot[: int(np.argmax(pilot >= 1.0)) + 1]])
        return np.interp(share, np.linspace(0.0, 1.0, len(known)), known)

    def _walk_all(
        self, walk: AIS, posterior: Posterior, key: Array, starts: Array, dtype: str
    ) -> dict[str, Any]:
        """All chains, in groups of one size; the last is filled up and cut again."""
        count = len(starts)
        size = min(self.at_once, count)
        groups = -(-count // size)
        index = np.arange(groups * size) % count
        given = (
            jax.random.split(key, groups),
            starts[index].reshape(groups, size, -1),
        )
        found = repeat_each(_walk, walk, posterior, given, dtype)
        return {
            "sum": found["sum"].reshape(-1)[:count].astype(float),
            "gradients": int(found["gradients"].sum()),
            "acceptance": found["acceptance"].mean(0),
        }

    def _backwards(
        self, back: AIS, posterior: Posterior, seed: int, key: Array, dtype: str
    ) -> Estimate:
        """The upper bound, from draws of the posterior."""
        count = min(BACKWARD_CHAINS, self.chains)
        each = self.chains // count
        hmc = registry.get("backends", "hmc").build({}, "options")
        drawn = run_chains(
            hmc.planned(self.warmup),
            posterior,
            chains=count,
            draws=each * self.thin,
            warmup=self.warmup,
            seed=seed,
            dtype=dtype,
        )
        last = slice(self.thin - 1, None, self.thin)
        starts = drawn.u.all()[:, last]
        ends = self._walk_all(
            back, posterior, key, jnp.asarray(starts.reshape(count * each, -1)), dtype
        )
        upper, independent = _mean(ends["sum"])
        by_chain = ends["sum"].reshape(count, each).mean(1)
        # Draws of one chain are relatives: where chains differ by more than that allows, they say.
        error = max(independent, float(by_chain.std(ddof=1)) / math.sqrt(count) if count > 1 else 0)
        mean, _, effective = _log_mean(-ends["sum"])
        diagnostics = {
            "upper_bound": upper,
            "upper_bound_error": error,
            "reverse_estimate": -mean,
            "effective_reverse_chains": effective,
        }
        gradients = ends["gradients"] + sum(
            hmc.gradients({name: values[chain] for name, values in stats.items()})
            for stats in (drawn.stats, drawn.warmup_stats)
            for chain in range(count)
        )
        said = tuple(f"posterior draws, chain {c}: {flag.message}" for c, flag in drawn.flags)
        return Estimate(upper, error, gradients, diagnostics, said)


def _mean(values: np.ndarray) -> tuple[float, float]:
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
def _walk(estimator: AIS, posterior: Posterior, given: tuple[Array, Array]) -> dict[str, Array]:
    """A group of chains from one end of the ladder to the other."""
    key, start = given
    trajectories = estimator.pilot.trajectories
    likelihood = jax.vmap(posterior.log_likelihood)

    def at_rung(carry: Any, level: tuple[Array, Ladder, Array]) -> tuple[Any, Array]:
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
                count=estimator.moves,
            )

        u, _, rates = jax.vmap(move)(u, own)
        gradients = gradients + u.shape[0] * (1 + estimator.moves * steps)
        return (u, total, gradients), rates.mean()

    rungs = estimator.steps.size - 1
    every = estimator.ladder._replace(settled=jnp.ones(rungs, bool))
    levels = (estimator.steps[:-1], every, jnp.arange(rungs))
    begin = (start, jnp.zeros_like(start[:, 0]), jnp.zeros((), jnp.int32))
    (u, total, gradients), rates = jax.lax.scan(at_rung, begin, levels)
    total = total + estimator.steps[-1] * likelihood(u)
    # A chain that met a point of no likelihood is of no weight.
    total = jnp.where(jnp.isnan(total), -jnp.inf, total)
    return {"sum": total, "gradients": gradients, "acceptance": rates}


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
    shared = SMCOptions(
        particles=options.pilot,
        trajectory=options.trajectory,
        jitter=options.jitter,
        max_steps=options.max_steps,
        target_acceptance=options.target_acceptance,
        at_once=min(options.at_once, options.pilot),
    )
    return AIS(
        pilot=sampler_of(shared),
        steps=None,
        ladder=None,
        first=options.first,
        moves=options.moves,
        chains=options.chains,
        rungs=options.rungs,
        schedule=options.schedule,
        reverse=options.reverse,
        warmup=options.warmup,
        thin=options.thin,
        at_once=options.at_once,
    )
