"""Images mirrored left to right."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float

from bnnzoo.models.images import ImageAugmentation, ImageAugmentationOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.registry import register


@functools.partial(
    register_dataclass, data_fields=("x_mean", "x_std"), meta_fields=("combine", "shape")
)
@dataclass(frozen=True)
class Flip(ImageAugmentation):
    """The image and its mirror image."""

    combine: str
    shape: tuple[int, ...] | None
    x_mean: Leaf = 0.0
    x_std: Leaf = 1.0

    name = "flip"

    @property
    def label(self) -> str:
        """For tables."""
        return f"flip ({self.combine})"

    def copies(self, x: Float[Array, "row *input"]) -> Float[Array, "copy row *input"]:
        """The image, then its mirror image."""
        mirrored = self.images(x)[:, :, ::-1].reshape(x.shape)
        return jnp.stack([x, mirrored])


@register(
    "augmentations",
    "flip",
    summary="Images mirrored left to right.",
    options=ImageAugmentationOptions,
    tags={"inputs": "images"},
    notes="For images whose mirror image has the same label: not digits or text.",
)
def flip(options: ImageAugmentationOptions) -> Flip:
    """The augmentation of these options."""
    return Flip(options.combine, options.shape)
