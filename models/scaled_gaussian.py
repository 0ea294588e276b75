"""Gaussian weights whose widths are themselves sampled: what such priors share."""

from __future__ import annotations

import numpyro
import numpyro.distributions as dist
from jax import Array
from pydantic import Field

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior, PriorOptions
from bnnzoo.options import Positive


class ScaledGaussianOptions(PriorOptions):
    """Options of priors that are Gaussian given scales of mean or median about 1."""

    std: Positive = Field(
        1.0, description="Width of a kernel's elements, in units of gain/sqrt(fan-in)."
    )
    absolute: bool = Field(False, description="Take std as it is, without gain and fan-in.")
    bias_std: Positive = Field(1.0, description="Standard deviation of the Gaussian on biases.")


class ScaledGaussian(Prior):
    """w | s ~ N(0, (s width)^2) for kernels, s a number or one of many.

    Width is ``std * gain / sqrt(fan_in)``; embeddings count as kernels of fan-in 1. Biases are
    N(0, bias_std^2) and normalisation scales N(1, bias_std^2), unless a rule named this prior.
    """

    std: Leaf
    bias_std: Leaf
    absolute: bool

    def distribution(
        self, info: ParameterInfo, direct: bool = False, scale: Leaf = 1.0
    ) -> dist.Distribution:
        """Distribution of one parameter given its scales.

        Args:
            info: the parameter.
            direct: a rule asked for this prior by name, so it holds for biases too.
            scale: in units of the width, of a shape that broadcasts to the parameter's.
        """
        element = dist.Normal(centre_of(info), self.width(info, direct) * scale)
        return element.expand(info.shape).to_event(len(info.shape))

    def width(self, info: ParameterInfo, direct: bool = False) -> Leaf:
        """Standard deviation of one parameter's elements where their scale is 1."""
        if not self.weighs(info, direct):
            return self.bias_std
        return self.std if self.absolute else self.std * info.unit

    def weighs(self, info: ParameterInfo, direct: bool) -> bool:
        """Whether a parameter is one of those that ``std`` is for."""
        return direct or info.role in ("kernel", "embedding")

    def centred(self, info: ParameterInfo, direct: bool, scale: Leaf = 1.0) -> Array:
        """Sample a parameter under its path, given its scales."""
        return numpyro.sample(info.path, self.distribution(info, direct, scale))

    def non_centred(self, info: ParameterInfo, direct: bool, scale: Leaf) -> Array:
        """The parameter under its path, made from its scales and N(0, 1) under ``<path>.base``.

        The posterior of a base hardly depends on the scales where data say little of a weight; of
        the weight itself it does, by orders of magnitude.
        """
        standard = dist.Normal(0.0, 1.0).expand(info.shape).to_event(len(info.shape))
        base = numpyro.sample(f"{info.path}.base", standard)
        value = centre_of(info) + self.width(info, direct) * scale * base
        return numpyro.deterministic(info.path, value)


def centre_of(info: ParameterInfo) -> float:
    """Mean of a parameter under every prior here: 1 for the scale of a normalisation, else 0."""
    return 1.0 if info.role == "scale" else 0.0
