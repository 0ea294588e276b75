"""The Gaussian prior."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpyro.distributions as dist
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import ElementwiseOptions, ElementwisePrior
from bnnzoo.options import Finite
from bnnzoo.registry import register


class GaussianOptions(ElementwiseOptions):
    """Options of ``gaussian``; its three ways to match coincide."""

    scale_mean: Finite = Field(
        1.0,
        description="Mean of the scales of normalisations; 0 where a study gave every parameter "
        "one law.",
    )


@functools.partial(
    register_dataclass,
    data_fields=("scale", "bias_std", "scale_mean"),
    meta_fields=("absolute",),
)
@dataclass(frozen=True)
class Gaussian(ElementwisePrior):
    """Independent N(0, scale^2)."""

    scale: Leaf
    bias_std: Leaf
    absolute: bool
    scale_mean: Leaf = 1.0

    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """See :meth:`bnnzoo.models.prior.Prior.distribution`."""
        if info.role != "scale":
            return super().distribution(info, direct)
        width = self.bias_std
        if direct:
            width = self.scale if self.absolute else self.scale * info.unit
        element = dist.Normal(self.scale_mean, width)
        return element.expand(info.shape).to_event(len(info.shape))

    def family(self, loc: float, scale: Leaf) -> dist.Distribution:
        """N(loc, scale^2)."""
        return dist.Normal(loc, scale)


@register(
    "priors",
    "gaussian",
    summary="Independent Gaussian weights, the usual choice.",
    options=GaussianOptions,
    references=("Neal (1996), Bayesian Learning for Neural Networks, sec. 2.1",),
    tags={"family": ("gaussian", "elementwise"), "tails": "light"},
    notes="Density of an element: exp(-w^2 / (2 s^2)) / (s sqrt(2 pi)), "
    "s = std * gain / sqrt(fan-in).",
)
def gaussian(options: GaussianOptions) -> Gaussian:
    """The prior of these options."""
    return Gaussian(options.std, options.bias_std, options.absolute, options.scale_mean)
