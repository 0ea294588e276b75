"""Families fitted to numbers by maximum likelihood, their location known to be 0; weights count.

A weight says how often a number is there: a bootstrap sample is the same numbers with other
weights, and weights of 1 are the data as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from bnnzoo.models.priors.empirical import SHAPES, Family

DF_RANGE = (0.2, 1000.0)
"""Degrees of freedom that are looked at; the upper end is given as infinite: a Gaussian."""

BETA_RANGE = (0.25, 10.0)
"""Shapes of the generalised normal that are looked at: those the prior of that name has."""

Values = Float[np.ndarray, " value"]


@dataclass(frozen=True)
class Fit:
    """A family at its highest likelihood.

    Attributes:
        family: its name.
        scale: its own scale parameter, in units of the values.
        shape: degrees of freedom (student-t; infinite where none below 1000 is likelier) or beta
            (generalised-normal); None of other families.
        log_likelihood: of all values.
    """

    family: Family
    scale: float
    shape: float | None
    log_likelihood: float

    @property
    def aic(self) -> float:
        """Akaike's criterion, 2 parameters - 2 log-likelihood: lower is better."""
        return 2.0 * (2 if self.family in SHAPES else 1) - 2.0 * self.log_likelihood


def fit_family(family: Family, values: Values, weights: Values | None = None) -> Fit:
    """The scale, and shape where there is one, of highest likelihood.

    Gaussian and Laplace in closed form; the generalised normal's scale is in closed form given its
    shape; the Student-t by quasi-Newton steps in the logarithms of both.

    Args:
        family: to fit.
        values: not all 0.
        weights: of each value; 1 if not given.
    """
    w = np.ones_like(values) if weights is None else weights
    return _FITS[family](values, w)


def excess_kurtosis(values: Values, weights: Values | None = None) -> float:
    """Fourth central moment over the squared second, less 3: 0 for a Gaussian.

    Args:
        values: not all alike.
        weights: of each value; 1 if not given.
    """
    w = np.ones_like(values) if weights is None else weights
    central = values - np.average(values, weights=w)
    square = central**2
    return float(np.average(square**2, weights=w) / np.average(square, weights=w) ** 2 - 3.0)


def _gaussian(x: np.ndarray, w: np.ndarray) -> Fit:
    count = w.sum()
    scale = math.sqrt(float(w @ x**2) / count)
    return Fit("gaussian", scale, None, -count * (0.5 * math.log(2 * math.pi * scale**2) + 0.5))


def _laplace(x: np.ndarray, w: np.ndarray) -> Fit:
    count = w.sum()
    scale = float(w @ np.abs(x)) / count
    return Fit("laplace", scale, None, -count * (math.log(2 * scale) + 1.0))


def _generalised_normal(x: np.ndarray, w: np.ndarray) -> Fit:
    count = w.sum()
    size = np.abs(x)
    with np.errstate(divide="ignore"):
        log_size = np.log(size / size.max())

    def log_scale(beta: float) -> float:
        """Of highest likelihood given the shape: alpha^beta = beta mean |x|^beta."""
        mean = float(w @ np.exp(beta * log_size)) / count
        return math.log(beta * mean) / beta + math.log(size.max())

    def log_likelihood(beta: float) -> float:
        volume = math.log(2.0) + log_scale(beta) + special.gammaln(1.0 + 1.0 / beta)
        return float(-count * (volume + 1.0 / beta))

    ends = tuple(math.log(end) for end in BETA_RANGE)
    found = optimize.minimize_scalar(
        lambda b: -log_likelihood(math.exp(b)), bounds=ends, method="bounded"
    )
    beta = min(max(math.exp(float(found.x)), BETA_RANGE[0]), BETA_RANGE[1])
    return Fit("generalised-normal", math.exp(log_scale(beta)), beta, log_likelihood(beta))


def _student_t(x: np.ndarray, w: np.ndarray) -> Fit:
    count = w.sum()
    size = math.sqrt(float(w @ x**2) / count)
    square = (x / size) ** 2

    def loss(place: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the mean log density in units of ``size``, and its slope."""
        log_s, df = place[0], math.exp(place[1])
        z = square * math.exp(-2.0 * log_s) / df
        tail = float(w @ np.log1p(z)) / count
        share = float(w @ (z / (1.0 + z))) / count
        constant = special.gammaln((df + 1) / 2) - special.gammaln(df / 2)
        mean = constant - 0.5 * math.log(df * math.pi) - log_s - 0.5 * (df + 1) * tail
        slope_s = -1.0 + (df + 1) * share
        slope_df = 0.5 * (special.digamma((df + 1) / 2) - special.digamma(df / 2) - 1.0 / df - tail)
        slope_df += 0.5 * (df + 1) / df * share
        return -float(mean), -np.array([slope_s, df * slope_df])

    ends = (math.log(DF_RANGE[0]), math.log(DF_RANGE[1]))
    begin = np.array([math.log(0.7), math.log(5.0)])
    settings = {"ftol": 1e-13, "gtol": 1e-7}
    found = optimize.minimize(
        loss, begin, jac=True, method="L-BFGS-B", bounds=((-30.0, 3.0), ends), options=settings
    )
    log_s, log_df = (float(v) for v in found.x)
    df = math.inf if log_df > ends[1] - 1e-3 else math.exp(log_df)
    log_likelihood = -count * (float(found.fun) + math.log(size))
    return Fit("student-t", size * math.exp(log_s), df, float(log_likelihood))


_FITS: dict[Family, Callable[[np.ndarray, np.ndarray], Fit]] = {
    "gaussian": _gaussian,
    "laplace": _laplace,
    "student-t": _student_t,
    "generalised-normal": _generalised_normal,
}
FAMILIES: tuple[Family, ...] = tuple(_FITS)
"""What can be fitted."""
