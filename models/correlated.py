"""Distributions of an array whose elements are correlated along some of its axes.

The covariance is a Kronecker product: one factor for each group of axes, the identity over the
rest. Groups are axes of the event, and a group of several axes is flattened in C order.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln
from jaxtyping import Float

from bnnzoo.errors import InputError

Groups = tuple[tuple[int, ...], ...]
"""Axes that vary together, such as ``((0, 1),)`` for the positions of a filter."""


def coloured(
    white: Float[Array, "*shape"], groups: Groups, factors: tuple[Array, ...], dims: int
) -> Float[Array, "*shape"]:
    """White noise with the correlations of these factors.

    Args:
        white: independent values ``(*batch, *event)``.
        groups: axes of the event, a group a factor.
        factors: lower Cholesky factor of each group ``(n, n)``.
        dims: number of axes of the event.
    """
    for axes, factor in zip(groups, factors, strict=True):
        white = _along(white, axes, dims, lambda flat, factor=factor: flat @ factor.T)
    return white


def whitened(
    value: Float[Array, "*shape"], groups: Groups, factors: tuple[Array, ...], dims: int
) -> Float[Array, "*shape"]:
    """The inverse of :func:`coloured`.

    Args:
        value: correlated values ``(*batch, *event)``.
        groups: axes of the event, a group a factor.
        factors: lower Cholesky factor of each group ``(n, n)``.
        dims: number of axes of the event.
    """

    def solve(flat: Array, factor: Array) -> Array:
        rows = flat.reshape(-1, flat.shape[-1])
        return solve_triangular(factor, rows.T, lower=True).T.reshape(flat.shape)

    for axes, factor in zip(groups, factors, strict=True):
        value = _along(value, axes, dims, lambda flat, factor=factor: solve(flat, factor))
    return value


def _along(value: Array, axes: tuple[int, ...], dims: int, change: Any) -> Array:
    """``change`` applied to the flattened axes as the last one."""
    places = tuple(axis - dims for axis in axes)
    ends = tuple(range(-len(axes), 0))
    moved = jnp.moveaxis(value, places, ends)
    flat = moved.reshape(*moved.shape[: moved.ndim - len(axes)], -1)
    return jnp.moveaxis(change(flat).reshape(moved.shape), ends, places)


class CorrelatedNormal(dist.Distribution):
    """Gaussian array of mean 0: its covariance is scale^2 times the groups' Kronecker product.

    Args:
        shape: of one value.
        scale: multiplies every element.
        groups: axes that vary together.
        factors: lower Cholesky factor of each group's covariance ``(n, n)``.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields: tuple[str, ...] = ("scale", "factors")
    pytree_aux_fields = ("groups",)

    def __init__(
        self,
        shape: tuple[int, ...],
        scale: Any,
        groups: Groups = (),
        factors: tuple[Any, ...] = (),
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.scale, self.groups = scale, groups
        self.factors = tuple(factors)
        super().__init__((), tuple(shape), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """Every real array of the shape."""
        return dist.constraints.independent(dist.constraints.real, len(self.event_shape))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws ``(*sample_shape, *shape)``."""
        white = jax.random.normal(key, (*sample_shape, *self.event_shape))
        return self.scale * coloured(white, self.groups, self.factors, self.event_dim)

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """Log density of arrays ``(*batch, *shape)``."""
        size = math.prod(self.event_shape)
        white = whitened(value, self.groups, self.factors, self.event_dim) / self.scale
        square = jnp.sum(white**2, axis=tuple(range(-self.event_dim, 0)))
        normaliser = size * (0.5 * math.log(2.0 * math.pi) + jnp.log(self.scale))
        return -0.5 * square - normaliser - self.log_det()

    def log_det(self) -> Array:
        """Log determinant of the linear map from white values to these, without the scale."""
        size = math.prod(self.event_shape)
        total = jnp.zeros(())
        for factor in self.factors:
            own = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(factor))))
            total = total + own * (size // factor.shape[0])
        return total

    @property
    def mean(self) -> Array:
        """Zero."""
        return jnp.zeros(self.event_shape)

    @property
    def variance(self) -> Array:
        """Of every element."""
        return jnp.ones(self.event_shape) * self._diagonal() * self.scale**2

    def _diagonal(self) -> Array:
        """Diagonal of the product of factors, in the shape of a value."""
        found = jnp.ones(self.event_shape)
        for axes, factor in zip(self.groups, self.factors, strict=True):
            own = jnp.sum(jnp.asarray(factor) ** 2, axis=1)
            found = _along(found, axes, self.event_dim, lambda flat, own=own: flat * own)
        return found

    def tempered(self, temperature: Array) -> CorrelatedNormal:
        """The normalised density to the power 1/T: T times the covariance."""
        wider = self.scale * jnp.sqrt(temperature)
        return CorrelatedNormal(self.event_shape, wider, self.groups, self.factors)


class CorrelatedStudentT(CorrelatedNormal):
    """Multivariate Student-t over one group of axes, independent over the rest.

    A vector of the group is scale * factor z / sqrt(g / df), z ~ N(0, I), g ~ chi^2(df), with a g
    of its own for each place in the other axes.

    Args:
        shape: of one value.
        df: degrees of freedom.
        scale: multiplies every element.
        axes: the group.
        factor: lower Cholesky factor of its covariance ``(n, n)``.
    """

    pytree_data_fields = ("df", "scale", "factors")

    def __init__(
        self,
        shape: tuple[int, ...],
        df: Any,
        scale: Any,
        axes: tuple[int, ...],
        factor: Any,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.df = df
        super().__init__(shape, scale, (axes,), (factor,), validate_args=validate_args)

    @property
    def size(self) -> int:
        """Number of elements of the group."""
        return math.prod(self.event_shape[axis] for axis in self.groups[0])

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws ``(*sample_shape, *shape)``."""
        for_normal, for_gamma = jax.random.split(key)
        gaussian = super().sample(for_normal, sample_shape)
        ones = tuple(1 if i in self.groups[0] else n for i, n in enumerate(self.event_shape))
        mixing = 2.0 * jax.random.gamma(for_gamma, self.df / 2.0, (*sample_shape, *ones))
        return gaussian / jnp.sqrt(mixing / self.df)

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """Log density of arrays ``(*batch, *shape)``."""
        white = whitened(value, self.groups, self.factors, self.event_dim) / self.scale
        axes = tuple(axis - self.event_dim for axis in self.groups[0])
        squares = jnp.sum(white**2, axis=axes)
        n, df = self.size, self.df
        one = gammaln((df + n) / 2.0) - gammaln(df / 2.0) - 0.5 * n * jnp.log(df * math.pi)
        terms = one - 0.5 * (df + n) * jnp.log1p(squares / df)
        total = jnp.sum(terms, axis=tuple(range(-(self.event_dim - len(axes)), 0)))
        return total - self.log_det() - math.prod(self.event_shape) * jnp.log(self.scale)

    @property
    def variance(self) -> Array:
        """Of every element; infinite where df <= 2."""
        df = jnp.asarray(self.df, float)
        return super().variance * jnp.where(df > 2, df / jnp.where(df > 2, df - 2, 1.0), jnp.inf)

    def tempered(self, temperature: Array) -> CorrelatedStudentT:
        """The normalised density to the power 1/T: a Student-t of other degrees of freedom."""
        df = self.margin(temperature)
        scale = self.scale * jnp.sqrt(self.df / df)
        return CorrelatedStudentT(self.event_shape, df, scale, self.groups[0], self.factors[0])

    def margin(self, temperature: Array) -> Array:
        """Degrees of freedom of the tempered density: it is proper where they are positive."""
        return (self.df + self.size) / temperature - self.size


def cholesky(covariance: np.ndarray, what: str, remedy: str) -> np.ndarray:
    """Lower Cholesky factor in double precision.

    Args:
        covariance: ``(n, n)``.
        what: names the matrix in an error.
        remedy: what to do instead.

    Raises:
        InputError: not square, not symmetric, or not positive definite.
    """
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise InputError(f"{what}: shape {covariance.shape} is not that of a square matrix")
    size = np.abs(covariance).max()
    if not np.allclose(covariance, covariance.T, rtol=0.0, atol=1e-6 * size):
        raise InputError(f"{what}: the matrix is not symmetric")
    lowest = float(np.linalg.eigvalsh(covariance)[0])
    if not lowest > 1e-12 * size:
        raise InputError(
            f"{what}: the matrix is not positive definite (smallest eigenvalue {lowest:.3g}); "
            f"{remedy}"
        )
    return np.linalg.cholesky(covariance)
