"""The continuous ranked probability score: a distance in units of the target, smaller is better.

CRPS(F, y) = E|X - y| - E|X - X'| / 2 with X and X' independent draws from F: Gneiting & Raftery
(2007), Strictly proper scoring rules, JASA 102, eq. 21 with its sign reversed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError
from bnnzoo.metrics._checks import Score, pooled, same_shape, score


def crps(draws: ArrayLike, y: ArrayLike, fair: bool = False, per_row: bool = False) -> Score:
    """Continuous ranked probability score of draws, in O(n log n) of their number.

    Args:
        draws: ``(draw, row)`` or ``(draw, row, output)`` draws of y from the predictive
            distribution; more axes before the rows, such as chains, are pooled.
        y: ``(row,)`` or ``(row, output)`` targets, in the same units.
        fair: estimate without bias the score of the distribution the draws are independent draws
            of, instead of taking the score of the draws themselves as a distribution, which is
            larger by E|X - X'| / (2 n).
        per_row: give the score of each row instead of the mean.

    Returns:
        The mean over rows and outputs, in units of y; or ``(row,)`` of them. A single fair score
        can be negative.

    Raises:
        InputError: the shapes do not fit together, or a fair score of a single draw.

    Source: Gneiting & Raftery (2007), eq. 21; Ferro (2014), Fair scores for ensemble forecasts,
    QJRMS 140.
    """
    draws, y = pooled("draws", draws, y)
    n = len(draws)
    if fair and n < 2:
        raise InputError("draws holds a single draw: a fair score needs 2 or more")
    # Sorted, the i-th of n is the larger one of i - 1 pairs and the smaller one of n - i. From y
    # on, the numbers are small and the sum loses no digits to a common offset.
    error = np.sort(draws - y, axis=0)
    weight = (2 * np.arange(1, n + 1) - n - 1).reshape(-1, *[1] * y.ndim)
    half_spread = np.sum(weight * error, axis=0) / (n * (n - 1) if fair else n**2)
    return score(np.abs(error).mean(axis=0) - half_spread, per_row)


def crps_gaussian(mean: ArrayLike, std: ArrayLike, y: ArrayLike, per_row: bool = False) -> Score:
    """Continuous ranked probability score of normal distributions, in closed form.

    Args:
        mean: means, shaped as y.
        std: standard deviations, shaped as y; with 0 the score is the absolute error.
        y: ``(row,)`` or ``(row, output)`` targets, in the same units.
        per_row: give the score of each row instead of the mean.

    Returns:
        The mean over rows and outputs, in units of y; or ``(row,)`` of them.

    Raises:
        InputError: the shapes differ, or a standard deviation is negative.

    Source: Gneiting & Raftery (2007), section 4.2.
    """
    mean, y = same_shape("mean", mean, "y", y)
    std, y = same_shape("std", std, "y", y)
    _not_negative("std", std)
    return score(_mean_distance(y - mean, std) - std / math.sqrt(math.pi), per_row)


def crps_gaussian_mixture(
    means: ArrayLike, stds: ArrayLike, y: ArrayLike, per_row: bool = False
) -> Score:
    """Continuous ranked probability score of equal mixtures of normals, in closed form.

    The time grows with the square of the number of draws: a thousand draws cost about 20 ms a row.

    Args:
        means: ``(draw, row)`` or ``(draw, row, output)``: the mean each draw predicts; more axes
            before the rows, such as chains, are pooled.
        stds: standard deviations, shaped as ``means``; 0 is allowed.
        y: ``(row,)`` or ``(row, output)`` targets, in the same units.
        per_row: give the score of each row instead of the mean.

    Returns:
        The mean over rows and outputs, in units of y; or ``(row,)`` of them.

    Raises:
        InputError: the shapes do not fit together, or a standard deviation is negative.

    Source: Grimit, Gneiting, Berrocal & Johnson (2006), QJRMS 132, eq. 5.
    """
    means, stds = same_shape("means", means, "stds", stds)
    _not_negative("stds", stds)
    (means, y), (stds, _) = pooled("means", means, y), pooled("stds", stds, y)
    n = len(means)
    # Pairs of draws that are k apart, one k at a time: the memory needed is that of the input.
    variances = stds**2
    spread = 2 / math.sqrt(math.pi) * stds.sum(axis=0)  # a draw with itself
    for k in range(1, n):
        both = np.sqrt(variances[k:] + variances[:-k])
        spread += 2 * _mean_distance(means[k:] - means[:-k], both).sum(axis=0)
    return score(_mean_distance(y - means, stds).mean(axis=0) - spread / (2 * n**2), per_row)


def _mean_distance(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """E|X| of X ~ N(mean, std^2): A of Grimit et al., and ``|mean|`` where std is 0."""
    from scipy.special import ndtr

    z = np.divide(mean, std, out=np.zeros_like(mean), where=std != 0)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return np.where(std != 0, mean * (2 * ndtr(z) - 1) + 2 * std * density, np.abs(mean))


def _not_negative(name: str, std: np.ndarray) -> None:
    if (std < 0).any():
        raise InputError(f"{name} holds a negative standard deviation")
