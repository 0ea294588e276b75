"""Laplace's evidence of a dense Gauss-Newton or Fisher matrix under a Gaussian prior, by Cholesky.

H = P + M with P the prior's precision and M what the data add, neither anywhere negative, so that
P^(-1/2) H P^(-1/2) has a Cholesky factor, which costs less than the eigenvectors that everything
else is asked of (:mod:`bnnzoo.inference.spectra`): for 601 weights 2 ms for 50 or more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from bnnzoo.inference import curvature as curves
from bnnzoo.inference import spectra
from bnnzoo.inference.laplace_structures import Flavour, coordinates, rest_log_volume
from bnnzoo.models.posterior import Posterior


def is_dense(flavour: Flavour) -> bool:
    """Whether a flavour is one of this module.

    Args:
        flavour: curvature and structure.
    """
    return flavour.structure == "full" and flavour.curvature != curves.HESSIAN


def data_matrix(posterior: Posterior, u: Array, flavour: Flavour) -> Array:
    """M ``(k, k)``: no width of the prior is in it; traced, differentiable.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        u: unconstrained vector ``(dim,)``.
        flavour: curvature and memory.
    """
    where, _ = coordinates(posterior, flavour)
    return curves.likelihood_matrix(posterior, u, where, flavour.curvature, flavour.memory_bytes)[0]


def log_volume(posterior: Posterior, u: Array, flavour: Flavour, matrix: Array) -> Array:
    """:func:`bnnzoo.inference.laplace_structures.log_volume` with a matrix that is known; traced.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        u: unconstrained vector ``(dim,)``.
        flavour: curvature and structure.
        matrix: of :func:`data_matrix` there.
    """
    where, _ = coordinates(posterior, flavour)
    prior = curves.prior_diagonal(posterior, u, where, flavour.memory_bytes)
    log_det = jnp.sum(jnp.log(prior)) + spectra.log_det_above_one(_relative(matrix, prior))
    volume = 0.5 * (len(where) * math.log(2.0 * math.pi) - log_det)
    return volume + rest_log_volume(posterior, u, flavour)


def inverse(posterior: Posterior, u: Array, flavour: Flavour) -> Callable[[Array], Array]:
    """About H^-1 times a vector ``(dim,)``, the prior's variances where H does not reach; traced.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        u: unconstrained vector ``(dim,)``.
        flavour: curvature and structure.
    """
    where, _ = coordinates(posterior, flavour)
    prior = curves.prior_diagonal(posterior, u, where, flavour.memory_bytes)
    root = jnp.sqrt(prior)
    factor = jnp.linalg.cholesky(_relative(data_matrix(posterior, u, flavour), prior))
    # Rounding may leave no factor: the prior's variances serve.
    factor = jnp.where(jnp.all(jnp.isfinite(factor)), factor, jnp.eye(len(where), dtype=u.dtype))
    # Once: a product costs a search less than two solutions a step.
    half = jax.scipy.linalg.solve_triangular(factor, jnp.diag(1.0 / root), lower=True)
    covariance = half.T @ half
    beyond = curves.prior_widths(posterior, u) ** 2

    def times(v: Array) -> Array:
        return (beyond * v).at[where].set(covariance @ v[where])

    return times


def _relative(matrix: Array, prior: Array) -> Array:
    """P^(-1/2) H P^(-1/2), nowhere under 1."""
    root = jnp.sqrt(prior)
    return matrix / (root[:, None] * root) + jnp.eye(len(prior), dtype=matrix.dtype)
