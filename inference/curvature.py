"""Curvature of the log posterior in some coordinates, accumulated over blocks of rows.

The generalised Gauss-Newton matrix is sum_n J_n' Lambda_n J_n, with J_n the Jacobian of a row's
network outputs and Lambda_n the Hessian of its loss in them; the empirical Fisher replaces Lambda_n
by the outer product of the loss' gradient. With Lambda_n = S_n S_n' both are sums of K_n' K_n over
rows, K_n = S_n' J_n: a row's few rows of K are all that is ever formed, a block at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.inference.network_heads import (
    elementwise,
    heads,
    prior_loss,
    row_loss,
)
from bnnzoo.models.model import Model
from bnnzoo.models.posterior import Posterior

GGN, FISHER, HESSIAN = "ggn", "empirical-fisher", "hessian"


def network_coordinates(posterior: Posterior) -> np.ndarray:
    """Numbers of the unconstrained coordinates that hold network parameters.

    All of a hand-written model's, which does not say which those are.
    """
    network = posterior.network
    if network is None:
        return np.arange(posterior.dimension)
    paths = {i.path for i in network.infos}
    names = paths | {f"{path}.base" for path in paths}
    ours = [np.arange(s.offset, s.offset + s.size) for s in posterior.sites if s.name in names]
    return np.concatenate(ours)


def block_rows(posterior: Posterior, per_row: int, memory_bytes: int) -> int:
    """Rows worked on at once, where one takes ``per_row`` numbers, twice for what is made of them.

    Args:
        posterior: the target.
        per_row: numbers that one row takes.
        memory_bytes: the budget.
    """
    rows = memory_bytes // (2 * per_row * posterior.x.dtype.itemsize)
    return int(np.clip(rows, 1, posterior.rows))


def over_rows(
    posterior: Posterior, size: int, zero: Any, add: Callable[[Any, Array, Array], Any]
) -> Any:
    """Fold all rows, ``size`` at once; traced.

    Args:
        posterior: the target.
        size: rows of a block.
        zero: where the fold starts.
        add: of what there is, row numbers ``(size,)`` and weights ``(size,)``, 0 for padding.
    """
    count = posterior.rows

    def body(block: Array, total: Any) -> Any:
        rows = block * size + jnp.arange(size)
        weights = (rows < count).astype(posterior.x.dtype)
        return add(total, jnp.minimum(rows, count - 1), weights)

    return jax.lax.fori_loop(0, -(-count // size), body, zero)


def output_roots(
    posterior: Posterior, u: Array, batch: Array, curvature: str, symmetric: bool = False
) -> tuple[Array, Any]:
    """S_n ``(row, head, column)`` with Lambda_n = S_n S_n', and what was clipped; traced.

    With ``symmetric`` the Gauss-Newton S_n is its own transpose: column c is about output c. A loss
    that is not convex in the outputs (Student-t, heteroscedastic noise) has negative eigenvalues of
    Lambda_n; they count as 0, and their sum and that of all moduli are returned.
    """
    return roots_at(posterior, u, heads(posterior, u, batch), batch, curvature, symmetric)


def roots_at(
    posterior: Posterior,
    u: Array,
    out: Array,
    batch: Array,
    curvature: str,
    symmetric: bool = False,
) -> tuple[Array, Any]:
    """:func:`output_roots` where the heads ``out`` ``(row, head)`` are known; traced."""
    if curvature == FISHER:
        loss = jax.vmap(lambda head, row: row_loss(posterior, u, head, row))
        gradient = jax.grad(lambda h: loss(h, batch).sum())(out)
        return gradient[:, :, None], jnp.zeros((2, batch.shape[0]), u.dtype)
    closed = None if symmetric else _closed_root(posterior, out)
    if closed is not None:
        return closed, jnp.stack([jnp.zeros(len(out), u.dtype), jnp.sum(closed**2, (1, 2))])
    second = jax.vmap(jax.hessian(lambda head, row: row_loss(posterior, u, head, row)))(out, batch)
    if out.shape[1] == 1:  # a number is its own eigenvalue, and decompositions cost by the call
        held = jax.lax.stop_gradient(second)
        values, vectors = held[:, :, 0], jnp.ones_like(held)
    else:
        values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(second))
    kept = jnp.maximum(values, 0.0)
    clipped = jnp.stack([(kept - values).sum(1), jnp.abs(values).sum(1)])
    # Eigenvectors have no derivative where eigenvalues are equal, as those of two outputs with one
    # noise. A root needs none: with dS = dLambda V D^(-1/2) / 2 that of S S' is dLambda.
    some = kept > jnp.finfo(kept.dtype).eps * kept.max(1, keepdims=True)
    inverse = jnp.where(some, 1.0 / jnp.sqrt(jnp.where(some, kept, 1.0)), 0.0)
    moved = second - jax.lax.stop_gradient(second)
    roots = vectors * jnp.sqrt(kept)[:, None, :] + 0.5 * (moved @ vectors) * inverse[:, None, :]
    return (roots @ vectors.swapaxes(1, 2) if symmetric else roots), clipped


def _closed_root(posterior: Posterior, out: Array) -> Array | None:
    """What the likelihood knows of its own curvature; copies of a row are one loss together."""
    model = posterior.model
    if not isinstance(model, Model) or model.augmentation is not None:
        return None
    return model.likelihood.curvature_root(out)


def root_count(posterior: Posterior, curvature: str) -> int:
    """Columns of a row's root: one an output, or one."""
    if curvature == FISHER:
        return 1
    like = jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype)
    one = jax.ShapeDtypeStruct((1,), jnp.int32)
    return int(jax.eval_shape(lambda u, b: heads(posterior, u, b), like, one).shape[1])


def row_roots(
    posterior: Posterior, u: Array, where: np.ndarray, batch: Array, curvature: str
) -> tuple[Array, Array]:
    """K_n = S_n' J_n ``(row, column, coordinate)`` in the coordinates ``where``; traced.

    The empirical Fisher of a hand-written model, which has no outputs, takes a row's gradient.
    """
    if posterior.network is None:

        def negative(w: Array, row: Array) -> Array:
            return -posterior.pointwise_log_likelihood(u.at[where].set(w), row[None])[0]

        gradients = jax.vmap(jax.grad(negative), (None, 0))(u[where], batch)
        return gradients[:, None, :], jnp.zeros((2, batch.shape[0]), u.dtype)
    roots, clipped = output_roots(posterior, u, batch, curvature)

    def one(row: Array, root: Array) -> Array:
        def head(w: Array) -> Array:
            return heads(posterior, u.at[where].set(w), row[None])[0]

        _, pull = jax.vjp(head, u[where])
        return jax.vmap(lambda column: pull(column)[0], in_axes=1)(root)

    return jax.vmap(one)(batch, roots), clipped


def likelihood_matrix(
    posterior: Posterior, u: Array, where: np.ndarray, curvature: str, memory_bytes: int
) -> tuple[Array, Array]:
    """Dense Gauss-Newton or Fisher matrix of the tempered likelihood, with the share clipped.

    Args:
        posterior: the target.
        u: unconstrained vector ``(dim,)``.
        where: coordinates, ``(k,)``.
        curvature: ``ggn`` or ``empirical-fisher``.
        memory_bytes: most that a block of rows may take.

    Returns:
        ``(k, k)``, divided by T L, and ``()``.
    """

    def product(roots: Array) -> Array:
        flat = roots.reshape(-1, len(where))
        return flat.T @ flat

    zero = jnp.zeros((len(where), len(where)), u.dtype)
    return _summed(posterior, u, where, curvature, memory_bytes, zero, product)


def likelihood_rows(
    posterior: Posterior, u: Array, where: np.ndarray, curvature: str
) -> tuple[Array, Array]:
    """K ``(row column, k)`` with K'K :func:`likelihood_matrix`, and the share clipped; traced.

    Args:
        posterior: the target.
        u: unconstrained vector ``(dim,)``.
        where: coordinates, ``(k,)``.
        curvature: ``ggn`` or ``empirical-fisher``.
    """
    roots, clipped = row_roots(posterior, u, where, jnp.arange(posterior.rows), curvature)
    scale = posterior.posterior_temperature * posterior.likelihood_temperature
    return roots.reshape(-1, len(where)) / jnp.sqrt(scale), _share(clipped.sum(1))


def likelihood_diagonal(
    posterior: Posterior, u: Array, where: np.ndarray, curvature: str, memory_bytes: int
) -> tuple[Array, Array]:
    """The diagonal ``(k,)`` of :func:`likelihood_matrix`, which is never formed; traced."""
    zero = jnp.zeros(len(where), u.dtype)
    return _summed(
        posterior, u, where, curvature, memory_bytes, zero, lambda k: jnp.sum(k**2, axis=(0, 1))
    )


def _summed(
    posterior: Posterior,
    u: Array,
    where: np.ndarray,
    curvature: str,
    memory_bytes: int,
    zero: Array,
    product: Callable[[Array], Array],
) -> tuple[Array, Array]:
    per_row = root_count(posterior, curvature) * len(where)
    size = block_rows(posterior, per_row, memory_bytes)

    def add(total: Any, batch: Array, weights: Array) -> Any:
        matrix, clipped = total
        roots, share = row_roots(posterior, u, where, batch, curvature)
        return matrix + product(roots * weights[:, None, None]), clipped + share @ weights

    matrix, clipped = over_rows(posterior, size, (zero, jnp.zeros(2, u.dtype)), add)
    scale = posterior.posterior_temperature * posterior.likelihood_temperature
    return matrix / scale, _share(clipped)


def _share(clipped: Array) -> Array:
    return jnp.where(clipped[1] > 0, clipped[0] / jnp.where(clipped[1] > 0, clipped[1], 1.0), 0.0)


def likelihood_product(
    posterior: Posterior, u: Array, where: np.ndarray, curvature: str, memory_bytes: int
) -> Callable[[Array], Array]:
    """Of a vector ``(k,)``, its product with the likelihood's curvature, which is never formed.

    Args:
        posterior: the target.
        u: unconstrained vector ``(dim,)``.
        where: coordinates, ``(k,)``.
        curvature: ``ggn``, ``empirical-fisher`` or ``hessian``.
        memory_bytes: most that a block of rows may take.
    """
    scale = posterior.posterior_temperature * posterior.likelihood_temperature
    if curvature == HESSIAN:
        gradient = jax.grad(lambda w: -posterior.log_likelihood(u.at[where].set(w)) / scale)
        return lambda v: jax.jvp(gradient, (u[where],), (v,))[1]
    size = block_rows(posterior, root_count(posterior, curvature) * len(where), memory_bytes)

    def times(v: Array) -> Array:
        def add(total: Array, batch: Array, weights: Array) -> Array:
            roots, _ = output_roots(posterior, u, batch, curvature)
            _, push = jax.linearize(lambda w: heads(posterior, u.at[where].set(w), batch), u[where])
            weighted = jnp.einsum("nck,nc->nk", roots, push(v)) * weights[:, None]
            back = jnp.einsum("nck,nk->nc", roots, weighted)
            return total + jax.linear_transpose(push, v)(back)[0]

        return over_rows(posterior, size, jnp.zeros_like(v), add) / scale

    return times


def exact_hessian(
    loss: Callable[[Array], Array], u: Array, where: np.ndarray, memory_bytes: int
) -> Array:
    """Hessian ``(k, k)`` of a function of ``u`` in the coordinates ``where``; traced.

    A few columns at once, by forward over reverse differentiation.
    """
    gradient = jax.grad(lambda w: loss(u.at[where].set(w)))
    size = int(np.clip(memory_bytes // (8 * max(len(where), 1) * u.dtype.itemsize), 1, len(where)))

    def column(j: Array) -> Array:
        tangent = jnp.zeros(len(where), u.dtype).at[j].set(1.0)
        return jax.jvp(gradient, (u[where],), (tangent,))[1]

    matrix = jax.lax.map(column, jnp.arange(len(where)), batch_size=size)
    return 0.5 * (matrix + matrix.T)


def exact_diagonal(
    loss: Callable[[Array], Array], u: Array, where: np.ndarray, memory_bytes: int
) -> Array:
    """The diagonal ``(k,)`` of :func:`exact_hessian`, without the rest; traced."""
    gradient = jax.grad(lambda w: loss(u.at[where].set(w)))
    size = int(np.clip(memory_bytes // (8 * len(where) * u.dtype.itemsize), 1, len(where)))

    def entry(j: Array) -> Array:
        tangent = jnp.zeros(len(where), u.dtype).at[j].set(1.0)
        return jax.jvp(gradient, (u[where],), (tangent,))[1][j]

    return jax.lax.map(entry, jnp.arange(len(where)), batch_size=size)


def prior_diagonal(posterior: Posterior, u: Array, where: np.ndarray, memory_bytes: int) -> Array:
    """Diagonal ``(k,)`` of the prior's curvature in the target, tempered; traced.

    One product where elements are independent, as in every registered prior.
    """
    if not independent(posterior, where):
        return exact_diagonal(lambda v: prior_loss(posterior, v), u, where, memory_bytes)
    gradient = jax.grad(lambda w: prior_loss(posterior, u.at[where].set(w)))
    return jax.jvp(gradient, (u[where],), (jnp.ones(len(where), u.dtype),))[1]


def prior_matrix(posterior: Posterior, u: Array, where: np.ndarray, memory_bytes: int) -> Array:
    """The prior's curvature ``(k, k)`` in the target, tempered; traced."""
    if independent(posterior, where):
        return jnp.diag(prior_diagonal(posterior, u, where, memory_bytes))
    return exact_hessian(lambda v: prior_loss(posterior, v), u, where, memory_bytes)


def independent(posterior: Posterior, where: np.ndarray) -> bool:
    """Whether the prior's curvature in these coordinates is diagonal."""
    network = posterior.network
    if network is None:
        return False
    names = {site.name for site in posterior.sites if site.offset in set(where.tolist())}
    # A parameter whose law depends on another parameter would bring an entry off the diagonal;
    # here it can depend on hyper-parameters alone, which are no coordinates of the network.
    found: list[bool] = []

    def trace(u: Array) -> Array:
        seen = posterior._score(u)
        found.extend(elementwise(seen.fns[n]) for n in names if n in seen.fns)
        return seen.log_jacobian

    jax.eval_shape(trace, jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype))
    return all(found)


def reference_precision(posterior: Posterior, u: Array, where: np.ndarray) -> Array:
    """What the prior's own spread says of a coordinate, ``(k,)``: 1 / (T variance); traced.

    1 where a coordinate is not the value of its site, or its prior has no finite variance, or one
    that NumPyro does not know.
    """
    seen = posterior._score(u)
    parts = []
    for site in posterior.sites:
        variance = jnp.ones(site.free_shape, u.dtype)
        if site.free:
            try:
                given = seen.fns[site.name].variance
            except NotImplementedError:  # a law whose moments NumPyro does not know
                given = variance
            given = jnp.broadcast_to(given, site.free_shape)
            variance = jnp.where(jnp.isfinite(given) & (given > 0), given, 1.0)
        parts.append(1.0 / (posterior.posterior_temperature * variance.ravel()))
    return jnp.concatenate(parts)[where].astype(u.dtype)


def prior_widths(posterior: Posterior, u: Array) -> Array:
    """Standard deviations ``(dim,)`` of the tempered prior by :func:`reference_precision`."""
    return reference_precision(posterior, u, np.arange(posterior.dimension)) ** -0.5


def bytes_of_matrix(count: int, posterior: Posterior) -> int:
    """Memory of a dense matrix of so many coordinates."""
    return math.prod((count, count, posterior.x.dtype.itemsize))
