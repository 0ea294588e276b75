"""What a network of images takes for one: height, width and channels of an input."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.options import Options


class ImageOptions(Options):
    """Options of networks whose inputs are images."""

    shape: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        None,
        description="Height and width of an input, then channels if it has them; needed where "
        "inputs are flat rows of pixels.",
        min_length=2,
        max_length=3,
    )


def image_shape(
    in_shape: tuple[int, ...], given: tuple[int, ...] | None, network: str
) -> tuple[int, int, int]:
    """Height, width and channels of inputs of this shape; channel last.

    Args:
        in_shape: shape of one input.
        given: the option ``shape``.
        network: name in the registry, for messages.

    Raises:
        InputError: flat inputs and no shape given, or a shape that does not fit.
    """
    shape = in_shape if given is None else given
    if len(shape) == 1:
        side = math.isqrt(shape[0])
        example = f"[{side}, {side}]" if side * side == shape[0] else "[height, width, channels]"
        raise InputError(
            f"{network}: its inputs are images (height, width, channel), but these have shape "
            f"{in_shape}: give network.shape = {example}"
        )
    if len(shape) not in (2, 3):
        raise InputError(
            f"{network}: its inputs are images (height, width, channel), but these have shape "
            f"{in_shape}"
        )
    if math.prod(shape) != math.prod(in_shape):
        raise InputError(
            f"network.shape = {list(shape)} has {math.prod(shape)} values, an input has "
            f"{math.prod(in_shape)}"
        )
    height, width, *channels = shape
    return height, width, channels[0] if channels else 1
