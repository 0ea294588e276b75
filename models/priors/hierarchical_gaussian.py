"""Gaussian weights whose variances are learned with them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import OptionError
from bnnzoo.models.inverse_gamma import rate_of_mean_one
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.scaled_gaussian import ScaledGaussian, ScaledGaussianOptions
from bnnzoo.options import Positive
from bnnzoo.registry import register

Share = Literal["parameter", "layer", "network"]


class HierarchicalGaussianOptions(ScaledGaussianOptions):
    """Options of ``hierarchical-gaussian``."""

    std: Positive = Field(
        1.0,
        description="Width of a kernel's elements where its variance is 1, in units of "
        "gain/sqrt(fan-in).",
    )
    shape: Positive = Field(
        3.0,
        description="Shape a of the inverse-gamma variance: smaller lets layers differ more. "
        "An element is a Student-t of 2a degrees of freedom once the variance is integrated out.",
    )
    rate: Positive | None = Field(
        None, description="Rate b of it; a - 1 if not given, which makes its prior mean 1."
    )
    share: Share = Field(
        "parameter",
        description="What has one variance: a parameter (each kernel its own), a layer (its kernel "
        "and bias together), or the network.",
    )
    bias_variance: bool = Field(
        False,
        description="Biases and normalisation scales have learned variances too, in units of "
        "bias_std^2: their own, or that of their layer or network.",
    )


@functools.partial(
    register_dataclass,
    data_fields=("std", "shape", "rate", "bias_std"),
    meta_fields=("absolute", "share", "bias_variance"),
)
@dataclass(frozen=True)
class HierarchicalGaussian(ScaledGaussian):
    """w | v ~ N(0, v width^2), one v ~ InverseGamma(shape, rate) a parameter, layer or network.

    Biases are N(0, bias_std^2) and normalisation scales N(1, bias_std^2), as in the elementwise
    priors, unless asked otherwise: a group of few elements says little of its variance.
    """

    std: Leaf
    shape: Leaf
    rate: Leaf
    bias_std: Leaf
    absolute: bool
    share: Share
    bias_variance: bool

    @property
    def shapes_biases(self) -> bool:
        """They may have variances."""
        return self.bias_variance

    def sample(
        self, infos: Sequence[ParameterInfo], direct: bool = False, within: str = "network"
    ) -> dict[str, Array]:
        """Each variance before the first parameter of its group, named ``<group>.variance``."""
        variances: dict[str, Array] = {}
        made = {}
        for info in infos:
            if not (self.bias_variance or self.weighs(info, direct)):
                made[info.path] = self.centred(info, direct)
                continue
            group = self._group(info, within)
            if group not in variances:
                prior = dist.InverseGamma(self.shape, self.rate)
                variances[group] = numpyro.sample(f"{group}.variance", prior)
            made[info.path] = self.centred(info, direct, jnp.sqrt(variances[group]))
        return made

    def _group(self, info: ParameterInfo, within: str) -> str:
        if self.share == "parameter":
            return info.path
        # A network that is one module holds its parameters without a dot.
        layer = info.path.rpartition(".")[0] if self.share == "layer" else ""
        return layer or within


@register(
    "priors",
    "hierarchical-gaussian",
    summary="Gaussian weights with learned variances: a kernel's, a layer's or the network's.",
    options=HierarchicalGaussianOptions,
    references=(
        "Neal (1996), Bayesian Learning for Neural Networks, sec. 1.2.3 and 4.1",
        "Tran et al. (2022), All You Need is a Good Functional Prior for Bayesian Deep Learning, "
        "for inverse-gamma variances of every kernel and bias (GPi-H), and InverseGamma(1, 1) "
        "(their fixed hierarchical prior)",
    ),
    tags={"family": ("gaussian", "hierarchical"), "tails": "polynomial"},
    notes="w | v ~ N(0, v s^2), s = std * gain / sqrt(fan-in), v ~ InverseGamma(a, b). Sites "
    "<path>.variance, <layer>.variance or network.variance (rule<number>.variance for the "
    "parameters of a rule). With the default b = a - 1 an element's marginal standard "
    "deviation is s, as with the other priors; a = 3 gives v mean and standard deviation 1, and "
    "elements the tails of a Student-t(6). GPi-H: bias_variance = true. gibbs-hmc draws every v "
    "exactly. The posterior at temperature T needs T < a + 1.",
)
def hierarchical_gaussian(options: HierarchicalGaussianOptions) -> HierarchicalGaussian:
    """The prior of these options."""
    if options.share == "layer" and not options.bias_variance:
        raise OptionError(
            "prior.share = 'layer': a layer's variance is that of its kernel and its bias; set "
            "prior.bias_variance = true, or share to 'parameter' for kernels alone"
        )
    rate = rate_of_mean_one(options.shape, options.rate)
    return HierarchicalGaussian(
        options.std,
        options.shape,
        rate,
        options.bias_std,
        options.absolute,
        options.share,
        options.bias_variance,
    )
