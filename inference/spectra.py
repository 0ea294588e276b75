"""Gaussians by the spectrum of their precision, relative to a diagonal reference.

The precision is H = P^(1/2) (I + V diag(s) V') P^(1/2) with P diagonal (the prior's precision) and
s the eigenvalues of what the data add. Every structure is one way to hold V and s, and everything
that is asked of a Gaussian is a function of 1 + s: draws f(t) = t^(-1/2), covariances 1/t, the
log-determinant log t. Multiples of the prior and of the data change P and s alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

LEAST = 1e-3
"""Eigenvalues of 1 + s up to this are no curvature: s is 0 there, the prior alone counts."""


class Dense(NamedTuple):
    """All eigenvectors.

    Attributes:
        precision: the reference ``(k,)``.
        values: s ``(k,)``.
        vectors: V ``(k, k)``.
    """

    precision: Array
    values: Array
    vectors: Array

    def apply(self, function: Callable[[Array], Array], x: Array) -> Array:
        """V function(1 + s) V' x, for ``(..., k)``."""
        return ((x @ self.vectors) * function(1.0 + self.values)) @ self.vectors.T

    def total(self, function: Callable[[Array], Array]) -> Array:
        """Sum of function(1 + s) over all eigenvalues."""
        return jnp.sum(function(1.0 + self.values))


class Diagonal(NamedTuple):
    """V = I.

    Attributes:
        precision: the reference ``(k,)``.
        values: s ``(k,)``.
    """

    precision: Array
    values: Array

    def apply(self, function: Callable[[Array], Array], x: Array) -> Array:
        """function(1 + s) x, for ``(..., k)``."""
        return function(1.0 + self.values) * x

    def total(self, function: Callable[[Array], Array]) -> Array:
        """Sum of function(1 + s) over all eigenvalues."""
        return jnp.sum(function(1.0 + self.values))


class LowRank(NamedTuple):
    """A few eigenvectors; s = 0 in all other directions.

    Attributes:
        precision: the reference ``(k,)``.
        values: s ``(rank,)``.
        vectors: V ``(k, rank)``.
    """

    precision: Array
    values: Array
    vectors: Array

    def apply(self, function: Callable[[Array], Array], x: Array) -> Array:
        """V function(1 + s) V' x, for ``(..., k)``."""
        rest = function(jnp.ones((), x.dtype))
        change = function(1.0 + self.values) - rest
        return rest * x + ((x @ self.vectors) * change) @ self.vectors.T

    def total(self, function: Callable[[Array], Array]) -> Array:
        """Sum of function(1 + s) over all eigenvalues."""
        others = self.precision.shape[0] - self.values.shape[0]
        rest = function(jnp.ones((), self.values.dtype))
        return jnp.sum(function(1.0 + self.values)) + others * rest


class Kronecker(NamedTuple):
    """One Kronecker product of two eigenbases a layer.

    Attributes:
        precision: the reference ``(k,)``.
        values: s ``(inputs, outputs)`` of each layer.
        inputs, outputs: eigenvectors of each layer's two factors.
        places: for each layer the coordinates of its matrix ``(inputs, outputs)``.
    """

    precision: Array
    values: tuple[Array, ...]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    places: tuple[Array, ...]

    def apply(self, function: Callable[[Array], Array], x: Array) -> Array:
        """V function(1 + s) V' x, for ``(..., k)``."""
        made = jnp.zeros_like(x)
        layers = zip(self.values, self.inputs, self.outputs, self.places, strict=True)
        for s, a, b, places in layers:
            turned = jnp.einsum("...ij,ia,jb->...ab", x[..., places], a, b) * function(1.0 + s)
            made = made.at[..., places].set(jnp.einsum("...ab,ia,jb->...ij", turned, a, b))
        return made

    def total(self, function: Callable[[Array], Array]) -> Array:
        """Sum of function(1 + s) over all eigenvalues."""
        return sum((jnp.sum(function(1.0 + s)) for s in self.values), jnp.zeros(()))


Spectrum = Dense | Diagonal | LowRank | Kronecker


def scaled(spectrum: Any, prior: Array, data: Array) -> Any:
    """The spectrum of ``prior`` times the reference plus ``data`` times the rest.

    Args:
        spectrum: one of this module.
        prior: positive factor ``()``.
        data: likewise.
    """
    values = spectrum.values
    ratio = data / prior
    values = tuple(ratio * v for v in values) if isinstance(spectrum, Kronecker) else ratio * values
    return spectrum._replace(precision=prior * spectrum.precision, values=values)


def draw(spectrum: Any, noise: Array) -> Array:
    """H^(-1/2) z for standard normal ``(..., k)``."""
    return spectrum.apply(_inverse_root, noise) / jnp.sqrt(spectrum.precision)


def solve(spectrum: Any, x: Array) -> Array:
    """H^(-1) x, for ``(..., k)``."""
    root = jnp.sqrt(spectrum.precision)
    return spectrum.apply(_inverse, x / root) / root


def log_det(spectrum: Any) -> Array:
    """Log-determinant of H."""
    return jnp.sum(jnp.log(spectrum.precision)) + spectrum.total(jnp.log)


def _inverse_root(t: Array) -> Array:
    return 1.0 / jnp.sqrt(t)


def _inverse(t: Array) -> Array:
    return 1.0 / t


def dense(matrix: Array, precision: Array) -> tuple[Dense, Array]:
    """The spectrum of a symmetric precision matrix, and how many directions had no curvature.

    Args:
        matrix: H ``(k, k)``; not positive definite where the point is no strict maximum.
        precision: the reference ``(k,)``.
    """
    root = jnp.sqrt(precision)
    values, vectors = jnp.linalg.eigh(matrix / (root[:, None] * root))
    flat = values <= LEAST
    return Dense(precision, jnp.where(flat, 0.0, values - 1.0), vectors), flat.sum()


def of_rows(rows: Array, precision: Array) -> LowRank:
    """The spectrum of P + K'K for K of fewer rows than columns.

    Args:
        rows: K ``(r, k)``.
        precision: the reference P ``(k,)``.
    """
    # By a QR decomposition: products of rows would square what they differ by, and of a network's
    # directions half would be below the rounding of float32.
    basis, rest = jnp.linalg.qr((rows / jnp.sqrt(precision)).T)
    turned, values, _ = jnp.linalg.svd(rest)
    return LowRank(precision, values**2, basis @ turned)


@jax.custom_jvp
def log_det_above_one(matrix: Array) -> Array:
    """Log-determinant of a symmetric matrix ``(k, k)`` whose eigenvalues are 1 at least; traced.

    By a Cholesky factor; by eigenvalues where rounding left none, those under 1 taken for 1.
    """
    return _log_det_and_inverse_root(matrix)[0]


@log_det_above_one.defjvp
def _log_det_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The inverse, as one product, in place of the many of a factor's derivative."""
    value, root = _log_det_and_inverse_root(primals[0])
    return value, jnp.vdot(root.T @ root, tangents[0])


def _log_det_and_inverse_root(matrix: Array) -> tuple[Array, Array]:
    """The log-determinant, and R with R'R the inverse."""
    factor = jnp.linalg.cholesky(matrix)

    def of_factor() -> tuple[Array, Array]:
        eye = jnp.eye(len(matrix), dtype=matrix.dtype)
        root = jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
        return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor))), root

    def of_values() -> tuple[Array, Array]:
        values, vectors = jnp.linalg.eigh(matrix)
        values = jnp.maximum(values, 1.0)
        return jnp.sum(jnp.log(values)), (vectors / jnp.sqrt(values)).T

    return jax.lax.cond(jnp.all(jnp.isfinite(factor)), of_factor, of_values)


def diagonal(entries: Array, precision: Array) -> tuple[Diagonal, Array]:
    """The same for the diagonal of a precision matrix ``(k,)``."""
    values = entries / precision
    flat = values <= LEAST
    return Diagonal(precision, jnp.where(flat, 0.0, values - 1.0)), flat.sum()


def floored(entries: Array, reference: Array) -> tuple[Array, Array]:
    """A positive reference: the prior's curvature, or its spread where that is not positive."""
    flat = entries <= LEAST * reference
    return jnp.where(flat, reference, entries), flat.sum()
