"""The multivariate Student-t prior: correlated and heavy-tailed."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.models.correlated import CorrelatedStudentT, Groups, cholesky
from bnnzoo.models.correlated_prior import CorrelatedOptions, CorrelatedPrior, Factors
from bnnzoo.models.filter_covariance import Kernel, filter_covariance
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Match
from bnnzoo.models.priors.student_t import student_t_unit
from bnnzoo.options import Positive
from bnnzoo.registry import register

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


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
class MultivariateStudentT(CorrelatedPrior):
    """Vectors of weights with a mixing variance each: a filter, or the weights into a unit.

    Attributes:
        bound: factor of every convolution's positions by path, once the network is known.
    """

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
        known = self.bound.get(info.path)
        return (jnp.asarray(self._factor(info) if known is None else known),)

    def law(
        self, info: ParameterInfo, scale: Leaf, groups: Groups, factors: Factors
    ) -> dist.Distribution:
        """See :meth:`CorrelatedPrior.law`."""
        return CorrelatedStudentT(info.shape, self.df, scale, groups[0], factors[0])

    def bind(self, infos: Sequence[ParameterInfo], data: Dataset | None) -> MultivariateStudentT:
        """With the factors of the network's filters."""
        factors = {i.path: self._factor(i) for i in infos if i.filter_axes}
        return replace(self, bound=factors, length_scale=None) if self.length_scale else self

    def _factor(self, info: ParameterInfo) -> np.ndarray:
        assert self.length_scale is not None
        shape = info.shape[: info.filter_axes]
        found = filter_covariance(shape, self.kernel, self.length_scale)
        what = f"prior.length_scale = {self.length_scale:g} on {info.path!r}"
        return cholesky(found, what, "choose a shorter one, or prior.kernel = 'matern-1/2'")


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
