"""Calibration of class probabilities: do events of probability p happen p of the time?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError
from bnnzoo.metrics._checks import classification


class BrierDecomposition(NamedTuple):
    """Parts of a Brier score over bins, summed over classes; each is at least 0 but the last.

    Attributes:
        reliability: squared distance of mean probability and frequency of the bins, which is
            miscalibration; smaller is better.
        resolution: squared distance of the frequencies of the bins from the overall frequency;
            larger is better.
        uncertainty: variance of the outcome, whatever is forecast.
        within_bin_variance: variance of the probabilities inside bins.
        within_bin_covariance: twice the covariance of probability and outcome inside bins.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_bin_variance: float
    within_bin_covariance: float

    @property
    def brier(self) -> float:
        """The Brier score that the parts add up to, exactly."""
        return (
            self.reliability
            - self.resolution
            + self.uncertainty
            + self.within_bin_variance
            - self.within_bin_covariance
        )


def ece(probabilities: ArrayLike, y: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of the top class, over bins of equal width.

    Args:
        probabilities: ``(row, class)`` predictive probabilities.
        y: ``(row,)`` class numbers.
        bins: number of bins ``((m - 1) / bins, m / bins]`` of the top probability.

    Returns:
        The mean over rows of ``|accuracy - confidence|`` of the row's bin, between 0 and 1.

    Raises:
        InputError: as :func:`accuracy`, or ``bins`` below 1.

    Source: Guo, Pleiss, Sun & Weinberger (2017), On calibration of modern neural networks, eq. 3.
    """
    return _top_class_error(probabilities, y, bins, equal_mass=False)


def adaptive_ece(probabilities: ArrayLike, y: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of the top class, over bins of equal numbers of rows.

    The confidence of rank i among n (from 0) is in bin floor(i * bins / n). Equal confidences
    share the bin of the first of them, so that the order of the rows does not matter; bins can
    then differ in size or be empty.

    Args:
        probabilities: ``(row, class)`` predictive probabilities.
        y: ``(row,)`` class numbers.
        bins: number of bins.

    Returns:
        The mean over rows of ``|accuracy - confidence|`` of the row's bin, between 0 and 1.

    Raises:
        InputError: as :func:`ece`.

    Source: Nixon, Dusenberry, Zhang, Jerfel & Tran (2019), Measuring calibration in deep learning,
    for the bins; their score of all classes is :func:`classwise_ece` with ``equal_mass=True``.
    """
    return _top_class_error(probabilities, y, bins, equal_mass=True)


def classwise_ece(
    probabilities: ArrayLike, y: ArrayLike, bins: int = 15, equal_mass: bool = False
) -> float:
    """Calibration error of each class's probability, averaged over classes.

    Args:
        probabilities: ``(row, class)`` predictive probabilities.
        y: ``(row,)`` class numbers.
        bins: number of bins of each class.
        equal_mass: bins of equal numbers of rows, as :func:`adaptive_ece` makes them, instead of
            bins of equal width.

    Returns:
        The mean over classes and rows of ``|frequency - mean probability|`` of the class in the
        row's bin, between 0 and 1.

    Raises:
        InputError: as :func:`ece`.

    Source: Kull et al. (2019), Beyond temperature scaling (equal width); Nixon et al.
    (2019), Measuring calibration in deep learning, adaptive calibration error (equal mass).
    """
    p, y = _binnable(probabilities, y, bins)
    classes = p.shape[1]
    errors = [_binned_error(p[:, k], y == k, bins, equal_mass) for k in range(classes)]
    return float(np.mean(errors))


def brier_decomposition(
    probabilities: ArrayLike, y: ArrayLike, bins: int = 15
) -> BrierDecomposition:
    """Brier score as reliability - resolution + uncertainty, with what happens inside bins.

    Murphy's three parts add up to the score where all probabilities of a bin are equal; otherwise
    two more are needed, and with them the sum is exact. Each class is decomposed by itself, over
    bins of equal width, and the parts are summed over classes.

    Args:
        probabilities: ``(row, class)`` predictive probabilities.
        y: ``(row,)`` class numbers.
        bins: number of bins ``((m - 1) / bins, m / bins]`` of each class's probability; 0 is in
            the first.

    Returns:
        The parts. ``resolution - within_bin_variance + within_bin_covariance`` is the generalised
        resolution of Stephenson et al., which depends less on the bins.

    Raises:
        InputError: as :func:`ece`.

    Source: Murphy (1973), Journal of Applied Meteorology 12; Stephenson, Coelho & Jolliffe (2008),
    Two extra components in the Brier score decomposition, Weather and Forecasting 23.
    """
    p, y = _binnable(probabilities, y, bins)
    if np.isnan(p).any():
        return BrierDecomposition(*[float("nan")] * 5)
    parts = [_decomposed(p[:, k], (y == k).astype(float), bins) for k in range(p.shape[1])]
    return BrierDecomposition(*map(float, np.sum(parts, axis=0)))


def _decomposed(p: np.ndarray, event: np.ndarray, bins: int) -> tuple[float, ...]:
    bin_of = _equal_width(p, bins)
    rows = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):  # an empty bin has no mean, and no row looks it up
        mean_p = (np.bincount(bin_of, p, bins) / rows)[bin_of]
        frequency = (np.bincount(bin_of, event, bins) / rows)[bin_of]
    overall = event.mean()
    return (
        np.mean((mean_p - frequency) ** 2),
        np.mean((frequency - overall) ** 2),
        overall * (1 - overall),
        np.mean((p - mean_p) ** 2),
        2 * np.mean((p - mean_p) * (event - frequency)),
    )


def _top_class_error(probabilities: ArrayLike, y: ArrayLike, bins: int, equal_mass: bool) -> float:
    p, y = _binnable(probabilities, y, bins)
    return _binned_error(p.max(axis=1), p.argmax(axis=1) == y, bins, equal_mass)


def _binnable(probabilities: ArrayLike, y: ArrayLike, bins: int) -> tuple[np.ndarray, np.ndarray]:
    if bins < 1:
        raise InputError(f"bins = {bins!r}: at least 1 is needed")
    return classification(probabilities, y)


def _binned_error(p: np.ndarray, event: np.ndarray, bins: int, equal_mass: bool) -> float:
    """Mean over rows of |frequency - mean p| of the row's bin; NaN sorts last and stays NaN."""
    bin_of = _equal_mass(p, bins) if equal_mass else _equal_width(p, bins)
    surplus = np.bincount(bin_of, weights=event - p, minlength=bins)
    return float(np.abs(surplus).sum() / len(p))


def _equal_width(p: np.ndarray, bins: int) -> np.ndarray:
    # m / bins rounds each edge once, so that a confidence of exactly 0.6 is on the edge 9/15.
    return np.searchsorted(np.arange(1, bins) / bins, p, side="left")


def _equal_mass(p: np.ndarray, bins: int) -> np.ndarray:
    return np.searchsorted(np.sort(p), p, side="left") * bins // len(p)
