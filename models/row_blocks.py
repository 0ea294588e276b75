"""The log-likelihood of many rows, block after block, so that what one block makes fits a cache.

Between a network's forward and backward pass every row's intermediate values wait in memory. Once
those of all rows are more than the processor's cache holds, it waits for memory and not for
arithmetic: with 40,000 rows and 100 units a gradient takes 2.9 times as long as block by block.
Memory then grows with the rows of a block and not of the table.

A sum over blocks is differentiated block by block: the rule below gives value and gradient in one
pass, where autodiff of a loop would keep every block's intermediates for a second one. The gradient
is itself a loop that can be differentiated, forwards or backwards, to any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero

from bnnzoo.models import row_terms, score

if TYPE_CHECKING:
    from bnnzoo.models.network import BoundNetwork
    from bnnzoo.models.posterior import Posterior
    from bnnzoo.models.score import Scored

WORTH_BYTES = {"cpu": 12_000_000}
"""Intermediates of all rows from which blocks are quicker: about where they leave the caches of a
processor. Elsewhere, where chains are vmapped and a device's memory is the limit, `OTHERS`."""

BLOCK_BYTES = {"cpu": 6_000_000}
"""Intermediates of one block. Smaller ones pass more often over the weights and their gradient."""

LOOP_BLOCKS = 8
"""Of draws, up to which they are worked on at once."""

OTHERS = 1_000_000_000
"""Of either, on a device with memory of its own."""


def rows_of_block(rows: int, row_bytes: int, read_bytes: int) -> int:
    """How many rows a block should have; 0 where all rows at once are as good.

    Args:
        rows: of the data.
        row_bytes: intermediates of one row.
        read_bytes: of the row itself, which a block copies: not worth it for less than that.
    """
    kind = jax.default_backend()
    if rows * row_bytes <= WORTH_BYTES.get(kind, OTHERS) or row_bytes <= read_bytes:
        return 0
    blocks = -(-rows * row_bytes // BLOCK_BYTES.get(kind, OTHERS))
    return max(-(-rows // blocks), 1)


def fitting(one_bytes: int, most: int) -> int:
    """How many of something to work on at once: as many as fit a block, at least one.

    Args:
        one_bytes: intermediates of one; 0 where not known.
        most: of them. Where all make no more than ``LOOP_BLOCKS`` blocks they are worked on at
            once: a loop takes longer to compile than it saves.
    """
    limit = BLOCK_BYTES.get(jax.default_backend(), OTHERS)
    if one_bytes * most <= LOOP_BLOCKS * limit:
        return most
    return max(1, min(most, limit // one_bytes))


def mixes_rows(network: BoundNetwork | None, x: Array) -> bool:
    """Whether one row's output depends on the others: then a block is no part of the whole.

    Args:
        network: of a zoo model; its author may have written anything.
        x: training inputs, at least two rows.
    """
    assert network is not None
    rng = np.random.default_rng(0)
    weights = {i.path: jnp.asarray(rng.normal(size=i.shape), x.dtype) for i in network.infos}
    # Several: the first two rows may be the same.
    together, alone = network.apply(weights, x[:8]), network.apply(weights, x[:1])
    return not np.allclose(together[:1], alone, rtol=1e-3, atol=1e-3, equal_nan=True)


@jax.custom_jvp
def log_likelihood(u: Array, posterior: Posterior) -> Array:
    """Untempered log p(y|w) of all rows, block by block; traced.

    Args:
        u: unconstrained vector ``(dim,)``.
        posterior: whose ``block_rows`` is not 0.
    """
    nothing = jnp.zeros((), u.dtype)
    return _summed(posterior, lambda number: _block(u, posterior, number), nothing)


def _log_likelihood_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    """Value and gradient of every block, summed; the tangent is linear in what moves."""
    leaves, structure = jax.tree.flatten(primals)
    moves = {i: t for i, t in enumerate(jax.tree.leaves(tangents)) if not _still(t)}

    def at(moving: dict[int, Array], number: Array) -> Array:
        placed = [moving.get(i, leaf) for i, leaf in enumerate(leaves)]
        u, posterior = jax.tree.unflatten(structure, placed)
        return _block(u, posterior, number)

    here = {i: jnp.asarray(leaves[i]) for i in moves}
    nothing = jnp.zeros((), primals[0].dtype), jax.tree.map(jnp.zeros_like, here)
    value, slopes = _summed(
        primals[1], lambda number: jax.value_and_grad(at)(here, number), nothing
    )
    return value, sum((jnp.vdot(slopes[i], moves[i]) for i in moves), jnp.zeros_like(value))


log_likelihood.defjvp(_log_likelihood_jvp, symbolic_zeros=True)


def _still(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero) or tangent.dtype == jax.dtypes.float0


def _summed(posterior: Posterior, of_block: Callable[[Array], Any], nothing: Any) -> Any:
    """The sum of what every block, given its number, gives; ``nothing`` is that of no blocks."""
    count = -(-len(posterior.x) // posterior.block_rows)

    def add(so_far: Any, number: Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, so_far, of_block(number)), None

    return jax.lax.scan(add, nothing, jnp.arange(count, dtype=jnp.int32))[0]


def _block(u: Array, posterior: Posterior, number: Array) -> Array:
    """Log p of the rows of one block; of the last, of those its neighbour has not."""
    first, seen = _seen(u, posterior, number)
    size = posterior.block_rows
    fresh = first + jnp.arange(size) >= number * size
    total = jnp.zeros((), u.dtype)
    for name, (fn, value, weight) in seen.observed.items():
        total = total + row_terms.summed(name, fn.log_prob(value) * weight, fresh)
    return total


def _seen(u: Array, posterior: Posterior, number: Array) -> tuple[Array, Scored]:
    """The first row of a block and what the model makes of it; the last one overlaps another."""
    size = posterior.block_rows
    first = jnp.minimum(number * size, len(posterior.x) - size)
    x, y = (jax.lax.dynamic_slice_in_dim(a, first, size) for a in (posterior.x, posterior.y))
    return first, score.run(posterior.model, x, y, score.from_vector(u, posterior.sites))


def pointwise_log_likelihood(u: Array, posterior: Posterior) -> Array:
    """Untempered log p(y_i|w) of each row ``(row,)``, block by block; traced.

    Args:
        u: unconstrained vector ``(dim,)``.
        posterior: whose ``block_rows`` is not 0.
    """
    rows, size = len(posterior.x), posterior.block_rows

    def add(made: Array, number: Array) -> tuple[Array, None]:
        first, seen = _seen(u, posterior, number)
        terms = row_terms.of_rows(seen, size)
        return jax.lax.dynamic_update_slice_in_dim(made, terms, first, 0), None

    blocks = jnp.arange(-(-rows // size), dtype=jnp.int32)
    return jax.lax.scan(add, jnp.zeros(rows), blocks)[0]
