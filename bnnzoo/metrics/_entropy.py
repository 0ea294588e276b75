"""Uncertainty of class probabilities, in nats, and its parts.

Total = aleatoric + epistemic: the entropy of the mean over draws is the mean entropy of the draws
plus the mutual information of the label and the draw. Depeweg et al. (2018), Decomposition of
uncertainty in Bayesian deep learning.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.metrics._checks import probabilities_of


def predictive_entropy(probabilities: ArrayLike) -> np.ndarray:
    """Entropy of the predictive distribution of each row: its total uncertainty.

    Args:
        probabilities: ``(row, class)`` predictive probabilities, already averaged over draws.

    Returns:
        ``(row,)``, in nats, between 0 and the logarithm of the number of classes.

    Raises:
        InputError: the shape does not fit, or rows are negative or do not sum to 1.
    """
    return _entropy(probabilities_of("probabilities", probabilities))


def expected_entropy(probabilities: ArrayLike) -> np.ndarray:
    """Mean over draws of the entropy each predicts: what more data on the weights cannot remove.

    Args:
        probabilities: ``(draw, row, class)`` probabilities of each draw.

    Returns:
        ``(row,)``, in nats.

    Raises:
        InputError: the shape does not fit, or rows are negative or do not sum to 1.
    """
    return _entropy(_of_draws(probabilities)).mean(axis=0)


def mutual_information(probabilities: ArrayLike) -> np.ndarray:
    """Mutual information of a row's label and the draw: how much draws disagree.

    It is the acquisition score BALD.

    Args:
        probabilities: ``(draw, row, class)`` probabilities of each draw.

    Returns:
        ``(row,)``, in nats: the predictive entropy less :func:`expected_entropy`, at least 0.

    Raises:
        InputError: the shape does not fit, or rows are negative or do not sum to 1.

    Source: Houlsby, Huszár, Ghahramani & Lengyel (2011), Bayesian active learning for
    classification and preference learning, eq. 2.
    """
    p = _of_draws(probabilities)
    # Draws that agree differ by rounding alone, which may be below 0; maximum keeps a NaN.
    return np.maximum(_entropy(p.mean(axis=0)) - _entropy(p).mean(axis=0), 0.0)


def _of_draws(probabilities: ArrayLike) -> np.ndarray:
    return probabilities_of("probabilities", probabilities, "(draw, row, class)")


def _entropy(p: np.ndarray) -> np.ndarray:
    return 0.0 - np.sum(p * np.log(np.where(p == 0, 1.0, p)), axis=-1)  # 0 log 0 = 0
