"""What metrics accept, and how a score a row becomes the score that is returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError

if TYPE_CHECKING:
    Score = float | Any  # a float to type checkers, unless per_row=True made it an array
else:
    Score = float | np.ndarray


def rows(name: str, values: ArrayLike) -> np.ndarray:
    """The values in double precision; refuses a scalar and an empty array."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{name} has no rows")
    return array


def same_shape(
    name: str, values: ArrayLike, other: str, others: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Both as :func:`rows`; refuses shapes that differ."""
    first, second = rows(name, values), rows(other, others)
    if first.shape != second.shape:  # (n, 1) against (n,) would broadcast to (n, n)
        raise InputError(f"{name} has shape {first.shape} and {other} has shape {second.shape}")
    return first, second


def pooled(name: str, values: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Values a draw as ``(draw, *y.shape)``, whatever axes draws have, and y."""
    draws, y = rows(name, values), rows("y", y)
    if draws.ndim <= y.ndim or draws.shape[-y.ndim :] != y.shape:
        raise InputError(
            f"{name} has shape {draws.shape} and y has shape {y.shape};"
            f" (draw, {', '.join(map(str, y.shape))}) is needed"
        )
    return draws.reshape(-1, *y.shape), y


def probabilities_of(name: str, values: ArrayLike, axes: str = "(row, class)") -> np.ndarray:
    """Probabilities with as many axes as ``axes`` names; refuses what is no distribution."""
    p = rows(name, values)
    if p.ndim != axes.count(",") + 1:
        raise InputError(f"{name} has shape {p.shape}; {axes} is needed")
    # Comparisons with NaN are false: a NaN passes here and shows in the score.
    if (p < 0).any() or (np.abs(p.sum(axis=-1) - 1) > 1e-3).any():
        raise InputError(f"{name} has rows that are negative or do not sum to 1")
    return p


def classification(probabilities: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and class numbers that fit together."""
    p, classes = rows("probabilities", probabilities), np.asarray(y)
    if p.ndim != 2 or classes.shape != (len(p),):
        raise InputError(
            f"probabilities has shape {p.shape} and y has shape {classes.shape};"
            " (row, class) and (row,) are needed"
        )
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= p.shape[1]:
        raise InputError(f"y holds other values than the class numbers 0 to {p.shape[1] - 1}")
    return probabilities_of("probabilities", p), classes


def probability(name: str, value: float, interval: str = "[0, 1]") -> float:
    """A number in ``interval``, in which a round bracket leaves that end out."""
    excluded = {0.0: "(", 1.0: ")"}.get(value, "no end")
    if not 0 <= value <= 1 or excluded in interval:
        raise InputError(f"{name} = {value!r}: a probability in {interval} is needed")
    return value


def score(each: np.ndarray, per_row: bool) -> Score:
    """The mean of a score a row (and output), or the score a row."""
    return each.reshape(len(each), -1).mean(axis=1) if per_row else float(each.mean())


def nan_where(p: np.ndarray, each: np.ndarray) -> np.ndarray:
    """A score a row, NaN where a probability of the row is: comparisons would have hidden it."""
    return np.where(np.isnan(p).any(axis=-1), np.nan, each)
