"""Mean-field Gaussian variational inference."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass

from bnnzoo.inference.variational import LOG_2PI, Family, Variational, VariationalOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register


class MeanFieldOptions(VariationalOptions):
    """Options of ``mean-field-vi``."""


class Factors(NamedTuple):
    """Means and log standard deviations ``(dim,)``."""

    mean: Array
    log_std: Array


class FactorisedGaussian(Family):
    """q(u) = prod_j N(u_j; m_j, s_j^2).

    Args:
        dimension: of ``u``.
    """

    def __init__(self, dimension: int) -> None:
        self.noise_size = dimension

    def start(self, u: Array, std: Leaf) -> Factors:
        """Centred on a position."""
        return Factors(u, jnp.full_like(u, jnp.log(std)))

    def draw(self, parameters: Factors, noise: Array) -> Array:
        """Location and scale."""
        return parameters.mean + jnp.exp(parameters.log_std) * noise

    def log_density(self, parameters: Factors, u: Array) -> Array:
        """Sum over coordinates."""
        z = (u - parameters.mean) * jnp.exp(-parameters.log_std)
        return -jnp.sum(0.5 * z**2 + parameters.log_std + 0.5 * LOG_2PI)

    def centre(self, parameters: Factors) -> Array:
        """The means."""
        return parameters.mean

    def whitened(self, parameters: Factors, gradient: Any, us: Array) -> Array:
        """The information is 1/s^2 in a mean and 2 in a log standard deviation."""
        scale = jnp.exp(parameters.log_std)
        return jnp.concatenate([scale * gradient.mean, gradient.log_std * 0.5**0.5])


@functools.partial(
    register_dataclass,
    data_fields=("learning_rate", "initial_std", "steps"),
    meta_fields=("samples", "batch_size"),
)
@dataclass(frozen=True)
class MeanField(Variational):
    """Independent Gaussians in unconstrained coordinates."""

    def family(self, posterior: Posterior) -> FactorisedGaussian:
        """One Gaussian a coordinate."""
        return FactorisedGaussian(posterior.dimension)


@register(
    "backends",
    "mean-field-vi",
    summary="Independent Gaussians fitted by the evidence lower bound: fast, too narrow.",
    options=MeanFieldOptions,
    references=(
        "Blundell et al. (2015), Weight Uncertainty in Neural Networks",
        "Roeder, Wu & Duvenaud (2017), Sticking the Landing, eq. 7",
    ),
    tags={"exact": False, "family": "variational", "gradients": "minibatch"},
    notes="Fits the tempered posterior in unconstrained coordinates. A chain is an independent "
    "restart; warmup is the number of optimisation steps. Underestimates variances; with many "
    "units the bound prefers weights at the prior.",
)
def mean_field_vi(options: MeanFieldOptions) -> Variational:
    """The backend of these options."""
    return MeanField.of(options)
