"""Automatic relevance determination: a learned width for each input."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import OptionError
from bnnzoo.models.ends import chosen
from bnnzoo.models.groups import along, check_groups
from bnnzoo.models.inverse_gamma import rate_of_mean_one
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.scale_mixtures import matching_unit
from bnnzoo.models.scaled_gaussian import ScaledGaussian, ScaledGaussianOptions
from bnnzoo.options import Positive
from bnnzoo.registry import register

Relevance = Literal["inverse-gamma", "half-cauchy"]
SHAPE = 3.0


class ARDOptions(ScaledGaussianOptions):
    """Options of ``ard``."""

    relevance: Relevance = Field(
        "inverse-gamma",
        description="Prior of an input's variance (inverse-gamma: its precision is gamma), or of "
        "its standard deviation (half-cauchy).",
    )
    shape: Positive | None = Field(
        None, description=f"Shape a of the inverse-gamma; {SHAPE:g} if not given."
    )
    rate: Positive | None = Field(
        None, description="Rate b of it; a - 1 if not given, which makes its prior mean 1."
    )
    inputs: str | None = Field(
        None,
        description="Pattern of the paths of the kernels that meet the inputs; found if not given.",
    )


@functools.partial(
    register_dataclass,
    data_fields=("std", "unit", "shape", "rate", "bias_std"),
    meta_fields=("absolute", "relevance", "inputs"),
)
@dataclass(frozen=True)
class ARD(ScaledGaussian):
    """Gaussian weights; those out of each input have a learned width of their own."""

    std: Leaf
    unit: Leaf
    shape: Leaf
    rate: Leaf
    bias_std: Leaf
    absolute: bool
    relevance: Relevance
    inputs: str | None

    def sample(
        self, infos: Sequence[ParameterInfo], direct: bool = False, within: str = "network"
    ) -> dict[str, Array]:
        """Sites ``<path>.variance (input,)``, or ``<path>.relevance`` and ``<path>.base``."""
        first = {info.path for info in chosen(infos, self.inputs, "reads_input", "inputs")}
        return {
            info.path: self._of_inputs(info, direct)
            if info.path in first
            else self.centred(info, direct)
            for info in infos
        }

    def _of_inputs(self, info: ParameterInfo, direct: bool) -> Array:
        inputs = (info.shape[-2],)
        if self.relevance == "inverse-gamma":
            prior = dist.InverseGamma(self.shape, self.rate).expand(inputs).to_event(1)
            variance = numpyro.sample(f"{info.path}.variance", prior)
            return self.centred(info, direct, along(jnp.sqrt(variance), info, "outgoing"))
        prior = dist.HalfCauchy(1.0).expand(inputs).to_event(1)
        scale = numpyro.sample(f"{info.path}.relevance", prior)
        return self.non_centred(info, direct, along(self.unit * scale, info, "outgoing"))

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Some kernel meets the inputs, and has an axis for them."""
        check_groups(chosen(infos, self.inputs, "reads_input", "inputs"), "outgoing")


@register(
    "priors",
    "ard",
    summary="Automatic relevance determination: Gaussian weights with a learned width an input.",
    options=ARDOptions,
    references=(
        "MacKay (1994), Bayesian Non-linear Modelling for the Prediction Competition",
        "Neal (1996), Bayesian Learning for Neural Networks, ch. 4",
    ),
    tags={"family": ("gaussian", "hierarchical", "sparse"), "tails": "polynomial"},
    notes="Weights out of input i are N(0, v_i s^2), s = std * gain / sqrt(fan-in); all others are "
    "as with prior gaussian. relevance = inverse-gamma: v_i ~ InverseGamma(a, b), site "
    "<path>.variance; with the default b = a - 1 the marginal standard deviation is s, the tails "
    "those of a Student-t(2a), and gibbs-hmc draws every v_i exactly. half-cauchy: v_i = (k l_i)^2,"
    " l_i ~ HalfCauchy(1), sites <path>.relevance (l) and <path>.base; k makes the interquartile "
    "range that of N(0, s^2), as there is no variance. The kernels are those that are applied to "
    "the inputs with no other kernel before them, read off the network's program: each has "
    "relevances of its own, one for each row of a dense kernel (an input) or channel of a "
    "convolution; the option inputs names them instead. The posterior at temperature T needs T < a "
    "+ 1, or T < 2.",
)
def ard(options: ARDOptions) -> ARD:
    """The prior of these options."""
    given = "shape" if options.shape is not None else "rate"
    if options.relevance == "half-cauchy" and getattr(options, given) is not None:
        raise OptionError(
            f"prior.{given}: it is of the inverse-gamma; leave it out, or set prior.relevance to "
            "'inverse-gamma'"
        )
    shape = SHAPE if options.shape is None else options.shape
    return ARD(
        options.std,
        half_cauchy_unit(),
        shape,
        rate_of_mean_one(shape, options.rate),
        options.bias_std,
        options.absolute,
        options.relevance,
        options.inputs,
    )


@functools.cache
def half_cauchy_unit() -> float:
    """What z l, z ~ N(0, 1) and l ~ HalfCauchy(1), is multiplied by to have N(0, 1)'s quartiles."""
    step = 0.0625
    log_scale = np.arange(-45.0, 45.0 + step, step)
    weights = step / (np.pi * np.cosh(log_scale))
    return matching_unit(np.exp(log_scale), weights, "iqr")
