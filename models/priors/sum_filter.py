"""The sum-filter prior: convolution filters whose weights nearly cancel."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import log_ndtr
from jax.tree_util import register_dataclass
from pydantic import Field
from scipy import special

from bnnzoo.errors import InputError
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior, PriorOptions
from bnnzoo.options import Positive
from bnnzoo.registry import register

NEWTON = 8
"""Steps that solve for a quantile of the sum: from their start 5 reach float64 everywhere."""


class SumFilterOptions(PriorOptions):
    """Options of ``sum-filter``."""

    sum_scale: Positive = Field(
        0.1,
        description="Scale of the Laplace factor on a filter's sum, in units of the standard "
        "deviation the sum would have without it: smaller makes weights cancel.",
    )
    std: Positive = Field(
        1.0, description="Width of a kernel's elements, in units of gain/sqrt(fan-in)."
    )
    match: Literal["variance", "scale"] = Field(
        "variance",
        description="What std means: an element's standard deviation (variance), or that of the "
        "Gaussian factor (scale), as published.",
    )
    absolute: bool = Field(False, description="Take std as it is, without gain and fan-in.")
    bias_std: Positive = Field(1.0, description="Standard deviation of the Gaussian on biases.")


class SumTilted(dist.Distribution):
    """N(w; 0, scale^2 I) exp(-tilt |sum w| / (scale sqrt(n))), normalised, over the leading axes.

    Independent over the axes that are not summed. With s the sum and n its terms, w is s / n plus
    what a Gaussian vector has besides its own mean, and s / (scale sqrt(n)) has the density
    exp(-t^2 / 2 - tilt |t|) / (2 exp(tilt^2 / 2) Phi(-tilt)).

    Args:
        shape: of one value.
        scale: of the Gaussian factor.
        tilt: inverse of the Laplace factor's scale.
        summed: how many leading axes are summed.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("scale", "tilt")
    pytree_aux_fields = ("summed",)

    def __init__(self, shape: tuple[int, ...], scale: Any, tilt: Any, summed: int) -> None:
        self.scale, self.tilt, self.summed = scale, tilt, summed
        super().__init__((), tuple(shape))

    @property
    def support(self) -> Any:
        """Every real array of the shape."""
        return dist.constraints.independent(dist.constraints.real, len(self.event_shape))

    @property
    def terms(self) -> int:
        """Number of weights in a sum."""
        return math.prod(self.event_shape[: self.summed])

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws ``(*sample_shape, *shape)``."""
        keys = jax.random.split(key, 3)
        white = jax.random.normal(keys[0], (*sample_shape, *self.event_shape))
        axes = tuple(range(len(sample_shape), len(sample_shape) + self.summed))
        rest = white - white.mean(axes, keepdims=True)
        shape = white.sum(axes, keepdims=True).shape
        # |t| is a normal of mean -tilt beyond 0: -log of its survival function is exponential.
        exponential = jax.random.exponential(keys[1], shape)
        size = _beyond(self.tilt, exponential)
        sign = jax.random.rademacher(keys[2], shape, white.dtype)
        return self.scale * (rest + sign * size / math.sqrt(self.terms))

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """Log density of arrays ``(*batch, *shape)``."""
        w = value / self.scale
        dims = len(self.event_shape)
        places = tuple(range(-dims, -dims + self.summed))
        t = jnp.abs(w.sum(places)) / math.sqrt(self.terms)
        rest = tuple(range(-(dims - self.summed), 0))
        size = math.prod(self.event_shape)
        gaussian = -0.5 * jnp.sum(w**2, tuple(range(-dims, 0)))
        gaussian = gaussian - size * (0.5 * math.log(2.0 * math.pi) + jnp.log(self.scale))
        constant = math.log(2.0) + 0.5 * self.tilt**2 + log_ndtr(-self.tilt)
        return gaussian - self.tilt * jnp.sum(t, rest) - constant * (size // self.terms)

    @property
    def mean(self) -> Array:
        """Zero."""
        return jnp.zeros(self.event_shape)

    @property
    def variance(self) -> Array:
        """Of every element."""
        share = (self.terms - 1.0 + sum_variance(self.tilt)) / self.terms
        return jnp.full(self.event_shape, self.scale**2 * share)


def _beyond(start: Leaf, exponential: Array) -> Array:
    """Z - start where -log P(Z > z | Z > start) = exponential, Z standard normal, by Newton."""
    start = jnp.asarray(start, exponential.dtype)
    target = log_ndtr(-start) - exponential

    def step(_: Any, z: Array) -> Array:
        at = log_ndtr(-z)
        slope = -jnp.exp(-0.5 * z**2 - 0.5 * math.log(2.0 * math.pi) - at)
        return z - (at - target) / slope

    z = jnp.sqrt(start**2 + 2.0 * exponential)
    return jax.lax.fori_loop(0, NEWTON, step, z) - start


def sum_variance(tilt: float) -> float:
    """Variance of a filter's sum under this tilt, over what it is without.

    Args:
        tilt: inverse scale of the Laplace factor.
    """
    # The second moment of N(-tilt, 1) beyond 0; its series where 1 + tilt^2 cancels.
    if tilt > 50.0:
        return 2.0 / tilt**2 - 10.0 / tilt**4
    hazard = math.exp(-0.5 * tilt**2 - 0.5 * math.log(2.0 * math.pi) - special.log_ndtr(-tilt))
    return 1.0 + tilt**2 - tilt * hazard


@functools.partial(
    register_dataclass,
    data_fields=("scale", "tilt", "sum_variance", "bias_std"),
    meta_fields=("absolute", "matched"),
)
@dataclass(frozen=True)
class SumFilter(Prior):
    """Filters whose sums over positions are small; other kernels Gaussian."""

    scale: Leaf
    tilt: Leaf
    sum_variance: Leaf
    bias_std: Leaf
    absolute: bool
    matched: bool

    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """See :meth:`Prior.distribution`."""
        scale = self.scale if self.absolute else self.scale * info.unit
        if info.filter_axes:
            terms = math.prod(info.shape[: info.filter_axes])
            if self.matched:
                scale = scale * jnp.sqrt(terms / (terms - 1.0 + self.sum_variance))
            return SumTilted(info.shape, scale, self.tilt, info.filter_axes)
        if not direct and info.role in ("bias", "scale"):
            scale = self.bias_std
        loc = 1.0 if info.role == "scale" else 0.0
        return dist.Normal(loc, scale).expand(info.shape).to_event(len(info.shape))

    def check_use(self, infos: Sequence[ParameterInfo]) -> None:
        """There is a convolution."""
        if not any(i.filter_axes for i in infos):
            raise InputError(
                "prior 'sum-filter' is about the sums of convolution filters, and the network has "
                "no convolution (nearest: 'empirical-covariance'; networks with one: 'cnn')"
            )


@register(
    "priors",
    "sum-filter",
    summary="Convolution filters whose weights nearly cancel, so that flat patches say little.",
    options=SumFilterOptions,
    references=(
        "Izmailov et al. (2021), Dangers of Bayesian Model Averaging under Covariate Shift, sec. 6",
    ),
    tags={"family": ("correlated",), "tails": "light", "needs": "convolution"},
    notes="A filter of n positions (one an input-output pair of channels) has the density N(w; "
    "0, a^2 I) exp(-|sum w| / (c a sqrt(n))), normalised, c = sum_scale; its sum then has m "
    "times the variance n a^2, m = 1 + b^2 - b phi(b) / Phi(-b), b = 1/c. With match = "
    "variance, a^2 = s^2 n / (n - 1 + m), s = std * gain / sqrt(fan-in), so that an element has "
    "standard deviation s; two elements of a filter have covariance a^2 (m - 1) / n. Dense "
    "kernels are Gaussian. The study used it on the first layer: give prior 'gaussian' a rule "
    "for that kernel which names this one.",
)
def sum_filter(options: SumFilterOptions) -> SumFilter:
    """The prior of these options."""
    tilt = 1.0 / options.sum_scale
    matched = options.match == "variance"
    return SumFilter(
        options.std, tilt, sum_variance(tilt), options.bias_std, options.absolute, matched
    )
