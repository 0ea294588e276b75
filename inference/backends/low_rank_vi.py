"""Gaussian variational inference with a low-rank plus diagonal covariance."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_solve, solve_triangular
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.variational import LOG_2PI, Family, Variational, VariationalOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register

FIRST_SIZE = 0.1
"""Size of the factor at the start. At 0 its gradient would be 0 as well, for good."""


class LowRankOptions(VariationalOptions):
    """Options of ``low-rank-vi``."""

    rank: Annotated[int, Field(gt=0)] = Field(
        10, description="Directions with a variance of their own; cut to the number of parameters."
    )


class Factor(NamedTuple):
    """Mean, and diag(s) (I + F F') diag(s) as covariance.

    Attributes:
        mean: ``(dim,)``.
        log_std: log s ``(dim,)``.
        factor: F ``(dim, rank)``, free of units.
    """

    mean: Array
    log_std: Array
    factor: Array


class LowRankGaussian(Family):
    """q(u) = N(u; m, S (I + F F') S) with S = diag(s).

    Args:
        dimension: of ``u``.
        rank: columns of F.
    """

    def __init__(self, dimension: int, rank: int) -> None:
        self.dimension, self.rank = dimension, min(rank, dimension)
        self.noise_size = self.dimension + self.rank

    def start(self, u: Array, std: Leaf) -> Factor:
        """All but independent coordinates about a position."""
        shape = self.dimension, self.rank
        factor = FIRST_SIZE * jax.random.normal(jax.random.key(0), shape, u.dtype)
        return Factor(u, jnp.full_like(u, jnp.log(std)), factor / self.rank**0.5)

    def draw(self, parameters: Factor, noise: Array) -> Array:
        """Own and shared noise: m + S (z + F e)."""
        own, shared = noise[: self.dimension], noise[self.dimension :]
        mixed = own + parameters.factor @ shared
        return parameters.mean + jnp.exp(parameters.log_std) * mixed

    def log_density(self, parameters: Factor, u: Array) -> Array:
        """By Woodbury's identity: a system of ``rank`` equations (Ong et al. 2018, sec. 3)."""
        w = (u - parameters.mean) * jnp.exp(-parameters.log_std)
        chol = _capacitance(parameters.factor)
        within = solve_triangular(chol, parameters.factor.T @ w, lower=True)
        log_det = jnp.sum(parameters.log_std) + jnp.sum(jnp.log(jnp.diag(chol)))
        square = jnp.sum(w**2) - jnp.sum(within**2)
        return -0.5 * square - log_det - 0.5 * self.dimension * LOG_2PI

    def centre(self, parameters: Factor) -> Array:
        """The mean."""
        return parameters.mean

    def whitened(self, parameters: Factor, gradient: Any, us: Array) -> Array:
        """Exact in the mean; of log s and F the diagonal of the information.

        With P = (I + F F')^-1: 1 + P_ii (I + F F')_ii for log s_i, and
        P_ii (F' P F)_kk + (P F)_ik^2 for F_ik.
        """
        std, factor = jnp.exp(parameters.log_std), parameters.factor
        in_mean = std * gradient.mean
        solved = cho_solve((_capacitance(factor), True), factor.T).T  # P F
        precision = 1.0 - jnp.sum(solved * factor, axis=1)
        of_std = 1.0 + precision * (1.0 + jnp.sum(factor**2, axis=1))
        of_factor = precision[:, None] * jnp.sum(factor * solved, axis=0) + solved**2
        floor = jnp.finfo(std.dtype).eps
        return jnp.concatenate(
            [
                in_mean,
                factor.T @ in_mean,
                gradient.log_std / jnp.sqrt(of_std),
                (gradient.factor / jnp.sqrt(jnp.maximum(of_factor, floor))).ravel(),
            ]
        )


def _capacitance(factor: Array) -> Array:
    """Cholesky factor of I + F'F."""
    return jnp.linalg.cholesky(jnp.eye(factor.shape[1], dtype=factor.dtype) + factor.T @ factor)


@functools.partial(
    register_dataclass,
    data_fields=("learning_rate", "initial_std", "steps"),
    meta_fields=("samples", "batch_size", "rank"),
)
@dataclass(frozen=True)
class LowRank(Variational):
    """A Gaussian with a few correlated directions, in unconstrained coordinates."""

    rank: int

    def family(self, posterior: Posterior) -> LowRankGaussian:
        """A Gaussian over all coordinates."""
        return LowRankGaussian(posterior.dimension, self.rank)


@register(
    "backends",
    "low-rank-vi",
    summary="A Gaussian with a few correlated directions, fitted by the evidence lower bound.",
    options=LowRankOptions,
    references=(
        "Ong, Nott & Smith (2018), Gaussian Variational Approximation with a Factor Covariance "
        "Structure, sec. 3",
        "Roeder, Wu & Duvenaud (2017), Sticking the Landing, eq. 7",
    ),
    tags={"exact": False, "family": "variational", "gradients": "minibatch"},
    facts={
        "exact for": "Gaussian posteriors of diagonal plus rank-k covariance",
        "bias": "does not vanish: correlations beyond rank k left out",
        "a draw costs": "nothing, after the fit",
        "memory": "6 k vectors of the parameters",
        "choose it": "correlations matter and full-rank-vi has no room",
    },
    notes="The covariance is diagonal plus rank. Exact for Gaussian posteriors of that form in "
    "unconstrained coordinates, so for all of them once rank is the number of parameters. Bias: "
    "the correlations left out, one mode, Gaussian tails; KL(q || p) nats in the bound. Cost: "
    "samples gradients a step and nothing a draw but one density; memory: six arrays of dim x "
    "rank. Take it where full-rank-vi has no room.",
)
def low_rank_vi(options: LowRankOptions) -> Variational:
    """The backend of these options."""
    return LowRank.of(options, rank=options.rank)
