"""The Laplace prior."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpyro.distributions as dist
from jax.tree_util import register_dataclass

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.prior import NORMAL_IQR, ElementwiseOptions, ElementwisePrior
from bnnzoo.registry import register


class LaplaceOptions(ElementwiseOptions):
    """Options of ``laplace``."""


@functools.partial(register_dataclass, data_fields=("scale", "bias_std"), meta_fields=("absolute",))
@dataclass(frozen=True)
class Laplace(ElementwisePrior):
    """Independent Laplace(0, scale)."""

    scale: Leaf
    bias_std: Leaf
    absolute: bool

    def family(self, loc: float, scale: Leaf) -> dist.Distribution:
        """Laplace(loc, scale)."""
        return dist.Laplace(loc, scale)


@register(
    "priors",
    "laplace",
    summary="Independent double-exponential weights: a peak at zero and heavier tails.",
    options=LaplaceOptions,
    references=("Fortuin et al. (2022), Bayesian Neural Network Priors Revisited, sec. 4",),
    tags={"family": ("heavy-tailed", "elementwise", "sparse"), "tails": "exponential"},
    notes="Density of an element: exp(-|w| / b) / (2 b). With match = variance, b = std / sqrt(2) "
    "(times gain / sqrt(fan-in)), so that the standard deviation is std; studies that set b = std "
    "(match = scale) compare against a Gaussian of half the variance. A posterior temperature T "
    "multiplies its standard deviation by T, a Gaussian's by sqrt(T).",
)
def laplace(options: LaplaceOptions) -> Laplace:
    """The prior of these options, its scale matched."""
    unit = {
        "variance": 1.0 / math.sqrt(2.0),
        "scale": 1.0,
        "iqr": NORMAL_IQR / (2.0 * math.log(2.0)),
    }[options.match]
    return Laplace(options.std * unit, options.bias_std, options.absolute)
