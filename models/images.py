"""Inputs as images: what flat rows of pixels mean to an augmentation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import DataError
from bnnzoo.models.augmentation import AugmentationOptions

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


class ImageAugmentationOptions(AugmentationOptions):
    """Options of augmentations of images."""

    shape: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        None,
        description="Height and width of an input, then channels if it has them; needed where "
        "inputs are flat rows of pixels.",
        min_length=2,
        max_length=3,
    )


def image_shape(data: Dataset, given: tuple[int, ...] | None, name: str) -> tuple[int, int]:
    """Height and width of the inputs of a data set.

    Raises:
        DataError: flat inputs and no shape given, or a shape that does not fit.
    """
    shape = tuple(data.in_shape) if given is None else tuple(given)
    if len(shape) < 2:
        side = math.isqrt(shape[0])
        example = f"[{side}, {side}]" if side * side == shape[0] else "[height, width]"
        raise DataError(
            f"augmentation {name!r} is for images, but inputs of data set {data.name!r} have shape "
            f"{data.in_shape}: give augmentation.shape = {example}"
        )
    if math.prod(shape) != math.prod(data.in_shape):
        raise DataError(
            f"augmentation.shape = {list(shape)} has {math.prod(shape)} values, an input of data "
            f"set {data.name!r} has {math.prod(data.in_shape)}"
        )
    return shape[0], shape[1]


def input_scaling(data: Dataset, shape: tuple[int, int], name: str) -> dict[str, Any]:
    """``x_mean`` and ``x_std`` of the inputs a zoo model sees.

    Raises:
        DataError: another scale at every pixel, so that moved pixels would be blown up.
    """
    scaling = data.scaling_for(handwritten=False)
    mean, std = np.asarray(scaling.x_mean), np.asarray(scaling.x_std)
    positions = std.reshape(shape[0] * shape[1], -1)
    if (positions != positions[0]).any():
        raise DataError(
            f"augmentation {name!r} moves pixels, but data set {data.name!r} is standardised pixel "
            "by pixel: load it with scale = 'pooled', or as images (row, height, width, channel)"
        )
    return {"x_mean": mean, "x_std": std}


def as_images(x: Array, height: int, width: int) -> Array:
    """Rows ``(row, *input)`` as ``(row, height, width, channel)``."""
    return x.reshape(x.shape[0], height, width, -1)
