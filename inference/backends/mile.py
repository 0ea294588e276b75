"""Microcanonical Langevin ensembles: MCLMC from the members of an optimised ensemble."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference import adaptation
from bnnzoo.inference.backend import Flag, Stage, Step
from bnnzoo.inference.microcanonical import (
    Microcanonical,
    MicrocanonicalOptions,
    MicrocanonicalState,
    fields,
)
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Positive
from bnnzoo.registry import register

PLATEAU_NATS = 1.0
"""Gain of the tempered log likelihood that counts as one: draws differ by more."""


class MILEOptions(MicrocanonicalOptions):
    """Options of ``mile``."""

    learning_rate: Positive = Field(0.005, description="Step of Adam, in unconstrained units.")
    block: Count = Field(20, description="Adam steps, a gradient each, of one warm-up step.")
    patience: Count = Field(
        20,
        description="Warm-up steps in which the tempered log likelihood rose by less than one nat, "
        "after which a member is finished.",
    )


class MILEState(NamedTuple):
    """A chain, and the optimiser that finds its start.

    Attributes:
        sampler: the microcanonical chain; until it moves, at the best point so far.
        u: where the optimiser is ``(dim,)``.
        optimiser: Adam's state.
        best: highest tempered log likelihood so far.
        mark: the same when it last rose by :data:`PLATEAU_NATS`.
        waited: warm-up steps since.
    """

    sampler: MicrocanonicalState
    u: Array
    optimiser: Any
    best: Array
    mark: Array
    waited: Array


@functools.partial(
    register_dataclass,
    data_fields=(
        *("energy_error", "length", "draw_length", "max_steps"),
        *("learning_rate", "block", "patience"),
    ),
    meta_fields=("unit",),
)
@dataclass(frozen=True)
class MILE(Microcanonical):
    """Adam on the target from each chain's own start until it is on a plateau; then MCLMC.

    The published members stop early on held-out rows. Here all rows belong to the target, which
    the chain forgets its start for; and what is kept is the point of highest likelihood on the way,
    because the density alone leads into the neck of a hierarchy's funnel.
    """

    energy_error: Leaf
    length: Leaf
    draw_length: Leaf
    max_steps: Leaf
    unit: bool
    learning_rate: Leaf
    block: Leaf
    patience: Leaf

    stats = (*Microcanonical.stats, "optimised")

    def schedule(self, warmup: int) -> np.ndarray:
        """Half of warm-up optimises, which ``FAST`` stands for; the other half tunes MCLMC.

        Also what Stan spends on the way to where draws are: the members are nearly there.
        """
        tuning = adaptation.window_schedule(warmup - warmup // 2)
        slow = int(np.argmax(tuning == Stage.SLOW)) if len(tuning) else 0
        tuning[slow:] = np.where(tuning == Stage.FAST, Stage.SLOW, tuning)[slow:]
        return np.concatenate([np.full(warmup // 2, Stage.FAST, np.int32), tuning])

    def init(self, posterior: Posterior, u: Array) -> MILEState:
        """The chain's own start; nothing optimised yet."""
        lowest = jnp.asarray(-jnp.inf, u.dtype)
        waited = jnp.zeros((), jnp.int32)
        sampler = super().init(posterior, u)
        return MILEState(sampler, u, self._adam().init(u), lowest, lowest, waited)

    def step(
        self, posterior: Posterior, state: MILEState, stage: Array, key: Array
    ) -> tuple[MILEState, Step]:
        """A block of Adam, nothing once on the plateau, or some way along the path."""
        finished = state.waited >= self.patience
        kind = jnp.where(stage != Stage.FAST, 2, finished.astype(jnp.int32))
        return jax.lax.switch(
            kind,
            [
                lambda: self._optimise(posterior, state),
                lambda: (state, self._report(state, 0)),
                lambda: self._walk(posterior, state, stage, key),
            ],
        )

    def _walk(
        self, posterior: Posterior, state: MILEState, stage: Array, key: Array
    ) -> tuple[MILEState, Step]:
        sampler, step = super().step(posterior, state.sampler, stage, key)
        state = state._replace(sampler=sampler)
        return state, Step(step.u, step.stats | {"optimised": self._optimised(state)})

    def _optimise(self, posterior: Posterior, state: MILEState) -> tuple[MILEState, Step]:
        temperature = posterior.posterior_temperature * posterior.likelihood_temperature

        def loss(u: Array) -> tuple[Array, Array]:
            return -posterior.log_density(u), posterior.log_likelihood(u) / temperature

        def one(_: Array, carry: Any) -> Any:
            u, optimiser, best, highest = carry
            (_, likelihood), gradient = jax.value_and_grad(loss, has_aux=True)(u)
            better = likelihood > highest  # False for NaN
            best = jnp.where(better, u, best)
            highest = jnp.where(better, likelihood, highest)
            gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
            update, optimiser = self._adam().update(gradient, optimiser)
            return u + update, optimiser, best, highest

        chain = state.sampler.chain
        begin = (state.u, state.optimiser, chain.position, state.best)
        u, optimiser, best, highest = jax.lax.fori_loop(0, self.block, one, begin)
        lp, gradient = jax.value_and_grad(posterior.log_density)(best)
        chain = chain._replace(position=best, logdensity=lp, logdensity_grad=gradient)
        rose = highest > state.mark + PLATEAU_NATS
        state = MILEState(
            state.sampler._replace(chain=chain),
            u,
            optimiser,
            highest,
            jnp.where(rose, highest, state.mark),
            jnp.where(rose, 0, state.waited + 1),
        )
        return state, self._report(state, self.block + 1)

    def _report(self, state: MILEState, gradients: Any) -> Step:
        """A warm-up step that sampled nothing."""
        chain, tuning = state.sampler
        nothing = jnp.zeros_like(chain.logdensity)
        stats = {
            "lp": chain.logdensity,
            "diverging": jnp.zeros((), bool),
            "step_size": tuning.step.value,
            "length": tuning.length,
            "n_steps": jnp.asarray(gradients, jnp.int32),
            "energy_error": nothing,
            "optimised": self._optimised(state),
        }
        return Step(chain.position, stats)

    def _optimised(self, state: MILEState) -> Array:
        return state.waited >= self.patience

    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Also a member that was still improving when its chain set out."""
        found = super().flags(stats, warmup)
        if not stats["optimised"].all():
            message = "the ensemble member was still improving when its chain set out; raise warmup"
            found.append(Flag("warning", message))
        return found


@register(
    "backends",
    "mile",
    summary="Microcanonical Langevin ensemble: Adam to a member a chain, then MCLMC from it.",
    options=MILEOptions,
    references=(
        "Sommer, Robnik, Nozadze, Seljak & Ruegamer (2025), Microcanonical Langevin Ensembles",
        "Robnik & Seljak (2023), Microcanonical Langevin Monte Carlo",
    ),
    tags={"exact": False, "family": "mcmc", "gradients": "full-batch"},
    facts={
        "exact for": "an energy error of zero, in chains that leave their mode",
        "bias": "as mclmc; modes weigh by how often Adam finds them",
        "a draw costs": "as mclmc, after the optimisation",
        "memory": "a few vectors of the parameters",
        "choose it": "a network whose modes need good starts",
    },
    notes="Exact in two limits alone: an energy error of zero, and chains that leave the mode they "
    "start in; chains that do not weigh modes by how often Adam finds them. Members climb the "
    "target at its temperatures. With metric = 'unit', length = 1 and energy_error = 0.1 chains "
    "are close to the published ones: they cross a posterior in fewer steps, at a bias.",
)
def mile(options: MILEOptions) -> MILE:
    """The backend of these options."""
    return MILE(
        **fields(options),
        learning_rate=options.learning_rate,
        block=options.block,
        patience=options.patience,
    )
