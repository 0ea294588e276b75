"""Rows of training data, a batch at a time: in passes, or each drawn for itself."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from bnnzoo.errors import InputError
from bnnzoo.models.posterior import Posterior


class Batches(NamedTuple):
    """Where a chain is in its current pass over the rows.

    Attributes:
        order: a permutation of the row numbers ``(row,)``.
        used: batches taken from it so far.
    """

    order: Array
    used: Array


def check_batch_size(posterior: Posterior, batch_size: int | None) -> None:
    """Raise where a posterior has no estimate from batches of this size.

    Args:
        posterior: the target.
        batch_size: rows of a batch; None stands for all of them.

    Raises:
        InputError: more rows than there are, or latent sites that belong to rows.
    """
    if batch_size is None:
        return
    if batch_size > posterior.rows:
        raise InputError(
            f"inference.batch_size = {batch_size}, but there are {posterior.rows} training rows; "
            f"give {posterior.rows} or fewer"
        )
    posterior.check_rows_are_free()


def draw_batch(posterior: Posterior, batch_size: int | None, key: Array) -> Array | None:
    """Rows drawn without replacement, whatever was drawn before; None, all rows, without a size.

    Args:
        posterior: the target.
        batch_size: rows of a batch.
        key: typed key.
    """
    if batch_size is None:
        return None
    return jax.random.choice(key, posterior.rows, (batch_size,), replace=False)


def begin(rows: int) -> Batches:
    """Nothing is left of the pass before the first, so that the first batch draws a permutation.

    Args:
        rows: their number.
    """
    return Batches(jnp.arange(rows, dtype=jnp.int32), jnp.asarray(rows, jnp.int32))


def epoch(rows: int, batch_size: int) -> int:
    """Whole batches of one pass; the rows that are over are others in every pass.

    Args:
        rows: of the training data.
        batch_size: rows of a batch.
    """
    return rows // batch_size


def next_batch(batches: Batches, batch_size: int, key: Array) -> tuple[Array, Batches]:
    """The next rows of the pass, or the first of a new one; traced.

    Args:
        batches: where the pass is.
        batch_size: rows of a batch.
        key: typed key, used where a permutation is drawn.

    Returns:
        Row numbers ``(batch_size,)``, and where the pass is then.
    """
    rows = batches.order.shape[0]
    over = batches.used >= epoch(rows, batch_size)
    order = jax.lax.cond(
        over, lambda: jax.random.permutation(key, batches.order), lambda: batches.order
    )
    used = jnp.where(over, 0, batches.used)
    batch = jax.lax.dynamic_slice(order, (used * batch_size,), (batch_size,))
    return batch, Batches(order, used + 1)


def independent_batch(rows: int, batch_size: int, key: Array) -> Array:
    """Rows drawn with replacement: the noise of one gradient says nothing of the next; traced.

    Args:
        rows: of the training data.
        batch_size: rows of a batch.
        key: typed key.
    """
    return jax.random.randint(key, (batch_size,), 0, rows, jnp.int32)
