"""Inputs as images: what flat rows of pixels mean to an augmentation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import DataError
from bnnzoo.models.augmentation import Augmentation, AugmentationOptions

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


class ImageAugmentation(Augmentation):
    """An augmentation that takes its inputs for images.

    Attributes:
        shape: height and width, then channels if an input has them; None before it is bound to
            data or where inputs have that shape themselves.
        name: in the registry, for messages.
    """

    shape: tuple[int, ...] | None
    name: ClassVar[str]

    def bind(self, data: Dataset) -> Augmentation:
        """With height and width, and the scaling of the inputs.

        Args:
            data: the data set.

        Raises:
            DataError: inputs that are no images of this shape, or that are standardised pixel by
                pixel.
        """
        shape = _image_shape(data, self.shape, self.name)
        made: Any = self  # subclasses are dataclasses
        return replace(made, shape=shape, **_input_scaling(data, shape, self.name))

    def images(self, x: Array) -> Array:
        """Rows ``(row, *input)`` as ``(row, height, width, channel)``.

        Args:
            x: inputs, any units.
        """
        height, width = (self.shape or x.shape[1:])[:2]
        return x.reshape(x.shape[0], height, width, -1)


def _image_shape(data: Dataset, given: tuple[int, ...] | None, name: str) -> tuple[int, int]:
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


def _input_scaling(data: Dataset, shape: tuple[int, int], name: str) -> dict[str, Any]:
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
