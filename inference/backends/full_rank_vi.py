"""Full-rank Gaussian variational inference."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular
from jax.tree_util import register_dataclass

from bnnzoo.errors import InputError
from bnnzoo.inference.variational import LOG_2PI, Family, Variational, VariationalOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register

LARGEST = 4000
"""Most parameters: the state holds six matrices of this size, 0.4 GB in float32."""


class FullRankOptions(VariationalOptions):
    """Options of ``full-rank-vi``."""


class Cholesky(NamedTuple):
    """Mean, and the factor diag(s) (I + N) of the covariance.

    Attributes:
        mean: ``(dim,)``.
        log_std: log s, standard deviations given the coordinates before ``(dim,)``.
        lower: sqrt(dim) N, of which the part below the diagonal counts ``(dim, dim)``; free of
            units, so that a step of Adam means the same at every temperature, and of the dimension:
            the noise of a row's many entries adds up to that of one.
    """

    mean: Array
    log_std: Array
    lower: Array


class FullGaussian(Family):
    """q(u) = N(u; m, L L') with L = diag(s) (I + N).

    Args:
        dimension: of ``u``.
    """

    def __init__(self, dimension: int) -> None:
        self.noise_size = dimension

    def start(self, u: Array, std: Leaf) -> Cholesky:
        """Independent coordinates about a position."""
        return Cholesky(u, jnp.full_like(u, jnp.log(std)), jnp.zeros((u.size, u.size), u.dtype))

    def draw(self, parameters: Cholesky, noise: Array) -> Array:
        """Location and factor: m + L z."""
        mixed = _unit(parameters) @ noise
        return parameters.mean + jnp.exp(parameters.log_std) * mixed

    def log_density(self, parameters: Cholesky, u: Array) -> Array:
        """By forward substitution."""
        scaled = (u - parameters.mean) * jnp.exp(-parameters.log_std)
        z = solve_triangular(_unit(parameters), scaled, lower=True, unit_diagonal=True)
        return -jnp.sum(0.5 * z**2 + parameters.log_std + 0.5 * LOG_2PI)

    def centre(self, parameters: Cholesky) -> Array:
        """The mean."""
        return parameters.mean

    def whitened(self, parameters: Cholesky, gradient: Any, us: Array) -> Array:
        """Exact, in the coordinates L' m and A of L (I + A), A lower triangular.

        The information is the identity there but for 2 on A's diagonal. The gradient in L is found
        from those in log s, which moves a whole row of L, and in N.
        """
        std = jnp.exp(parameters.log_std)
        factor = std[:, None] * _unit(parameters)
        below = jnp.tril(gradient.lower, -1)
        own = gradient.log_std - jnp.sum(jnp.tril(parameters.lower, -1) * below, axis=1)
        in_factor = (len(std) ** 0.5 * below + jnp.diag(own)) / std[:, None]
        moved = jnp.tril(factor.T @ in_factor)
        moved = moved - (1.0 - 0.5**0.5) * jnp.diag(jnp.diag(moved))
        return jnp.concatenate([factor.T @ gradient.mean, moved.ravel()])


def _unit(parameters: Cholesky) -> Array:
    lower = parameters.lower
    return jnp.tril(lower, -1) / len(lower) ** 0.5 + jnp.eye(len(lower), dtype=lower.dtype)


@functools.partial(
    register_dataclass,
    data_fields=("learning_rate", "initial_std", "steps"),
    meta_fields=("samples", "batch_size"),
)
@dataclass(frozen=True)
class FullRank(Variational):
    """A Gaussian of any covariance in unconstrained coordinates."""

    def family(self, posterior: Posterior) -> FullGaussian:
        """A Gaussian over all coordinates."""
        return FullGaussian(posterior.dimension)

    def check(self, posterior: Posterior) -> None:
        """Besides the batch: the matrix fits into memory."""
        if posterior.dimension > LARGEST:
            raise InputError(
                f"full-rank-vi keeps matrices of {posterior.dimension} x {posterior.dimension}; "
                f"over {LARGEST} parameters take low-rank-vi or last-layer-vi, or hmc for exact "
                "draws"
            )
        super().check(posterior)


@register(
    "backends",
    "full-rank-vi",
    summary="A Gaussian with every correlation, fitted by the evidence lower bound.",
    options=FullRankOptions,
    references=(
        "Titsias & Lazaro-Gredilla (2014), Doubly Stochastic Variational Bayes for non-Conjugate "
        "Inference, sec. 2",
        "Kucukelbir et al. (2017), Automatic Differentiation Variational Inference, sec. 2.4",
        "Roeder, Wu & Duvenaud (2017), Sticking the Landing, eq. 7",
    ),
    tags={"exact": False, "family": "variational", "gradients": "minibatch"},
    facts={
        "exact for": "Gaussian posteriors",
        "bias": "does not vanish: one mode, Gaussian tails",
        "a draw costs": "nothing, after the fit",
        "memory": "six matrices of the parameters squared; 4,000 at most",
        "choose it": "up to some hundred correlated parameters",
    },
    notes="Exact for posteriors that are Gaussian in unconstrained coordinates, a linear model's "
    "with known noise for one: mean, covariance, and a bound equal to the log normaliser. Bias "
    "elsewhere: one mode, Gaussian tails, KL(q || p) nats in the bound; more steps do not reduce "
    "it. Cost: samples gradients a step and nothing a draw but one density; memory: six matrices "
    "of dim x dim. Take it for up to some hundred parameters that are correlated.",
)
def full_rank_vi(options: FullRankOptions) -> Variational:
    """The backend of these options."""
    return FullRank.of(options)
