"""Models that are linear in their weights, row by row: every evidence of every set of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.errors import InputError
from bnnzoo.inference.gaussian_integral import (
    AGREES,
    TRIED,
    log_integral,
    worst_difference,
)
from bnnzoo.models.posterior import Posterior

LARGEST = 2 * 10**7
"""Numbers in the curvatures of all rows, 160 MB in float64."""


class GaussianRows(NamedTuple):
    """Prior and rows, log-quadratic each: value + slope . u - u . curvature . u / 2.

    Attributes:
        value, slope, precision: of the log prior: a number, ``(dim,)``, ``(dim, dim)``.
        values, slopes, curvatures: of each row's log-likelihood: ``(row,)``, ``(row, dim)``,
            ``(row, dim, dim)``.
    """

    value: float
    slope: np.ndarray
    precision: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray

    @property
    def number(self) -> int:
        """Rows."""
        return len(self.values)

    def log_z(self, rows: np.ndarray) -> float:
        """Log evidence of some rows ``(row,)``; 0 of none."""
        precision = self.precision + self.curvatures[rows].sum(0)
        slope = self.slope + self.slopes[rows].sum(0)
        return float(log_integral(self.value + self.values[rows].sum(), slope, precision))

    def log_likelihood(self, row: int, us: np.ndarray) -> np.ndarray:
        """Of one row at weights ``(draw, dim)``."""
        bent = np.einsum("si,ij,sj->s", us, self.curvatures[row], us)
        return self.values[row] + us @ self.slopes[row] - 0.5 * bent


def gaussian_rows(posterior: Posterior, what: str) -> GaussianRows:
    """Take a posterior apart, once it was found to be linear and Gaussian.

    Args:
        posterior: in float64.
        what: asks for it.

    Raises:
        InputError: it is not, or has no room.
    """
    check_room(posterior, what)
    prior, rows = jax.device_get(_quadratics(posterior, jnp.zeros(posterior.dimension)))
    made = GaussianRows(
        float(prior[0]), prior[1], -prior[2], rows[0], rows[1], -np.asarray(rows[2])
    )
    us = np.random.default_rng(0).standard_normal((TRIED, posterior.dimension))
    there, seen = jax.device_get(_densities(posterior, jnp.asarray(us)))
    bent = np.einsum("si,ij,sj->s", us, made.precision, us)
    off = [worst_difference(there, made.value + us @ made.slope - 0.5 * bent)]
    off += [worst_difference(seen[:, i], made.log_likelihood(i, us)) for i in range(made.number)]
    if not max(off) <= AGREES:
        raise InputError(
            f"{what}: the log posterior is not quadratic in the weights: it is for models that "
            "are linear in them, with Gaussian prior and gaussian noise of known std "
            "(likelihood.noise = 'fixed')"
        )
    return made


def check_room(posterior: Posterior, what: str) -> None:
    """Refuse what has no room, or rows that have no likelihoods of their own.

    Args:
        posterior: the target.
        what: asks for it.

    Raises:
        InputError: which.
    """
    jax.eval_shape(posterior.pointwise_log_likelihood, jnp.zeros(posterior.dimension))
    if posterior.rows * posterior.dimension**2 > LARGEST:
        raise InputError(
            f"{what}: {posterior.rows} rows and {posterior.dimension} weights; rows * weights^2 "
            f"may be at most {LARGEST}"
        )


@jax.jit
def _quadratics(
    posterior: Posterior, u: Array
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    def expanded(function: Callable[[Array], Array]) -> tuple[Array, Array, Array]:
        slope = jax.jacfwd(function)
        return function(u), slope(u), jax.jacfwd(slope)(u)

    return expanded(posterior.log_prior_density), expanded(posterior.pointwise_log_likelihood)


@jax.jit
def _densities(posterior: Posterior, us: Array) -> tuple[Array, Array]:
    def both(u: Array) -> tuple[Array, Array]:
        return posterior.log_prior_density(u), posterior.pointwise_log_likelihood(u)

    return jax.lax.map(both, us)
