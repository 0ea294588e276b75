"""Leading eigenpairs of a symmetric matrix that is known by its products alone."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

EXTRA = 20
"""Krylov vectors beyond twice the eigenpairs wanted."""


def leading(
    times: Callable[[Array], Array], dimension: int, count: int, like: Array
) -> tuple[Array, Array]:
    """The algebraically largest eigenpairs, by Lanczos with full reorthogonalisation; traced.

    A Krylov space of ``2 count + 20`` directions, of all of them where there are no more: there it
    is exact. Reorthogonalisation, twice a step, keeps copies of converged eigenpairs from coming
    back (Parlett 1998, The Symmetric Eigenvalue Problem, sec. 13.3).

    Args:
        times: product with a vector ``(dimension,)``.
        dimension: of the matrix.
        count: eigenpairs wanted.
        like: gives the type.

    Returns:
        Values ``(count,)``, largest first, and vectors ``(dimension, count)``.
    """
    count = min(count, dimension)
    steps = min(dimension, 2 * count + EXTRA)
    noise = jax.random.normal(jax.random.key(0), (steps, dimension), like.dtype)
    basis = jnp.zeros((steps, dimension), like.dtype)
    basis = basis.at[0].set(noise[0] / jnp.linalg.norm(noise[0]))

    def orthogonal(v: Array, basis: Array) -> Array:
        for _ in range(2):
            v = v - basis.T @ (basis @ v)
        return v

    def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, products = carry
        product = times(basis[i])
        new = orthogonal(product, basis)
        # The Krylov space is exhausted, as for a matrix of low rank: go on in a fresh direction.
        fresh = orthogonal(noise[(i + 1) % steps], basis)
        tiny = 100 * jnp.finfo(like.dtype).eps * jnp.linalg.norm(product)
        new = jnp.where(jnp.linalg.norm(new) > tiny, new, fresh)
        new = orthogonal(new / jnp.linalg.norm(new), basis)
        basis = basis.at[i + 1].set(new / jnp.linalg.norm(new), mode="drop")
        return basis, products.at[i].set(product)

    basis, products = jax.lax.fori_loop(0, steps, body, (basis, jnp.zeros_like(basis)))
    # From the products themselves, not from the recurrence's three diagonals: fresh starts, too.
    small = basis @ products.T
    values, vectors = jnp.linalg.eigh(0.5 * (small + small.T))
    return values[::-1][:count], (basis.T @ vectors)[:, ::-1][:, :count]
