"""Gradient-guided Monte Carlo: Langevin dynamics by minibatches with a Metropolis test."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference import control_variates, minibatches
from bnnzoo.inference.backend import Flag, Step
from bnnzoo.inference.stochastic_gradient import (
    COMMON_NUMBERS,
    COMMON_STRUCTURE,
    ChainState,
    Moving,
    StochasticGradient,
    StochasticOptions,
)
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Fraction
from bnnzoo.registry import register

STUCK = 0.1
"""Acceptance below which a chain that tests hardly moves."""


class GGMCOptions(StochasticOptions):
    """Options of ``gg-mc``."""

    thin: Count = Field(50, description="Steps of one kept draw, rounded up to whole passes.")
    momentum: Fraction = Field(0.9, description="Share of the momentum kept at each step.")
    metropolis: bool = Field(
        True,
        description="Accept or reject each pass over the rows, which makes the draws exact; false "
        "takes every pass and reports what the test would have said.",
    )


class Phase(NamedTuple):
    """What is kept beside a position.

    Attributes:
        momentum: of unit variance ``(dim,)``.
        logdensity: of all rows.
        gradient: of all rows ``(dim,)``.
    """

    momentum: Array
    logdensity: Array
    gradient: Array


@functools.partial(
    register_dataclass,
    data_fields=(*COMMON_NUMBERS, "momentum"),
    meta_fields=(*COMMON_STRUCTURE, "metropolis"),
)
@dataclass(frozen=True)
class GGMC(StochasticGradient):
    """OBABO steps through a permutation of the rows between two gradients of all rows.

    Given the batches, kicks and drifts are reversible maps that keep volume, and the partial
    refreshments between them keep the Gaussian law of momenta in detailed balance; a permutation
    read backwards is as likely. So exp(log p(end) - log p(start) - the kinetic energy that kicks
    have brought) is the Metropolis ratio, whatever the noise of the batches. A rejected pass goes
    back to its start with its momentum turned round.
    """

    learning_rate: Leaf
    thin: Leaf
    momentum: Leaf
    batch_size: int | None
    control_variates: bool
    metropolis: bool

    stats = (
        *StochasticGradient.stats,
        *("kinetic_temperature", "acceptance_rate", "energy_error"),
    )
    independent = True  # A pass draws its own permutation, so that no state is left of it.

    def begin(self, posterior: Posterior, u: Array) -> Any:
        """At rest, with the density of all rows."""
        value, gradient = jax.value_and_grad(posterior.log_density)(u)
        return Phase(jnp.zeros_like(u), value, gradient)

    def draw(
        self, posterior: Posterior, state: ChainState, stage: Array, key: Array
    ) -> tuple[ChainState, Step]:
        steps = self._batches(posterior) + 1
        passes = -(-self.thin // steps)
        size = self.squared_step(posterior)

        def one(i: Array, carry: Any) -> Any:
            state, sums = carry
            state, seen = self._pass(posterior, state, size, jax.random.fold_in(key, i))
            return state, sums + seen

        begun = (state, jnp.zeros(5, size.dtype))
        state, sums = jax.lax.fori_loop(0, passes, one, begun)
        failed, configurational, kinetic, accepted, error = sums
        good = passes - failed
        batch_gradients = self._cost() * (steps - 1)
        stats = {
            "lp": state.now.own.logdensity,
            "diverging": failed,
            "step_size": jnp.sqrt(size),
            "n_steps": passes * jnp.asarray(batch_gradients + 1, size.dtype),
            "configurational_temperature": configurational / passes,
            "kinetic_temperature": kinetic / passes,
            "acceptance_rate": accepted / passes,
            "energy_error": error / good,
        }
        return state, Step(state.now.u, stats)

    def _pass(
        self, posterior: Posterior, state: ChainState, size: Array, key: Array
    ) -> tuple[ChainState, Array]:
        """One pass and its test; failure, thermometers, acceptance and energy error ``(5,)``."""
        u, (p, value, gradient) = state.now
        real, count = u.dtype, self._batches(posterior)
        h, kept = jnp.sqrt(size), jnp.asarray(self.momentum, u.dtype)
        key_order, key_noise, key_test = jax.random.split(key, 3)
        shape = (count + 2, *u.shape)
        noise = jax.random.normal(key_noise, shape, real)

        def refresh(p: Array, share: Array, noise: Array) -> Array:
            return jnp.sqrt(share) * p + jnp.sqrt(1.0 - share) * noise

        def kick(p: Array, brought: Array, force: Array) -> tuple[Array, Array]:
            new = p + 0.5 * h * force
            return new, brought + 0.5 * (jnp.sum(new**2) - jnp.sum(p**2))

        q, brought = kick(refresh(p, kept, noise[0]), jnp.zeros((), real), gradient)
        v = u + h * q
        if self.batch_size is not None:
            rows = jnp.arange(posterior.rows, dtype=jnp.int32)
            order = jax.random.permutation(key_order, rows)[: count * self.batch_size]

            def between(carry: Any, given: Any) -> Any:
                v, q, brought = carry
                batch, noise = given
                force = self._force(posterior, state, v, batch)
                q, brought = kick(q, brought, force)
                # Two half refreshments, the end of a step and the start of the next, in one.
                q, brought = kick(refresh(q, kept**2, noise), brought, force)
                return (v + h * q, q, brought), None

            given = (order.reshape(count, self.batch_size), noise[1:-1])
            (v, q, brought), _ = jax.lax.scan(between, (v, q, brought), given)
        end, slope = jax.value_and_grad(posterior.log_density)(v)
        q, brought = kick(q, brought, slope)
        q = refresh(q, kept, noise[-1])

        error = brought + value - end
        fine = jnp.isfinite(error) & jnp.isfinite(slope).all() & jnp.isfinite(q).all()
        acceptance = jnp.where(fine, jnp.exp(jnp.minimum(-error, 0.0)), 0.0)
        taken = fine
        if self.metropolis:
            taken &= jax.random.uniform(key_test, (), real) < acceptance
        there = Moving(v, Phase(q, end, slope))
        here = Moving(u, Phase(-p, value, gradient))
        now = jax.tree.map(lambda new, old: jnp.where(taken, new, old), there, here)
        configurational = -jnp.sum(now.u * now.own.gradient) / u.size
        kinetic = jnp.mean(now.own.momentum**2)
        failed = 1.0 - fine.astype(real)
        error = jnp.where(fine, error, 0.0)
        seen = jnp.stack([failed, configurational, kinetic, acceptance, error])
        return state._replace(now=now, last=now, taken=state.taken + count + 1), seen

    def _force(self, posterior: Posterior, state: ChainState, u: Array, batch: Array) -> Array:
        if state.centre is not None:
            return control_variates.estimate(posterior, state.centre, u, batch)
        return jax.grad(posterior.log_density)(u, batch)

    def _batches(self, posterior: Posterior) -> int:
        """Of a pass: steps between its two gradients of all rows."""
        if self.batch_size is None:
            return 0
        return minibatches.epoch(posterior.rows, self.batch_size)

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Also passes that are hardly ever accepted."""
        found = super().flags(stats, warmup)
        rate = float(np.mean(stats["acceptance_rate"]))
        if rate < STUCK:
            taken = "accepted" if self.metropolis else "what a Metropolis test would accept"
            message = (
                f"{rate:.1%} of passes are {taken}; lower learning_rate = {self.learning_rate:g} "
                "or raise batch_size"
            )
            found.append(Flag("stuck" if self.metropolis else "warning", message))
        return found


@register(
    "backends",
    "gg-mc",
    summary="Minibatch Langevin steps, each pass over the rows accepted or rejected: exact.",
    options=GGMCOptions,
    references=(
        "Garriga-Alonso & Fortuin (2021), Exact Langevin Dynamics with Stochastic Gradients",
        "Horowitz (1991), A Generalized Guided Monte Carlo Algorithm, for a pass of one step",
    ),
    tags={"exact": True, "family": "sgmcmc", "gradients": "minibatch", "order": "1"},
    facts={
        "exact for": "any posterior, any temperature, with its Metropolis test",
        "bias": "none with the test, first order in learning_rate without",
        "a draw costs": "thin steps in whole passes over the rows, and a full gradient a pass",
        "memory": "six vectors of the parameters, and the row numbers",
        "choose it": "minibatches, and exactness matters",
    },
    notes="Exact at every learning_rate and temperature, minibatches included, with metropolis = "
    "true; without it the bias is of first order in learning_rate (a Gaussian's variance is "
    "1 / (1 - e c / 4) too large, c its precision). A pass is N / batch_size batches between two "
    "gradients of all rows, one step with full batches; thin steps are rounded up to whole passes. "
    "Acceptance falls with the batches' noise: small batches need small steps. The step is not "
    "tuned.",
)
def gg_mc(options: GGMCOptions) -> GGMC:
    """The backend of these options."""
    return GGMC(**dict(options))
