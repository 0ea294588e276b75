"""Hamiltonian Monte Carlo with a fixed trajectory length."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.backend import Flag
from bnnzoo.inference.hamiltonian import Hamiltonian, HamiltonianOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Positive
from bnnzoo.registry import register


class HMCOptions(HamiltonianOptions):
    """Options of ``hmc``."""

    trajectory: Positive = Field(
        math.pi / 2,
        description="Trajectory length in units of the metric, where each coordinate has scale 1: "
        "pi/2 takes a Gaussian to an independent draw.",
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2,
        description="A length is trajectory * U(1 - jitter, 1 + jitter): no resonance.",
    )
    max_steps: Annotated[int, Field(gt=0)] = Field(
        1000, description="Most leapfrog steps of a trajectory; a shortened one is reported."
    )


@functools.partial(
    register_dataclass,
    data_fields=("target_acceptance", "trajectory", "jitter", "max_steps"),
    meta_fields=("dense",),
)
@dataclass(frozen=True)
class HMC(Hamiltonian):
    """BlackJAX's HMC with Stan's warm-up and a jittered number of leapfrog steps."""

    target_acceptance: Leaf
    trajectory: Leaf
    jitter: Leaf
    max_steps: Leaf
    dense: bool

    def transition(
        self,
        posterior: Posterior,
        state: Any,
        step_size: Array,
        metric: Array,
        stage: Array,
        key: Array,
    ) -> tuple[Any, Any, Array]:
        """One trajectory of jittered length.

        The number of steps is drawn without looking at the state: every transition is reversible.
        """
        key_length, key_move = jax.random.split(key)
        stretch = 1.0 + self.jitter * jax.random.uniform(key_length, minval=-1.0, maxval=1.0)
        wanted = jnp.ceil(self.trajectory * stretch / step_size)
        steps = jnp.clip(wanted, 1, self.max_steps).astype(jnp.int32)
        kernel = blackjax.hmc.build_kernel()
        state, info = kernel(key_move, state, posterior.log_density, step_size, metric, steps)
        return state, info, steps

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Also trajectories cut at ``max_steps``, which make draws more alike."""
        found = super().flags(stats, warmup)
        cut = float((stats["n_steps"] >= self.max_steps).mean())
        if cut > 0.5:
            found.append(
                Flag(
                    "warning", f"{cut:.0%} of trajectories were cut at max_steps = {self.max_steps}"
                )
            )
        return found


@register(
    "backends",
    "hmc",
    summary="Hamiltonian Monte Carlo with trajectories of pi/2 in the metric: exact and fast.",
    options=HMCOptions,
    references=(
        "Neal (2011), MCMC Using Hamiltonian Dynamics",
        "Izmailov et al. (2021), What Are Bayesian Neural Network Posteriors Really Like?, sec. 3",
    ),
    tags={"exact": True, "family": "mcmc", "gradients": "full-batch"},
    notes="Exact at every temperature. The metric is estimated by Stan's windows; the trajectory "
    "is measured in it.",
)
def hmc(options: HMCOptions) -> HMC:
    """The backend of these options."""
    return HMC(
        options.target_acceptance,
        options.trajectory,
        options.jitter,
        options.max_steps,
        options.metric == "dense",
    )
