"""The Gaussian prior that correlates neighbouring weights of a convolution's filters."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.models.correlated import Groups
from bnnzoo.models.correlated_prior import CorrelatedOptions
from bnnzoo.models.filter_covariance import Kernel
from bnnzoo.models.filter_prior import FilterPrior
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.options import Positive
from bnnzoo.registry import register


class CorrelatedConvOptions(CorrelatedOptions):
    """Options of ``correlated-conv``."""

    kernel: Kernel = Field(
        "matern-1/2", description="Correlation of two weights as a function of their distance."
    )
    length_scale: Positive = Field(
        1.0, description="Distance over which weights are alike, in positions of the filter."
    )


@functools.partial(
    register_dataclass,
    data_fields=("scale", "bias_std", "bound"),
    meta_fields=("kernel", "length_scale", "absolute", "centred"),
)
@dataclass(frozen=True)
class CorrelatedConv(FilterPrior):
    """Filters are draws of a Gaussian process over their positions, one an input-output pair."""

    scale: Leaf
    bias_std: Leaf
    kernel: Kernel
    length_scale: float | None
    absolute: bool
    centred: bool
    bound: Mapping[str, Leaf] = field(default_factory=dict)

    def groups(self, info: ParameterInfo) -> Groups:
        """The spatial axes of a convolution; of other kernels none."""
        return (tuple(range(info.filter_axes)),) if info.filter_axes else ()

    def factors(self, info: ParameterInfo) -> tuple[Array, ...]:
        """Of the positions' correlation."""
        if not info.filter_axes:
            return ()
        return (self.filter_factor(info),)

    def check_use(self, infos: Sequence[ParameterInfo]) -> None:
        """There is a convolution."""
        if not any(i.filter_axes for i in infos):
            raise InputError(
                "prior 'correlated-conv' correlates the positions of convolution filters, and the "
                "network has no convolution (nearest: 'gaussian', or 'matrix-normal' for dense "
                "kernels; networks with one: 'cnn')"
            )


@register(
    "priors",
    "correlated-conv",
    summary="Convolution filters that vary smoothly over their positions; the rest Gaussian.",
    options=CorrelatedConvOptions,
    references=(
        "Fortuin et al. (2022), Bayesian Neural Network Priors Revisited, sec. 4",
        "Garriga-Alonso & van der Wilk (2021), Correlated Weights in Infinite Limits of Deep "
        "Convolutional Neural Networks",
    ),
    tags={"family": ("gaussian", "correlated"), "tails": "light", "needs": "convolution"},
    notes="w[p, i, o] for positions p is N(0, s^2 K), independent over channels i, o; s = std "
    "* gain / sqrt(fan-in), K[p, q] = k(|p - q| / length_scale). matern-1/2 is exp(-|p - q| / "
    "length_scale), which published code calls squared exponential. The variance of an element "
    "is that of gaussian whatever the length-scale, that of a sum over positions is not. "
    "Kernels of dense layers are independent Gaussians.",
)
def correlated_conv(options: CorrelatedConvOptions) -> CorrelatedConv:
    """The prior of these options."""
    return CorrelatedConv(
        options.std,
        options.bias_std,
        options.kernel,
        options.length_scale,
        options.absolute,
        options.centred,
    )
