"""Do class probabilities come true? Reliability against what a calibrated model would show."""

from __future__ import annotations

from typing import Any

import numpy as np

from bnnzoo import metrics

BINS = 15
"""Bins of probability, as in the tabulated calibration error."""

BAND = 0.95
"""Probability that a calibrated run stays inside the whole band."""

RESAMPLES = 1000
"""Sets of labels drawn from the run's own probabilities, at most."""

WORK = 20_000_000
"""Labels times classes that are drawn, about; many rows take fewer resamples, but not below 200."""


def reliability(probabilities: np.ndarray, y: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """How often what is given a probability happens, and how often it would if it were right.

    Labels are drawn again from the probabilities themselves. The band is wide enough that a
    calibrated run, with all its bins, stays inside with probability 0.95: in units of a bin's
    standard deviation, one hit added to its variance, so that bins of next to no hits do not set
    the width of the others.

    Args:
        probabilities: ``(row, class)``.
        y: class numbers ``(row,)``.
        bins: equal bins of probability.

    Returns:
        ``top`` for the predicted class and ``all`` for every class of every row, each with one
        entry a bin that is not empty: ``edges`` (left), ``stated`` (mean probability), ``observed``
        (frequency), ``low``, ``high`` (the band), ``count``; and ``outside``, the bins that leave
        it. ``ece`` of the rows and ``ece_limit``, below which a calibrated run stays with
        probability 0.95; ``adaptive_ece``, ``classwise_ece`` and the ``brier`` parts.

    Source:
        Bröcker and Smith, Weather and Forecasting 22 (2007): consistency resampling; here the
        level is that of all bins at once. Vaicenavicius et al. (2019), section 5: the calibration
        error of a calibrated model.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    p = p / p.sum(1, keepdims=True)
    n, classes = p.shape
    cuts = np.arange(1, bins) / bins
    every = np.searchsorted(cuts, p, side="left")
    top = p.argmax(1)
    parts = {"top": _Binned(every[np.arange(n), top], p[np.arange(n), top], bins)}
    parts["all"] = _Binned(every.ravel(), p.ravel(), bins)
    drawn = _resampled(p, every, top, bins)
    seen = _hits(y[None], every, top, bins)
    variance = {
        "top": np.bincount(parts["top"].which, _spread(parts["top"].p), bins),
        "all": _variance_of_all(p, every, bins),
    }
    made: dict[str, Any] = {
        "kind": "reliability",
        "rows": n,
        "classes": classes,
        "bins": bins,
        "mean_confidence": float(parts["top"].p.mean()),
        "overall_accuracy": float((top == y).mean()),
    }
    for name, part in parts.items():
        made[name] = part.judged(seen[name][0], drawn[name], variance[name])
    errors = np.abs(drawn["top"] - parts["top"].expected).sum(1) / n
    brier = metrics.brier_decomposition(p, y, bins)
    return made | {
        "outside": made["top"]["outside"],
        "ece": metrics.ece(p, y, bins),
        "ece_limit": float(np.quantile(errors, BAND)),
        "adaptive_ece": metrics.adaptive_ece(p, y, bins),
        "classwise_ece": metrics.classwise_ece(p, y, bins),
        "brier": {**brier._asdict(), "score": brier.brier},
    }


class _Binned:
    """Stated probabilities by bin.

    Args:
        which: bin of each statement.
        p: its probability.
        bins: how many there are.
    """

    def __init__(self, which: np.ndarray, p: np.ndarray, bins: int) -> None:
        self.which, self.p, self.bins = which, p, bins
        self.count = np.bincount(which, minlength=bins)
        self.expected = np.bincount(which, p, bins)

    def judged(self, seen: np.ndarray, drawn: np.ndarray, variance: np.ndarray) -> dict[str, Any]:
        """Hits ``(bin,)`` beside the band from resampled ones ``(resample, bin)``."""
        used = np.flatnonzero(self.count)
        count, expected = self.count[used], self.expected[used]
        scale = np.sqrt(variance[used] + 1.0)
        reach = np.quantile(np.abs((drawn[:, used] - expected) / scale).max(1), BAND)
        low = np.clip((expected - reach * scale) / count, 0, 1)
        high = np.clip((expected + reach * scale) / count, 0, 1)
        observed, rounding = seen[used] / count, 1e-12
        return {
            "edges": (used / self.bins).tolist(),
            "stated": (expected / count).tolist(),
            "observed": observed.tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "count": count.tolist(),
            "outside": int(((observed < low - rounding) | (observed > high + rounding)).sum()),
        }


def _resampled(
    p: np.ndarray, every: np.ndarray, top: np.ndarray, bins: int
) -> dict[str, np.ndarray]:
    """Hits by bin of labels drawn from ``p``, ``(resample, bin)``."""
    n, classes = p.shape
    rng = np.random.default_rng(20070822)  # fixed: the same runs always give the same page
    resamples = int(np.clip(WORK // p.size, 200, RESAMPLES))
    cumulative = p.cumsum(1)[:, :-1]
    step = max(1, 2_000_000 // p.size)
    pieces: dict[str, list[np.ndarray]] = {"top": [], "all": []}
    for start in range(0, resamples, step):
        u = rng.uniform(size=(min(step, resamples - start), n))
        labels = np.zeros(u.shape, dtype=np.int64)
        for k in range(classes - 1):
            labels += u > cumulative[:, k]
        for name, hits in _hits(labels, every, top, bins).items():
            pieces[name].append(hits)
    return {name: np.concatenate(found) for name, found in pieces.items()}


def _hits(
    labels: np.ndarray, every: np.ndarray, top: np.ndarray, bins: int
) -> dict[str, np.ndarray]:
    """How many statements of each bin came true, for sets of labels ``(set, row)``."""
    sets, n = labels.shape
    rows = np.arange(n)
    place = every[rows, labels] + bins * np.arange(sets)[:, None]

    def counted(weights: np.ndarray | None) -> np.ndarray:
        flat = None if weights is None else weights.ravel()
        return np.bincount(place.ravel(), flat, sets * bins).reshape(sets, bins)

    return {"top": counted((labels == top).astype(float)), "all": counted(None)}


def _spread(q: np.ndarray) -> np.ndarray:
    return q * (1 - q)


def _variance_of_all(p: np.ndarray, every: np.ndarray, bins: int) -> np.ndarray:
    """Variance of the hits of each bin: a row hits it with the sum of its probabilities there."""
    return np.array([_spread((p * (every == b)).sum(1)).sum() for b in range(bins)])
