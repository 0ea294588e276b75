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
        description="'standard' standardises, 'pooled' with one mean and std for all inputs, "
        "'none' does not, 'auto' standardises for zoo models only.",
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


def split_classes(labels: np.ndarray, test_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a seeded split in which every class keeps a training row.

    Each class gives test rows in proportion to its rows, rounded down; the rows that are then still
    to be held out come from the classes with the largest remainders, one each. The last row of a
    class is never held out. Which rows of a class are held out follows from the permutation that
    :func:`split_rows` uses.

    Args:
        labels: ``(row,)`` of any type that sorts.
        test_size: fraction of rows to hold out, rounded up to whole rows.
        seed: seed of the permutation.

    Returns:
        Training and test row numbers, disjoint, both shuffled.

    Raises:
        DataError: fewer rows would be left to train on than there are classes.
    """
    train, test = split_rows(len(labels), test_size, seed)  # refuses what no split can serve
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(train) < len(classes):
        rarest = int(np.argmin(counts))
        rows_are = "1 row" if counts[rarest] == 1 else f"{counts[rarest]} rows"
        raise DataError(
            f"class {str(classes[rarest])!r} ({rows_are}) may have no training row: test_size ="
            f" {test_size} leaves {len(train)} rows to train on for {len(classes)} classes"
        )
    # Remainders in whole numbers: floats would break ties between equal classes by rounding.
    quota, remainder = np.divmod(len(test) * counts, len(labels))
    while (short := len(test) - int(quota.sum())) > 0:
        open_to = np.flatnonzero(quota < counts - 1)
        quota[open_to[np.argsort(-remainder[open_to], kind="stable")][:short]] += 1
    order = np.concatenate([test, train])
    mine = numbers[order]
    held_out = np.zeros(len(order), bool)
    for k, count in enumerate(quota):
        held_out[np.flatnonzero(mine == k)[:count]] = True
    return order[~held_out], order[held_out]


def split_dataset(x: np.ndarray, y: np.ndarray, options: SplitOptions, **described: Any) -> Dataset:
    """:func:`make_dataset` on a seeded split of ``x`` and ``y``; ``described`` is passed on."""
    train, test = split_rows(len(x), options.test_size, options.seed)
    if not len(test):
        return make_dataset(x, y, scale=options.scale, **described)
    return make_dataset(x[train], y[train], x[test], y[test], scale=options.scale, **described)
