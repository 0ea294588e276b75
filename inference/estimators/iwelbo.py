"""The importance-weighted bound: tighter with every draw it averages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.special import logsumexp

from bnnzoo.inference.estimators.elbo import Bound, BoundOptions, backend_of
from bnnzoo.options import Count
from bnnzoo.registry import register


class IWOptions(BoundOptions):
    """Options of ``iwelbo``."""

    k: Count = Field(50, description="Draws inside one logarithm; the bound rises with them.")
    draws: Count = Field(20000, description="Draws in all that estimate the bound.")


@dataclass(frozen=True)
class IWBound(Bound):
    """E log (1/k) sum_i p(y, u_i) / q(u_i)."""

    k: int

    def value(self, log_ratios: np.ndarray) -> tuple[float, float]:
        """Groups of k, their log means averaged."""
        groups = log_ratios[: len(log_ratios) // self.k * self.k].reshape(-1, self.k)
        means = logsumexp(groups, axis=1) - np.log(self.k)
        return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


@register(
    "estimators",
    "iwelbo",
    summary="The bound with k importance-weighted draws inside the logarithm.",
    options=IWOptions,
    references=("Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, eq. 8",),
    tags={"kind": "lower-bound", "family": "optimisation"},
    facts={
        "number": "lower bound",
        "standard error": "of its average over groups of draws",
        "wrong when": "models are ranked whose gaps differ; the family misses a mode",
        "choose it": "a tighter floor than elbo from the same fit",
    },
    notes="The family is fitted to the plain bound; k = 1 is elbo. The gap falls about as the "
    "weights' variance over k where that variance is finite.",
)
def iwelbo(options: IWOptions) -> IWBound:
    """The estimator of these options."""
    sizes = (options.restarts, options.steps, max(options.draws, 2 * options.k))
    return IWBound(backend_of(options), *sizes, options.k)
