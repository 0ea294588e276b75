"""Integrals of densities that are quadratic in some coordinates, and whether a density is."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.models.posterior import Posterior

TRIED = 4
"""Random points at which a density is compared with its own quadratic."""

AGREES = 1e-8
"""Relative difference there, in float64, under which the density is quadratic."""


def log_integral(value: Any, slope: Any, precision: Any, xp: Any = np) -> Any:
    """Log integral of exp(value + slope . u - u . precision . u / 2).

    Args:
        value: a number.
        slope: ``(k,)``.
        precision: positive definite ``(k, k)``.
        xp: ``numpy``, or ``jax.numpy`` where it is traced.

    Raises:
        LinAlgError: from numpy, a precision that is not positive definite; traced it gives NaN.
    """
    root = xp.linalg.cholesky(precision)
    white = xp.linalg.solve(root, slope)
    log_det = 2.0 * xp.log(xp.diagonal(root)).sum()
    return value + 0.5 * (white @ white - log_det + slope.shape[0] * math.log(2.0 * math.pi))


def worst_difference(there: np.ndarray, predicted: np.ndarray) -> float:
    """Largest relative difference; infinite where one is no number.

    Args:
        there: log densities at random points ``(point,)``.
        predicted: of their quadratic.
    """
    off = np.max(np.abs(there - predicted) / (1.0 + np.abs(there)))
    return float(off) if np.isfinite(off) else math.inf


def gaussian_integral(posterior: Posterior, start: Array, where: np.ndarray) -> tuple[float, float]:
    """Log integral over some coordinates of what would be the density were it quadratic in them.

    Args:
        posterior: the target.
        start: position ``(dim,)``.
        where: coordinates integrated over.

    Returns:
        The integral, and the largest relative difference of the density from that quadratic at
        random points; infinite where it has no maximum.
    """
    value, slope, curvature = _quadratic(posterior, start, where)
    value, slope, curvature = float(value), np.asarray(slope), np.asarray(curvature)
    try:
        log_z = float(log_integral(value, slope, -curvature))
    except np.linalg.LinAlgError:
        return math.nan, math.inf
    steps = np.random.default_rng(0).standard_normal((TRIED, len(where)))
    there = np.asarray(_densities(posterior, start, where, jnp.asarray(steps)))
    predicted = value + steps @ slope + 0.5 * np.einsum("ki,ij,kj->k", steps, curvature, steps)
    return log_z, worst_difference(there, predicted)


@jax.jit
def _quadratic(posterior: Posterior, start: Array, where: Array) -> tuple[Array, Array, Array]:
    def density(part: Array) -> Array:
        return posterior.log_density(start.at[where].set(part))

    here = start[where]
    value, slope = jax.value_and_grad(density)(here)
    # Column by column: all at once would hold every row's derivative for every coordinate.
    _, product = jax.linearize(jax.grad(density), here)
    curvature = jax.lax.map(product, jnp.eye(here.size), batch_size=min(64, here.size))
    return value, slope, 0.5 * (curvature + curvature.T)


@jax.jit
def _densities(posterior: Posterior, start: Array, where: Array, steps: Array) -> Array:
    return jax.lax.map(lambda s: posterior.log_density(start.at[where].add(s)), steps)
