"""The low-rank prior: kernels that are products of two thin Gaussian matrices."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior, PriorOptions
from bnnzoo.options import Count, Positive
from bnnzoo.registry import register


class LowRankOptions(PriorOptions):
    """Options of ``low-rank``."""

    rank: Count = Field(2, description="Columns of the two factors.")
    std: Positive = Field(
        1.0, description="Standard deviation of an element, in units of gain/sqrt(fan-in)."
    )
    absolute: bool = Field(False, description="Take std as it is, without gain and fan-in.")
    bias_std: Positive = Field(1.0, description="Standard deviation of the Gaussian on biases.")


class LowRankProduct(dist.Distribution):
    """Law of scale A B / sqrt(rank) with standard normal A (n, rank) and B (rank, m).

    It has draws and moments; its density, of a singular matrix, does not exist where the rank is
    below both sides, so a model samples A and B.

    Args:
        shape: of one value; all axes but the last are rows.
        scale: standard deviation of an element.
        rank: columns of A.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("scale",)
    pytree_aux_fields = ("rank",)

    def __init__(self, shape: tuple[int, ...], scale: Any, rank: int) -> None:
        self.scale, self.rank = scale, rank
        super().__init__((), tuple(shape))

    @property
    def support(self) -> Any:
        """Every real array of the shape."""
        return dist.constraints.independent(dist.constraints.real, len(self.event_shape))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws ``(*sample_shape, *shape)``."""
        for_left, for_right = jax.random.split(key)
        rows, columns = math.prod(self.event_shape[:-1]), self.event_shape[-1]
        left = jax.random.normal(for_left, (*sample_shape, rows, self.rank))
        right = jax.random.normal(for_right, (*sample_shape, self.rank, columns))
        return product(left, right, self.event_shape, self.scale)

    @property
    def mean(self) -> Array:
        """Zero."""
        return jnp.zeros(self.event_shape)

    @property
    def variance(self) -> Array:
        """Of every element."""
        return jnp.full(self.event_shape, self.scale**2)


def product(left: Array, right: Array, shape: tuple[int, ...], scale: Leaf) -> Array:
    """Scale A B / sqrt(rank) in the shape of a kernel.

    Args:
        left: A ``(..., row, rank)``.
        right: B ``(..., rank, column)``.
        shape: of the kernel.
        scale: standard deviation of an element.
    """
    value = scale * (left @ right) / math.sqrt(left.shape[-1])
    return value.reshape(*value.shape[:-2], *shape)


@functools.partial(
    register_dataclass, data_fields=("scale", "bias_std"), meta_fields=("rank", "absolute")
)
@dataclass(frozen=True)
class LowRank(Prior):
    """Kernels A B of rank at most ``rank``; biases N(0, bias_std^2)."""

    scale: Leaf
    bias_std: Leaf
    rank: int
    absolute: bool

    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """See :meth:`Prior.distribution`."""
        if self._has_factors(info):
            return LowRankProduct(info.shape, self._scale(info), self.rank)
        loc = 1.0 if info.role == "scale" else 0.0
        wide = direct or info.role in ("kernel", "embedding")
        scale = self._scale(info) if wide else self.bias_std
        return dist.Normal(loc, scale).expand(info.shape).to_event(len(info.shape))

    def sample_parameter(self, info: ParameterInfo, direct: bool = False) -> Array:
        """The factors under ``<path>.left`` and ``<path>.right``, then their product."""
        if not self._has_factors(info):
            return super().sample_parameter(info, direct)
        shapes = {
            "left": (math.prod(info.shape[:-1]), self.rank),
            "right": (self.rank, info.shape[-1]),
        }
        left, right = (
            numpyro.sample(f"{info.path}.{side}", dist.Normal().expand(shape).to_event(2))
            for side, shape in shapes.items()
        )
        value = product(left, right, info.shape, self._scale(info))
        return numpyro.deterministic(info.path, value)

    def _has_factors(self, info: ParameterInfo) -> bool:
        if info.role not in ("kernel", "embedding") or len(info.shape) < 2:
            return False
        return min(math.prod(info.shape[:-1]), info.shape[-1]) > self.rank

    def _scale(self, info: ParameterInfo) -> Leaf:
        return self.scale if self.absolute else self.scale * info.unit


@register(
    "priors",
    "low-rank",
    summary="Kernels that are the product of two thin Gaussian matrices.",
    options=LowRankOptions,
    references=(
        "Salakhutdinov & Mnih (2008), Bayesian Probabilistic Matrix Factorization, sec. 2, for "
        "products of Gaussian factors",
    ),
    tags={"family": ("correlated", "heavy-tailed"), "tails": "exponential"},
    notes="w = s A B / sqrt(r), A (n, r) and B (r, m) standard normal, s = std * gain / "
    "sqrt(fan-in), r = rank; sites <path>.left and <path>.right. Elements have standard "
    "deviation s and excess kurtosis 6/r; they are uncorrelated, but the squares of two in one "
    "row, or in one column, have covariance 2 s^4 / r. A kernel whose smaller side is at most "
    "the rank is Gaussian. A posterior temperature T multiplies the standard deviation of w by "
    "T, a Gaussian's by sqrt(T).",
)
def low_rank(options: LowRankOptions) -> LowRank:
    """The prior of these options."""
    return LowRank(options.std, options.bias_std, options.rank, options.absolute)
