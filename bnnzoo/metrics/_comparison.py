"""Two models on the same rows: difference of their scores, distance of their predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError
from bnnzoo.metrics._checks import Score, nan_where, probabilities_of, same_shape, score


def paired_difference(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Mean difference of two models' scores on the same rows, with its standard error.

    Args:
        a: ``(row,)`` scores of one model.
        b: ``(row,)`` scores of the other on the same rows, in the same order.

    Returns:
        Mean of a - b, and its standard error over rows: standard deviation (n - 1) over sqrt(n);
        NaN for a single row.

    Raises:
        InputError: the shapes differ, or there are no rows.
    """
    a, b = same_shape("a", a, "b", b)
    if a.ndim != 1:
        raise InputError(f"a has shape {a.shape}: one score a row is needed")
    difference = a - b
    if len(difference) == 1:
        return float(difference[0]), float("nan")
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def agreement(a: ArrayLike, b: ArrayLike, per_row: bool = False) -> Score:
    """Fraction of rows on which two models find the same class most probable.

    Args:
        a: ``(row, class)`` predictive probabilities of one model; ties go to the first class.
        b: those of the other on the same rows.
        per_row: give 1 or 0 for each row instead of the mean.

    Returns:
        The fraction; or ``(row,)`` of ones and zeros.

    Raises:
        InputError: shapes that differ, or rows that are negative or do not sum to 1.

    Source: Izmailov, Vikram, Hoffman & Wilson (2021), What are Bayesian neural network posteriors
    really like?
    """
    a, b = _two_predictions(a, b)
    return score(nan_where(a + b, a.argmax(axis=1) == b.argmax(axis=1)), per_row)


def total_variation(a: ArrayLike, b: ArrayLike, per_row: bool = False) -> Score:
    """Total variation distance of two models' predictive probabilities.

    Args:
        a: ``(row, class)`` predictive probabilities of one model.
        b: those of the other on the same rows.
        per_row: give the distance at each row instead of the mean.

    Returns:
        The mean over rows of half the summed ``|a - b|``, between 0 and 1; or ``(row,)`` of them.

    Raises:
        InputError: as :func:`agreement`.

    Source: Izmailov, Vikram, Hoffman & Wilson (2021), What are Bayesian neural network posteriors
    really like?
    """
    a, b = _two_predictions(a, b)
    return score(np.abs(a - b).sum(axis=1) / 2, per_row)


def _two_predictions(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = same_shape("a", a, "b", b)
    return probabilities_of("a", a), probabilities_of("b", b)
