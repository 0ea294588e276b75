"""Metropolis-adjusted microcanonical sampling."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc import adjusted_mclmc_dynamic
from blackjax.mcmc.dynamic_hmc import DynamicHMCState
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.backend import Flag
from bnnzoo.inference.hamiltonian import Hamiltonian
from bnnzoo.inference.microcanonical import GRADIENTS_PER_STEP, check_dimension, cut_flag
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Fraction, Options, Positive
from bnnzoo.registry import register


class AdjustedMCLMCOptions(Options):
    """Options of ``adjusted-mclmc``."""

    target_acceptance: Fraction = Field(
        0.9, description="Acceptance rate the step size is tuned to."
    )
    trajectory: Positive = Field(
        math.pi / 2,
        description="Trajectory length in units of sqrt(dim) in the metric: pi/2 takes a "
        "high-dimensional Gaussian to an independent draw.",
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="A length is trajectory * U(1 - jitter, 1 + jitter): no resonance."
    )
    max_steps: Count = Field(
        500,
        description="Most integrator steps of a trajectory, of two gradients each; a shortened one "
        "is reported.",
    )


@functools.partial(
    register_dataclass,
    data_fields=("target_acceptance", "trajectory", "jitter", "max_steps"),
    meta_fields=("dense",),
)
@dataclass(frozen=True)
class AdjustedMCLMC(Hamiltonian):
    """BlackJAX's adjusted MCLMC with Stan's warm-up and a jittered trajectory length."""

    target_acceptance: Leaf
    trajectory: Leaf
    jitter: Leaf
    max_steps: Leaf
    dense: bool = False

    def check(self, posterior: Posterior) -> None:
        """A direction needs two dimensions."""
        check_dimension(posterior)

    def transition(
        self,
        posterior: Posterior,
        state: Any,
        step_size: Array,
        metric: Array,
        stage: Array,
        key: Array,
    ) -> tuple[Any, Any, Array]:
        """One trajectory at unit speed from a fresh direction, accepted or rejected whole.

        Its number of steps is drawn without looking at the state: every transition is reversible.
        """
        key_length, key_move = jax.random.split(key)
        stretch = 1.0 + self.jitter * jax.random.uniform(key_length, minval=-1.0, maxval=1.0)
        wanted = jnp.ceil(self.trajectory * stretch / step_size)
        steps = jnp.clip(wanted, 1, self.max_steps).astype(jnp.int32)
        unit = jnp.sqrt(jnp.asarray(posterior.dimension, state.position.dtype))
        kernel = adjusted_mclmc_dynamic.build_kernel(
            integration_steps_fn=lambda given: given, next_random_arg_fn=lambda given: given
        )
        end, info = kernel(
            key_move,
            DynamicHMCState(*state, steps),
            posterior.log_density,
            step_size * unit,
            inverse_mass_matrix=metric,
        )
        # A point with a density and no gradient could never be left.
        usable = jnp.isfinite(end.logdensity_grad).all()
        kept = type(state)(end.position, end.logdensity, end.logdensity_grad)
        state = jax.tree.map(lambda new, old: jnp.where(usable, new, old), kept, state)
        info = info._replace(
            acceptance_rate=jnp.where(usable, info.acceptance_rate, 0.0), energy=-state.logdensity
        )
        return state, info, GRADIENTS_PER_STEP * steps

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Also trajectories cut at ``max_steps``, which make draws more alike."""
        return super().flags(stats, warmup) + cut_flag(stats["n_steps"], self.max_steps)


@register(
    "backends",
    "adjusted-mclmc",
    summary="Microcanonical trajectories with a Metropolis step: exact.",
    options=AdjustedMCLMCOptions,
    references=(
        "Robnik, Cohn-Gordon & Seljak (2025), Metropolis Adjusted Microcanonical Hamiltonian Monte "
        "Carlo",
    ),
    tags={"exact": True, "family": "mcmc", "gradients": "full-batch"},
    facts={
        "exact for": "any posterior, any temperature",
        "bias": "none",
        "a draw costs": "a trajectory at unit speed, two gradients a step",
        "memory": "a few vectors of the parameters",
        "choose it": "as a second opinion on hmc by other dynamics",
    },
    notes="Exact at every temperature. A step is two gradients. Kinetic energies are sums over "
    "dimensions: beyond some 100,000 parameters float32 rounds them by tenths of a nat.",
)
def adjusted_mclmc(options: AdjustedMCLMCOptions) -> AdjustedMCLMC:
    """The backend of these options."""
    return AdjustedMCLMC(
        options.target_acceptance, options.trajectory, options.jitter, options.max_steps
    )
