"""Training and test rows of a table: split first, so that scaling never sees a test row."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset, Scale
from bnnzoo.datasets._make import make_dataset
from bnnzoo.errors import DataError
from bnnzoo.options import Options


class SplitOptions(Options):
    """Options of every data set that is one table."""

    test_size: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        0.1, description="Fraction of rows held out for testing, rounded up; 0 for none."
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="Seed of the shuffle before the split."
    )
    scale: Scale = Field(
        "auto",
        description="'standard' standardises, 'none' does not, 'auto' does for zoo models only.",
    )


def split_rows(rows: int, test_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a seeded split.

    Args:
        rows: number of rows.
        test_size: fraction of them to hold out, rounded up to whole rows.
        seed: seed of the permutation.

    Returns:
        Training and test row numbers, disjoint, both shuffled.

    Raises:
        DataError: fewer than 2 rows would be left to train on.
    """
    held_out = math.ceil(round(rows * test_size, 6))  # 0.1 * 30 is a little more than 3
    if rows - held_out < 2:
        rows_are = "1 row" if rows == 1 else f"{rows} rows"
        raise DataError(
            f"the data set has {rows_are}, and test_size = {test_size} leaves {rows - held_out} of"
            " them to train on; at least 2 are needed"
        )
    order = np.random.default_rng(seed).permutation(rows)
    return order[held_out:], order[:held_out]


def split_dataset(x: np.ndarray, y: np.ndarray, options: SplitOptions, **described: Any) -> Dataset:
    """:func:`make_dataset` on a seeded split of ``x`` and ``y``; ``described`` is passed on."""
    train, test = split_rows(len(x), options.test_size, options.seed)
    if not len(test):
        return make_dataset(x, y, scale=options.scale, **described)
    return make_dataset(x[train], y[train], x[test], y[test], scale=options.scale, **described)
