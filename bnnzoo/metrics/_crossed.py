"""Two models on several training sets and the same test rows: both are a sample."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError, OptionError
from bnnzoo.metrics._checks import same_shape


class CrossedDifference(NamedTuple):
    """A difference of two models, and what it is uncertain by.

    Attributes:
        mean: of a - b over training sets and rows.
        error: its standard error: over training sets and over test rows.
        low: of the interval.
        high: of the interval.
        df: degrees of freedom of its Student-t.
    """

    mean: float
    error: float
    low: float
    high: float
    df: float


def crossed_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> CrossedDifference:
    """Mean difference of scores over independent training sets and common test rows.

    Differences are taken to be mean + effect of the training set + effect of the row + rest, all
    independent: the interval is about other training sets *and* other test rows. An interval over
    splits alone leaves the rows out, which all splits share; one over rows alone the training sets.
    Training sets must not overlap.

    Args:
        a: ``(split, row)`` scores of one model, at least two of each.
        b: those of the other on the same splits and rows, in the same order.
        level: of the interval.

    Returns:
        Mean of a - b with standard error and interval; NaN where a score is.

    Raises:
        InputError: the shapes differ or are not ``(split, row)``, or there is one split or row.
        OptionError: a level not between 0 and 1.

    Source: two-way random effects without replication (Searle, Casella & McCulloch 1992, Variance
    Components, ch. 4); degrees of freedom by Satterthwaite (1946).
    """
    if not 0.0 < level < 1.0:
        raise OptionError(f"level = {level}: a number between 0 and 1 is needed")
    a, b = same_shape("a", a, "b", b)
    if a.ndim != 2 or min(a.shape) < 2:
        raise InputError(f"a has shape {a.shape}: (split, row) with at least two of each is needed")
    from scipy import stats  # slow to import: only where it is used

    difference = a - b
    splits, rows = difference.shape
    mean = difference.mean()
    by_split = difference.mean(1, keepdims=True) - mean
    by_row = difference.mean(0, keepdims=True) - mean
    rest = difference - mean - by_split - by_row
    df = np.array([splits - 1.0, rows - 1.0, (splits - 1.0) * (rows - 1.0)])
    sums = np.array([rows * (by_split**2).sum(), splits * (by_row**2).sum(), (rest**2).sum()])
    squares = sums / df
    # The unbiased estimate may fall below either alone, and even below 0; those are lower bounds.
    total = squares[0] + squares[1] - squares[2]
    largest = int(squares[:2].argmax())
    if total > squares[largest]:
        freedom = total**2 / (squares**2 / df).sum()
    else:
        total, freedom = squares[largest], df[largest]
    freedom = max(float(freedom), float(min(df[:2]))) if total > 0 else float(df[0])
    error = float(np.sqrt(total / difference.size))
    half = error * float(stats.t.ppf(0.5 + level / 2, freedom))
    return CrossedDifference(float(mean), error, float(mean - half), float(mean + half), freedom)
