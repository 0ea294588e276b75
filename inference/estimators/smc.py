"""Evidence by sequential Monte Carlo from the prior to the posterior."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Annotated, Any

import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.annealing import annealed, find_ladder
from bnnzoo.inference.backends.smc import SMC, SMCOptions
from bnnzoo.inference.backends.smc import smc as backend_of
from bnnzoo.inference.estimators._populations import population_estimate
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.repeats import repeat
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count
from bnnzoo.registry import register


class SMCEvidenceOptions(SMCOptions):
    """Options of ``smc``."""

    particles: Annotated[int, Field(gt=1)] = Field(256, description="Particles of each repeat.")
    repeats: Annotated[int, Field(gt=1)] = Field(
        16, description="Independent runs, whose spread is the standard error."
    )
    max_stages: Count = Field(200, description="Stages after which the pilot jumps to the target.")


@functools.partial(
    register_dataclass, data_fields=("sampler", "max_stages", "ladder"), meta_fields=("repeats",)
)
@dataclass(frozen=True)
class SMCEvidence(Estimator):
    """The ``smc`` backend's stages, without its draws, on a ladder that another run found."""

    sampler: SMC
    max_stages: Any
    ladder: Any
    repeats: int

    kind = "unbiased"
    needs_draws = True

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """Independent runs on one ladder, their Z averaged."""
        ladder, pilot = find_ladder(self.sampler, posterior, seed, self.max_stages)
        planned = dataclasses.replace(self, ladder=ladder)
        found = repeat(_run, planned, posterior, seed, self.repeats, dtype)
        return population_estimate(found, pilot, self.sampler.particles, self.max_stages)


def _run(estimator: SMCEvidence, posterior: Posterior, key: Array) -> dict[str, Array]:
    most = jnp.asarray(estimator.max_stages)
    found = annealed(estimator.sampler, posterior, key, estimator.ladder, most)
    return {name: value for name, value in found.items() if name != "ladder"}


@register(
    "estimators",
    "smc",
    summary="Tempered sequential Monte Carlo: reliable, many modes, an honest error.",
    options=SMCEvidenceOptions,
    references=(
        "Del Moral, Doucet & Jasra (2006), Sequential Monte Carlo Samplers, sec. 3",
        "Beskos et al. (2016), On the Convergence of Adaptive Sequential Monte Carlo Methods",
    ),
    tags={"kind": "unbiased", "family": "sampling"},
    facts={
        "number": "unbiased",
        "standard error": "spread of independent repeats",
        "wrong when": "a mode too small for any prior draw to lie near it; particles that do not "
        "move (acceptance, ancestors) or lag behind the temperature (gap), as with a learned noise",
        "choose it": "the default: any prior that can be drawn from, up to some thousand weights",
    },
    notes="A first population finds its way from prior to posterior: stages as long as the "
    "weights allow before and after the moves, and rounds of moves, of long steps and short, "
    "until particles no longer rise and have forgotten where they were. Then repeats, from draws "
    "of the prior of their own, keep to that way; log Z is the sum of their stages' log mean "
    "weights. The evidences of the repeats are averaged, not their logarithms. Populations that "
    "set their own stages are low: 128 particles were by 0.2 nats on linear models of 100 "
    "features. By how much log Z is higher by bridges between stages (gap) is part of the standard "
    "error where it is positive.",
)
def smc(options: SMCEvidenceOptions) -> SMCEvidence:
    """The estimator of these options."""
    return SMCEvidence(backend_of(options), options.max_stages, None, options.repeats)
