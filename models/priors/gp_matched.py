"""The functional prior: widths found by matching a network's functions to a Gaussian process."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior
from bnnzoo.models.scaled_gaussian import centre_of
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register

Variant = Literal["gpi-g", "gpi-h"]


class GPMatchedOptions(Options):
    """Options of ``gp-matched``: what ``bnnzoo.match_prior`` found."""

    variant: Variant = Field(
        "gpi-g", description="gpi-g: Gaussian weights; gpi-h: with a learned variance a parameter."
    )
    widths: dict[str, Positive] = Field(
        default_factory=dict,
        description="By parameter path: standard deviation of a kernel's elements in units of "
        "1/sqrt(fan-in), of other parameters as it is (gpi-h: where their variance is 1).",
    )
    shapes: dict[str, Positive] = Field(
        default_factory=dict,
        description="gpi-h, by parameter path: shape a of the inverse-gamma variance, whose rate "
        "is a as well.",
    )
    matched_to: str = Field("", description="What it was matched to, in words: for the record.")


@functools.partial(register_dataclass, data_fields=("widths", "shapes"), meta_fields=("variant",))
@dataclass(frozen=True)
class GPMatched(Prior):
    """Independent Gaussian parameters with a width each, fixed or with a random factor."""

    widths: Mapping[str, Leaf]
    shapes: Mapping[str, Leaf]
    variant: Variant

    def distribution(
        self, info: ParameterInfo, direct: bool = False, variance: Leaf = 1.0
    ) -> dist.Distribution:
        """Distribution of one parameter given its variance factor.

        Args:
            info: the parameter.
            direct: changes nothing: every parameter has a width.
            variance: 1 for gpi-g.
        """
        scale = width_unit(info) * self.widths[info.path] * jnp.sqrt(variance)
        return dist.Normal(centre_of(info), scale).expand(info.shape).to_event(len(info.shape))

    def sample_parameter(self, info: ParameterInfo, direct: bool = False) -> Array:
        """Of gpi-h first the variance under ``<path>.variance``, then the parameter."""
        if self.variant == "gpi-g":
            return super().sample_parameter(info, direct)
        shape = self.shapes[info.path]
        variance = numpyro.sample(f"{info.path}.variance", dist.InverseGamma(shape, shape))
        return numpyro.sample(info.path, self.distribution(info, direct, variance))

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Every parameter has a width, and every width a parameter."""
        paths = [i.path for i in infos]
        for name in ("widths", "shapes") if self.variant == "gpi-h" else ("widths",):
            given = getattr(self, name)
            if unknown := [path for path in given if path not in paths]:
                near = hint(unknown[0], paths)
                raise InputError(f"prior.{name} names {unknown[0]!r}, no parameter here{near}")
            if missing := [path for path in paths if path not in given]:
                raise InputError(
                    f"prior 'gp-matched' has no {name} of parameter {missing[0]!r}: it was matched "
                    "for another network (bnnzoo.match_prior, bnnzoo match-prior)"
                )


def width_unit(info: ParameterInfo) -> float:
    """What a width of 1 is: 1/sqrt(fan-in) for kernels that do not scale themselves, else 1.

    Args:
        info: the parameter.
    """
    return 1.0 if info.forward_scaled else info.fan_in**-0.5


@register(
    "priors",
    "gp-matched",
    summary="Widths matched to a Gaussian process over functions, by bnnzoo.match_prior.",
    options=GPMatchedOptions,
    references=(
        "Tran et al. (2022), All You Need is a Good Functional Prior for Bayesian Deep Learning, "
        "sec. 4",
    ),
    tags={
        "family": ("gaussian", "hierarchical", "functional"),
        "tails": "light",
        "needs": "match",
    },
    notes="Made by bnnzoo.match_prior or bnnzoo match-prior, and written as any other prior. "
    "gpi-g: w is N(0, (width / sqrt(fan-in))^2), one width a parameter array; biases N(0, "
    "width^2). gpi-h: w | v is N(0, v (width / sqrt(fan-in))^2), v ~ InverseGamma(a, a), one v "
    "a parameter array, so that an element is a Student-t(2a) of that scale; it needs T < a + "
    "1.",
)
def gp_matched(options: GPMatchedOptions) -> GPMatched:
    """The prior of these options."""
    if not options.widths:
        raise OptionError(
            "prior 'gp-matched' needs the widths that bnnzoo.match_prior finds for a network and a "
            "process: model = bnnzoo.match_prior(model, data, process='rbf').model"
        )
    return GPMatched(dict(options.widths), dict(options.shapes), options.variant)
