"""What runs predict, where it can be seen: one input, two inputs of classes, or images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bnnzoo.errors import BnnzooError
from bnnzoo.reports.comparison import Scores
from bnnzoo.reports.runs import ReportRun, group

SEEN = 6
"""Runs of a data set that are pictured, the best so many: each is predicted anew on a grid."""

LINE, SURFACE = 121, 40
"""Points of a grid along one input, and along each of two."""

BEYOND = 0.15
"""How far a grid goes beyond the training inputs, as a share of their range."""

ROWS = 300
"""Training rows that are drawn, at most."""

LEVELS = (0.05, 0.25, 0.75, 0.95)
"""Quantiles between which 90 % and 50 % of targets are predicted to lie."""

HUES = 6
"""Classes that have a colour and a marker of their own."""

IMAGES = 8
"""Images of each end that are shown."""


@runtime_checkable
class _Predicting(Protocol):
    """A run that has its model at hand."""

    def predict(self, x: Any) -> Any: ...


def picture(run: ReportRun, scores: Scores | None) -> dict[str, Any] | None:
    """What a run predicts, as plain data.

    Args:
        run: with its model at hand where curves or surfaces are to be drawn.
        scores: of its test rows.

    Returns:
        With ``kind`` ``line`` (one input, one target: ``x``, ``mean``, ``quantiles``), ``surface``
        (two inputs, up to six classes: ``x0``, ``x1``, ``winner`` and ``certainty`` by row of the
        grid) or ``images`` (``most`` and ``least`` certain test images); None where inputs are of
        another shape or the model is not at hand.
    """
    given = group(run, "constant_data")
    if given is None or "x" not in given:
        return None
    x = np.asarray(given["x"].values, dtype=np.float64)
    shape = _shape(run, x)
    task = run.manifest["data"].get("task", "regression")
    if len(shape) == 3:
        return _images(run, scores, shape)
    observed = group(run, "observed_data")
    if observed is None or "y" not in observed or not isinstance(run, _Predicting):
        return None
    y = np.asarray(observed["y"].values)
    try:
        if shape == (1,) and task == "regression" and y.ndim == 1:
            return _line(run, x[:, 0], y)
        if shape == (2,) and task == "classification":
            return _surface(run, x, y)
    except BnnzooError:  # a hand-written model that is not at hand, or latents of training rows
        return None
    return None


def _shape(run: ReportRun, x: np.ndarray) -> tuple[int, ...]:
    """Of one input; the rows of a tree may hold it flat."""
    metadata: Mapping[str, Any] = run.manifest["data"].get("metadata", {})
    return tuple(metadata.get("in_shape", x.shape[1:]))


def _grid(values: np.ndarray, points: int) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    more = BEYOND * ((high - low) or 1.0)
    return np.linspace(low - more, high + more, points)


def _some(rows: int) -> np.ndarray:
    """Rows that are drawn, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, ROWS)).round().astype(int))


def _line(run: _Predicting, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    grid = _grid(x, LINE)
    found = run.predict(grid[:, None])
    some = _some(len(x))
    return {
        "kind": "line",
        "x": grid.tolist(),
        "mean": np.asarray(found.mean).tolist(),
        "levels": list(LEVELS),
        "quantiles": np.asarray(found.quantile(LEVELS)).tolist(),
        "rows": {"x": x[some].tolist(), "y": y[some].tolist()},
    }


def _surface(run: _Predicting, x: np.ndarray, y: np.ndarray) -> dict[str, Any] | None:
    axes = [_grid(x[:, k], SURFACE) for k in range(2)]
    at = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    p = np.asarray(run.predict(at).probabilities)
    if p.shape[1] > HUES:
        return None
    some = _some(len(x))
    return {
        "kind": "surface",
        "x0": axes[0].tolist(),
        "x1": axes[1].tolist(),
        "classes": int(p.shape[1]),
        "winner": p.argmax(1).reshape(SURFACE, SURFACE).tolist(),
        "certainty": p.max(1).reshape(SURFACE, SURFACE).tolist(),
        "rows": {"x": x[some].tolist(), "y": y[some].astype(int).tolist()},
    }


def _images(run: ReportRun, scores: Scores | None, shape: tuple[int, ...]) -> dict[str, Any] | None:
    given = group(run, "predictions_constant_data")
    if scores is None or scores.probabilities is None or scores.y is None or given is None:
        return None
    if shape[2] not in (1, 3) or "x" not in given:
        return None
    stated, truths = scores.probabilities, scores.y
    certainty = stated.max(1)
    order = np.argsort(-certainty, kind="stable")
    count = min(IMAGES, len(order) // 2)
    names = list(run.manifest["data"].get("metadata", {}).get("class_names", ()))

    def shown(row: int) -> dict[str, Any]:
        pixels = np.asarray(given["x"].values[row], dtype=np.float64).reshape(shape)
        guess, truth = int(stated[row].argmax()), int(truths[row])
        return {
            "row": row,
            "pixels": _bytes(pixels).tolist(),
            "certainty": float(certainty[row]),
            "predicted": _name(names, guess),
            "actual": _name(names, truth),
            "right": guess == truth,
        }

    return {
        "kind": "images",
        "most": [shown(row) for row in order[:count].tolist()],
        "least": [shown(row) for row in order[::-1][:count].tolist()],
    }


def _bytes(pixels: np.ndarray) -> np.ndarray:
    """Brightness from 0 to 255 over the range of the image itself."""
    low, high = np.nanmin(pixels), np.nanmax(pixels)
    scaled = (np.nan_to_num(pixels, nan=low) - low) / ((high - low) or 1.0)
    return (255 * scaled).round().astype(np.uint8)


def _name(names: list[Any], number: int) -> str:
    return str(names[number]) if number < len(names) else str(number)
