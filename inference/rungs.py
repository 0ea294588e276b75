"""Chains at many inverse temperatures between prior and posterior, as one program.

A replica has one chain at each rung. It is annealed from a draw of the prior, which leaves each
rung a start; then sweeps move every chain and offer neighbours to change places. The chain at the
prior is a fresh draw at every sweep, so that what is new comes in at the hot end and goes down.
Replicas are independent of each other: what an estimate varies by between them is its error.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.annealing import (
    TuningOptions,
    find_ladder,
    path_density,
    possible_draws,
    tuning_sampler,
)
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.repeats import in_groups
from bnnzoo.inference.smc_moves import STUCK_ACCEPTANCE, Rung, Trajectories
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Fraction

FEWEST_SWAPS = 0.05
"""Share of accepted exchanges between two rungs under which they are as good as cut off."""


class RungOptions(TuningOptions):
    """What estimators from chains at many temperatures share."""

    rungs: Annotated[int, Field(ge=4)] = Field(
        32, description="Intervals between inverse temperatures 0 and 1."
    )
    schedule: Literal["power", "pilot"] = Field(
        "power",
        description="Inverse temperatures. power: (k / rungs)^(1 / alpha); pilot: as many between "
        "each two stages of the pilot, which are alike hard.",
    )
    alpha: Fraction = Field(
        0.3, description="Of schedule = power: the smaller, the denser at the prior."
    )
    replicas: Annotated[int, Field(gt=1)] = Field(
        32, description="Independent sets of chains, whose spread is the standard error."
    )
    sweeps: Count = Field(100, description="Trajectories of every chain that are kept.")
    warmup: Annotated[int, Field(ge=0)] = Field(
        20, description="Trajectories before, after the way down from the prior."
    )
    at_once: Count = Field(
        16, description="Replicas whose gradients are in memory at the same time."
    )

    def betas(self, path: np.ndarray) -> np.ndarray:
        """The inverse temperatures, from 0 to 1 ``(rungs + 1,)``.

        Args:
            path: those of the pilot, from 0 to 1.
        """
        share = np.linspace(0.0, 1.0, self.rungs + 1)
        if self.schedule == "power":
            return share ** (1.0 / self.alpha)
        return np.interp(share, np.linspace(0.0, 1.0, len(path)), path)


class Sampled(NamedTuple):
    """Log-likelihoods at every rung.

    Attributes:
        betas: inverse temperatures, ascending from 0 ``(rung,)``.
        log_likelihood: ``(replica, rung, sweep)``; of the last rung only where it was asked for.
    """

    betas: np.ndarray
    log_likelihood: np.ndarray

    def every_second(self) -> Sampled:
        """The coarser grid: every second rung, and the last."""
        index = np.unique([*range(0, len(self.betas), 2), len(self.betas) - 1])
        sampled = index[index < self.log_likelihood.shape[1]]
        return Sampled(self.betas[index], self.log_likelihood[:, sampled])

    def without(self, replica: int) -> Sampled:
        """All replicas but one."""
        return self._replace(log_likelihood=np.delete(self.log_likelihood, replica, axis=0))


def jackknife(statistic: Callable[[Sampled], float], sampled: Sampled) -> tuple[float, float]:
    """A statistic of all replicas, its bias of first order taken off, and its standard error.

    Args:
        statistic: of any number of replicas.
        sampled: of all.
    """
    count = len(sampled.log_likelihood)
    whole = statistic(sampled)
    parts = np.array([statistic(sampled.without(replica)) for replica in range(count)])
    value = count * whole - (count - 1) * float(parts.mean())
    return value, float(np.sqrt((count - 1) * np.mean((parts - parts.mean()) ** 2)))


@functools.partial(
    register_dataclass,
    data_fields=("trajectories", "ladder", "warmup"),
    meta_fields=("sweeps",),
)
@dataclass(frozen=True)
class Sweeper:
    """What the program of a group of replicas needs beside the posterior.

    Attributes:
        trajectories: how chains move.
        ladder: the rungs above the prior's, each with a leading axis.
        warmup: sweeps that are not kept.
        sweeps: that are.
    """

    trajectories: Trajectories
    ladder: Rung
    warmup: Any
    sweeps: int


@dataclass(frozen=True)
class Rungs(Estimator):
    """Chains at every rung; what their log-likelihoods come to is a subclass's."""

    options: RungOptions

    kind = "consistent"
    needs_draws = True
    needs_last = True
    """Whether it asks for chains at the posterior itself."""

    @abstractmethod
    def value(self, sampled: Sampled) -> float:
        """Log Z of some replicas."""

    @abstractmethod
    def judge(self, sampled: Sampled, error: float) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Diagnostics and warnings of its own.

        Args:
            sampled: all replicas.
            error: standard error of the value.
        """

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """Sweeps of every replica, and the jackknife over these."""
        options = self.options
        tuned, pilot = find_ladder(tuning_sampler(options), posterior, seed, options.max_stages)
        betas = options.betas(tuned.path())
        moving = betas[1:] if self.needs_last else betas[1:-1]
        sweeper = Sweeper(
            tuning_sampler(options).trajectories,
            tuned.at(moving).every(),
            jnp.asarray(options.warmup),
            options.sweeps,
        )
        draw_key, sweep_key = jax.random.split(jax.random.key(seed))
        starts = possible_draws(posterior, jax.random.split(draw_key, options.replicas))
        found = in_groups(_sweeps, sweeper, posterior, sweep_key, starts, options.at_once, dtype)
        values = found["log_likelihood"].astype(float)
        sampled = Sampled(betas, values)
        value, error = jackknife(self.value, sampled)
        diagnostics, warnings = self.judge(sampled, error)
        if (dead := float(np.isneginf(values[:, 1:]).mean())) > 0:
            warnings += (
                f"{dead:.1%} of draws above the prior have likelihood 0: chains that have not "
                "reached their rung's law; raise warmup",
            )
        acceptance, swaps = found["acceptance"].mean(0), found["swaps"].mean(0)
        if (lowest := float(acceptance.min())) < STUCK_ACCEPTANCE:
            warnings += (f"acceptance {lowest:.2f} at a rung: its chains hardly moved",)
        if (fewest := float(swaps.min())) < FEWEST_SWAPS:
            warnings += (
                f"{fewest:.1%} of exchanges between two rungs were accepted: what is new at the "
                "prior does not come down to the posterior; raise rungs",
            )
        diagnostics |= {
            "inverse_temperatures": betas.tolist(),
            "mean_log_likelihood": values.mean((0, 2)).tolist(),
            "acceptance": acceptance.tolist(),
            "exchanges": swaps.tolist(),
        }
        gradients = int(pilot["gradients"]) + int(found["gradients"].sum())
        return Estimate(value, error, gradients, diagnostics, warnings)


@jax.jit
def _sweeps(sweeper: Sweeper, posterior: Posterior, given: tuple[Array, Array]) -> dict[str, Array]:
    """A group of replicas: down from the prior, then sweeps of all their chains; traced."""
    key, start = given
    size = start.shape[0]
    beta = jnp.concatenate([jnp.zeros(1, start.dtype), sweeper.ladder.beta])
    rungs = beta.size - 1
    key_down, key_sweeps = jax.random.split(key)
    likelihood = jax.vmap(posterior.log_likelihood)

    def move(u: Array, rung: Rung, key: Array) -> tuple[Array, Array]:
        steps, largest = sweeper.trajectories.leapfrogs(rung.step_size)
        density = path_density(posterior, rung.beta)

        def one(u: Array, key: Array) -> tuple[Array, Array, Array]:
            return sweeper.trajectories.move(
                density, u, key, step_size=largest, steps=steps, metric=rung.metric, count=1
            )

        u, _, rates = jax.vmap(one)(u, jax.random.split(key, size))
        return u, rates.mean()

    def down(u: Array, level: tuple[Rung, Array]) -> tuple[Array, Array]:
        rung, key = level
        u, _ = move(u, rung, key)
        return u, u

    levels = sweeper.ladder, jax.random.split(key_down, rungs)
    _, u = jax.lax.scan(down, start, levels)

    def sweep(number: Array, carry: Any) -> Any:
        u, kept, rates, swaps = carry
        key_moves, key_prior, key_swaps = jax.random.split(
            jax.random.fold_in(key_sweeps, number), 3
        )
        level = u, sweeper.ladder, jax.random.split(key_moves, rungs)
        u, rate = jax.lax.map(lambda of: move(*of), level)
        fresh = jax.lax.map(posterior.initial, jax.random.split(key_prior, size))
        every = jnp.concatenate([fresh[None], u])
        log_likelihood = jax.lax.map(likelihood, every)
        # While warming up every sweep is written to the first place, and then over it.
        place = jnp.maximum(number - sweeper.warmup, 0)
        kept = kept.at[place].set(log_likelihood)
        every, share = _exchanged(every, log_likelihood, beta, number % 2, key_swaps)
        return every[1:], kept, rates + rate, swaps + share

    count = sweeper.warmup + sweeper.sweeps
    kept = jnp.zeros((sweeper.sweeps, rungs + 1, size), start.dtype)
    nothing = jnp.zeros(rungs, start.dtype)
    _, kept, rates, swaps = jax.lax.fori_loop(0, count, sweep, (u, kept, nothing, nothing))
    steps, _ = jax.vmap(sweeper.trajectories.leapfrogs)(sweeper.ladder.step_size)
    return {
        "log_likelihood": kept.transpose(2, 1, 0),
        "acceptance": jnp.tile(rates / count, (size, 1)),
        "swaps": jnp.tile(2.0 * swaps / count, (size, 1)),
        "gradients": jnp.full(size, (1 + count) * jnp.sum(1 + steps)),
    }


def _exchanged(
    u: Array, log_likelihood: Array, beta: Array, parity: Array, key: Array
) -> tuple[Array, Array]:
    """Neighbours that change places, of pairs whose lower rung is even or odd.

    Args:
        u: chains ``(rung, replica, dim)``.
        log_likelihood: theirs ``(rung, replica)``.
        beta: inverse temperatures ``(rung,)``.
        parity: of the lower rung.
        key: typed key.

    Returns:
        Chains, and the share of replicas that changed in each pair ``(rung - 1,)``.
    """
    gain = -jnp.diff(beta)[:, None] * jnp.diff(log_likelihood, axis=0)
    chance = jnp.log(jax.random.uniform(key, gain.shape, gain.dtype))
    offered = (jnp.arange(len(gain)) % 2 == parity)[:, None]
    taken = offered & (chance < gain)  # False where the gain is NaN
    none = jnp.zeros_like(taken[:1])
    up, down = jnp.concatenate([taken, none]), jnp.concatenate([none, taken])
    higher, lower = jnp.roll(u, -1, axis=0), jnp.roll(u, 1, axis=0)
    moved = jnp.where(up[..., None], higher, jnp.where(down[..., None], lower, u))
    return moved, taken.mean(1).astype(u.dtype)
