"""The regularised horseshoe, one local scale an element or one a group of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field
from scipy import special

from bnnzoo.errors import OptionError
from bnnzoo.models.groups import Group, along, check_groups, group_shape
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Match
from bnnzoo.models.scale_mixtures import matching_unit
from bnnzoo.models.scaled_gaussian import ScaledGaussian, ScaledGaussianOptions
from bnnzoo.options import Positive


class HorseshoeOptions(ScaledGaussianOptions):
    """Options of ``horseshoe`` and ``group-horseshoe``."""

    match: Match = Field(
        "variance",
        description="What std means: the standard deviation (variance), what all scales are "
        "multiplied by (scale), or the interquartile range of a Gaussian of that std (iqr).",
    )
    global_scale: Positive = Field(
        1.0, description="Scale tau0 of a kernel's half-Cauchy global scale: smaller is sparser."
    )
    slab_df: Annotated[float, Field(ge=0.5, allow_inf_nan=False)] = Field(
        4.0, description="Degrees of freedom of the slab, a Student-t; at least 0.5."
    )
    slab_scale: Positive = Field(2.0, description="Scale of the slab.")


@functools.partial(
    register_dataclass,
    data_fields=("std", "global_scale", "slab_df", "slab_scale", "bias_std"),
    meta_fields=("absolute", "group"),
)
@dataclass(frozen=True)
class Horseshoe(ScaledGaussian):
    """w = width z tau l~ for kernels, z ~ N(0, 1) and l~ a local scale bounded by the slab."""

    std: Leaf
    global_scale: Leaf
    slab_df: Leaf
    slab_scale: Leaf
    bias_std: Leaf
    absolute: bool
    group: Group

    def sample_parameter(self, info: ParameterInfo, direct: bool = False) -> Array:
        """Sites ``<path>.global``, ``.slab`` (c^2), ``.local`` and ``.base``, then the parameter.

        Half-Cauchy scales are sites themselves, not ratios of other sites: their logarithm, which
        samplers move, has the smooth density 1 / (pi cosh), and a posterior temperature is then
        that of their own law.
        """
        if not self.weighs(info, direct):
            return self.centred(info, direct)
        overall = numpyro.sample(f"{info.path}.global", dist.HalfCauchy(self.global_scale))
        half = 0.5 * self.slab_df
        slab = numpyro.sample(
            f"{info.path}.slab", dist.InverseGamma(half, half * self.slab_scale**2)
        )
        shape = group_shape(info, self.group)
        local = numpyro.sample(
            f"{info.path}.local", dist.HalfCauchy(1.0).expand(shape).to_event(len(shape))
        )
        scale = bounded(jnp.log(overall) + jnp.log(local), jnp.log(slab))
        return self.non_centred(info, direct, along(scale, info, self.group))

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Every kernel has the groups that were asked for."""
        check_groups(infos, self.group)


def bounded(log_scale: Array, log_slab: Array) -> Array:
    """(1/t^2 + 1/c^2)^(-1/2): tau l~ of eq. 2.8, from logarithms, as t reaches 1e19 and more.

    Args:
        log_scale: log t, t = tau l.
        log_slab: log c^2.
    """
    return jnp.exp(-0.5 * jnp.logaddexp(-2.0 * log_scale, -log_slab))


def make_horseshoe(options: HorseshoeOptions, group: Group) -> Horseshoe:
    """The prior of these options, its scale matched.

    Args:
        options: of one of the two entries.
        group: what has a local scale.

    Raises:
        OptionError: a variance to match that does not exist.
    """
    if options.match == "variance" and options.slab_df <= 2:
        raise OptionError(
            f"prior.slab_df = {options.slab_df:g}: a slab has no variance for df <= 2; set "
            "prior.match to 'iqr' (or 'scale'), or slab_df above 2"
        )
    unit = horseshoe_unit(options.global_scale, options.slab_df, options.slab_scale, options.match)
    return Horseshoe(
        options.std * unit,
        options.global_scale,
        options.slab_df,
        options.slab_scale,
        options.bias_std,
        options.absolute,
        group,
    )


@functools.lru_cache(maxsize=64)
def horseshoe_unit(
    global_scale: float, slab_df: float, slab_scale: float, match: Match = "variance"
) -> float:
    """What an element of the horseshoe is multiplied by to have the width of N(0, 1).

    Sums over grids of log x, x the product of two half-Cauchys, density 2/pi^2 (log x) / sinh(log
    x), and of log c^2: both are smooth and fall exponentially, where such sums converge like
    integrals of analytic functions do.

    Args:
        global_scale: tau0.
        slab_df: of the slab.
        slab_scale: of the slab.
        match: which width.
    """
    step = 0.125
    log_x = np.arange(-48.0, 48.0 + step, step)
    tails = np.abs(log_x) + (log_x == 0.0)
    of_x = np.where(log_x == 0.0, 1.0, tails / np.sinh(tails)) * 2.0 / np.pi**2 * step
    half = 0.5 * slab_df
    rate = half * slab_scale**2
    # Of g = rate / c^2, a Gamma(half): to the left of its mode exp(half log g), double exponential
    # to the right.
    log_g = np.arange(math.log(half) - 40.0 / min(half, 1.0), math.log(half + 60.0) + 1.0, step)
    of_g = np.exp(half * log_g - np.exp(log_g) - special.gammaln(half)) * step
    with np.errstate(over="ignore"):
        inverse = np.exp(-2.0 * (log_x[:, None] + math.log(global_scale))) + np.exp(log_g) / rate
    weights = of_x[:, None] * of_g
    kept = weights > 1e-22
    return matching_unit(inverse[kept] ** -0.5, weights[kept] / weights[kept].sum(), match)
