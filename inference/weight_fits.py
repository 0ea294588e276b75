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

STEPS = 50
"""Most of Newton's, for a scale: three or four are enough from the last one."""

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
    shape; the Student-t's by Newton steps.

    Args:
        family: to fit.
        values: not all 0.
        weights: of each value; 1 if not given.
    """
    w = np.ones_like(values) if weights is None else weights
    return _FITS[family](values.astype(float), w.astype(float))


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
    count = float(w.sum())
    scale = math.sqrt(float(w @ x**2) / count)
    height = -0.5 * math.log(2 * math.pi * scale**2) - 0.5
    return Fit("gaussian", scale, None, count * height)


def _laplace(x: np.ndarray, w: np.ndarray) -> Fit:
    count = float(w.sum())
    scale = float(w @ np.abs(x)) / count
    return Fit("laplace", scale, None, -count * (math.log(2 * scale) + 1.0))


def _generalised_normal(x: np.ndarray, w: np.ndarray) -> Fit:
    count = float(w.sum())
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
    count = float(w.sum())
    size = math.sqrt(float(w @ x**2) / count)
    # Values of weight 0 belong to networks a bootstrap sample does not have.
    share = w[w > 0] / count
    square = (x[w > 0] / size) ** 2

    def newton(df: float, log_s: float) -> tuple[float, float]:
        """Scale of highest likelihood given the shape, and the mean log density there.

        At it (df + 1) mean(z / (1 + z)) is 1, z = x^2 / (df s^2): steps in log s, which is where
        the left side falls without a turn.
        """
        for _ in range(STEPS):
            z = square * (math.exp(-2.0 * log_s) / df)
            part = z / (1.0 + z)
            first, second = float(share @ part), float(share @ (part * part))
            step = ((df + 1.0) * first - 1.0) / (2.0 * (df + 1.0) * (first - second))
            log_s += min(max(step, -1.0), 1.0)
            if abs(step) < 1e-7:
                break
        tail = float(share @ np.log1p(square * (math.exp(-2.0 * log_s) / df)))
        constant = special.gammaln((df + 1) / 2) - special.gammaln(df / 2)
        return log_s, float(constant - 0.5 * math.log(df * math.pi) - log_s - 0.5 * (df + 1) * tail)

    place = {"log_s": 0.0}

    def loss(log_df: float) -> float:
        place["log_s"], mean = newton(math.exp(log_df), place["log_s"])
        return -mean

    # In 1 / df the likelihood of what is nearly Gaussian is nearly quadratic; in log df it is flat.
    ends = (1.0 / DF_RANGE[1], 1.0 / DF_RANGE[0])
    found = optimize.minimize_scalar(
        lambda tail: loss(-math.log(tail)), bounds=ends, method="bounded", options={"xatol": 1e-6}
    )
    df = 1.0 / float(found.x)
    log_s, mean = newton(df, place["log_s"])
    if df > 0.99 * DF_RANGE[1]:
        df = math.inf
    return Fit("student-t", size * math.exp(log_s), df, float(count * (mean - math.log(size))))


_FITS: dict[Family, Callable[[np.ndarray, np.ndarray], Fit]] = {
    "gaussian": _gaussian,
    "laplace": _laplace,
    "student-t": _student_t,
    "generalised-normal": _generalised_normal,
}
FAMILIES: tuple[Family, ...] = tuple(_FITS)
"""What can be fitted."""
