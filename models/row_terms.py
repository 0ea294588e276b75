"""Log-likelihood terms, one a training row, and those of rows that do not count."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from bnnzoo.errors import InputError
from bnnzoo.models.score import Scored


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


def of_rows(seen: Scored, rows: int) -> Array:
    """Every row's log-likelihood ``(row,)``, summed over observed sites; traced.

    Args:
        seen: what one pass over the model saw.
        rows: how many rows that was of.
    """
    total = jnp.zeros(rows)
    for name, (fn, value, weight) in seen.observed.items():
        terms = fn.log_prob(value) * weight
        check(name, terms, rows)
        total = total + terms.reshape(rows, -1).sum(1)
    return total


def summed(name: str, terms: Array, counted: Array) -> Array:
    """The sum over the rows that count; traced.

    Selected, not multiplied by a weight of 0: the terms of another row are those of a real one,
    finite where it is, and neither they nor their gradients are seen.

    Args:
        name: of the observed site.
        terms: its log-likelihood terms ``(row, ...)``.
        counted: which rows do ``(row,)``.
    """
    check(name, terms, len(counted))
    return jnp.sum(jnp.where(counted.reshape(-1, *(1,) * (terms.ndim - 1)), terms, 0.0))
