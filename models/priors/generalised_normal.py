"""The generalised normal prior: from sparser than Laplace to flatter than a Gaussian."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated

import numpyro.distributions as dist
from jax.tree_util import register_dataclass
from pydantic import Field
from scipy import stats

from bnnzoo.models.families import GeneralisedNormal
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.prior import NORMAL_IQR, ElementwiseOptions, ElementwisePrior
from bnnzoo.registry import register


class GeneralisedNormalOptions(ElementwiseOptions):
    """Options of ``generalised-normal``."""

    beta: Annotated[float, Field(ge=0.25, le=10.0)] = Field(
        1.5, description="Shape, 0.25 to 10: 1 is Laplace, 2 Gaussian; smaller is heavier-tailed."
    )


@functools.partial(
    register_dataclass, data_fields=("scale", "beta", "bias_std"), meta_fields=("absolute",)
)
@dataclass(frozen=True)
class GeneralisedNormalPrior(ElementwisePrior):
    """Independent elements of density exp(-|w / scale|^beta)."""

    scale: Leaf
    beta: Leaf
    bias_std: Leaf
    absolute: bool

    def family(self, loc: float, scale: Leaf) -> dist.Distribution:
        """GeneralisedNormal(beta, loc, scale)."""
        return GeneralisedNormal(self.beta, loc, scale)


@register(
    "priors",
    "generalised-normal",
    summary="Independent weights of density exp(-|w/a|^beta): Laplace, Gaussian and between.",
    options=GeneralisedNormalOptions,
    references=("Fortuin et al. (2022), Bayesian Neural Network Priors Revisited",),
    tags={"family": ("heavy-tailed", "elementwise"), "tails": "stretched exponential"},
    notes="Density of an element: beta exp(-|w/a|^beta) / (2 a Gamma(1/beta)). Its variance is a^2 "
    "Gamma(3/beta) / Gamma(1/beta) and its kurtosis Gamma(5/beta) Gamma(1/beta) / "
    "Gamma(3/beta)^2. match sets a (times gain / sqrt(fan-in)); match = scale has a = std, which "
    "for beta = 2 is a Gaussian of half the variance. Below beta = 1 the slope at 0 is infinite "
    "and taken to be 0 there. A posterior temperature T multiplies a by T^(1/beta).",
)
def generalised_normal(options: GeneralisedNormalOptions) -> GeneralisedNormalPrior:
    """The prior of these options, its scale matched."""
    law = stats.gennorm(options.beta)
    unit = {
        "variance": 1.0 / law.std(),
        "scale": 1.0,
        "iqr": NORMAL_IQR / (2.0 * law.ppf(0.75)),
    }[options.match]
    return GeneralisedNormalPrior(
        float(options.std * unit), options.beta, options.bias_std, options.absolute
    )
