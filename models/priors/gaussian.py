"""The Gaussian prior."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpyro.distributions as dist
from jax.tree_util import register_dataclass

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.prior import ElementwiseOptions, ElementwisePrior
from bnnzoo.registry import register


class GaussianOptions(ElementwiseOptions):
    """Options of ``gaussian``; its three ways to match coincide."""


@functools.partial(register_dataclass, data_fields=("scale", "bias_std"), meta_fields=("absolute",))
@dataclass(frozen=True)
class Gaussian(ElementwisePrior):
    """Independent N(0, scale^2)."""

    scale: Leaf
    bias_std: Leaf
    absolute: bool

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
    return Gaussian(options.std, options.bias_std, options.absolute)
