"""What studies on digits share: independent training sets, one fit scored on common test rows."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from bnnzoo.datasets import Dataset, load_dataset, make_dataset
from bnnzoo.errors import DataWarning
from bnnzoo.inference import Run, fit
from bnnzoo.metrics import crossed_difference
from bnnzoo.reports import diagnostics
from bnnzoo.reports.claims import Measurement, NotMeasuredError
from bnnzoo.reports.temperature import few_draws_bias

CUT = 20261121
"""Seed of the permutation of rows that makes the training sets, and of that of pixels."""

COVERS = "training sets and test rows"


@functools.cache
def _shuffled() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All 1,797 images and classes in one random order, and a permutation of the pixels."""
    whole = load_dataset("digits")
    assert whole.x_test is not None and whole.y_test is not None
    x, y = np.concatenate([whole.x, whole.x_test]), np.concatenate([whole.y, whole.y_test])
    order = np.lexsort([y, *x.T])  # whatever order the loader's own split has left
    random = np.random.default_rng(CUT)
    order = order[random.permutation(len(order))]
    return x[order], y[order], random.permutation(x.shape[1])


def digits(
    split: int,
    *,
    rows: int = 300,
    splits: int = 5,
    test: int | None = None,
    images: bool = False,
    shuffled: bool = False,
    flipped: float = 0.0,
) -> Dataset:
    """One of several disjoint training sets of digits; the rows left over are every one's test.

    Args:
        split: which one.
        rows: of each training set.
        splits: how many there are.
        test: of the test rows only the first so many.
        images: shape ``(row, 8, 8, 1)`` in place of ``(row, 64)``.
        shuffled: with one permutation of the pixels of all images.
        flipped: share of the training rows whose class is replaced by another at random.
    """
    x, y, pixels = _shuffled()
    if shuffled:
        x = x[:, pixels]
    if images:
        x = x.reshape(-1, 8, 8, 1)
    chosen = slice(split * rows, (split + 1) * rows)
    left = slice(splits * rows, None if test is None else splits * rows + test)
    labels = y[chosen].copy()
    if flipped:
        random = np.random.default_rng([CUT, split])
        wrong = random.permutation(rows)[: round(flipped * rows)]
        labels[wrong] = (labels[wrong] + random.integers(1, 10, len(wrong))) % 10
    return make_dataset(
        *(x[chosen], labels, x[left], y[left]),
        task="classification",
        scale="standard" if images else "pooled",  # of images: one scale a channel
        name="digits",
        class_names=[str(k) for k in range(10)],
    )


def fitted(model: Any, data: Dataset, backend: str, **options: Any) -> Run:
    """A fit without a progress bar or warnings of the data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return fit(model, data, backend, progress=False, **options)


def scored(run: Run) -> dict[str, Any]:
    """Test scores by row, and how well it was sampled, as plain data."""
    scores = run.tree["test_scores"]
    said = diagnostics.diagnose(run.tree)
    truth = run.tree["predictions_constant_data"]["y"].to_numpy()
    right = scores["probabilities"].to_numpy().argmax(1) == truth
    found: dict[str, Any] = {
        "log_density": [round(float(v), 5) for v in scores["log_density"].to_numpy()],
        "right": [int(v) for v in right],
        "ece": float(run.metrics()["ece"]),
        "flags": len(run.manifest["flags"]),
    }
    for name in ("worst_rhat", "worst_ess", "median_ess"):
        value = said["function"].get(name)
        found[name] = None if value is None else float(value)
    found["bias"] = few_draws_bias(run, found["median_ess"])
    return found


def gain(better: list[dict[str, Any]], base: list[dict[str, Any]]) -> Measurement:
    """How much more of the test log-likelihood one setting has than another, nats a row.

    Args:
        better: its cells, one a training set.
        base: cells of the other on the same sets, in the same order.
    """
    return difference(_densities(better), _densities(base))


def gain_of_gains(
    better: list[dict[str, Any]],
    base: list[dict[str, Any]],
    other: list[dict[str, Any]],
    other_base: list[dict[str, Any]],
) -> Measurement:
    """The first gain less the second."""
    first = _densities(better) - _densities(base)
    return difference(first, _densities(other) - _densities(other_base))


def mean_gain(better: list[dict[str, Any]], base: list[dict[str, Any]]) -> float:
    """The same without its interval."""
    return float(np.mean(_densities(better) - _densities(base)))


def difference(a: np.ndarray, b: np.ndarray) -> Measurement:
    """Mean difference of scores a test row, with its interval over training sets and test rows.

    Args:
        a: ``(set, row)``.
        b: ``(set, row)``, of the same sets and rows.

    Raises:
        NotMeasuredError: one training set alone, or a score that is not finite.
    """
    if len(a) < 2:
        raise NotMeasuredError("an interval needs two training sets or more")
    found = crossed_difference(a, b)
    if not np.isfinite(found.mean):
        raise NotMeasuredError("a score of a test row is not finite")
    return Measurement(found.mean, found.low, found.high, COVERS)


def interval(cells: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Mean test log-likelihood a row with its 95 % interval over sets and rows."""
    return interval_of(_densities(cells))


def interval_of(scores: np.ndarray) -> tuple[float, float, float]:
    """Mean of scores ``(set, row)`` with its 95 % interval; NaN ends of a single set."""
    if len(scores) < 2:
        return float(scores.mean()), float("nan"), float("nan")
    found = crossed_difference(scores, np.zeros_like(scores))
    return found.mean, found.low, found.high


def _densities(cells: list[dict[str, Any]]) -> np.ndarray:
    return np.array([cell["log_density"] for cell in cells])
