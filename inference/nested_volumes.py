"""Nested sampling after the run: what its dead points say of the evidence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp


class Deaths(NamedTuple):
    """Every point of one run or several, each from the contour it was born in to its own.

    Attributes:
        log_likelihood: of the point ``(point,)``, minus infinity where the likelihood is 0.
        birth: the log-likelihood that it had to exceed ``(point,)``; NaN for a draw of the prior.
    """

    log_likelihood: np.ndarray
    birth: np.ndarray


class Volumes(NamedTuple):
    """The evidence with the uncertainty of the prior volumes between the points.

    Attributes:
        log_z: mean of log Z over simulated volumes.
        standard_error: its standard deviation over them.
        information: divergence of the posterior from the prior, nats.
        effective: number of independent posterior draws as good as the weighted points.
    """

    log_z: float
    standard_error: float
    information: float
    effective: float


def evidence(deaths: Deaths, rng: np.random.Generator, simulations: int = 200) -> Volumes:
    """Integrate the likelihood over the prior volumes that the points enclose.

    Between two deaths the volume shrinks by the largest of n uniform numbers, n the points that
    were alive: those whose birth contour lies strictly below and that had not died. Points that
    are tied die one after another with none born between them, so that a plateau of the
    likelihood, such as a region of likelihood 0, has the volume of the share of points on it. Runs
    are merged by putting their points together.

    Args:
        deaths: of whole runs, the points alive at the end included.
        rng: of the simulated volumes.
        simulations: of the sequence of volumes.

    Source:
        Skilling (2006), Nested Sampling for General Bayesian Computation, sec. 4; Fowlie, Handley
        & Su (2021), Nested Sampling with Plateaus.
    """
    order = np.argsort(deaths.log_likelihood, kind="stable")
    logs = np.asarray(deaths.log_likelihood, np.float64)[order]
    births = np.asarray(deaths.birth, np.float64)
    first = np.isnan(births)
    born = first.sum() + np.searchsorted(np.sort(births[~first]), logs, side="left")
    alive = born - np.arange(len(logs))
    found = np.empty(simulations)
    information = effective = 0.0
    for number in range(simulations):
        log_shrink = -rng.standard_exponential(len(logs)) / alive
        log_volume = np.concatenate([[0.0], np.cumsum(log_shrink)[:-1]])
        shells = np.log(-np.expm1(log_shrink))
        shells[-1] = 0.0  # the last point has all that is left
        weights = logs + log_volume + shells
        found[number] = logsumexp(weights)
        shares = np.exp(weights - found[number])
        carried = shares > 0
        gained = float(np.sum(shares[carried] * logs[carried]) - found[number])
        information += gained / simulations
        effective += float(1.0 / np.sum(shares**2)) / simulations
    return Volumes(float(found.mean()), float(found.std(ddof=1)), information, effective)
