"""The Cauchy prior."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpyro.distributions as dist
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import OptionError
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.prior import NORMAL_IQR, ElementwiseOptions, ElementwisePrior, Match
from bnnzoo.registry import register


class CauchyOptions(ElementwiseOptions):
    """Options of ``cauchy``."""

    match: Match = Field(
        "iqr",
        description="What std means: the interquartile range of a Gaussian of that std (iqr), or "
        "the family's own scale parameter (scale); there is no variance.",
    )


@functools.partial(register_dataclass, data_fields=("scale", "bias_std"), meta_fields=("absolute",))
@dataclass(frozen=True)
class Cauchy(ElementwisePrior):
    """Independent Cauchy(0, scale)."""

    scale: Leaf
    bias_std: Leaf
    absolute: bool

    def family(self, loc: float, scale: Leaf) -> dist.Distribution:
        """Cauchy(loc, scale)."""
        return dist.Cauchy(loc, scale)


@register(
    "priors",
    "cauchy",
    summary="Independent Cauchy weights: tails so heavy that no moment exists.",
    options=CauchyOptions,
    references=(
        "Neal (1996), Bayesian Learning for Neural Networks, sec. 2.1, for priors of weights whose "
        "networks of infinite width are stable, not Gaussian, processes",
    ),
    tags={"family": ("heavy-tailed", "elementwise"), "tails": "polynomial"},
    notes="Density of an element: 1 / (pi b (1 + (w/b)^2)). Half of it lies within b, so match = "
    "iqr has b = 0.6745 std (times gain / sqrt(fan-in)); match = scale has b = std; no variance "
    "exists. In a wide layer a sum over fan-in n of weights of scale b / sqrt(n) grows as sqrt(n). "
    "The posterior at temperature T needs T < 2, or the tempered prior is improper.",
)
def cauchy(options: CauchyOptions) -> Cauchy:
    """The prior of these options, its scale matched."""
    if options.match == "variance":
        raise OptionError(
            "prior.match = 'variance': a Cauchy has no variance; set it to 'iqr' (or 'scale'), or "
            "take prior student-t with df above 2"
        )
    unit = NORMAL_IQR / 2.0 if options.match == "iqr" else 1.0
    return Cauchy(options.std * unit, options.bias_std, options.absolute)
