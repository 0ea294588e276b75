"""Effective draws and pooled errors, shared by the statistical tests."""

from __future__ import annotations

import arviz_stats
import numpy as np
import pytest

_stats = arviz_stats.base.array_stats

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.validate) for seed in range(1, 11))]
"""One seed in `make test`; ten others in `make validate`."""


def effective_draws(draws: np.ndarray) -> float:
    """Smallest ESS over coordinates of x and of (x - mean)^2, for ``(chain, draw, coordinate)``."""
    centred = draws - draws.mean((0, 1))
    return min(
        float(np.min(_stats.ess(values, method="mean", chain_axis=0, draw_axis=1)))
        for values in (draws, centred**2)
    )


def pooled_errors(
    draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> tuple[float, float]:
    """Root mean squared error of mean and covariance in whitened coordinates.

    In coordinates where the exact law has mean 0 and covariance I, the mean error is
    |m| / sqrt(d) and the covariance error |C - I|_F / sqrt(d).
    """
    d = len(mean)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    z = (draws.reshape(-1, d) - mean) @ whiten.T
    own = z.mean(0)
    spread = np.cov(z.T) - np.eye(d)
    return float(np.linalg.norm(own) / np.sqrt(d)), float(np.linalg.norm(spread) / np.sqrt(d))
