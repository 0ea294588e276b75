"""Images moved by whole pixels."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float
from pydantic import Field

from bnnzoo.models.images import ImageAugmentation, ImageAugmentationOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.options import Count, Finite
from bnnzoo.registry import register

CROSS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
SQUARE = (*CROSS, (1, 1), (1, -1), (-1, 1), (-1, -1))


class ShiftOptions(ImageAugmentationOptions):
    """Options of ``shift``."""

    pixels: Count = Field(1, description="How far.")
    directions: Literal[4, 8] = Field(
        4,
        description="4: up, down, left and right; 8: the diagonals, too. The image itself is "
        "always among the copies.",
    )
    fill: Finite = Field(0.0, description="What moves in at the edge, original units.")


@functools.partial(
    register_dataclass,
    data_fields=("fill", "x_mean", "x_std"),
    meta_fields=("combine", "pixels", "directions", "shape"),
)
@dataclass(frozen=True)
class Shift(ImageAugmentation):
    """The image and its neighbours."""

    combine: str
    pixels: int
    directions: int
    shape: tuple[int, ...] | None
    fill: Leaf
    x_mean: Leaf = 0.0
    x_std: Leaf = 1.0

    name = "shift"

    @property
    def label(self) -> str:
        """For tables."""
        return f"shift {self.pixels} x {self.directions + 1} ({self.combine})"

    def copies(self, x: Float[Array, "row *input"]) -> Float[Array, "copy row *input"]:
        """One copy a direction, the image itself first."""
        images, p = self.images(x), self.pixels
        height, width = images.shape[1:3]
        padded = jnp.pad(images, ((0, 0), (p, p), (p, p), (0, 0)), constant_values=self.fill)
        moves = CROSS if self.directions == 4 else SQUARE
        made = [
            padded[:, p - p * down : p - p * down + height, p - p * right : p - p * right + width]
            for down, right in moves
        ]
        return jnp.stack([image.reshape(x.shape) for image in made])


@register(
    "augmentations",
    "shift",
    summary="Images moved by whole pixels in 4 or 8 directions.",
    options=ShiftOptions,
    tags={"inputs": "images"},
    references=("Simard, Steinkraus & Platt (2003), Best practices for convolutional networks",),
    notes="What moves in at the edge is fill, in original units, so that shifts act on the image "
    "and not on its standardised pixels.",
)
def shift(options: ShiftOptions) -> Shift:
    """The augmentation of these options."""
    return Shift(options.combine, options.pixels, options.directions, options.shape, options.fill)
