"""Kernels whose units are balanced: incoming weights of mean 0 and fixed length."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.models.families import BalancedSphere, balanced
from bnnzoo.models.groups import check_groups
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior, PriorOptions
from bnnzoo.models.scaled_gaussian import centre_of
from bnnzoo.options import Positive
from bnnzoo.registry import register

FEWEST = 3
"""Inputs of a unit: weights of mean 0 and fixed length are two points for two inputs."""


class WiredOptions(PriorOptions):
    """Options of ``wired``."""

    std: Positive = Field(
        1.0,
        description="Root mean square of a unit's incoming weights, in units of gain/sqrt(fan-in): "
        "their length is std * gain.",
    )
    absolute: bool = Field(False, description="Take std as it is, without gain and fan-in.")
    bias_std: Positive = Field(1.0, description="Standard deviation of the Gaussian on biases.")


@functools.partial(register_dataclass, data_fields=("std", "bias_std"), meta_fields=("absolute",))
@dataclass(frozen=True)
class Wired(Prior):
    """A unit's incoming weights uniform on {sum w = 0, |w|^2 = fan_in width^2}.

    Embeddings are N(0, width^2); biases N(0, bias_std^2) and normalisation scales N(1, bias_std^2),
    whether or not a rule named this prior: there is nothing to balance.
    """

    std: Leaf
    bias_std: Leaf
    absolute: bool

    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """See :meth:`Prior.distribution`; that of a kernel has no density."""
        if info.role == "kernel":
            return BalancedSphere(info.shape, self._width(info))
        width = self._width(info) if info.role == "embedding" else self.bias_std
        element = dist.Normal(centre_of(info), width)
        return element.expand(info.shape).to_event(len(info.shape))

    def sample_parameter(self, info: ParameterInfo, direct: bool = False) -> Array:
        """A kernel is made from N(0, 1) under ``<path>.base``: centred, then brought to length.

        The direction of a Gaussian is uniform, so that no density on the sphere is needed.
        """
        if info.role != "kernel":
            return super().sample_parameter(info, direct)
        standard = dist.Normal(0.0, 1.0).expand(info.shape).to_event(len(info.shape))
        base = numpyro.sample(f"{info.path}.base", standard)
        return numpyro.deterministic(info.path, balanced(base, self._width(info)))

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Every kernel's units are its last axis and have three inputs or more."""
        check_groups(infos, "incoming")
        kernels = [info for info in infos if info.role == "kernel"]
        if not kernels:
            raise InputError(
                f"prior 'wired' is of kernels, and none is in {', '.join(i.path for i in infos)}"
            )
        for info in kernels:
            if info.fan_in < FEWEST:
                raise InputError(
                    f"kernel {info.path!r} has fan-in {info.fan_in}, and a unit needs {FEWEST} "
                    "inputs for weights of mean 0 and fixed length to vary; give it a prior by a "
                    f"rule, {{{info.path!r}: {{'name': 'gaussian'}}}}"
                )

    def _width(self, info: ParameterInfo) -> Leaf:
        return self.std if self.absolute else self.std * info.unit


@register(
    "priors",
    "wired",
    summary="Balanced units: incoming weights uniform among those of mean 0 and fixed length.",
    options=WiredOptions,
    references=(
        "Liu et al. (2021), Learning by Turning: Neural Architecture Aware Optimisation, for the "
        "two constraints on a neuron's weights",
    ),
    tags={"family": ("correlated",), "tails": "bounded"},
    notes="Of each unit the fan-in n incoming weights are uniform on {sum w = 0, |w|^2 = r^2}, r = "
    "std * gain. An element has mean 0, variance r^2/n and kurtosis 3 (n - 1)/(n + 1); two of one "
    "unit have covariance -r^2 / (n (n - 1)). As a density on that sphere is none on the kernel, "
    "the sites are <path>.base ~ N(0, 1), which is centred and brought to length r; the kernel "
    "itself is in a run's draws under its path. A temperature changes the base and not the kernel: "
    "a uniform law to any power is uniform. With std 1 and an activation that keeps unit variance "
    "(1.713 relu) deep layers neither grow nor fade: the mean of their inputs is balanced away. "
    "Point estimates (map, deep-ensemble) are of the base, whose length they shrink in vain. "
    "Kernels of fan-in below 3 are refused.",
)
def wired(options: WiredOptions) -> Wired:
    """The prior of these options."""
    return Wired(options.std, options.bias_std, options.absolute)
