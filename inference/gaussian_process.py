"""Exact regression with a Gaussian process, and with a Student-t process, from matrices.

Both take the prior covariance at the training rows as a matrix, whatever kernel made it, and work
in the units of their targets, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, stats
from scipy.special import gammaln

from bnnzoo.errors import InputError

SYMMETRY = 1e-8
"""Largest asymmetry of a covariance, relative to its largest element, that rounding explains."""


class ProcessPrediction(NamedTuple):
    """What a process says of a value at some rows: the same law at every row, moved and scaled.

    Attributes:
        mean: ``(row,)`` or ``(row, output)``.
        std: standard deviation, shaped as ``mean``; infinite for 2 degrees of freedom and fewer.
        scale: what the standard law is multiplied by; ``std`` for a Gaussian.
        df: degrees of freedom of the Student-t law; infinite for a Gaussian.
    """

    mean: np.ndarray
    std: np.ndarray
    scale: np.ndarray
    df: float

    def quantile(self, q: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Quantiles.

        Args:
            q: probability or probabilities, 0 to 1.

        Returns:
            The shape of ``q``, then that of ``mean``.

        Raises:
            InputError: a probability outside [0, 1].
        """
        q = np.asarray(q, float)
        if not ((q >= 0) & (q <= 1)).all():
            raise InputError(f"q = {q.tolist()}: probabilities between 0 and 1 are needed")
        return self._law(q.reshape(*q.shape, *[1] * self.mean.ndim))

    def interval(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the central interval, each shaped as ``mean``.

        Args:
            level: probability inside, such as 0.9.

        Raises:
            InputError: as :meth:`quantile`.
        """
        lower, upper = self.quantile([(1 - level) / 2, (1 + level) / 2])
        return lower, upper

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density of each value, shaped as ``mean``.

        Args:
            y: values, shaped as ``mean``.
        """
        z = (np.asarray(y, float) - self.mean) / self.scale
        return np.asarray(self._family.logpdf(z)) - np.log(self.scale)

    @property
    def _family(self) -> Any:
        return stats.norm if math.isinf(self.df) else stats.t(self.df)

    def _law(self, q: np.ndarray) -> np.ndarray:
        return self.mean + self.scale * np.asarray(self._family.ppf(q))


class Conditioned(NamedTuple):
    """Function values at new rows given the targets: jointly Gaussian, or Student-t.

    Attributes:
        mean: ``(row,)`` or ``(row, output)``.
        covariance: ``(row, row)``, of the Gaussian, or of the Student-t where ``df`` is above 2;
            ``(row, row, output)`` where outputs differ in it, as those of a Student-t process do.
        df: degrees of freedom; infinite for a Gaussian.
    """

    mean: np.ndarray
    covariance: np.ndarray
    df: float


class GaussianProcess:
    """Regression y = f(x) + noise, f a Gaussian process of mean 0 and the noise Gaussian.

    Args:
        covariance: prior covariance of f at the training rows ``(row, row)``.
        y: targets ``(row,)``, or ``(row, output)`` of independent outputs with one covariance.
        noise_std: standard deviation of the noise, 0 or more, in the units of ``y``.

    Attributes:
        covariance: as given, as are ``y`` and ``noise_std``.
        df: degrees of freedom of its predictions: infinite.

    Raises:
        InputError: a covariance that is not symmetric or, with the noise, not positive definite to
            the precision of float64; shapes that do not agree; values that are not finite.

    Source: Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, eq. 2.25, 2.26 and
    2.30.
    """

    def __init__(self, covariance: Any, y: Any, noise_std: float) -> None:
        self.covariance, self.y = np.asarray(covariance, float), np.asarray(y, float)
        self.noise_std = float(noise_std)
        _check(self.covariance, self.y, self.noise_std)
        rows = len(self.y)
        total = self.covariance + self.noise_std**2 * np.eye(rows)
        self._factor = _cholesky(total, self.noise_std)
        targets = self.y.reshape(rows, -1)
        self._weights = linalg.cho_solve((self._factor, True), targets)
        self._squares = np.einsum("ro,ro->o", targets, self._weights)
        self._log_det = 2.0 * np.log(np.diag(self._factor)).sum()

    @property
    def df(self) -> float:
        """Degrees of freedom of its predictions: infinite."""
        return math.inf

    @property
    def log_evidence(self) -> float:
        """Nats: log N(y; 0, K + noise_std^2 I), summed over outputs."""
        rows, outputs = self._weights.shape
        constant = rows * math.log(2.0 * math.pi)
        return float(-0.5 * (self._squares.sum() + outputs * (self._log_det + constant)))

    @cached_property
    def evidence_slope(self) -> np.ndarray:
        """Derivative of :attr:`log_evidence` by every element of K ``(row, row)``.

        Its trace, times 2 ``noise_std``, is the derivative by ``noise_std`` (Rasmussen & Williams
        2006, eq. 5.9).
        """
        inverse = linalg.cho_solve((self._factor, True), np.eye(len(self.y)))
        outer = np.einsum("ro,so,o->rs", self._weights, self._weights, self._slope_weights)
        return 0.5 * (outer - self._weights.shape[1] * inverse)

    @property
    def _slope_weights(self) -> np.ndarray:
        return np.ones(self._weights.shape[1])

    def function(self, cross: Any, prior: Any) -> Conditioned:
        """Function values at new rows, jointly.

        Args:
            cross: prior covariance with the training rows ``(new, row)``.
            prior: prior covariance of the new rows among themselves ``(new, new)``.
        """
        mean, half = self._mean_and_half(cross)
        prior = _new_rows(prior, (len(half.T),) * 2, "prior")
        left = prior - half.T @ half
        return Conditioned(mean, self._widened(left), self.df)

    def predict(self, cross: Any, prior: Any, noise: bool = True) -> ProcessPrediction:
        """Predictive law at each of some new rows.

        Args:
            cross: prior covariance with the training rows ``(new, row)``.
            prior: prior variances of the new rows ``(new,)``.
            noise: of the target, with its noise; else of the function alone.

        Returns:
            The law, in the units of ``y``.
        """
        mean, half = self._mean_and_half(cross)
        prior = _new_rows(prior, (len(half.T),), "prior")
        # Rounding leaves a little less than nothing where a new row is a training row.
        left = np.maximum(prior - (half**2).sum(0), 0.0)
        left = left + self.noise_std**2 if noise else left
        squared = left if self.y.ndim == 1 else np.repeat(left[:, None], self.y.shape[1], 1)
        scale = np.sqrt(squared * self._squared_scale)
        growth = (
            1.0 if math.isinf(self.df) else self.df / (self.df - 2) if self.df > 2 else math.inf
        )
        return ProcessPrediction(mean, scale * math.sqrt(growth), scale, self.df)

    @property
    def _squared_scale(self) -> np.ndarray:
        """What variances are multiplied by, given the targets: one number, or one an output."""
        return np.ones(self._weights.shape[1:] if self.y.ndim > 1 else ())

    def _widened(self, left: np.ndarray) -> np.ndarray:
        return left

    def _mean_and_half(self, cross: Any) -> tuple[np.ndarray, np.ndarray]:
        cross = np.asarray(cross, float)
        cross = _new_rows(cross, (len(cross) if cross.ndim else 0, len(self.y)), "cross")
        mean = (cross @ self._weights).reshape(len(cross), *self.y.shape[1:])
        return mean, linalg.solve_triangular(self._factor, cross.T, lower=True)


class StudentTProcess(GaussianProcess):
    """Regression with a process of unknown scale: f and noise given v are Gaussian, v is random.

    With v ~ InverseGamma(shape, rate), f | v is a Gaussian process of covariance v K and **the
    noise lies inside the mixture**: its variance is v noise_std^2. That is what makes the
    regression exact: y is a multivariate Student-t of 2 shape degrees of freedom and scale
    (rate/shape) (K + noise_std^2 I). Noise of a known size outside of it has no closed form.
    Several outputs have a v each.

    A network whose last layer, bias included, has its variances times v becomes this process
    as it grows.

    Args:
        covariance: K at the training rows ``(row, row)``.
        y: targets ``(row,)``, or ``(row, output)`` of independent outputs.
        noise_std: standard deviation of the noise where v is 1.
        shape: a of the inverse gamma.
        rate: b of it.

    Attributes:
        shape: as given.
        rate: as given.

    Raises:
        InputError: as :class:`GaussianProcess`, or a shape or rate that is not positive.

    Source: Shah, Wilson & Ghahramani (2014), Student-t Processes as Alternatives to Gaussian
    Processes; Lee et al. (2022), Scale Mixtures of Neural Network Gaussian Processes.
    """

    def __init__(
        self, covariance: Any, y: Any, noise_std: float, shape: float, rate: float
    ) -> None:
        for name, value in (("shape", shape), ("rate", rate)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} = {value!r}: a positive number is needed")
        self.shape, self.rate = float(shape), float(rate)
        super().__init__(covariance, y, noise_std)

    @property
    def df(self) -> float:
        """Degrees of freedom of its predictions: 2 shape + rows."""
        return 2.0 * self.shape + len(self.y)

    @property
    def log_evidence(self) -> float:
        """Nats: log density of a multivariate Student-t at y, summed over outputs."""
        rows, outputs = self._weights.shape
        constant = gammaln(self.shape + 0.5 * rows) - gammaln(self.shape)
        constant -= 0.5 * rows * math.log(2.0 * math.pi * self.rate)
        far = np.log1p(self._squares / (2.0 * self.rate)).sum()
        return float(outputs * (constant - 0.5 * self._log_det) - (self.shape + 0.5 * rows) * far)

    @property
    def _slope_weights(self) -> np.ndarray:
        return (2.0 * self.shape + len(self.y)) / (2.0 * self.rate + self._squares)

    @property
    def _squared_scale(self) -> np.ndarray:
        found = (2.0 * self.rate + self._squares) / self.df
        return found if self.y.ndim > 1 else found.reshape(())

    def _widened(self, left: np.ndarray) -> np.ndarray:
        growth = self.df / (self.df - 2.0) if self.df > 2.0 else math.inf
        squared = self._squared_scale
        return left * squared * growth if self.y.ndim == 1 else left[..., None] * squared * growth


def _check(covariance: np.ndarray, y: np.ndarray, noise_std: float) -> None:
    if y.ndim not in (1, 2) or not y.size:
        raise InputError(f"y of shape {y.shape}: (row,) or (row, output) is needed")
    if covariance.shape != (len(y), len(y)):
        raise InputError(
            f"covariance of shape {covariance.shape}, but the {len(y)} targets need one row and "
            "one column each"
        )
    for name, values in (("covariance", covariance), ("y", y)):
        if not np.isfinite(values).all():
            raise InputError(f"{name} holds a value that is not finite")
    if not (math.isfinite(noise_std) and noise_std >= 0.0):
        raise InputError(f"noise_std = {noise_std!r}: 0 or a positive number is needed")
    gap = abs(covariance - covariance.T).max()
    if gap > SYMMETRY * abs(covariance).max():
        raise InputError(f"covariance is not symmetric: elements differ by {gap:.2g}")


def _cholesky(total: np.ndarray, noise_std: float) -> np.ndarray:
    """Lower factor; a pivot that is rounding alone is refused, as its inverse would be."""
    try:
        factor = linalg.cholesky(total, lower=True)
        smallest = float((np.diag(factor) ** 2).min())
    except linalg.LinAlgError:
        smallest = -math.inf
    if smallest <= len(total) * np.finfo(float).eps * np.diag(total).max():
        least = float(linalg.eigvalsh(total, subset_by_index=[0, 0])[0])
        raise InputError(
            f"covariance with noise_std = {noise_std:g} is not positive definite (smallest "
            f"eigenvalue {least:.2g}, largest variance {np.diag(total).max():.2g}): rows repeat or "
            "lie too near each other for float64; give a larger noise_std"
        )
    return factor


def _new_rows(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    found = np.asarray(values, float)
    if found.shape != shape:
        raise InputError(f"{name} of shape {found.shape}, where {shape} is needed")
    return found
