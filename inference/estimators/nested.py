"""Evidence by nested sampling."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.ns import nss
from blackjax.ns.base import StateWithLogLikelihood
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field, model_validator
from scipy import stats

from bnnzoo.errors import RunError
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.nested_volumes import Deaths, Volumes, evidence
from bnnzoo.inference.precision import strongly_typed
from bnnzoo.inference.repeats import repeat
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Fraction, Options
from bnnzoo.registry import register

LEAST_SLICES = 10
"""Slices of a new point, however few its coordinates."""

RARE = 1e-4
"""Probability under which the ranks of new points are taken for not uniform."""

UNLIKELY = 1e-3
"""Probability under which runs are taken to differ by more than their errors."""

PRIOR_DRAWS = 1000
"""Draws of the prior that shape the slices."""

TAIL = 3.0
"""Distance from the median, in ranges between the quartiles, at which such draws are cut."""

FAILED = 0.01
"""Share of slices that may find no point."""


class NestedOptions(Options):
    """Options of ``nested``."""

    live: Annotated[int, Field(ge=20)] = Field(250, description="Live points of each run.")
    batch: Count = Field(25, description="Points replaced at a time; at most half of the live.")
    slices: Count | None = Field(
        None, description="Slices that take a copy to a new point; None: 4 for each coordinate."
    )
    remaining: Fraction = Field(
        1e-3, description="Stop once the live points can add no more than this share of Z."
    )
    repeats: Count = Field(
        4, description="Independent runs, merged into one; by their spread the error is checked."
    )
    most_nats: Count = Field(
        500, description="Stop there: log of the prior volume over that of the live points."
    )

    @model_validator(mode="after")
    def _batch(self) -> NestedOptions:
        if 2 * self.batch > self.live:
            raise ValueError(f"batch = {self.batch} is more than half of live = {self.live}")
        return self


@functools.partial(
    register_dataclass,
    data_fields=("remaining",),
    meta_fields=("live", "batch", "slices", "repeats", "most_nats"),
)
@dataclass(frozen=True)
class Nested(Estimator):
    """BlackJAX's constrained slices in one program; the volumes are found on the host."""

    remaining: Any
    live: int
    batch: int
    slices: int | None
    repeats: int
    most_nats: int

    kind = "consistent"
    needs_draws = True

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """Independent runs, merged."""
        found = repeat(_run, self, posterior, seed, self.repeats, dtype)
        runs = [_deaths(found, number, self.batch) for number in range(self.repeats)]
        if any(np.isneginf(run.log_likelihood[np.isnan(run.birth)]).all() for run in runs):
            raise RunError(
                f"nested: the likelihood is 0 at all {self.live} draws of the prior that a run "
                "starts from; raise live"
            )
        rng = np.random.default_rng(seed)
        merged = Deaths(*(np.concatenate(values) for values in zip(*runs, strict=True)))
        whole = evidence(merged, rng)
        each = [evidence(run, rng) for run in runs]
        steps = found["iterations"]
        ranks = np.concatenate(
            [found["ranks"][number, : steps[number]].ravel() for number in range(self.repeats)]
        )
        uniform = stats.kstest(ranks, "uniform").pvalue if len(ranks) else 1.0
        slices = float(np.sum(found["slices"]))
        diagnostics = {
            "information": whole.information,
            "effective_draws": whole.effective,
            "log_z": [run.log_z for run in each],
            "by_information": float(np.sqrt(whole.information / (self.live * self.repeats))),
            "evaluations": int(np.sum(found["evaluations"])),
            "iterations": float(steps.mean()),
            "rank_p_value": float(uniform),
            "failed_slices": float(np.sum(found["failed"]) / slices) if slices else 0.0,
        }
        said = _warnings(diagnostics, each, int(np.sum(found["unfinished"])))
        error = _error(whole.standard_error, each)
        return Estimate(whole.log_z, error, 0, diagnostics, said)


def _deaths(found: dict[str, np.ndarray], number: int, batch: int) -> Deaths:
    count = int(found["iterations"][number])
    return Deaths(
        *(
            np.concatenate([found[f"dead_{name}"][number, :count].ravel(), found[name][number]])
            for name in ("log_likelihood", "birth")
        )
    )


def _warnings(found: dict[str, Any], each: list[Volumes], unfinished: int) -> tuple[str, ...]:
    said = []
    if unfinished:
        said.append(
            f"{unfinished} of {len(each)} runs stopped before the live points had ceased to "
            "matter: the evidence is too low; raise most_nats"
        )
    if found["rank_p_value"] < RARE:
        said.append(
            "new points are not spread over the live ones as independent draws are "
            f"(p = {found['rank_p_value']:.1g}): raise slices"
        )
    if found["failed_slices"] > FAILED:
        said.append(f"{found['failed_slices']:.0%} of slices found no point: live points are equal")
    if _differ(each):
        expected = float(np.sqrt(np.mean([run.standard_error**2 for run in each])))
        said.append(
            f"the runs' log Z spread by {_spread(each):.2g} nats, which their errors put at "
            f"{expected:.2g}: new points are not independent, and the evidence may be low by "
            "more than its error; raise slices, or live if modes are lost"
        )
    return tuple(said)


def _error(volumes: float, each: list[Volumes]) -> float:
    """Standard error of the merged runs.

    That of the volumes takes new points for independent; where they are not, runs tell. A few runs
    tell it coarsely: their word counts half, and alone where it cannot be chance.

    Args:
        volumes: that of the volumes.
        each: run's own evidence.
    """
    runs = _spread(each) / math.sqrt(len(each))
    if _differ(each):
        return max(volumes, runs)
    return max(volumes, math.sqrt(0.5 * (volumes**2 + runs**2)))


def _differ(each: list[Volumes]) -> bool:
    """Whether runs lie farther apart than their errors allow."""
    expected = float(np.mean([run.standard_error**2 for run in each]))
    free = len(each) - 1
    if free == 0 or expected == 0:
        return False
    return bool(stats.chi2.sf(free * _spread(each) ** 2 / expected, free) < UNLIKELY)


def _spread(each: list[Volumes]) -> float:
    """Standard deviation of the runs' log Z; 0 of one run."""
    return float(np.std([run.log_z for run in each], ddof=1)) if len(each) > 1 else 0.0


@jax.jit
def _run(estimator: Nested, posterior: Posterior, key: Array) -> dict[str, Array]:
    live, batch = estimator.live, estimator.batch
    most = -(-estimator.most_nats * live // batch)
    slices = estimator.slices or max(LEAST_SLICES, 4 * posterior.dimension)

    def point(u: Array, loglikelihood_birth: Array | float = jnp.nan) -> StateWithLogLikelihood:
        likelihood = posterior.log_likelihood(u)
        likelihood = jnp.where(jnp.isnan(likelihood), -jnp.inf, likelihood)
        born = jnp.asarray(loglikelihood_birth, likelihood.dtype)
        return StateWithLogLikelihood(u, posterior.log_prior_density(u), likelihood, born)

    start_key, run_key, shape_key = jax.random.split(key, 3)
    factor = {"covariance_factor": _prior_shape(posterior, shape_key)}

    def shape(key: Array, state: Any, info: Any, params: Any = None) -> dict[str, Array]:
        return factor

    kernel = nss.build_kernel(point, slices, batch, inner_kernel_params=shape)
    us = jax.vmap(posterior.initial)(jax.random.split(start_key, live))
    state = strongly_typed(
        nss.init(us, jax.vmap(point), update_inner_kernel_params_fn=shape, rng_key=start_key)
    )
    zeros = jnp.zeros((most, batch), us.dtype)
    zero = jnp.zeros((), us.dtype)

    def unfinished(state: Any) -> Array:
        """The best live point, everywhere in the volume that is left, would still add something."""
        integrator = state.integrator
        bound = jnp.max(state.particles.loglikelihood) + integrator.logX
        return ~(bound - integrator.logZ < jnp.log(estimator.remaining))

    def survivors(state: Any) -> Array:
        """Whether a point lies above those that die next: on a plateau at the top none does."""
        values = jnp.sort(state.particles.loglikelihood)
        return values[-1] > values[batch - 1]

    def goes_on(carry: Any) -> Array:
        state, count = carry[:2]
        return (count < most) & unfinished(state) & survivors(state)

    def iteration(carry: Any) -> Any:
        state, count, dead, born, ranks, evaluations, failed = carry
        state, info = kernel(jax.random.fold_in(run_key, count), state)
        level = jnp.max(info.particles.loglikelihood)
        values = state.particles.loglikelihood
        fresh = state.particles.loglikelihood_birth == level
        # Of the points above the contour, those just born are as any other.
        order = jnp.argsort(~fresh)[:batch]
        above = values > level
        below = (values[None, :] < values[order][:, None]) & above
        rank = (jnp.sum(below, axis=1) + 0.5) / jnp.sum(above)
        steps = info.update_info
        return strongly_typed(
            (
                state,
                count + 1,
                dead.at[count].set(info.particles.loglikelihood),
                born.at[count].set(info.particles.loglikelihood_birth),
                ranks.at[count].set(rank),
                evaluations + jnp.sum(steps.num_expansions + steps.num_shrink + 2),
                failed + jnp.sum(~steps.is_accepted),
            )
        )

    carry = strongly_typed((state, 0, zeros, zeros, zeros, zero + live, zero))
    state, count, dead, born, ranks, evaluations, failed = jax.lax.while_loop(
        goes_on, iteration, carry
    )
    return {
        "log_likelihood": state.particles.loglikelihood,
        "birth": state.particles.loglikelihood_birth,
        "dead_log_likelihood": dead,
        "dead_birth": born,
        "ranks": ranks,
        "iterations": count,
        "evaluations": evaluations,
        "slices": count * (batch * slices),
        "failed": failed,
        "unfinished": (count >= most) & unfinished(state),
    }


def _prior_shape(posterior: Posterior, key: Array) -> Array:
    """Root of the prior's covariance ``(dim, dim)``, which shapes the slices' directions.

    It is of draws of its own. Directions shaped by the live points, as BlackJAX's are by default,
    depend on the points that slices start from: such moves do not leave the prior within the
    contour as it is, and on networks log Z came out as much as 1.6 nats too low.
    """
    us = jax.vmap(posterior.initial)(jax.random.split(key, PRIOR_DRAWS))
    low, middle, high = jnp.quantile(us, jnp.array([0.25, 0.5, 0.75]), axis=0)
    # Of heavy tails the covariance would be that of a few draws.
    us = jnp.clip(us, middle - TAIL * (high - low), middle + TAIL * (high - low))
    found = jnp.atleast_2d(jnp.cov(us, rowvar=False))
    widths = jnp.maximum(jnp.diag(found), 1e-12 * jnp.max(jnp.diag(found)))
    # Fewer draws than coordinates leave no covariance: its diagonal always counts.
    share = posterior.dimension / (posterior.dimension + PRIOR_DRAWS)
    return jnp.linalg.cholesky((1.0 - share) * found + share * jnp.diag(widths))


@register(
    "estimators",
    "nested",
    summary="Nested sampling: without gradients, many modes, the error from one run.",
    options=NestedOptions,
    references=(
        "Skilling (2006), Nested Sampling for General Bayesian Computation",
        "Fowlie, Handley & Su (2021), Nested Sampling with Plateaus",
        "Fowlie, Handley & Su (2020), Nested Sampling Cross-Checks Using Order Statistics",
        "Yallup, Kroupa & Handley (2026), Nested Slice Sampling",
    ),
    tags={"kind": "consistent", "family": "sampling"},
    facts={
        "number": "consistent",
        "standard error": "of the prior volumes, simulated, about sqrt(information / live points), "
        "mixed with that by the runs' spread where it is larger; the spread alone where it is no "
        "chance",
        "wrong when": "new points stay near the copies they start from (runs then differ, and "
        "ranks are not uniform: rank_p_value), or a mode holds too few live points to survive",
        "choose it": "few weights, and a check of smc that shares nothing with it",
    },
    notes="Live points are drawn from the prior; the lowest likelihoods die and are replaced by "
    "draws of the prior above them, made by slices along directions of the prior's "
    "covariance. Regions of likelihood 0 and other plateaus have the volume of the share of points "
    "on them. It takes no gradients: diagnostics count likelihood evaluations. The cost rises with "
    "the square of the dimension; beyond about a hundred weights take smc.",
)
def nested(options: NestedOptions) -> Nested:
    """The estimator of these options."""
    sizes = (options.live, options.batch, options.slices, options.repeats, options.most_nats)
    return Nested(options.remaining, *sizes)
