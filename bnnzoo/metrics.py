"""Scores of predictions: plain functions of NumPy arrays, in the target's original units.

A NaN among the predictions makes the score NaN: it is never averaged over in silence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError


def rmse(mean: ArrayLike, y: ArrayLike) -> float:
    """Root mean squared error of point predictions.

    Args:
        mean: ``(row,)`` or ``(row, output)`` predictive means.
        y: targets of the same shape and units.

    Returns:
        The error over all rows and outputs, in units of y.

    Raises:
        InputError: the shapes differ, or there are no rows.
    """
    mean, y = _same_shape("mean", mean, "y", y)
    return float(np.sqrt(np.mean((mean - y) ** 2)))


def log_mean_exp(log_values: ArrayLike, axis: int | tuple[int, ...] = 0) -> np.ndarray:
    """Log of the mean of exponentials, without overflow.

    Args:
        log_values: logarithms, -inf allowed.
        axis: axis or axes to average over, such as chains and draws.

    Returns:
        ``log(mean(exp(log_values)))`` with those axes removed.

    Raises:
        InputError: there is nothing to average.
    """
    values = np.asarray(log_values, dtype=np.float64)
    axes = (axis,) if isinstance(axis, int) else axis
    count = int(np.prod([values.shape[a] for a in axes]))
    if count == 0:
        raise InputError("there is nothing to average: log_values is empty")
    top = values.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)  # -inf - -inf would be NaN
    with np.errstate(divide="ignore"):
        total = np.log(np.sum(np.exp(values - top), axis=axis))
    return np.asarray(total + np.squeeze(top, axis=axis) - np.log(count))


def mixture_nll(log_density: ArrayLike) -> float:
    """Negative log predictive density a row of the mixture over draws.

    Args:
        log_density: ``(row,)``: :func:`log_mean_exp` over draws of log p(y | draw), in nats of
            the density in original units.

    Returns:
        Its negative mean, in nats a row; infinite where a row has density zero.

    Raises:
        InputError: there are no rows.
    """
    return -float(np.mean(_rows("log_density", log_density)))


def coverage(pit: ArrayLike, level: float) -> float:
    """Fraction of rows inside the central predictive interval, from PIT values.

    Args:
        pit: ``(row,)`` or ``(row, output)`` values of the predictive distribution function at y.
        level: probability of the interval, such as 0.9; its ends are inside.

    Returns:
        The fraction, to compare with ``level``.

    Raises:
        InputError: PIT values or a level outside [0, 1].
    """
    pit = _rows("pit", pit)
    if not 0 <= level <= 1:
        raise InputError(f"level = {level!r}: a probability between 0 and 1 is needed")
    if np.isnan(pit).any():
        return float("nan")
    if pit.min() < 0 or pit.max() > 1:
        raise InputError("pit holds values outside [0, 1]")
    tail = (1 - level) / 2
    return float(np.mean((pit >= tail) & (pit <= 1 - tail)))


def interval_coverage(lower: ArrayLike, upper: ArrayLike, y: ArrayLike) -> float:
    """Fraction of targets inside given intervals.

    Args:
        lower: lower ends, shaped as y.
        upper: upper ends, shaped as y; the ends are inside.
        y: targets, in the same units.

    Returns:
        The fraction.

    Raises:
        InputError: the shapes differ, or a lower end is above its upper end.
    """
    lower, y = _same_shape("lower", lower, "y", y)
    upper, y = _same_shape("upper", upper, "y", y)
    if np.isnan(lower).any() or np.isnan(upper).any() or np.isnan(y).any():
        return float("nan")
    if (lower > upper).any():
        raise InputError("an interval has its lower end above its upper end")
    return float(np.mean((lower <= y) & (y <= upper)))


def accuracy(probabilities: ArrayLike, y: ArrayLike) -> float:
    """Fraction of rows whose most probable class is the true one.

    Args:
        probabilities: ``(row, class)`` predictive probabilities; ties go to the first class.
        y: ``(row,)`` class numbers.

    Returns:
        The fraction.

    Raises:
        InputError: shapes, probabilities or class numbers that do not fit together.
    """
    p, y = _classification(probabilities, y)
    return _mean_over_rows(p.argmax(axis=1) == y, p)


def nll(probabilities: ArrayLike, y: ArrayLike) -> float:
    """Negative log probability of the true class a row.

    Args:
        probabilities: ``(row, class)`` predictive probabilities, already averaged over draws.
        y: ``(row,)`` class numbers.

    Returns:
        The mean in nats a row; infinite where a true class was given probability 0 (scikit-learn's
        ``log_loss`` clips instead).

    Raises:
        InputError: as :func:`accuracy`.
    """
    p, y = _classification(probabilities, y)
    with np.errstate(divide="ignore"):
        return _mean_over_rows(-np.log(p[np.arange(len(y)), y]), p)


def brier(probabilities: ArrayLike, y: ArrayLike) -> float:
    """Brier score: squared distance to the one-hot truth, summed over classes.

    Args:
        probabilities: ``(row, class)`` predictive probabilities.
        y: ``(row,)`` class numbers.

    Returns:
        The mean over rows, between 0 and 2. With two classes it is twice the one-class score of
        scikit-learn's ``brier_score_loss``.

    Raises:
        InputError: as :func:`accuracy`.

    Source: Brier (1950), Monthly Weather Review 78(1), eq. 2.
    """
    p, y = _classification(probabilities, y)
    one_hot = np.eye(p.shape[1])[y]
    return _mean_over_rows(np.sum((p - one_hot) ** 2, axis=1), p)


def ece(probabilities: ArrayLike, y: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of the top class, over bins of equal width.

    Args:
        probabilities: ``(row, class)`` predictive probabilities.
        y: ``(row,)`` class numbers.
        bins: number of bins ``((m - 1) / bins, m / bins]`` of the top probability.

    Returns:
        The mean over rows of |accuracy - confidence| of the row's bin, between 0 and 1.

    Raises:
        InputError: as :func:`accuracy`, or ``bins`` below 1.

    Source: Guo, Pleiss, Sun & Weinberger (2017), On calibration of modern neural networks, eq. 3.
    """
    p, y = _classification(probabilities, y)
    if bins < 1:
        raise InputError(f"bins = {bins!r}: at least 1 is needed")
    if np.isnan(p).any():
        return float("nan")
    confidence = p.max(axis=1)
    hit = p.argmax(axis=1) == y
    # m / bins rounds each edge once, so that a confidence of exactly 0.6 is on the edge 9/15.
    upper_edges = np.arange(1, bins) / bins
    bin_of = np.searchsorted(upper_edges, confidence, side="left")
    surplus = np.bincount(bin_of, weights=hit - confidence, minlength=bins)
    return float(np.abs(surplus).sum() / len(y))


def paired_difference(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Mean difference of two models' scores on the same rows, with its standard error.

    Args:
        a: ``(row,)`` scores of one model.
        b: ``(row,)`` scores of the other on the same rows, in the same order.

    Returns:
        Mean of a - b, and its standard error over rows: standard deviation (n - 1) over sqrt(n);
        NaN for a single row.

    Raises:
        InputError: the shapes differ, or there are no rows.
    """
    a, b = _same_shape("a", a, "b", b)
    if a.ndim != 1:
        raise InputError(f"a has shape {a.shape}: one score a row is needed")
    difference = a - b
    if len(difference) == 1:
        return float(difference[0]), float("nan")
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def _rows(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{name} has no rows")
    return array


def _same_shape(
    name: str, values: ArrayLike, other: str, others: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    first, second = _rows(name, values), _rows(other, others)
    if first.shape != second.shape:  # (n, 1) against (n,) would broadcast to (n, n)
        raise InputError(f"{name} has shape {first.shape} and {other} has shape {second.shape}")
    return first, second


def _classification(probabilities: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    p, classes = _rows("probabilities", probabilities), np.asarray(y)
    if p.ndim != 2 or classes.shape != (len(p),):
        raise InputError(
            f"probabilities has shape {p.shape} and y has shape {classes.shape};"
            " (row, class) and (row,) are needed"
        )
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= p.shape[1]:
        raise InputError(f"y holds other values than the class numbers 0 to {p.shape[1] - 1}")
    # Comparisons with NaN are false: a NaN passes here and shows in the score.
    if (p < 0).any() or (np.abs(p.sum(axis=1) - 1) > 1e-3).any():
        raise InputError("probabilities has rows that are negative or do not sum to 1")
    return p, classes


def _mean_over_rows(score: np.ndarray, p: np.ndarray) -> float:
    return float(np.mean(np.where(np.isnan(p).any(axis=1), np.nan, score)))
