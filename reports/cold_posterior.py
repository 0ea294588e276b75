"""Cold, warm, none or undecided: what runs at several temperatures say, metric by metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo import metrics
from bnnzoo.errors import InputError
from bnnzoo.reports.comparison import Scores

__all__ = ["VERDICTS", "ColdVerdict", "cold_verdict", "scores_by_metric", "verdict_over_splits"]

VERDICTS = ("cold", "warm", "none", "undecided")

LEVEL = 0.95

RESAMPLES = 2000
"""Bootstrap samples of the test rows; the error of a 2.5 % tail is then a third of a per cent."""

BLOCK = 50
"""Of them that are in memory at once: a block has a number a row and sample."""

MARGIN = {"log density": 0.01, "accuracy": 0.01, "Brier score": 0.005}
"""Differences that do not matter, in the metric's unit a row: *none* needs all to be smaller.
Squared error and CRPS have the target's units: a hundredth of their value at temperature 1."""


@dataclass(frozen=True)
class ColdVerdict:
    """What one metric says of a series of runs that differ in one temperature, and in their seeds.

    Attributes:
        metric: its name.
        verdict: ``cold`` (lower temperatures than 1 predict better), ``warm`` (higher ones do, or
            lower ones predict worse), ``none`` (all differences from temperature 1 are smaller than
            the margin) or ``undecided``.
        best: the temperature of the highest mean score.
        low: of the interval of the best temperature, over test rows and runs.
        high: of it.
        gain: of the best temperature over 1, per row; positive is better.
        gain_low: of its interval over test rows and runs.
        gain_high: of it.
        margin: what counts as no difference.
        slope: nats a row per unit of temperature at 1, or None; of the log density alone.
        probability_colder: that the slope is negative, or None.
        over: what is to decide: ``rows`` or ``splits``, or ``draws`` where a verdict of the rows
            changes once the bias of few draws is taken away.
    """

    metric: str
    verdict: str
    best: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    margin: float
    slope: float | None = None
    probability_colder: float | None = None
    over: str = "rows"

    @property
    def sentence(self) -> str:
        """The verdict in words, about this data set alone."""
        meaning = {
            "cold": "predictions are better below temperature 1",
            "warm": "predictions are not better below temperature 1, but worse",
            "none": f"no temperature differs from 1 by more than {self.margin:.2g}",
            "undecided": {
                "rows": "the rows do not decide",
                "splits": "the splits do not decide",
                "draws": "draws are too few, with their bias taken away the rows say otherwise",
            }[self.over],
        }[self.verdict]
        where = f"best at {self.best:g}"
        if self.low < self.high:
            where += f" ({self.low:g} to {self.high:g})"
        return f"By {self.metric}, {self.verdict} on this dataset: {meaning}; {where}."


def cold_verdict(
    metric: str,
    temperatures: Sequence[float],
    scores: ArrayLike,
    *,
    errors: Sequence[float | None] | None = None,
    biases: Sequence[float | None] | None = None,
    margin: float | None = None,
    slope: Any = None,
    seed: int = 0,
) -> ColdVerdict:
    """The verdict of one metric.

    Differences from temperature 1 are paired by row; the interval of the best temperature is the
    bootstrap's over rows (2.5 to 97.5 %), and *cold* and *warm* take simultaneous bounds over the
    temperatures, so that many of them do not make an effect. Where a temperature has several runs
    (of other seeds) their mean counts, and normal noise is added to it of the variance that runs of
    one temperature have about their mean, pooled over temperatures. Of single runs ``errors`` says
    how far chains of other seeds would move them, pooled likewise.

    Args:
        metric: its name.
        temperatures: of the runs, 1 among them; one that comes several times is of several runs.
        scores: ``(run, row)``, higher is better.
        errors: standard errors of the runs' means from their finite number of chains, None where
            unknown.
        biases: of the runs' means, where all are known: a verdict that changes once they are taken
            away is *undecided*.
        margin: differences of the mean that do not matter; see :data:`MARGIN` if not given.
        slope: a :class:`bnnzoo.inference.temperature_slope.TemperatureSlope` of the run at 1, or
            None; where its interval leaves out 0 it decides what the grid left undecided.
        seed: of the bootstrap.

    Raises:
        InputError: shapes that do not fit, no run at temperature 1, or a single temperature.
    """
    of_runs = np.asarray(scores, float)
    grid, which = np.unique(np.asarray(temperatures, float), return_inverse=True)
    if of_runs.ndim != 2 or len(of_runs) != len(which) or len(grid) < 2:
        raise InputError(
            f"scores of shape {of_runs.shape} for {len(which)} temperatures: one row of scores for "
            "each of two temperatures or more is needed"
        )
    values = np.stack([of_runs[which == k].mean(0) for k in range(len(grid))])
    rng = np.random.default_rng(seed)
    rows = values.shape[1]
    blocks = [
        rng.multinomial(rows, np.full(rows, 1 / rows), BLOCK) @ values.T / rows
        for _ in range(RESAMPLES // BLOCK)
    ]
    resampled = np.concatenate(blocks)  # (sample, temperature)
    resampled += _error_of_runs(of_runs.mean(1), which, errors) * rng.standard_normal(
        resampled.shape
    )
    means = values.mean(1)
    found = _judged(metric, grid, means, resampled, margin, slope=slope)
    if biases is None or None in biases:
        return found
    off = np.bincount(which, np.asarray(biases, float)) / np.bincount(which)
    free = _judged(metric, grid, means - off, resampled - off, margin, slope=slope)
    if found.verdict in ("undecided", free.verdict):
        return found
    return replace(found, verdict="undecided", over="draws")


def verdict_over_splits(
    metric: str,
    temperatures: Sequence[float],
    means: ArrayLike,
    *,
    overlap: float,
    margin: float | None = None,
    seed: int = 0,
) -> ColdVerdict:
    """The verdict of one metric over several splits of a data set.

    What other splits would give is a multivariate Student-t about the mean over splits, with the
    covariance of the splits' own means. Training sets of splits overlap, so that their scatter
    understates the error: its square is taken times ``1 / splits + overlap``.

    Args:
        metric: its name.
        temperatures: increasing, 1 among them.
        means: mean score of each split at each temperature ``(split, temperature)``.
        overlap: test rows over training rows of a split; 0 of independent data sets.
        margin: as in :func:`cold_verdict`.
        seed: of the noise.

    Raises:
        InputError: shapes that do not fit, no temperature 1, fewer than two splits or temperatures.

    Source:
        Nadeau & Bengio (2003), Inference for the Generalization Error, eq. 9, in all temperatures
        at once.
    """
    of_splits, grid = np.asarray(means, float), np.asarray(temperatures, float)
    if of_splits.ndim != 2 or of_splits.shape[1] != len(grid) or min(of_splits.shape) < 2:
        raise InputError(
            f"means of shape {of_splits.shape} for {len(grid)} temperatures: a row for each of two "
            "splits or more is needed, with two temperatures or more"
        )
    count = len(of_splits)
    centre = of_splits.mean(0)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((RESAMPLES, count)) @ (of_splits - centre) / np.sqrt(count - 1)
    heavy = np.sqrt((count - 1) / rng.chisquare(count - 1, RESAMPLES))
    resampled = centre + np.sqrt(1 / count + overlap) * heavy[:, None] * noise
    return _judged(metric, grid, centre, resampled, margin, over="splits")


def _judged(
    metric: str,
    grid: np.ndarray,
    means: np.ndarray,
    resampled: np.ndarray,
    margin: float | None,
    slope: Any = None,
    over: str = "rows",
) -> ColdVerdict:
    """From mean scores at each temperature and ``(sample, temperature)`` that they might have been.

    Raises:
        InputError: no temperature 1.
    """
    ones = np.flatnonzero(np.isclose(grid, 1.0))
    if len(ones) != 1:
        raise InputError("a run at temperature 1 is needed to compare the others with")
    one = int(ones[0])
    if margin is None:
        margin = MARGIN.get(metric, 0.01 * abs(float(means[one])))
    best = int(means.argmax())
    places = grid[resampled.argmax(1)]
    tails = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    low, high = np.quantile(places, tails, method="nearest")
    moved = resampled - resampled[:, [one]]
    gain_low, gain_high = np.quantile(moved[:, best], tails)
    verdict = _verdict(grid, one, means - means[one], moved, margin)
    if verdict == "undecided" and slope is not None:
        verdict = _by_slope(slope, margin)
    return ColdVerdict(
        metric,
        verdict,
        float(grid[best]),
        float(low),
        float(high),
        float(means[best] - means[one]),
        float(gain_low),
        float(gain_high),
        margin,
        None if slope is None else slope.value,
        None if slope is None else slope.probability_colder,
        over,
    )


def _error_of_runs(
    means: np.ndarray, which: np.ndarray, errors: Sequence[float | None] | None
) -> np.ndarray:
    """Standard error of the mean over runs at each temperature.

    By the scatter of runs, which has that of their chains in it; where every temperature has a
    single one, by ``errors``; 0 where those are unknown.
    """
    counts = np.bincount(which)
    about = means - (np.bincount(which, means) / counts)[which]
    free = len(means) - len(counts)
    if free:
        variance = float(about @ about) / free
    else:
        known = [error**2 for error in errors or () if error is not None]
        variance = float(np.mean(known)) if known else 0.0
    return np.asarray(np.sqrt(variance / counts))


def _verdict(
    grid: np.ndarray, one: int, found: np.ndarray, moved: np.ndarray, margin: float
) -> str:
    """By simultaneous bounds: the largest studentised deviation over the temperatures."""
    others = np.arange(len(grid)) != one
    spread = moved[:, others].std(0)
    same = spread == 0  # a run that predicts what the one at 1 does
    scaled = np.abs(moved[:, others] - found[others]) / np.where(same, 1.0, spread)
    reach = np.quantile(scaled.max(1), LEVEL) * spread
    lower, upper = found[others] - reach, found[others] + reach
    if (np.maximum(np.abs(lower), np.abs(upper)) <= margin).all():
        return "none"
    colder = grid[others] < 1
    better = lower > 0
    if (better & colder).any() and not (better & ~colder).any():
        return "cold"
    if (better & ~colder).any() and not (better & colder).any():
        return "warm"
    worse_cold = (upper < 0) & colder
    if worse_cold.any() and not (lower[colder] > -margin).any() and not better.any():
        return "warm"
    return "undecided"


def _by_slope(slope: Any, margin: float) -> str:
    low, high = slope.interval(LEVEL)
    if not (math.isfinite(low) and math.isfinite(high)):
        return "undecided"
    if high < 0:
        return "cold"
    if low > 0:
        return "warm"
    return "undecided"


def scores_by_metric(scores: Sequence[Scores], task: str) -> Mapping[str, np.ndarray]:
    """Scores by row of every metric that is a mean over rows ``(run, row)``, higher is better.

    Args:
        scores: of the runs, all on the same rows.
        task: ``"regression"`` or ``"classification"``.
    """
    made: dict[str, list[np.ndarray]] = {"log density": [s.log_density for s in scores]}
    for s in scores:
        if s.y is None:
            continue
        if task == "classification" and s.probabilities is not None:
            labels = s.y.astype(np.int64)
            right = (s.probabilities.argmax(1) == labels).astype(float)
            made.setdefault("accuracy", []).append(right)
            brier: Any = metrics.brier(s.probabilities, labels, per_row=True)
            made.setdefault("Brier score", []).append(-np.asarray(brier))
        elif task == "regression":
            if s.mean is not None:
                squared = (s.mean - s.y).reshape(len(s.y), -1) ** 2
                made.setdefault("squared error", []).append(-squared.mean(1))
            if s.crps is not None:
                crps = np.asarray(s.crps).reshape(len(s.y), -1).mean(1)
                made.setdefault("CRPS", []).append(-crps)
    return {k: np.array(v) for k, v in made.items() if len(v) == len(scores)}
