"""The functional prior: widths found by matching a network's functions to a Gaussian process."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field, model_validator

from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.planar import Flow, PlanarNormal
from bnnzoo.models.prior import Prior
from bnnzoo.models.scaled_gaussian import centre_of
from bnnzoo.options import Finite, Options, Positive
from bnnzoo.registry import register

Variant = Literal["gpi-g", "gpi-h", "gpi-nf"]

OWN = {"shapes": "gpi-h", "flows": "gpi-nf"}
"""What belongs to one variant alone."""


class FlowOptions(Options):
    """Planar steps z + u tanh(w . z + b) of one parameter array, flattened."""

    u: tuple[tuple[Finite, ...], ...] = Field(
        min_length=1, description="Direction of each step, as long as the array has elements."
    )
    w: tuple[tuple[Finite, ...], ...] = Field(description="Projection each depends on.")
    b: tuple[Finite, ...] = Field(description="Offset of each.")

    @model_validator(mode="after")
    def _fit_together(self) -> FlowOptions:
        lengths = {len(row) for row in (*self.u, *self.w)}
        if not len(self.u) == len(self.w) == len(self.b) or len(lengths) != 1:
            raise ValueError("u and w need a row of one length for every number of b")
        slopes = np.einsum("kn,kn->k", self.u, self.w)
        if slopes.min() <= -1.0:
            raise ValueError(
                f"w . u of step {int(slopes.argmin())} is {slopes.min():.3g}: it has to be above "
                "-1 for the step to have an inverse"
            )
        return self


class GPMatchedOptions(Options):
    """Options of ``gp-matched``: what ``bnnzoo.match_prior`` found."""

    variant: Variant = Field(
        "gpi-g",
        description="gpi-g: Gaussian weights; gpi-h: with a learned variance a parameter array; "
        "gpi-nf: with a normalising flow a parameter array.",
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
    flows: dict[str, FlowOptions] = Field(
        default_factory=dict,
        description="gpi-nf, by parameter path: planar steps u, w, b that N(0, 1) elements go "
        "through before they are multiplied by the width.",
    )
    fitted_to_targets: bool = Field(
        False,
        description="The process was fitted to training targets: evidences are data-dependent.",
    )
    matched_to: str = Field("", description="What it was matched to, in words: for the record.")


@functools.partial(
    register_dataclass,
    data_fields=("widths", "shapes", "flows"),
    meta_fields=("variant", "from_targets"),
)
@dataclass(frozen=True)
class GPMatched(Prior):
    """Gaussian parameters with a width each: fixed, with a random factor, or behind a flow."""

    widths: Mapping[str, Leaf]
    shapes: Mapping[str, Leaf]
    flows: Mapping[str, Flow]
    variant: Variant
    from_targets: bool = False

    @property
    def fitted_to_targets(self) -> bool:
        """See :attr:`bnnzoo.models.prior.Prior.fitted_to_targets`."""
        return self.from_targets

    @property
    def shapes_biases(self) -> bool:
        """Every parameter has a width of its own."""
        return True

    def distribution(
        self, info: ParameterInfo, direct: bool = False, variance: Leaf = 1.0
    ) -> dist.Distribution:
        """Distribution of one parameter given its variance factor.

        Args:
            info: the parameter.
            direct: changes nothing: every parameter has a width.
            variance: 1 for gpi-g and gpi-nf.
        """
        scale = width_unit(info) * self.widths[info.path] * jnp.sqrt(variance)
        if self.variant == "gpi-nf":
            return PlanarNormal(info.shape, centre_of(info), scale, self.flows[info.path])
        return dist.Normal(centre_of(info), scale).expand(info.shape).to_event(len(info.shape))

    def sample_parameter(self, info: ParameterInfo, direct: bool = False) -> Array:
        """Of gpi-h first the variance under ``<path>.variance``, then the parameter."""
        if self.variant != "gpi-h":
            return super().sample_parameter(info, direct)
        shape = self.shapes[info.path]
        variance = numpyro.sample(f"{info.path}.variance", dist.InverseGamma(shape, shape))
        return numpyro.sample(info.path, self.distribution(info, direct, variance))

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Every parameter has a width, and every width a parameter; so shapes and flows."""
        paths = [i.path for i in infos]
        for name in ("widths", *(n for n, variant in OWN.items() if variant == self.variant)):
            given = getattr(self, name)
            if unknown := [path for path in given if path not in paths]:
                near = hint(unknown[0], paths)
                raise InputError(f"prior.{name} names {unknown[0]!r}, no parameter here{near}")
            if missing := [path for path in paths if path not in given]:
                raise InputError(
                    f"prior 'gp-matched' has no {name} of parameter {missing[0]!r}: it was matched "
                    "for another network (bnnzoo.match_prior, bnnzoo match-prior)"
                )
        for info in infos if self.variant == "gpi-nf" else ():
            size, given = math.prod(info.shape), np.shape(self.flows[info.path].u)[1]
            if given != size:
                raise InputError(
                    f"prior.flows of {info.path!r} is of vectors of {given}, but the parameter has "
                    f"{size} elements: it was matched for another network"
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
        "Rezende & Mohamed (2015), Variational Inference with Normalizing Flows, eq. 10, for "
        "planar steps",
    ),
    tags={
        "family": ("gaussian", "hierarchical", "functional"),
        "tails": "light",
        "needs": "match",
    },
    notes="Made by bnnzoo.match_prior or bnnzoo match-prior, and written as any other prior. "
    "gpi-g: w is N(0, (width / sqrt(fan-in))^2), one width a parameter array; biases N(0, "
    "width^2). gpi-h: w | v is N(0, v (width / sqrt(fan-in))^2), v ~ InverseGamma(a, a), one v "
    "a parameter array, so that an element is a Student-t(2a) of that scale; it needs T < a + 1. "
    "gpi-nf: w = (width / sqrt(fan-in)) f(z) (plus 1 for the scale of a normalisation), z ~ N(0, "
    "I) and f the composition of planar steps z + u tanh(w . z + b), one f a parameter array; "
    "log p(w) = log N(z; 0, I) - sum log(1 + w . u (1 - tanh^2)) - size log(width / "
    "sqrt(fan-in)), z found from w to rounding, so that w itself is sampled and every temperature "
    "is of its density. With u = 0 it is gpi-g.",
)
def gp_matched(options: GPMatchedOptions) -> GPMatched:
    """The prior of these options."""
    if not options.widths:
        raise OptionError(
            "prior 'gp-matched' needs the widths that bnnzoo.match_prior finds for a network and a "
            "process: bnnzoo.match_prior in Python, bnnzoo match-prior in a shell"
        )
    for name, variant in OWN.items():
        if getattr(options, name) and options.variant != variant:
            raise OptionError(
                f"prior.{name} has no effect with prior.variant = {options.variant!r}; it belongs "
                f"to {variant!r}"
            )
    flows = {
        path: Flow(np.asarray(given.u), np.asarray(given.w), np.asarray(given.b))
        for path, given in options.flows.items()
    }
    return GPMatched(
        dict(options.widths),
        dict(options.shapes),
        flows,
        options.variant,
        options.fitted_to_targets,
    )
