"""Lower bounds of the linearised Laplace evidence, from blocks of rows.

At a mode w, with S_n S_n' the Hessian of row n's loss in the network's outputs, J_n their Jacobian
and P the precision of a Gaussian prior, Laplace's evidence with the Gauss-Newton matrix is

    log Z = log p(y, w) + dim log(2 pi) / 2 - log|P| / 2 - log|I + K| / 2
    K = S' J P^-1 J' S  (row output, row output)

the kernel of the network's tangents in place of a matrix of its weights. By Fischer's inequality
log|I + K| is at most the sum of those of K's diagonal blocks: leaving out what ties different rows,
or different outputs, bounds log Z from below. Blocks are small whatever the network's size, and a
few of them, scaled up, estimate the sum without bias (Immer et al. 2023, Stochastic Marginal
Likelihood Gradients using Neural Tangent Kernels).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.inference import curvature as curves
from bnnzoo.inference import spectra
from bnnzoo.inference.network_heads import heads
from bnnzoo.models.posterior import Posterior

OUTPUTS = ("joint", "independent", "random")
"""What of a block is kept: all of it, a block an output, one output at random times their number.

An output is a column of the symmetric root S_n.
"""


class Blocks(NamedTuple):
    """Sets of rows that have none in common.

    Attributes:
        rows: row numbers ``(block, row)``.
        weights: 0 for padding, else 1 ``(block, row)``.
    """

    rows: Array
    weights: Array


def partition(rows: int, batch: int, random: np.random.Generator) -> Blocks:
    """All rows in random order, cut into blocks whose sizes differ by one at most.

    Args:
        rows: their number.
        batch: most rows of a block.
        random: of the order.
    """
    pieces = np.array_split(random.permutation(rows), -(-rows // batch))
    size = len(pieces[0])
    padded = [np.pad(piece, (0, size - len(piece))) for piece in pieces]
    weights = [np.arange(size) < len(piece) for piece in pieces]
    real = jnp.result_type(float)
    return Blocks(jnp.asarray(np.stack(padded)), jnp.asarray(np.stack(weights), real))


def output_count(posterior: Posterior) -> int:
    """Outputs of the network for one row, of all its copies under an augmentation."""
    return curves.root_count(posterior, curves.GGN)


def without_data(posterior: Posterior, u: Array, memory_bytes: int) -> tuple[Array, Array]:
    """Laplace's log evidence but for log|I + K| / 2, and the prior's precision; traced.

    What else is unknown (noise) is a block of its own by the exact Hessian, as in
    :mod:`bnnzoo.inference.laplace_structures`.

    Args:
        posterior: with Gaussian priors on the network's parameters.
        u: the mode ``(dim,)``.
        memory_bytes: most for a block of columns.

    Returns:
        ``()``, and P ``(k,)``.
    """
    where = curves.network_coordinates(posterior)
    precision = curves.prior_diagonal(posterior, u, where, memory_bytes)
    value = posterior.log_density(u) + 0.5 * posterior.dimension * math.log(2.0 * math.pi)
    value = value - 0.5 * jnp.sum(jnp.log(precision))
    rest = np.setdiff1d(np.arange(posterior.dimension), where)
    if len(rest):
        matrix = curves.exact_hessian(lambda v: -posterior.log_density(v), u, rest, memory_bytes)
        others, _ = spectra.dense(matrix, jnp.ones(len(rest), u.dtype))
        value = value - 0.5 * spectra.log_det(others)
    return value, precision


def log_dets(
    posterior: Posterior,
    u: Array,
    precision: Array,
    blocks: Blocks,
    columns: Array | None,
    outputs: str,
    memory_bytes: int,
) -> Array:
    """Of every block its share of the bound's log|I + K|; traced, differentiable.

    Args:
        posterior: of a zoo model.
        u: the mode ``(dim,)``.
        precision: P ``(k,)``.
        blocks: of rows.
        columns: with ``random`` outputs the one of each block ``(block,)``.
        outputs: one of :data:`OUTPUTS`.
        memory_bytes: most that the tangents of a few rows may take.

    Returns:
        ``(block,)``. Negative curvature of a loss in the outputs counts as 0.
    """
    count = output_count(posterior)

    def of_block(given: tuple[Array, Array, Array | None]) -> Array:
        rows, weights, column = given
        roots, _ = curves.output_roots(posterior, u, rows, curves.GGN, symmetric=True)
        roots = roots * weights[:, None, None]

        def of_output(c: Array) -> Array:
            own = jax.lax.dynamic_slice_in_dim(roots, c, 1, axis=2)
            return _log_det(_kernel(posterior, u, precision, rows, own, memory_bytes))

        if outputs == "joint":
            return _log_det(_kernel(posterior, u, precision, rows, roots, memory_bytes))
        if outputs == "independent":
            return jnp.sum(jax.lax.map(of_output, jnp.arange(count)))
        assert column is not None
        return count * of_output(column)

    return jax.lax.map(of_block, (blocks.rows, blocks.weights, columns))


def _kernel(
    posterior: Posterior,
    u: Array,
    precision: Array,
    rows: Array,
    roots: Array,
    memory_bytes: int,
) -> Array:
    """K of some rows ``(row column, row column)``, from ``roots`` ``(row, head, column)``; traced.

    The tangents P^-1 J' S of a few rows at once are pushed through the network on all: no Jacobian
    of a whole block is formed, and none is kept for the gradient.
    """
    where = curves.network_coordinates(posterior)
    per_row = roots.shape[2] * (len(where) + roots.shape[0] * roots.shape[1])
    size = min(curves.block_rows(posterior, per_row, memory_bytes), roots.shape[0])

    def outputs(w: Array, batch: Array) -> Array:
        return heads(posterior, u.at[where].set(w), batch)

    @jax.checkpoint
    def of_row(given: tuple[Array, Array]) -> Array:
        row, root = given
        _, pull = jax.vjp(lambda w: outputs(w, row[None])[0], u[where])

        def pushed(column: Array) -> Array:
            tangent = pull(column)[0] / precision
            return jax.jvp(lambda w: outputs(w, rows), (u[where],), (tangent,))[1]

        return jnp.einsum("amh,mhc->amc", jax.vmap(pushed, in_axes=1)(root), roots)

    kernel = jax.lax.map(of_row, (rows, roots), batch_size=size)
    side = roots.shape[0] * roots.shape[2]
    kernel = kernel.reshape(side, side)
    return 0.5 * (kernel + kernel.T)


def _log_det(kernel: Array) -> Array:
    root = jnp.linalg.cholesky(jnp.eye(len(kernel), dtype=kernel.dtype) + kernel)
    return 2.0 * jnp.sum(jnp.log(jnp.diag(root)))
