"""Which run predicts best: scores of the test rows, their standard errors, paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from bnnzoo import metrics
from bnnzoo.reports.runs import ReportRun, group

COVERAGE_LEVELS = (0.5, 0.9)
"""Central predictive intervals whose coverage is tabulated."""

CLEAR = 2.0
"""Standard errors of a paired difference from which two runs are said to differ."""

METRIC_NAMES = {
    "nll": "NLL",
    "rmse": "RMSE",
    "crps": "CRPS",
    "coverage_50": "50 % coverage",
    "coverage_90": "90 % coverage",
    "accuracy": "Accuracy",
    "brier": "Brier",
    "ece": "ECE",
}


@dataclass(frozen=True)
class Scores:
    """What a run says of the rows it is judged on.

    ``log_density`` ``(row,)`` in nats, ``of_chains`` ``(chain, row)`` that of each chain's own
    draws; ``y`` the targets; ``mean``, ``std``, ``crps`` and ``pit`` for regression,
    ``probabilities`` ``(row, class)`` for classification; ``rows`` is ``"test"``, or ``"training"``
    where there are no test rows and the scores are of rows the run was fitted to.
    """

    rows: str
    log_density: np.ndarray
    y: np.ndarray | None = None
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    crps: np.ndarray | None = None
    pit: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    of_chains: np.ndarray | None = None


def read_scores(run: ReportRun) -> Scores | None:
    """Scores of the test rows; of the training rows where the tree has no test rows; else None."""
    scored, truth = group(run, "test_scores"), group(run, "predictions_constant_data")
    if scored is not None and "log_density" in scored:
        arrays = {
            name: np.asarray(scored[name].values, dtype=np.float64)
            for name in ("mean", "std", "crps", "pit", "probabilities")
            if name in scored
        }
        y = None if truth is None or "y" not in truth else np.asarray(truth["y"].values)
        if "chain_log_density" in scored:
            arrays["of_chains"] = np.asarray(scored["chain_log_density"].values, np.float64)
        return Scores("test", _per_row(scored["log_density"].values), y, **arrays)
    fitted = group(run, "log_likelihood")
    if fitted is None or "y" not in fitted:
        return None
    draws = draws_first(fitted["y"].values)
    return Scores("training", logsumexp(draws, axis=0) - np.log(len(draws)))


def metric_table(scores: Scores | None, task: str) -> dict[str, dict[str, float | None]]:
    """Metrics with standard errors over rows.

    Args:
        scores: of one run, or None.
        task: ``"regression"`` or ``"classification"``.

    Returns:
        ``{"nll": {"value": nats a row, "se": ...}, ...}``; ``se`` is None for the calibration
        error, which is not a mean over rows, and is the delta method's for RMSE.
    """
    if scores is None:
        return {}
    made = {"nll": _entry(metrics.mixture_nll(scores.log_density), scores.log_density)}
    y = scores.y
    if y is None:
        return made
    if task == "classification" and scores.probabilities is not None:
        p, labels = scores.probabilities, y.astype(np.int64)
        made["accuracy"] = _entry(metrics.accuracy(p, labels), p.argmax(1) == labels)
        brier: Any = metrics.brier(p, labels, per_row=True)
        made["brier"] = _entry(brier.mean(), brier)
        made["ece"] = _entry(metrics.ece(p, labels), None)
    elif task == "regression":
        if scores.mean is not None:
            value = metrics.rmse(scores.mean, y)
            squared = (scores.mean - y) ** 2
            made["rmse"] = _entry(value, squared.reshape(len(squared), -1).mean(1))
            # d sqrt(m) = dm / (2 sqrt(m)): the root of a mean has the mean's error so scaled
            if made["rmse"]["se"] is not None and value > 0:
                made["rmse"]["se"] /= 2 * value
        if scores.crps is not None:
            made["crps"] = _entry(np.mean(scores.crps), scores.crps)
        if scores.pit is not None:
            for level in COVERAGE_LEVELS:
                tail = (1 - level) / 2
                inside = (scores.pit >= tail) & (scores.pit <= 1 - tail)
                entry = _entry(metrics.coverage(scores.pit, level), inside.reshape(len(inside), -1))
                made[f"coverage_{level * 100:.0f}"] = entry
    return made


def rank(densities: Sequence[np.ndarray | None]) -> list[int]:
    """Positions of the runs from the highest mean log density down; unscored runs come last."""

    def key(position: int) -> tuple[bool, float]:
        density = densities[position]
        mean = np.nan if density is None else float(np.mean(density))
        return (bool(np.isnan(mean)), 0.0 if np.isnan(mean) else -mean)

    return sorted(range(len(densities)), key=key)


def chain_error(scores: Scores) -> float | None:
    """Standard error of the mean log density that comes of having only so many chains.

    The jackknife's: with each chain left out in turn, the log mean density of the others.

    Args:
        scores: of a run.

    Returns:
        Nats a row; None of a single chain, or where a density is zero or not finite.

    Source:
        Efron & Stein (1981), The jackknife estimate of variance.
    """
    logs = scores.of_chains
    if logs is None or len(logs) < 2 or not np.isfinite(logs).all():
        return None
    count = len(logs)
    without = [logsumexp(np.delete(logs, k, 0), axis=0).mean() for k in range(count)]
    return float(np.sqrt((count - 1) * np.var(without)))


def pairwise(densities: Sequence[np.ndarray | None]) -> dict[str, list[list[float]]]:
    """Mean differences of log density, row run minus column run, and their standard errors.

    Args:
        densities: log density ``(row,)`` of each run over the same rows, or None.

    Returns:
        ``difference`` and ``standard_error``, nats a row, NaN where either run has no score.
    """
    count = len(densities)
    difference, error = np.full((2, count, count), np.nan)
    for i, a in enumerate(densities):
        for j, b in enumerate(densities):
            if a is not None and b is not None and a.shape == b.shape:
                difference[i, j], error[i, j] = paired(a, b)
    return {"difference": difference.tolist(), "standard_error": error.tolist()}


def paired(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Mean of ``a - b`` over rows and its standard error; a single row has none (NaN)."""
    with np.errstate(invalid="ignore"):
        if len(a) < 2:
            return float(np.mean(a - b)), float("nan")
        mean, error = metrics.paired_difference(a, b)
    return float(mean), float(error)


def in_errors(difference: float, error: float) -> float:
    """A difference in standard errors; infinite where the error is zero, NaN where unknown."""
    if error == 0:
        return 0.0 if difference == 0 else float(np.copysign(np.inf, difference))
    return difference / error


def _per_row(values: np.ndarray) -> np.ndarray:
    """One log density a row: outputs of a row are summed."""
    values = np.asarray(values, dtype=np.float64)
    return values.reshape(len(values), -1).sum(1)


def draws_first(values: np.ndarray) -> np.ndarray:
    """``(chain, draw, row, ...)`` as ``(chain * draw, row)``."""
    values = np.asarray(values, dtype=np.float64)
    flat = values.reshape(values.shape[0] * values.shape[1], values.shape[2], -1)
    return flat.sum(2)


def _entry(value: Any, rows: np.ndarray | None) -> dict[str, float | None]:
    """A metric with the standard error of the mean of ``rows`` ``(row, ...)``."""
    if rows is None or len(rows) < 2:
        return {"value": float(value), "se": None}
    per_row = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1).mean(1)
    with np.errstate(invalid="ignore"):
        return {"value": float(value), "se": float(per_row.std(ddof=1) / np.sqrt(len(per_row)))}
