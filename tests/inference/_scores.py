"""Draws against exact first and second moments, every comparison in Monte Carlo standard errors."""

from __future__ import annotations

import arviz_stats
import numpy as np

_stats = arviz_stats.base.array_stats


def worst_score(draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """The largest z-score among means and second moments, in whitened coordinates.

    Args:
        draws: ``(chain, draw, coordinate)``.
        mean: exact mean.
        covariance: exact covariance: where the law has mean 0 and covariance I, means of z_i are 0
            and means of z_i z_j those of I. There are d + d (d + 1) / 2 comparisons.
    """
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    z = (draws - mean) @ whiten.T
    rows, columns = np.triu_indices(len(mean))
    products = z[..., rows] * z[..., columns] - (rows == columns)
    quantities = np.concatenate([z, products], axis=-1)
    errors = _stats.mcse(quantities, method="mean", chain_axis=0, draw_axis=1)
    return float(np.max(np.abs(quantities.mean((0, 1)) / errors)))


def grid_moments(log_density, *axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a density on a fine grid that covers it.

    Args:
        log_density: of arrays, one an axis.
        axes: values of each coordinate, equally spaced.
    """
    grid = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")])
    log_p = log_density(*grid)
    weight = np.exp(log_p - log_p.max())
    weight /= weight.sum()
    mean = grid @ weight
    centred = grid - mean[:, None]
    return mean, (weight * centred) @ centred.T
