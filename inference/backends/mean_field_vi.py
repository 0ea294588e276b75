"""Mean-field Gaussian variational inference."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference.local_reparameterisation import why_not, with_gaussian_weights
from bnnzoo.inference.variational import LOG_2PI, Family, Variational, VariationalOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register


class MeanFieldOptions(VariationalOptions):
    """Options of ``mean-field-vi``."""

    local_reparameterisation: bool | None = Field(
        None,
        description="Draw pre-activations for every row, not weights for the batch: the same "
        "bound with less noise. Dense layers on rows only, and where the model allows it if not "
        "given.",
    )


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
    meta_fields=("samples", "batch_size", "local"),
)
@dataclass(frozen=True)
class MeanField(Variational):
    """Independent Gaussians in unconstrained coordinates.

    ``local`` says whether pre-activations are drawn; None where the model allows it.
    """

    local: bool | None

    def family(self, posterior: Posterior) -> FactorisedGaussian:
        """One Gaussian a coordinate."""
        return FactorisedGaussian(posterior.dimension)

    def check(self, posterior: Posterior) -> None:
        """Besides the batch: pre-activations can be drawn where that was asked for."""
        if self.local and (reason := why_not(posterior)):
            raise InputError(
                f"inference.local_reparameterisation = true: {reason}; leave the option out, or "
                "take nuts or hmc, which need no such draws"
            )
        super().check(posterior)

    def objective(
        self, posterior: Posterior, parameters: Factors, batch: Array | None, key: Array
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        """As for every family, or with a likelihood whose pre-activations are drawn by row.

        Prior and noise keep draws of the weights. Their part and the likelihood's no longer
        share one draw, so nothing is gained by holding log q fixed: the entropy is exact instead.
        """
        if self.local is False or (self.local is None and why_not(posterior) is not None):
            return super().objective(posterior, parameters, batch, key)
        key_weights, key_rows = jax.random.split(key)
        shape = (self.samples, posterior.dimension)
        noise = jax.random.normal(key_weights, shape, posterior.x.dtype)
        us = parameters.mean + jnp.exp(parameters.log_std) * noise
        variance = jnp.exp(2.0 * parameters.log_std)

        def one(u: Array, own: Array) -> Array:
            rowwise = with_gaussian_weights(posterior, parameters.mean, variance, own)
            return rowwise.log_density(u, batch)

        lp = jax.vmap(one)(us, jax.random.split(key_rows, self.samples)).mean()
        entropy = jnp.sum(parameters.log_std) + 0.5 * posterior.dimension * (1.0 + LOG_2PI)
        return -lp - entropy, (lp, lp + entropy, us)


@register(
    "backends",
    "mean-field-vi",
    summary="Independent Gaussians fitted by the evidence lower bound: fast, and not for widths.",
    options=MeanFieldOptions,
    references=(
        "Blundell et al. (2015), Weight Uncertainty in Neural Networks",
        "Kingma, Salimans & Welling (2015), Variational Dropout and the Local Reparameterization "
        "Trick, sec. 3.1",
        "Roeder, Wu & Duvenaud (2017), Sticking the Landing, eq. 7",
    ),
    tags={"exact": False, "family": "variational", "gradients": "minibatch"},
    facts={
        "exact for": "independent Gaussian posteriors",
        "bias": "does not vanish: variances too small where weights are correlated",
        "a draw costs": "nothing, after the fit",
        "memory": "six vectors of the parameters",
        "choose it": "large networks on much data, or a first look; not for intervals",
    },
    notes="Fits the tempered posterior in unconstrained coordinates. A chain is an independent "
    "restart; warmup is the number of optimisation steps. Exact for posteriors that are Gaussian "
    "with independent coordinates. Bias elsewhere: the variance of a coordinate given the others "
    "in place of its own, too small wherever they are correlated; with many units the bound "
    "prefers weights at the prior. Cost: samples gradients a step and nothing a draw but one "
    "density; memory: six vectors. Take it for large networks on much data, or for a first look.",
)
def mean_field_vi(options: MeanFieldOptions) -> Variational:
    """The backend of these options."""
    return MeanField.of(options, local=options.local_reparameterisation)
