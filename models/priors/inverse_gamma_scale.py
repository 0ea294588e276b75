"""Gaussian weights, the variance of the output layer's learned."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.models.ends import chosen
from bnnzoo.models.inverse_gamma import rate_of_mean_one
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.scaled_gaussian import ScaledGaussian, ScaledGaussianOptions
from bnnzoo.options import Positive
from bnnzoo.registry import register


class InverseGammaScaleOptions(ScaledGaussianOptions):
    """Options of ``inverse-gamma-scale``."""

    shape: Positive = Field(
        3.0,
        description="Shape a of the inverse-gamma variance: functions have the tails of a "
        "Student-t of 2a degrees of freedom.",
    )
    rate: Positive | None = Field(
        None, description="Rate b of it; a - 1 if not given, which makes its prior mean 1."
    )
    scale_bias: bool = Field(
        True,
        description="The output layer's bias has the variance too, as in the limiting process.",
    )
    output: str | None = Field(
        None,
        description="Pattern of the paths of the output layer's kernels; found if not given.",
    )


@functools.partial(
    register_dataclass,
    data_fields=("std", "shape", "rate", "bias_std"),
    meta_fields=("absolute", "scale_bias", "output"),
)
@dataclass(frozen=True)
class InverseGammaScale(ScaledGaussian):
    """w ~ N(0, width^2) but in the output layer, where w | v ~ N(0, v width^2)."""

    std: Leaf
    shape: Leaf
    rate: Leaf
    bias_std: Leaf
    absolute: bool
    scale_bias: bool
    output: str | None

    def sample(
        self, infos: Sequence[ParameterInfo], direct: bool = False, within: str = "network"
    ) -> dict[str, Array]:
        """The variance under ``network.output_variance``, then every parameter."""
        last = [info.path for info in chosen(infos, self.output, "writes_output", "output")]
        owners = {path.rpartition(".")[0] for path in last}
        prior = dist.InverseGamma(self.shape, self.rate)
        scale = jnp.sqrt(numpyro.sample(f"{within}.output_variance", prior))

        def scaled(info: ParameterInfo) -> bool:
            bias = info.role == "bias" and info.path.rpartition(".")[0] in owners
            return info.path in last or (bias and self.scale_bias)

        return {
            info.path: self.centred(info, direct, scale if scaled(info) else 1.0) for info in infos
        }

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Some kernel is the last before the outputs."""
        chosen(infos, self.output, "writes_output", "output")


@register(
    "priors",
    "inverse-gamma-scale",
    summary="Gaussian weights with one learned variance of the output layer: Student-t functions.",
    options=InverseGammaScaleOptions,
    references=(
        "Lee, Yun, Yang & Lee (2022), Scale Mixtures of Neural Network Gaussian Processes",
    ),
    tags={"family": ("gaussian", "hierarchical", "heavy-tailed"), "tails": "polynomial"},
    notes="All weights are as with prior gaussian but those of the output layer, kernel and (by "
    "default) bias, which given v ~ InverseGamma(a, b) have their variances multiplied by v: site "
    "network.output_variance (rule<number>.output_variance for the parameters of a rule). In the "
    "limit of infinite width functions are a Student-t process of 2a degrees of freedom and scale "
    "(b/a) K, K the Gaussian network's kernel. With the default b = a - 1 functions have the "
    "variance of the Gaussian network's. Noise of the likelihood is not multiplied. The output "
    "layer's kernels are those whose results reach the outputs through no other kernel, read off "
    "the network's program; they share one v; the option output names them instead. gibbs-hmc "
    "draws v exactly. The posterior at temperature T needs T < a + 1.",
)
def inverse_gamma_scale(options: InverseGammaScaleOptions) -> InverseGammaScale:
    """The prior of these options."""
    return InverseGammaScale(
        options.std,
        options.shape,
        rate_of_mean_one(options.shape, options.rate),
        options.bias_std,
        options.absolute,
        options.scale_bias,
        options.output,
    )
