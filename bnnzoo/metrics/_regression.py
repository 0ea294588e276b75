"""Point predictions, quantiles and intervals of a real target."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError
from bnnzoo.metrics._checks import Score, probability, same_shape, score


def rmse(mean: ArrayLike, y: ArrayLike) -> float:
    """Root mean squared error of point predictions.

    Args:
        mean: ``(row,)`` or ``(row, output)`` predictive means.
        y: targets of the same shape and units.

    Returns:
        The error over all rows and outputs, in units of y.

    Raises:
        InputError: the shapes differ, or there are no rows.
    """
    mean, y = same_shape("mean", mean, "y", y)
    return float(np.sqrt(np.mean((mean - y) ** 2)))


def quantile_score(
    quantile: ArrayLike, y: ArrayLike, probability_below: float, per_row: bool = False
) -> Score:
    """Quantile score, or pinball loss, of one predictive quantile; smaller is better.

    Args:
        quantile: predicted quantiles, shaped as y.
        y: ``(row,)`` or ``(row, output)`` targets, in the same units.
        probability_below: the probability of which they are the quantiles, in (0, 1).
        per_row: give the score of each row instead of the mean.

    Returns:
        The mean of ``(1{y < quantile} - probability_below) (quantile - y)``, in units of y; or
        ``(row,)`` of them.

    Raises:
        InputError: the shapes differ, or ``probability_below`` is outside (0, 1).

    Source: Gneiting & Raftery (2007), Strictly proper scoring rules, JASA 102, section 6.1.
    """
    quantile, y = same_shape("quantile", quantile, "y", y)
    level = probability("probability_below", probability_below, "(0, 1)")
    surplus = quantile - y
    return score(np.maximum((1 - level) * surplus, -level * surplus), per_row)


def interval_coverage(lower: ArrayLike, upper: ArrayLike, y: ArrayLike) -> float:
    """Fraction of targets inside given intervals.

    Args:
        lower: lower ends, shaped as y.
        upper: upper ends, shaped as y; the ends are inside.
        y: targets, in the same units.

    Returns:
        The fraction.

    Raises:
        InputError: the shapes differ, or a lower end is above its upper end.
    """
    lower, upper, y = _intervals(lower, upper, y)
    if np.isnan(lower).any() or np.isnan(upper).any() or np.isnan(y).any():
        return float("nan")
    return float(np.mean((lower <= y) & (y <= upper)))


def interval_score(
    lower: ArrayLike, upper: ArrayLike, y: ArrayLike, level: float, per_row: bool = False
) -> Score:
    """Score of central prediction intervals: width, and a penalty for missing; smaller is better.

    Args:
        lower: lower ends, shaped as y.
        upper: upper ends, shaped as y.
        y: ``(row,)`` or ``(row, output)`` targets, in the same units.
        level: probability of the interval, in [0, 1): at 1 every miss would cost infinitely much.
        per_row: give the score of each row instead of the mean.

    Returns:
        The mean of ``width + 2 / (1 - level) * distance to the interval``, in units of y; or
        ``(row,)`` of them.

    Raises:
        InputError: the shapes differ, a lower end is above its upper end, or ``level`` is outside
            [0, 1).

    Source: Gneiting & Raftery (2007), Strictly proper scoring rules, JASA 102, eq. 43.
    """
    lower, upper, y = _intervals(lower, upper, y)
    missed_by = np.maximum(np.maximum(lower - y, y - upper), 0.0)
    alpha = 1 - probability("level", level, "[0, 1)")
    return score(upper - lower + 2 / alpha * missed_by, per_row)


def _intervals(
    lower: ArrayLike, upper: ArrayLike, y: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lower, y = same_shape("lower", lower, "y", y)
    upper, y = same_shape("upper", upper, "y", y)
    if (lower > upper).any():
        raise InputError("an interval has its lower end above its upper end")
    return lower, upper, y
