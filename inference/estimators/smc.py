"""Evidence by sequential Monte Carlo from the prior to the posterior."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.backends.smc import SMC, SMCOptions
from bnnzoo.inference.backends.smc import smc as backend_of
from bnnzoo.inference.estimators._populations import population_estimate
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.precision import strongly_typed
from bnnzoo.inference.repeats import repeat
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count
from bnnzoo.registry import register


class SMCEvidenceOptions(SMCOptions):
    """Options of ``smc``."""

    particles: Annotated[int, Field(gt=1)] = Field(128, description="Particles of each repeat.")
    repeats: Annotated[int, Field(gt=1)] = Field(
        16, description="Independent runs, whose spread is the standard error."
    )
    max_stages: Count = Field(500, description="Stages after which a repeat jumps to the target.")


@functools.partial(
    register_dataclass, data_fields=("sampler", "max_stages"), meta_fields=("repeats",)
)
@dataclass(frozen=True)
class SMCEvidence(Estimator):
    """The ``smc`` backend's stages, without its draws."""

    sampler: SMC
    max_stages: Any
    repeats: int

    kind = "consistent"
    needs_draws = True

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """Independent runs, their Z averaged."""
        found = repeat(_run, self, posterior, seed, self.repeats, dtype)
        return population_estimate(found, self.sampler.particles, int(self.max_stages), {})


@jax.jit
def _run(estimator: SMCEvidence, posterior: Posterior, key: Array) -> dict[str, Array]:
    sampler = estimator.sampler
    start = strongly_typed(sampler.init(posterior, jnp.zeros(posterior.dimension)))
    zero = jnp.zeros_like(start.beta)

    def unfinished(carry: Any) -> Array:
        return carry[0].beta < 1.0

    def stage(carry: Any) -> Any:
        state, gradients, lowest, _ = carry
        last = state.stages + 1 >= estimator.max_stages
        own = jax.random.fold_in(key, state.stages)
        new, report = sampler.temper(posterior, state, last, own)
        forced = last & (report.ess < 0.9 * sampler.target_ess * sampler.particles)
        moved = gradients + report.n_steps
        return strongly_typed((new, moved, jnp.minimum(lowest, report.acceptance), forced))

    state, gradients, lowest, forced = jax.lax.while_loop(
        unfinished, stage, (start, zero, zero + 1.0, jnp.zeros((), bool))
    )
    return {
        "log_z": state.log_normaliser,
        "stages": state.stages,
        "gradients": gradients,
        "acceptance": lowest,
        "forced": forced,
        "ancestors": 1 + jnp.sum(state.ancestors[1:] != state.ancestors[:-1]),
    }


@register(
    "estimators",
    "smc",
    summary="Tempered sequential Monte Carlo: reliable, many modes, an honest error.",
    options=SMCEvidenceOptions,
    references=(
        "Del Moral, Doucet & Jasra (2006), Sequential Monte Carlo Samplers, sec. 3",
        "Beskos et al. (2016), On the Convergence of Adaptive Sequential Monte Carlo Methods",
    ),
    tags={"kind": "consistent", "family": "sampling"},
    facts={
        "number": "consistent",
        "standard error": "spread of independent repeats",
        "wrong when": "a mode too small for any prior draw to lie near it, or particles that do "
        "not move (acceptance, ancestors)",
        "choose it": "the default: any prior that can be drawn from, up to some thousand weights",
    },
    notes="Each repeat draws its particles from the prior and takes them to the posterior by "
    "stages whose length the weights set; log Z is the sum of the stages' log mean weights. The "
    "evidences of the repeats are averaged, not their logarithms. Choosing stages, steps and "
    "metric from the particles leaves a bias of order 1/particles in Z.",
)
def smc(options: SMCEvidenceOptions) -> SMCEvidence:
    """The estimator of these options."""
    return SMCEvidence(backend_of(options), options.max_stages, options.repeats)
