"""Two samples joined by a bridge: the ratio of their normalisers, and how sure it is."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

LEAST_OVERLAP = 0.02
"""Overlap under which few draws lie where the two densities meet."""


class Bridge(NamedTuple):
    """The normaliser of a density by draws from it and from one whose normaliser is known.

    Attributes:
        log_z: its logarithm.
        standard_error: of ``log_z``.
        overlap: of the two densities, 1 where they are one and 0 where they do not meet.
        effective: how many independent draws of either are as good, target first.
    """

    log_z: float
    standard_error: float
    overlap: float
    effective: tuple[float, float]


def bridge(target: np.ndarray, proposal: np.ndarray) -> Bridge:
    """Meng and Wong's optimal bridge, the fixed point of their iteration.

    That point is the only root of a monotone function, which is found by bracketing: the iteration
    itself takes thousands of steps where the densities hardly meet.

    Args:
        target: log p(u) - log q(u) at draws from p ``(chain, draw)``, p without its normaliser.
        proposal: the same at draws from q, ``(draw,)`` independent ones or ``(chain, draw)``;
            minus infinity where p is 0.

    Returns:
        log Z with the standard error of its relative mean squared error, which counts the draws
        from p by their autocorrelation.

    Raises:
        ValueError: no draw from q where p is positive.

    Source:
        Meng & Wong (1996), Simulating Ratios of Normalizing Constants via a Simple Identity,
        sec. 3; Fruehwirth-Schnatter (2004), Estimating Marginal Likelihoods for Mixture and
        Markov Switching Models Using Bridge Sampling Techniques, sec. 3.2.
    """
    from arviz_stats.base import array_stats

    if not np.isfinite(proposal).any():
        raise ValueError("no draw of the proposal has positive density")
    ones, others = target.ravel(), proposal.ravel()
    count = min(max(float(array_stats.ess(target, method="mean")), 1.0), float(ones.size))
    tilt = np.log(count) - np.log(others.size)  # log of s1 / s2
    share = count / (count + others.size)  # s1

    def gap(log_z: float) -> float:
        """Difference of the two averages of the bridge, as logarithms: it falls with log_z."""
        # w / (s1 w + s2) with w = exp(l - log_z), and 1 / (s1 w + s2), without overflow
        upper = -np.logaddexp(0.0, -(others - log_z + tilt)) - np.log(share)
        lower = -np.logaddexp(0.0, ones - log_z + tilt) - np.log1p(-share)
        mean_upper = logsumexp(upper) - np.log(upper.size)
        return float(mean_upper - logsumexp(lower) + np.log(lower.size))

    ends = np.concatenate([ones, others[np.isfinite(others)]])
    width = 10.0 + float(np.ptp(ends))
    log_z = float(brentq(gap, ends.min() - width, ends.max() + width, xtol=1e-10))
    upper = expit(proposal - log_z + tilt) / share
    lower = expit(-(target - log_z + tilt)) / (1.0 - share)
    effective, counted = (
        float(array_stats.ess(values, method="mean"))
        if values.ndim == 2 and np.ptp(values) > 0
        else float(values.size)
        for values in (lower, upper)
    )
    terms = (_relative_variance(upper) / counted, _relative_variance(lower) / effective)
    return Bridge(
        log_z,
        float(np.sqrt(sum(terms))),
        float(lower.mean()),
        (effective, float(upper.sum() ** 2 / np.sum(upper**2))),
    )


def _relative_variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1) / values.mean() ** 2)


class Mixture(NamedTuple):
    """A mixture of Gaussians.

    Attributes:
        log_weights: of its components ``(component,)``.
        means: ``(component, dim)``.
        roots: lower triangular roots of their covariances ``(component, dim, dim)``.
    """

    log_weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray

    @property
    def components(self) -> int:
        """Their number."""
        return len(self.log_weights)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Independent draws ``(draw, dim)``."""
        weights = np.exp(self.log_weights)
        which = rng.choice(self.components, size=count, p=weights / weights.sum())
        noise = rng.standard_normal((count, self.means.shape[1]))
        return self.means[which] + np.einsum("nij,nj->ni", self.roots[which], noise)

    def log_density(self, us: np.ndarray) -> np.ndarray:
        """At points ``(draw, dim)``, of each ``(draw,)``."""
        found = []
        for log_weight, mean, root in zip(*self, strict=True):
            white = np.linalg.solve(root, (us - mean).T)
            log_det = np.log(np.diag(root)).sum()
            found.append(log_weight - log_det - 0.5 * (white**2).sum(0))
        return logsumexp(found, axis=0) - 0.5 * us.shape[1] * np.log(2 * np.pi)


def fit_mixture(us: np.ndarray, most: int, seed: int) -> Mixture:
    """As many Gaussians as foretell held-out draws best.

    Args:
        us: draws ``(draw, dim)``; every fourth is held out to choose the number.
        most: components; powers of 2 up to it are tried.
        seed: of the starts of the fits.
    """
    centre, width = us.mean(0), us.std(0)
    width = np.where(width > 0, width, 1.0)
    white = (us - centre) / width
    held = np.arange(len(us)) % 4 == 0
    best, score, count = 1, -np.inf, 1
    # A component needs some draws for each of its coordinates, or it is a needle.
    while count <= most and (count == 1 or 3 * len(us) / 4 >= 4 * count * us.shape[1]):
        found = float(_fitted(white[~held], count, seed).log_density(white[held]).mean())
        if found > score:
            best, score = count, found
        count *= 2
    made = _fitted(white, best, seed)
    return Mixture(made.log_weights, centre + made.means * width, width[:, None] * made.roots)


def _fitted(us: np.ndarray, components: int, seed: int) -> Mixture:
    if components == 1:
        from sklearn.covariance import LedoitWolf

        fitted = LedoitWolf().fit(us)
        covariance = fitted.covariance_ + 1e-9 * np.eye(us.shape[1])
        root = np.linalg.cholesky(covariance)
        return Mixture(np.zeros(1), fitted.location_[None], root[None])
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    made: Any = GaussianMixture(components, reg_covar=1e-4, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # A fit that stopped early is a proposal as any other: the bridge is right with all.
        warnings.simplefilter("ignore", ConvergenceWarning)
        made.fit(us)
    return Mixture(np.log(made.weights_), made.means_, np.linalg.cholesky(made.covariances_))
