"""The relaxed spike-and-slab prior: weights behind gates between 0 and 1."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
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
from bnnzoo.options import Fraction, Positive
from bnnzoo.registry import register

WIDEST = 50.0
"""Width of the slab, in units of the width asked for, beyond which matching by iqr is refused."""


class SpikeAndSlabOptions(ScaledGaussianOptions):
    """Options of ``spike-and-slab``."""

    match: Match = Field(
        "variance",
        description="What std means: the standard deviation (variance), that of the slab alone "
        "(scale), or the interquartile range of a Gaussian of that std (iqr).",
    )
    inclusion: Fraction = Field(
        0.5, description="Probability p that a gate is more than half open, at T = 1."
    )
    relaxation: Positive = Field(
        0.5,
        description="Temperature of the gates: near 0 they are open or shut, above 1 mostly "
        "between.",
    )
    group: Group = Field(
        "element",
        description="What has a gate: an element, the weights into a unit (incoming), or those out "
        "of an input or unit (outgoing).",
    )


@functools.partial(
    register_dataclass,
    data_fields=("std", "logit", "relaxation", "bias_std"),
    meta_fields=("absolute", "group"),
)
@dataclass(frozen=True)
class SpikeAndSlab(ScaledGaussian):
    """w = width g z for kernels: z ~ N(0, 1) the slab, g in (0, 1) a binary concrete gate."""

    std: Leaf
    logit: Leaf
    relaxation: Leaf
    bias_std: Leaf
    absolute: bool
    group: Group

    def sample_parameter(self, info: ParameterInfo, direct: bool = False) -> Array:
        """Sites ``<path>.gate_logit`` and ``<path>.base``, then the parameter.

        The site is the gate's logit, as a gate itself rounds to 0 or 1 where its density has poles.
        """
        if not self.weighs(info, direct):
            return self.centred(info, direct)
        shape = group_shape(info, self.group)
        law = dist.Logistic(self.logit / self.relaxation, 1.0 / self.relaxation)
        logits = numpyro.sample(f"{info.path}.gate_logit", law.expand(shape).to_event(len(shape)))
        return self.non_centred(info, direct, along(jax.nn.sigmoid(logits), info, self.group))

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Every kernel has the groups that were asked for."""
        check_groups(infos, self.group)


@register(
    "priors",
    "spike-and-slab",
    summary="Relaxed spike-and-slab: Gaussian weights behind gates that are mostly open or shut.",
    options=SpikeAndSlabOptions,
    references=(
        "Mitchell & Beauchamp (1988), Bayesian Variable Selection in Linear Regression",
        "Maddison, Mnih & Teh (2017), The Concrete Distribution, for the binary concrete gate in "
        "place of a Bernoulli one",
    ),
    tags={"family": ("sparse", "hierarchical", "heavy-tailed"), "tails": "light"},
    notes="w = k s g z, s = std * gain / sqrt(fan-in), z ~ N(0, 1), g = sigmoid((log(p/(1-p)) + "
    "L)/r), L ~ Logistic(0, 1), r the relaxation: for r -> 0 the gate is 1 with probability p and "
    "else 0, and w the spike-and-slab of a point mass. P(g > 1/2) = p for every r. Sites "
    "<path>.base (z) and .gate_logit; the kernel itself is in a run's draws under its path. k "
    "makes an element's standard deviation s, by E g^2 (match = variance), or its interquartile "
    "range that of N(0, s^2), both by quadrature. Kurtosis: 3 E g^4 / (E g^2)^2. A temperature T "
    "raises the density of the logit to 1/T, so gates gather at their median as T falls, and the "
    "slab narrows by sqrt(T).",
)
def spike_and_slab(options: SpikeAndSlabOptions) -> SpikeAndSlab:
    """The prior of these options, its scale matched."""
    step = 0.05
    noise = np.arange(-45.0, 45.0 + step, step)
    weights = special.expit(noise) * special.expit(-noise) * step
    logit = float(special.logit(options.inclusion))
    gates = special.expit((logit + noise) / options.relaxation)
    unit = matching_unit(gates, weights / weights.sum(), options.match)
    if options.match == "iqr" and unit > WIDEST:
        raise OptionError(
            f"prior.match = 'iqr': half of the weights are so near 0 that the slab would be "
            f"{unit:.0e} times as wide as they should be; set it to 'variance' (or 'scale')"
        )
    return SpikeAndSlab(
        options.std * unit,
        logit,
        options.relaxation,
        options.bias_std,
        options.absolute,
        options.group,
    )
