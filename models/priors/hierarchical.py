"""Gaussian weights whose variance, one a kernel, is learned with them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import OptionError
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior, PriorOptions
from bnnzoo.options import Positive
from bnnzoo.registry import register


class HierarchicalOptions(PriorOptions):
    """Options of ``hierarchical``."""

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
    absolute: bool = Field(False, description="Take std as it is, without gain and fan-in.")
    bias_std: Positive = Field(1.0, description="Standard deviation of the Gaussian on biases.")


@functools.partial(
    register_dataclass,
    data_fields=("std", "shape", "rate", "bias_std"),
    meta_fields=("absolute",),
)
@dataclass(frozen=True)
class Hierarchical(Prior):
    """w | v ~ N(0, v std^2) for every kernel, with its own v ~ InverseGamma(shape, rate).

    Biases are N(0, bias_std^2) and normalisation scales N(1, bias_std^2), as in the elementwise
    priors: a group of few elements says little of its variance.
    """

    std: Leaf
    shape: Leaf
    rate: Leaf
    bias_std: Leaf
    absolute: bool

    def distribution(
        self, info: ParameterInfo, direct: bool = False, variance: Leaf = 1.0
    ) -> dist.Distribution:
        """Distribution of one parameter given the variance of its group.

        Args:
            info: the parameter.
            direct: a rule asked for this prior by name, so it holds for biases too.
            variance: of the group, in units of the squared width.
        """
        loc = 1.0 if info.role == "scale" else 0.0
        if self._has_variance(info, direct):
            width = self.std if self.absolute else self.std * info.unit
            element = dist.Normal(loc, width * jnp.sqrt(variance))
        else:
            element = dist.Normal(loc, self.bias_std)
        return element.expand(info.shape).to_event(len(info.shape))

    def sample_parameter(self, info: ParameterInfo, direct: bool = False) -> Array:
        """The variance under ``<path>.variance``, then the parameter under its path."""
        if not self._has_variance(info, direct):
            return super().sample_parameter(info, direct)
        prior = dist.InverseGamma(self.shape, self.rate)
        variance = numpyro.sample(f"{info.path}.variance", prior)
        return numpyro.sample(info.path, self.distribution(info, direct, variance))

    def _has_variance(self, info: ParameterInfo, direct: bool) -> bool:
        return direct or info.role in ("kernel", "embedding")


@register(
    "priors",
    "hierarchical",
    summary="Gaussian weights with a learned variance a layer.",
    options=HierarchicalOptions,
    references=(
        "Neal (1996), Bayesian Learning for Neural Networks, sec. 1.2.3 and 4.1",
        "Tran et al. (2022), All You Need is a Good Functional Prior for Bayesian Deep Learning, "
        "for layerwise InverseGamma(1, 1) (their fixed hierarchical prior)",
    ),
    tags={"family": ("gaussian", "hierarchical"), "tails": "polynomial"},
    notes="w | v ~ N(0, v s^2), s = std * gain / sqrt(fan-in), v ~ InverseGamma(a, b), one v a "
    "kernel: site <path>.variance. With the default b = a - 1 an element's marginal standard "
    "deviation is s, as with the other priors; a = 3 gives v mean and standard deviation 1, and "
    "elements the tails of a Student-t(6). gibbs-hmc draws every v exactly. The posterior at "
    "temperature T needs T < a + 1.",
)
def hierarchical(options: HierarchicalOptions) -> Hierarchical:
    """The prior of these options."""
    if options.rate is None and options.shape <= 1.0:
        raise OptionError(
            f"prior.shape = {options.shape:g}: an inverse-gamma of shape <= 1 has no mean to set "
            "to 1; give prior.rate as well"
        )
    rate = options.shape - 1.0 if options.rate is None else options.rate
    return Hierarchical(options.std, options.shape, rate, options.bias_std, options.absolute)
