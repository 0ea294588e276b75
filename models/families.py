"""Distributions that priors need and NumPyro does not have."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import constraints
from numpyro.distributions.util import promote_shapes, validate_sample


class GeneralisedNormal(dist.Distribution):
    """Density beta / (2 alpha Gamma(1/beta)) exp(-|(w - loc) / alpha|^beta).

    Args:
        beta: shape; 1 is Laplace, 2 Gaussian with variance alpha^2 / 2.
        loc: location.
        scale: alpha.
    """

    arg_constraints = {  # noqa: RUF012
        "beta": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    reparametrized_params = ["loc", "scale"]  # noqa: RUF012

    def __init__(
        self,
        beta: ArrayLike,
        loc: ArrayLike = 0.0,
        scale: ArrayLike = 1.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.beta, self.loc, self.scale = promote_shapes(beta, loc, scale)
        shape = jnp.broadcast_shapes(jnp.shape(beta), jnp.shape(loc), jnp.shape(scale))
        super().__init__(shape, validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws: |w / alpha|^beta is Gamma(1/beta), the sign is free."""
        key_size, key_sign = jax.random.split(key)
        shape = self.shape(sample_shape)
        log_size = jax.random.loggamma(key_size, 1.0 / self.beta, shape) / self.beta
        sign = jax.random.rademacher(key_sign, shape, log_size.dtype)
        return self.loc + self.scale * sign * jnp.exp(log_size)

    @validate_sample
    def log_prob(self, value: ArrayLike, intermediates: Any = None) -> Array:
        """Log density; at the location itself its slope is taken to be 0."""
        size = jnp.abs(value - self.loc) / self.scale
        # |0|^beta has no derivative for beta <= 1, and NaN is not one.
        centre = size == 0.0
        power = jnp.where(centre, 0.0, jnp.where(centre, 1.0, size) ** self.beta)
        log_volume = jnp.log(2.0 * self.scale) + jax.scipy.special.gammaln(1.0 + 1.0 / self.beta)
        return -power - log_volume

    @property
    def mean(self) -> Array:
        """The location."""
        return jnp.broadcast_to(self.loc, self.batch_shape)

    @property
    def variance(self) -> Array:
        """alpha^2 Gamma(3/beta) / Gamma(1/beta)."""
        lgamma = jax.scipy.special.gammaln
        ratio = jnp.exp(lgamma(3.0 / self.beta) - lgamma(1.0 / self.beta))
        return jnp.broadcast_to(self.scale**2 * ratio, self.batch_shape)


class BalancedSphere(dist.Distribution):
    """Columns uniform on the sphere of those that add up to 0: a law without a density.

    Args:
        shape: of the array; a column is everything but its last axis.
        width: root mean square of a column's elements.
    """

    support = constraints.real_vector
    pytree_data_fields = ("width",)

    def __init__(self, shape: tuple[int, ...], width: ArrayLike) -> None:
        self.width = width
        super().__init__((), tuple(shape), validate_args=False)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Gaussian draws, balanced."""
        base = jax.random.normal(key, (*sample_shape, *self.event_shape))
        return balanced(base, self.width, len(sample_shape))

    @property
    def mean(self) -> Array:
        """Zero."""
        return jnp.zeros(self.event_shape)

    @property
    def variance(self) -> Array:
        """The squared width."""
        return jnp.full(self.event_shape, self.width) ** 2


def balanced(base: Array, width: ArrayLike, leading: int = 0) -> Array:
    """Columns shifted to mean 0 and then brought to root mean square ``width``.

    Args:
        base: any array; a column of equal elements, which has no direction, gives zeros.
        width: root mean square.
        leading: number of leading axes that belong to no column.
    """
    axes = tuple(range(leading, base.ndim - 1))
    centred = base - jnp.mean(base, axes, keepdims=True)
    square = jnp.mean(centred**2, axes, keepdims=True)
    # sqrt has no derivative at 0, and NaN is not one.
    flat = square == 0.0
    return jnp.where(flat, 0.0, width * centred / jnp.sqrt(jnp.where(flat, 1.0, square)))
