"""Detection of rows from outside the training distribution, by a score of how foreign they are.

Everywhere a *higher score means more foreign*: an entropy, a mutual information, a variance.
Negate confidences and likelihoods.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError, hint
from bnnzoo.metrics._checks import probability, rows

_SIDES = ("inside", "outside")


def auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """Area under the ROC curve: the probability that a foreign row scores higher than another.

    Args:
        inside: ``(row,)`` scores of rows from the training distribution.
        outside: ``(row,)`` scores of foreign rows; higher means more foreign.

    Returns:
        The probability that a random foreign row has the higher score of a random pair, ties
        counting half: 1 is perfect, 0.5 is chance.

    Raises:
        InputError: there are no rows on a side, or scores have more axes.

    Source: Hanley & McNeil (1982), Radiology 143: the Mann-Whitney statistic.
    """
    home, foreign = _scores(inside, outside)
    if np.isnan(home).any() or np.isnan(foreign).any():
        return float("nan")
    below = np.searchsorted(home, foreign, side="left")
    not_above = np.searchsorted(home, foreign, side="right")
    return float(np.mean(below + not_above) / (2 * len(home)))


def aupr(inside: ArrayLike, outside: ArrayLike, positive: str = "outside") -> float:
    """Average precision: area under the precision-recall curve, without interpolation.

    Args:
        inside: ``(row,)`` scores of rows from the training distribution.
        outside: ``(row,)`` scores of foreign rows; higher means more foreign.
        positive: the side to be found, ``"outside"`` or ``"inside"``; precision depends on it.

    Returns:
        The area; a score that says nothing has the share of positive rows.

    Raises:
        InputError: there are no rows on a side, scores have more axes, or no such side.

    Source: Davis & Goadrich (2006), The relationship between precision-recall and ROC curves; as
    scikit-learn's ``average_precision_score``.
    """
    found, other = _positive_first(inside, outside, positive)
    if np.isnan(found).any() or np.isnan(other).any():
        return float("nan")
    thresholds, each = np.unique(found, return_counts=True)
    true = len(found) - np.searchsorted(found, thresholds, side="left")
    false = len(other) - np.searchsorted(other, thresholds, side="left")
    return float(np.sum(each * (true / (true + false))) / len(found))


def fpr_at_tpr(
    inside: ArrayLike, outside: ArrayLike, tpr: float = 0.95, positive: str = "outside"
) -> float:
    """False positive rate at the strictest threshold that finds a given share of the positives.

    Args:
        inside: ``(row,)`` scores of rows from the training distribution.
        outside: ``(row,)`` scores of foreign rows; higher means more foreign.
        tpr: share of positives to be found at least, in (0, 1].
        positive: the side to be found. ``"outside"`` (Hendrycks, Mazeika & Dietterich 2019): the
            share of rows from inside that raise an alarm. ``"inside"`` (Liang, Li & Srikant
            2018): the share of foreign rows that are let in.

    Returns:
        The share of the other side's rows on the positive side of the threshold or at it.

    Raises:
        InputError: there are no rows on a side, scores have more axes, no such side, or ``tpr``
            is outside (0, 1].
    """
    found, other = _positive_first(inside, outside, positive)
    probability("tpr", tpr, "(0, 1]")
    if np.isnan(found).any() or np.isnan(other).any():
        return float("nan")
    needed = math.ceil(round(tpr * len(found), 6))  # 0.07 * 100 is a little more than 7
    return float(np.mean(other >= found[len(found) - max(needed, 1)]))


def _scores(inside: ArrayLike, outside: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both sides, sorted."""
    sides = rows("inside", inside), rows("outside", outside)
    for name, scores in zip(_SIDES, sides, strict=True):
        if scores.ndim != 1:
            raise InputError(f"{name} has shape {scores.shape}: one score a row is needed")
    return np.sort(sides[0]), np.sort(sides[1])


def _positive_first(
    inside: ArrayLike, outside: ArrayLike, positive: str
) -> tuple[np.ndarray, np.ndarray]:
    """The side to be found and the other, sorted, with higher scores for the first."""
    home, foreign = _scores(inside, outside)
    if positive not in _SIDES:
        raise InputError(f"positive = {positive!r}{hint(positive, _SIDES)}")
    return (foreign, home) if positive == "outside" else (-home[::-1], -foreign[::-1])
