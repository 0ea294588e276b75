"""Gaussian noise: fixed, learned, or a second output of the network."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float
from pydantic import Field

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.noise import AdditiveNoise, NoiseOptions, known_or_prior_scale
from bnnzoo.options import Positive
from bnnzoo.registry import register


class GaussianOptions(NoiseOptions):
    """Options of ``gaussian``."""

    noise_std: Positive | None = Field(
        None,
        description="The known standard deviation (fixed only), in modelled (scaled) target units.",
    )


@functools.partial(register_dataclass, data_fields=("number",), meta_fields=("noise", "outputs"))
@dataclass(frozen=True)
class Gaussian(AdditiveNoise):
    """y = f(x) + N(0, noise_std^2)."""

    number: Leaf
    noise: str
    outputs: int | None

    site = "noise_std"

    @property
    def label(self) -> str:
        """For tables."""
        return f"gaussian ({self.noise} noise)"

    def sample_noise(self, outputs: int) -> Any:
        """Standard deviation ``()``, or ``(output,)`` for several; None if it depends on x."""
        return self.sample_scale(outputs)

    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """Normal with the given or the network's own standard deviation."""
        mean, std = self.location_and_scale(head, noise)
        normal = dist.Normal(mean, std)
        return normal if mean.ndim == 1 else normal.to_event(1)


@register(
    "likelihoods",
    "gaussian",
    summary="Real targets with Gaussian noise.",
    options=GaussianOptions,
    references=("Nix & Weigend (1994) for heteroscedastic noise",),
    tags={"task": "regression", "target": "real"},
    notes="Noise is in modelled units: with scale = auto a standard deviation of 1 is that of the "
    "training targets. Heteroscedastic noise is softplus of a second output plus 0.001.",
)
def gaussian(options: GaussianOptions) -> Gaussian:
    """The likelihood of these options."""
    number = known_or_prior_scale(options, "noise_std")
    return Gaussian(number, options.noise, options.outputs)
