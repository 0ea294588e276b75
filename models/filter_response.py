"""Filter response normalisation: no other row of a batch is looked at."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

EPSILON = 1e-6
"""Added to the mean square; published for feature maps of more than one position."""


class FilterResponseNorm(nnx.Module):
    """Channels divided by their root mean square over an image, then scaled, shifted and clipped.

    y = scale * x / sqrt(mean x^2 + 1e-6) + bias; with ``threshold`` max(y, threshold), the
    thresholded linear unit (Singh & Krishnan 2020, eq. 1-4).

    Args:
        channels: of the images.
        threshold: whether to clip from below at a learned height.
    """

    def __init__(self, channels: int, threshold: bool) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.threshold = nnx.Param(jnp.zeros(channels)) if threshold else None

    def __call__(self, x: Array) -> Array:
        """The same shape ``(row, height, width, channel)``."""
        power = jnp.mean(jnp.square(x), (1, 2), keepdims=True)
        y = self.scale[...] * x * jax.lax.rsqrt(power + EPSILON) + self.bias[...]
        return y if self.threshold is None else jnp.maximum(y, self.threshold[...])
