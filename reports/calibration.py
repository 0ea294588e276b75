"""Do stated probabilities come true? PIT and coverage of intervals, or reliability of classes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from scipy.stats import binom

from bnnzoo import metrics
from bnnzoo.reports.comparison import Scores
from bnnzoo.reports.reliability import reliability

LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Central intervals whose coverage is drawn."""

BAND = 0.95
"""Probability that a calibrated run stays inside the whole band."""

GRID = 100
"""Points at which the ECDF of PIT values is compared with its band, at most."""


def calibrate(scores: Scores | None, task: str) -> dict[str, Any] | None:
    """Calibration of one run on its test rows as plain data, or None where it cannot be judged."""
    if scores is None or scores.rows != "test":
        return None
    if task == "classification":
        if scores.probabilities is None or scores.y is None:
            return None
        if not np.isfinite(scores.probabilities).all():
            return None
        return reliability(scores.probabilities, scores.y.astype(np.int64))
    if scores.pit is None or not np.isfinite(scores.pit).all():
        return None
    return pit_calibration(scores.pit.ravel())


def pit_calibration(pit: np.ndarray) -> dict[str, Any]:
    """The ECDF of PIT values minus uniform, and the coverage of central intervals.

    Args:
        pit: ``(row,)`` in [0, 1]: the predictive CDF at the observed value.

    Returns:
        ``at`` and ``excess`` (ECDF minus uniform) with the simultaneous band ``low``, ``high``;
        ``outside`` says whether the ECDF leaves it; ``levels``, ``coverage`` and pointwise 95 %
        limits of coverage ``coverage_low``, ``coverage_high`` for a calibrated run;
        ``calibration_error`` and ``ks_distance`` of the PIT values.
    """
    n = len(pit)
    at = _grid(n)
    ecdf = np.searchsorted(np.sort(pit), at, side="right") / n
    low, high = ecdf_band(n)
    levels = np.asarray(LEVELS)
    covered = (np.abs(pit[:, None] - 0.5) <= levels / 2).mean(0)
    tails = binom.ppf([[(1 - BAND) / 2], [(1 + BAND) / 2]], n, levels) / n
    return {
        "kind": "pit",
        "rows": n,
        "at": [0.0, *at.tolist(), 1.0],
        "excess": [0.0, *(ecdf - at).tolist(), 0.0],
        "low": [0.0, *(low - at).tolist(), 0.0],
        "high": [0.0, *(high - at).tolist(), 0.0],
        "outside": bool(((ecdf < low) | (ecdf > high)).any()),
        "levels": levels.tolist(),
        "coverage": covered.tolist(),
        "coverage_low": tails[0].tolist(),
        "coverage_high": tails[1].tolist(),
        "calibration_error": metrics.pit_calibration_error(pit),
        "ks_distance": metrics.pit_ks_distance(pit),
    }


@lru_cache(maxsize=32)
def ecdf_band(n: int, simulations: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Limits that the whole ECDF of ``n`` uniform values keeps with probability 0.95.

    Args:
        n: number of values.
        simulations: uniform samples from which the pointwise level is found.

    Returns:
        Lower and upper limit of the ECDF at ``_grid(n)``.

    Source:
        Säilynoja, Bürkner and Vehtari, Statistics and Computing 32 (2022), algorithm 1.
    """
    at = _grid(n)
    rng = np.random.default_rng(20220107)  # fixed: the same runs always give the same page
    cells = np.diff(at, prepend=0.0, append=1.0)
    counts = np.cumsum(rng.multinomial(n, cells, size=simulations)[:, :-1], axis=1)
    tails = np.minimum(binom.cdf(counts, n, at), binom.sf(counts - 1, n, at))
    gamma = 2 * np.quantile(tails.min(1), 1 - BAND)
    return binom.ppf(gamma / 2, n, at) / n, binom.ppf(1 - gamma / 2, n, at) / n


def _grid(n: int) -> np.ndarray:
    """Points strictly inside (0, 1) where the ECDF is judged."""
    steps = int(np.clip(n, 2, GRID))
    return np.arange(1, steps) / steps
