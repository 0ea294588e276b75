"""Probability integral transform: where targets fall in their predictive distributions.

Of calibrated predictions it is uniform on [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError
from bnnzoo.metrics._checks import pooled, probability, rows


def pit(draws: ArrayLike, y: ArrayLike, seed: int | None = None) -> np.ndarray:
    """Predictive distribution function at the targets, from draws.

    Where draws equal the target, as counts and labels do, the function jumps there. A seed spreads
    the value evenly over the jump, which makes it uniform for calibrated predictions of discrete
    targets too; without a seed it is the middle of the jump, repeatable and not uniform.

    Args:
        draws: ``(draw, row)`` or ``(draw, row, output)`` draws of y from the predictive
            distribution; more axes before the rows, such as chains, are pooled.
        y: ``(row,)`` or ``(row, output)`` targets, in the same units.
        seed: of the random places within jumps; None takes their middle.

    Returns:
        Values in [0, 1], shaped as y: whole multiples of 1 / draws where there is no jump.

    Raises:
        InputError: the shapes do not fit together.

    Source: Czado, Gneiting & Held (2009), Predictive model assessment for count data, Biometrics
    65.
    """
    draws, y = pooled("draws", draws, y)
    below, jump = (draws < y).mean(axis=0), (draws == y).mean(axis=0)
    place = 0.5 if seed is None else np.random.default_rng(seed).random(y.shape)
    unknown = np.isnan(y) | np.isnan(draws).any(axis=0)
    return np.where(unknown, np.nan, np.minimum(below + place * jump, 1.0))


def coverage(pit: ArrayLike, level: float) -> float:
    """Fraction of rows inside the central predictive interval, from PIT values.

    Args:
        pit: ``(row,)`` or ``(row, output)`` values of the predictive distribution function at y.
        level: probability of the interval, such as 0.9; its ends are inside.

    Returns:
        The fraction, to compare with ``level``.

    Raises:
        InputError: PIT values or a level outside [0, 1].
    """
    values, tail = _values(pit), (1 - probability("level", level)) / 2
    if np.isnan(values).any():
        return float("nan")
    return float(np.mean((values >= tail) & (values <= 1 - tail)))


def pit_ks_distance(pit: ArrayLike) -> float:
    """Kolmogorov-Smirnov distance of PIT values from the uniform distribution.

    Args:
        pit: ``(row,)`` or ``(row, output)`` values of the predictive distribution function at y.

    Returns:
        The largest vertical distance between their distribution function and the diagonal; about
        0.87 / sqrt(n) in the mean for n independent values of a calibrated prediction.

    Raises:
        InputError: PIT values outside [0, 1].
    """
    values = np.sort(_values(pit), axis=None)  # NaN last, and NaN in the maximum
    n = len(values)
    steps = np.arange(n + 1) / n
    return float(np.max(np.maximum(steps[1:] - values, values - steps[:-1])))


def pit_calibration_error(pit: ArrayLike) -> float:
    """Area between the distribution function of PIT values and the diagonal.

    It is the calibration error over all quantiles at once, without bins: how far the fraction of
    targets below the predictive p-quantile is from p, in the mean over p. Also known as the
    miscalibration area.

    Args:
        pit: ``(row,)`` or ``(row, output)`` values of the predictive distribution function at y.

    Returns:
        The area, between 0 and 1/2.

    Raises:
        InputError: PIT values outside [0, 1].

    Source: Kuleshov, Fenner & Ermon (2018), Accurate uncertainties for deep learning using
    calibrated regression, with absolute for squared distances and with all levels.
    """
    values = np.sort(_values(pit), axis=None)
    edges = np.concatenate([[0.0], values, [1.0]])
    height = np.arange(len(values) + 1) / len(values)
    # The integral of |p - h| is (p - h) |p - h| / 2.
    right, left = edges[1:] - height, edges[:-1] - height
    return float(np.sum(right * np.abs(right) - left * np.abs(left)) / 2)


def _values(pit: ArrayLike) -> np.ndarray:
    values = rows("pit", pit)
    if (values < 0).any() or (values > 1).any():
        raise InputError("pit holds values outside [0, 1]")
    return values
