"""What the Hamiltonian backends share: state, options, window adaptation, flags."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, NamedTuple

import blackjax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.inference import adaptation
from bnnzoo.inference.adaptation import Adaptation
from bnnzoo.inference.backend import Backend, Flag, Step
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Fraction, Options

CAUGHT = 0.5
"""Share of the target acceptance under which a chain counts as stuck: its steps were right in
warm-up, and are too long where it is now."""


class HamiltonianOptions(Options):
    """Options the Hamiltonian backends share."""

    # 0.8, the usual default, leaves networks with divergences: on diabetes (1x50 tanh) hmc at 0.9
    # gave none at T = 1, and four times the effective draws a gradient.
    target_acceptance: Fraction = Field(
        0.9, description="Acceptance rate the step size is tuned to."
    )
    metric: Literal["diagonal", "dense"] = Field(
        "diagonal", description="Shape of the inverse mass matrix that warm-up estimates."
    )


class HamiltonianState(NamedTuple):
    """Position with its gradient, and what warm-up has learned."""

    chain: Any
    adaptation: Adaptation


class Hamiltonian(Backend):
    """A backend whose kernel is tuned by a step size and a metric."""

    splits_rows = True
    stats = ("lp", "acceptance_rate", "diverging", "step_size", "n_steps", "energy")

    target_acceptance: Leaf
    dense: bool

    @abstractmethod
    def transition(
        self,
        posterior: Posterior,
        state: Any,
        step_size: Array,
        metric: Array,
        stage: Array,
        key: Array,
    ) -> tuple[Any, Any, Array]:
        """One transition: new kernel state, its information, the number of leapfrog steps."""

    def schedule(self, warmup: int) -> np.ndarray:
        """Stan's windows."""
        return adaptation.window_schedule(warmup)

    def init(self, posterior: Posterior, u: Array) -> HamiltonianState:
        """Gradient at the start, unit metric."""
        chain = blackjax.hmc.init(u, posterior.log_density)
        return HamiltonianState(
            chain, adaptation.init(posterior.dimension, self.dense, self.target_acceptance)
        )

    def step(
        self, posterior: Posterior, state: HamiltonianState, stage: Array, key: Array
    ) -> tuple[HamiltonianState, Step]:
        """One transition, and in warm-up one update of step size and metric."""
        tuned = state.adaptation
        size = adaptation.step_size(tuned, stage)
        chain, info, leapfrogs = self.transition(
            posterior, state.chain, size, tuned.inverse_mass_matrix, stage, key
        )
        tuned = adaptation.update(
            tuned, stage, chain.position, info.acceptance_rate, self.dense, self.target_acceptance
        )
        stats = {
            "lp": chain.logdensity,
            "acceptance_rate": jnp.where(
                jnp.isfinite(info.acceptance_rate), info.acceptance_rate, 0.0
            ),
            "diverging": jnp.asarray(info.is_divergent, float),
            "step_size": size,
            "n_steps": jnp.asarray(leapfrogs, float),
            "energy": info.energy,
        }
        return HamiltonianState(chain, tuned), Step(chain.position, stats)

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """One gradient a leapfrog step."""
        return int(np.nansum(stats["n_steps"])) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Divergences after warm-up, and a chain that hardly moves."""
        found = []
        divergent = int(stats["diverging"].sum())
        if divergent:
            found.append(
                Flag(
                    "divergent",
                    f"{divergent} of {len(stats['diverging'])} draws ended in a divergence",
                )
            )
        acceptance = float(stats["acceptance_rate"].mean())
        if acceptance < CAUGHT * self.target_acceptance:
            found.append(
                Flag(
                    "stuck",
                    f"acceptance {acceptance:.2f}, aimed at {self.target_acceptance:g}: "
                    "steps are too long for where the chain is, and it hardly moves",
                )
            )
        return found
