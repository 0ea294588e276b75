"""What data sets of images share: options, checks and tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset, Scale
from bnnzoo.datasets._make import make_dataset
from bnnzoo.datasets._rows import RowOptions, row_count
from bnnzoo.errors import DataError

Labelled = tuple[np.ndarray, np.ndarray]
"""Images ``(row, height, width, channel)`` of bytes, and class numbers ``(row,)``."""


class ImageOptions(RowOptions):
    """Options of data sets of images."""

    scale: Scale = Field(
        "auto",
        description="'standard' standardises every pixel, 'none' leaves 0 to 255, 'auto'"
        " standardises for zoo models only.",
    )


def image_dataset(
    name: str, options: ImageOptions, train: Labelled, test: Labelled, classes: Sequence[str]
) -> Dataset:
    """The data set of images that were read.

    Args:
        name: of the data set.
        options: how many rows, and the scaling.
        train: training rows.
        test: test rows.
        classes: names of the classes 0, 1...

    Returns:
        Inputs ``(row, height, width, channel)`` from 0 to 255.

    Raises:
        OptionError: more rows are asked for than there are.
        DataError: as many images as labels are not there, or labels of no class.
    """
    x, y = _first_rows(name, "train", options.train_rows, train)
    x_test, y_test = _first_rows(name, "test", options.test_rows, test)
    return make_dataset(
        x,
        y,
        x_test,
        y_test,
        task="classification",
        scale=options.scale,
        name=name,
        class_names=classes,
    )


def _first_rows(name: str, which: str, wanted: int | None, part: Labelled) -> Labelled:
    x, y = part
    if len(x) != len(y):
        raise DataError(f"{name} has {len(x)} {which} images and {len(y)} labels")
    rows = row_count(which, wanted, len(x))
    return x[:rows], y[:rows].astype(np.int64)


def tags(channels: int) -> dict[str, Any]:
    """Tags of a data set of images."""
    return {
        "task": "classification",
        "source": "download",
        "download": True,
        "inputs": "colour images" if channels == 3 else "grey images",
    }
