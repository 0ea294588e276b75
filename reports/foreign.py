"""Does a run know rows of another kind from its own? Its uncertainty on both, as a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bnnzoo import metrics
from bnnzoo.datasets import Dataset
from bnnzoo.errors import InputError
from bnnzoo.reports.comparison import Scores
from bnnzoo.reports.runs import ReportRun

MOST_ROWS = 2000
"""Foreign rows that are predicted: the error of an AUROC is then below 0.01."""

POINTS = 50
"""Places at which a curve is drawn, at most."""

FALSE_ALARMS = 0.05
"""Share of a run's own rows at which its detection is told."""


@dataclass(frozen=True)
class Foreign:
    """Rows that no run was fitted to, of another kind than those.

    Attributes:
        name: of their data set.
        hash: of it.
        x: inputs ``(row, *in_shape)``, original units.
    """

    name: str
    hash: str
    x: np.ndarray


def foreign_rows(data: Dataset) -> Foreign:
    """The test rows of a data set, or its training rows where it has none, evenly thinned."""
    x = np.asarray(data.x if data.x_test is None or not len(data.x_test) else data.x_test)
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_ROWS)).round().astype(int))
    return Foreign(data.name, data.hash, x[chosen])


def separation(run: ReportRun, scores: Scores | None, foreign: Foreign) -> dict[str, Any] | None:
    """How well a run's uncertainty tells foreign rows from its test rows.

    Args:
        run: that can predict.
        scores: of its test rows.
        foreign: the other rows.

    Returns:
        :func:`detection` with ``score``, the name of the uncertainty: entropy of the predictive
        classes, or predictive standard deviation; None where the run has no test rows, or does not
        say how sure it is of them.

    Raises:
        InputError: the foreign rows are those of the run's own data set.
        DataError: they have other features.
    """
    if foreign.hash == run.manifest["data"]["hash"]:
        raise InputError(
            f"{foreign.name} is what {run.label} was fitted to: give rows of another data set"
        )
    own = _uncertainty(scores)
    if own is None or not hasattr(run, "predict"):
        return None
    name, home = own
    predicted = run.predict(foreign.x)
    if name == "entropy":
        away = metrics.predictive_entropy(predicted.probabilities)
    else:
        away = _of_row(np.asarray(predicted.std))
    return {**detection(home, away), "score": name}


def _uncertainty(scores: Scores | None) -> tuple[str, np.ndarray] | None:
    if scores is None or scores.rows != "test":
        return None
    if scores.probabilities is not None:
        return "entropy", metrics.predictive_entropy(scores.probabilities)
    return None if scores.std is None else ("standard deviation", _of_row(scores.std))


def _of_row(std: np.ndarray) -> np.ndarray:
    """Root mean square over the outputs of a row."""
    return np.sqrt((std.reshape(len(std), -1) ** 2).mean(1))


def detection(home: np.ndarray, away: np.ndarray) -> dict[str, Any]:
    """A score as a detector of foreign rows.

    Args:
        home: ``(row,)`` scores of a run's own rows.
        away: of foreign rows; higher should mean more foreign.

    Returns:
        ``auroc`` and its standard error ``auroc_se``, ``aupr``, ``detected`` at 5 % false alarms,
        the rows' numbers ``own`` and ``foreign``, and the curve: ``false_alarms`` and ``found`` at
        up to 50 thresholds.

    Source:
        DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44, for the standard error.
    """
    grid = np.linspace(0, 1, POINTS)
    thresholds = np.quantile(home, 1 - grid, method="higher")
    alarms = (home[:, None] >= thresholds).mean(0)
    found = (away[:, None] >= thresholds).mean(0)
    limit = np.quantile(home, 1 - FALSE_ALARMS, method="higher")
    return {
        "auroc": metrics.auroc(home, away),
        "auroc_se": _standard_error(home, away),
        "aupr": metrics.aupr(home, away),
        "detected": float((away > limit).mean()),
        "own": len(home),
        "foreign": len(away),
        "false_alarms": [0.0, *alarms.tolist(), 1.0],
        "found": [0.0, *found.tolist(), 1.0],
    }


def _standard_error(home: np.ndarray, away: np.ndarray) -> float:
    """From the placements of each side's rows among the other's."""
    parts = []
    for one, other in ((home, away), (away, home)):
        ordered = np.sort(other)
        below = np.searchsorted(ordered, one, side="left")
        place = (below + np.searchsorted(ordered, one, side="right")) / (2 * len(other))
        parts.append(place.var(ddof=1) / len(one) if len(one) > 1 else np.nan)
    return float(np.sqrt(sum(parts)))
