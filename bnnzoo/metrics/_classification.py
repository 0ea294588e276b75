"""Accuracy and proper scores of class probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.metrics._checks import Score, classification, nan_where, score


def accuracy(probabilities: ArrayLike, y: ArrayLike, per_row: bool = False) -> Score:
    """Fraction of rows whose most probable class is the true one.

    Args:
        probabilities: ``(row, class)`` predictive probabilities; ties go to the first class.
        y: ``(row,)`` class numbers.
        per_row: give 1 or 0 for each row instead of the mean.

    Returns:
        The fraction; or ``(row,)`` of ones and zeros.

    Raises:
        InputError: shapes, probabilities or class numbers that do not fit together.
    """
    p, y = classification(probabilities, y)
    return score(nan_where(p, p.argmax(axis=1) == y), per_row)


def nll(probabilities: ArrayLike, y: ArrayLike, per_row: bool = False) -> Score:
    """Negative log probability of the true class a row.

    Args:
        probabilities: ``(row, class)`` predictive probabilities, already averaged over draws.
        y: ``(row,)`` class numbers.
        per_row: give the score of each row instead of the mean.

    Returns:
        The mean in nats a row, or ``(row,)`` of them; infinite where a true class was given
        probability 0 (scikit-learn's ``log_loss`` clips instead).

    Raises:
        InputError: as :func:`accuracy`.
    """
    p, y = classification(probabilities, y)
    with np.errstate(divide="ignore"):
        each = 0.0 - np.log(p[np.arange(len(y)), y])  # of probability 1: 0, not -0
    return score(nan_where(p, each), per_row)


def brier(probabilities: ArrayLike, y: ArrayLike, per_row: bool = False) -> Score:
    """Brier score: squared distance to the one-hot truth, summed over classes.

    Args:
        probabilities: ``(row, class)`` predictive probabilities.
        y: ``(row,)`` class numbers.
        per_row: give the score of each row instead of the mean.

    Returns:
        The mean over rows, between 0 and 2, or ``(row,)`` of them. With two classes it is twice
        the one-class score of scikit-learn's ``brier_score_loss``.

    Raises:
        InputError: as :func:`accuracy`.

    Source: Brier (1950), Monthly Weather Review 78(1), eq. 2.
    """
    p, y = classification(probabilities, y)
    one_hot = np.eye(p.shape[1])[y]
    return score(np.sum((p - one_hot) ** 2, axis=1), per_row)
