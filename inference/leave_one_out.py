"""Leave-one-out by weighted draws: smoothed weights, and draws moved to where a row is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from bnnzoo.inference.importance import SAME_TAIL

MOST_MOVES = 30
"""Affine moves of one row's draws at most."""

DRAWS_A_COORDINATE = 10
"""Draws that a covariance needs for each of its coordinates to be matched whole."""


class Left(NamedTuple):
    """A row predicted from the others, by weighted draws.

    Attributes:
        log_density: log p(y_i | other rows).
        khat: shape of the tail of the weights.
        influence: of each draw on ``log_density`` ``(draw,)``, their mean 0: its standard error
            is that of their mean.
    """

    log_density: float
    khat: float
    influence: np.ndarray


def left_out(log_ratios: np.ndarray, log_likelihood: np.ndarray, efficiency: float = 1.0) -> Left:
    """One row by self-normalised weights whose tail is smoothed.

    Args:
        log_ratios: of the posterior without the row over the density of the draws, up to a
            constant ``(draw,)``; -log p(y_i | u) for draws from the whole posterior.
        log_likelihood: log p(y_i | u) at the draws ``(draw,)``.
        efficiency: see :func:`smoothed`.

    Source:
        Vehtari, Gelman & Gabry (2017), Practical Bayesian Model Evaluation Using Leave-One-Out
        Cross-Validation and WAIC, eq. 10.
    """
    weights, khat = smoothed(log_ratios, efficiency)
    log_density = float(logsumexp(weights + log_likelihood))
    influence = np.exp(weights) * (np.exp(log_likelihood - log_density) - 1.0)
    return Left(log_density, khat, len(weights) * influence)


def relative_efficiency(log_likelihood: np.ndarray) -> float:
    """Effective over all draws of a row's likelihood ``(chain, draw)``, at most 1."""
    from arviz_stats.base import array_stats

    likelihood = np.exp(log_likelihood - log_likelihood.max())
    share = float(array_stats.ess(likelihood, method="mean", relative=True))
    return min(share, 1.0) if share > 0 else 1.0


def smoothed(log_ratios: np.ndarray, efficiency: float = 1.0) -> tuple[np.ndarray, float]:
    """Normalised log weights with a Pareto tail, and its k-hat; 0 weight where not a number.

    Args:
        log_ratios: of each draw ``(draw,)``.
        efficiency: effective over all draws. The fewer, the more of the largest are the tail.

    Source:
        Vehtari et al. (2024), Pareto Smoothed Importance Sampling.
    """
    from arviz_stats.base import array_stats

    ratios = np.where(np.isnan(log_ratios), -np.inf, np.asarray(log_ratios, np.float64))
    ratios = np.maximum(ratios - ratios.max(), -700.0)
    if ratios.min() > -1e-9:
        return np.full(len(ratios), -np.log(len(ratios))), -np.inf
    try:
        weights, khat = array_stats.psislw(-ratios, r_eff=efficiency)
    except ValueError as error:
        if SAME_TAIL not in str(error):
            raise
        weights, khat = ratios, -np.inf  # The largest are equal: there is no tail to smooth.
    return weights - logsumexp(weights), float(khat)


Densities = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Points ``(draw, dim)`` to log posterior density and log p(y_i | u), ``(draw,)`` each."""


class _Affine(NamedTuple):
    """u -> matrix u + shift."""

    matrix: np.ndarray
    shift: np.ndarray

    def __call__(self, us: np.ndarray) -> np.ndarray:
        return us @ self.matrix.T + self.shift

    def inverse(self, us: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.matrix, (us - self.shift).T).T


def matched(us: np.ndarray, densities: Densities, good: float, efficiency: float = 1.0) -> Left:
    """One row by draws moved, affinely, to the moments of the posterior without it.

    Mean, then variances, then covariance are matched while that lowers k-hat. Half of the draws is
    then moved and half is not, and both are weighted against their mixture, so that the likelihood
    of the row, which the posterior without it may not see, is averaged as well.

    Args:
        us: draws of the whole posterior ``(draw, dim)``, in an order that means nothing.
        densities: of this row.
        good: k-hat that needs no more moves.
        efficiency: see :func:`smoothed`.

    Source:
        Paananen et al. (2021), Implicitly Adaptive Importance Sampling, algorithms 1 and 2.
    """
    density, likelihood = densities(us)
    weights, khat = smoothed(-likelihood, efficiency)
    whole, here = _Affine(np.eye(us.shape[1]), np.zeros(us.shape[1])), us
    for _ in range(MOST_MOVES):
        if khat <= good:
            break
        for move in _moves(here, np.exp(weights)):
            there = move(here)
            moved, row = densities(there)
            fresh, lower = smoothed(moved - row - density, efficiency)
            if lower < khat:
                here, weights, khat = there, fresh, lower
                shift = move.matrix @ whole.shift + move.shift
                whole = _Affine(move.matrix @ whole.matrix, shift)
                break
        else:
            break
    half = np.arange(len(us)) % 2 == 0
    both = np.where(half[:, None], whole(us), us)
    own, row = densities(both)
    back, _ = densities(whole.inverse(both))
    log_det = np.linalg.slogdet(whole.matrix)[1]
    # k-hat is that of the moved draws alone: weights against a mixture are bounded by theirs.
    return left_out(own - row - np.logaddexp(own, back - log_det), row, efficiency)._replace(
        khat=khat
    )


def _moves(us: np.ndarray, weights: np.ndarray) -> list[_Affine]:
    """To the weighted mean; to its variances as well; to its covariance as well."""
    mean, dim = us.mean(0), us.shape[1]
    centre = weights @ us
    variance, target = us.var(0), weights @ (us - centre) ** 2
    scale = np.sqrt(np.where((variance > 0) & (target > 0), target / variance, 1.0))
    found = [_about(np.eye(dim), mean, centre), _about(np.diag(scale), mean, centre)]
    if len(us) >= DRAWS_A_COORDINATE * dim:
        try:
            root = np.linalg.cholesky(np.atleast_2d(np.cov(us.T)))
            aimed = np.linalg.cholesky(np.atleast_2d(np.cov(us.T, aweights=weights)))
        except np.linalg.LinAlgError:
            return found
        found.append(_about(aimed @ np.linalg.inv(root), mean, centre))
    return found


def _about(matrix: np.ndarray, mean: np.ndarray, centre: np.ndarray) -> _Affine:
    return _Affine(matrix, centre - matrix @ mean)
