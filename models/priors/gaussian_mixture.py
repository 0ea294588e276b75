"""Two Gaussians, one narrow and one wide."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.prior import ElementwiseOptions, ElementwisePrior
from bnnzoo.models.scale_mixtures import matching_unit
from bnnzoo.options import Fraction, Positive
from bnnzoo.registry import register


class GaussianMixtureOptions(ElementwiseOptions):
    """Options of ``gaussian-mixture``."""

    weight: Fraction = Field(0.5, description="Weight of the first Gaussian.")
    scales: tuple[Positive, Positive] = Field(
        (1.0, 0.0025),
        description="Standard deviations of the two; with match = variance or iqr their ratio "
        "alone counts.",
    )


@functools.partial(
    register_dataclass,
    data_fields=("scale", "weight", "scales", "bias_std"),
    meta_fields=("absolute",),
)
@dataclass(frozen=True)
class GaussianMixture(ElementwisePrior):
    """Independent elements of weight N(0, (scale s1)^2) + (1 - weight) N(0, (scale s2)^2)."""

    scale: Leaf
    weight: Leaf
    scales: tuple[Leaf, Leaf]
    bias_std: Leaf
    absolute: bool

    def family(self, loc: float, scale: Leaf) -> dist.Distribution:
        """The mixture, both parts at ``loc``."""
        which = dist.Categorical(probs=jnp.stack([self.weight, 1.0 - self.weight]))
        return dist.MixtureSameFamily(which, dist.Normal(loc, scale * jnp.stack(self.scales)))


@register(
    "priors",
    "gaussian-mixture",
    summary="Independent weights from one of two Gaussians, a narrow and a wide one.",
    options=GaussianMixtureOptions,
    references=("Blundell et al. (2015), Weight Uncertainty in Neural Networks, sec. 3.3",),
    tags={"family": ("heavy-tailed", "elementwise", "sparse"), "tails": "light"},
    notes="Density of an element: p N(w; 0, s1^2) + (1 - p) N(w; 0, s2^2), both multiplied by std "
    "* gain / sqrt(fan-in) and, with match = variance, by (p s1^2 + (1 - p) s2^2)^-1/2; with match "
    "= iqr the interquartile range is found numerically. The kurtosis is 3 (p s1^4 + (1 - p) s2^4) "
    "/ (p s1^2 + (1 - p) s2^2)^2. The paper tries p in {1/4, 1/2, 3/4}, -log s1 in {0, 1, 2} and "
    "-log s2 in {6, 7, 8}, with match = scale and absolute = true. Widths as far apart as these "
    "are hard for Hamiltonian samplers: the narrow one sets the step size.",
)
def gaussian_mixture(options: GaussianMixtureOptions) -> GaussianMixture:
    """The prior of these options, its scale matched."""
    p = options.weight
    unit = matching_unit(np.array(options.scales), np.array([p, 1.0 - p]), options.match)
    return GaussianMixture(
        options.std * unit, p, options.scales, options.bias_std, options.absolute
    )
