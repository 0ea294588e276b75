"""What the studies of evidence share: intervals over data sets, and where figures go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]


def interval(values: ArrayLike, level: float = 0.95) -> dict[str, float]:
    """Mean of independent values, and Student's interval for what it estimates.

    Args:
        values: one a data set ``(set,)``.
        level: of the interval.
    """
    values = np.asarray(values, float)
    error = values.std(ddof=1) / np.sqrt(len(values))
    half = float(stats.t(len(values) - 1).ppf(0.5 + level / 2) * error)
    mean = float(values.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half}


def written(found: dict[str, float], digits: int = 2) -> str:
    """An interval as text: mean (low to high).

    Args:
        found: of :func:`interval`.
        digits: after the point.
    """
    mean, low, high = (f"{found[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def keep(name: str, found: dict[str, Any]) -> None:
    """Write ``benchmarks/results/NAME.json``.

    Args:
        name: of the study.
        found: its numbers.
    """
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def canvas(panels: int) -> tuple[Any, Any]:
    """A figure of panels side by side, in the look of the gallery.

    Args:
        panels: how many.
    """
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.style.use(ROOT / "docs" / "gallery" / "gallery.mplstyle")
    return plt.subplots(1, panels, figsize=(3.3 * panels, 3.2))


def save(figure: Any, name: str) -> None:
    """Write ``docs/NAME.svg``: the same numbers give the same file.

    Args:
        figure: of :func:`canvas`.
        name: of the study.
    """
    figure.savefig(ROOT / "docs" / f"{name}.svg", metadata={"Date": None})
