"""The multivariate Student-t prior: correlated and heavy-tailed."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.models.correlated import CorrelatedStudentT, Groups
from bnnzoo.models.correlated_prior import CorrelatedOptions, Factors
from bnnzoo.models.filter_covariance import Kernel
from bnnzoo.models.filter_prior import FilterPrior
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Match
from bnnzoo.models.priors.student_t import student_t_unit
from bnnzoo.options import Positive
from bnnzoo.registry import register


class MultivariateStudentTOptions(CorrelatedOptions):
    """Options of ``multivariate-student-t``."""

    df: Positive = Field(5.0, description="Degrees of freedom: smaller is heavier-tailed.")
    match: Match = Field(
        "variance",
        description="What std means: the standard deviation (variance), the family's own scale "
        "parameter (scale), or the interquartile range of a Gaussian of that std (iqr).",
    )
    kernel: Kernel = Field(
        "matern-1/2", description="Correlation of two weights of a convolution filter."
    )
    length_scale: Positive = Field(
        1.0, description="Distance over which they are alike, in positions of the filter."
    )


@functools.partial(
    register_dataclass,
    data_fields=("scale", "df", "bias_std", "bound"),
    meta_fields=("kernel", "length_scale", "absolute", "centred"),
)
@dataclass(frozen=True)
class MultivariateStudentT(FilterPrior):
    """Vectors of weights with a mixing variance each: a filter, or the weights into a unit."""

    scale: Leaf
    df: Leaf
    bias_std: Leaf
    kernel: Kernel
    length_scale: float | None
    absolute: bool
    centred: bool
    bound: Mapping[str, Leaf] = field(default_factory=dict)

    def groups(self, info: ParameterInfo) -> Groups:
        """A convolution's positions; of other kernels all axes but the last."""
        return (tuple(range(info.filter_axes or max(len(info.shape) - 1, 1))),)

    def factors(self, info: ParameterInfo) -> tuple[Array, ...]:
        """Correlation of positions; the identity in a dense kernel, whose inputs have no order."""
        if not info.filter_axes:
            return (jnp.eye(math.prod(info.shape[axis] for axis in self.groups(info)[0])),)
        return (self.filter_factor(info),)

    def law(
        self, info: ParameterInfo, scale: Leaf, groups: Groups, factors: Factors
    ) -> dist.Distribution:
        """See :meth:`FilterPrior.law`."""
        return CorrelatedStudentT(info.shape, self.df, scale, groups[0], factors[0])


@register(
    "priors",
    "multivariate-student-t",
    summary="Filters and units whose weights are large together; smooth over filter positions.",
    options=MultivariateStudentTOptions,
    references=("Fortuin et al. (2022), Bayesian Neural Network Priors Revisited, sec. 4",),
    tags={"family": ("heavy-tailed", "correlated"), "tails": "polynomial"},
    notes="A convolution's filter (one an input-output pair of channels), or the weights into "
    "a unit of another layer, is s L z / sqrt(g / df) with z ~ N(0, I) and g ~ chi^2(df) of its "
    "own; L L' is the filter's correlation as in correlated-conv, the identity elsewhere. An "
    "element is a Student-t(df), and match works as in student-t. The posterior at temperature "
    "T needs T < (df + n) / n for vectors of n weights.",
)
def multivariate_student_t(options: MultivariateStudentTOptions) -> MultivariateStudentT:
    """The prior of these options, its scale matched."""
    return MultivariateStudentT(
        options.std * student_t_unit(options.df, options.match),
        options.df,
        options.bias_std,
        options.kernel,
        options.length_scale,
        options.absolute,
        options.centred,
    )
