"""Log-likelihood terms, one a training row, and those of rows that are only there to fill up."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from bnnzoo.errors import InputError


def check(name: str, terms: Array, rows: int) -> None:
    """Raise ``InputError`` where a site's terms have no leading axis of rows.

    Args:
        name: of the observed site.
        terms: its log-likelihood terms, any shape.
        rows: how many rows it saw.
    """
    if terms.ndim == 0 or terms.shape[0] != rows:
        raise InputError(
            f"observed site {name!r} has log-likelihood terms of shape {terms.shape}, "
            f"not one a row ({rows})"
        )


def without_padding(name: str, terms: Array, padding: int, rows: int) -> Array:
    """The same with zeros in the last rows; traced.

    Selected, not multiplied by a weight of 0: the terms of a padded row are those of a real one,
    finite where it is, and neither they nor their gradients are seen.

    Args:
        name: of the observed site.
        terms: its log-likelihood terms ``(row, ...)``.
        padding: rows at the end that count for nothing.
        rows: how many rows it saw, those included.
    """
    check(name, terms, rows)
    real = jnp.arange(rows) < rows - padding
    return jnp.where(real.reshape(-1, *(1,) * (terms.ndim - 1)), terms, 0.0)
