"""Does a run know when it is wrong? The error of the rows that it is surest of."""

from __future__ import annotations

from typing import Any

import numpy as np

from bnnzoo.reports.comparison import Scores

POINTS = 50
"""Shares of the rows at which the curve is drawn, at most."""


def selective(scores: Scores | None, task: str) -> dict[str, Any] | None:
    """Error of the surest rows against their share.

    Args:
        scores: of one run on its test rows, or None.
        task: ``"regression"`` (rows by predictive standard deviation, root mean squared error) or
            ``"classification"`` (rows by highest probability, share of errors).

    Returns:
        :func:`risk_coverage` with ``measure``, or None where the run does not say how sure it is.
    """
    if scores is None or scores.rows != "test" or scores.y is None:
        return None
    if task == "classification":
        if scores.probabilities is None:
            return None
        wrong = scores.probabilities.argmax(1) != scores.y.astype(np.int64)
        made = risk_coverage(-scores.probabilities.max(1), wrong.astype(float))
        return {**made, "measure": "error rate"}
    if scores.mean is None or scores.std is None:
        return None
    rows = len(scores.mean)
    squares = ((scores.mean - scores.y) ** 2).reshape(rows, -1).mean(1)
    unsure = (scores.std**2).reshape(rows, -1).mean(1)
    if not (np.isfinite(unsure).all() and np.isfinite(squares).all()):
        return None
    made = risk_coverage(unsure, squares)
    for name in ("risk", "ideal"):
        made[name] = np.sqrt(made[name]).tolist()
    rooted = {name: float(np.sqrt(made[name])) for name in ("overall", "half")}
    return {**made, **rooted, "measure": "RMSE"}


def risk_coverage(unsure: np.ndarray, loss: np.ndarray) -> dict[str, Any]:
    """Mean loss of the rows that are kept, the surest first.

    Rows that are equally sure are kept in no order: each counts with their mean loss.

    Args:
        unsure: ``(row,)``, higher for a row that is left out earlier.
        loss: of each row ``(row,)``.

    Returns:
        ``share`` kept, ``risk`` (mean loss of these) and ``ideal`` (rows in the order of their
        loss), up to 50 points; ``overall``, ``half`` (the surest half), ``area`` under the whole
        curve and ``ideal_area``.

    Source:
        El-Yaniv and Wiener, Journal of Machine Learning Research 11 (2010), eq. 1-2; Geifman,
        Uziel and El-Yaniv (2019) for the area.
    """
    _, place = np.unique(unsure, return_inverse=True)
    shared = (np.bincount(place, loss) / np.bincount(place))[place]
    n = len(loss)
    kept = np.arange(1, n + 1)
    risk = np.cumsum(shared[np.argsort(unsure, kind="stable")]) / kept
    ideal = np.cumsum(np.sort(loss)) / kept
    at = np.unique(np.linspace(0, n - 1, min(POINTS, n)).round().astype(int))
    return {
        "share": (kept[at] / n).tolist(),
        "risk": risk[at].tolist(),
        "ideal": ideal[at].tolist(),
        "overall": float(risk[-1]),
        "half": float(risk[(n + 1) // 2 - 1]),
        "area": float(risk.mean()),
        "ideal_area": float(ideal.mean()),
    }
