"""float32 or float64 for one block of code, without touching JAX's global configuration."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp

_last: str | None = None
"""Precision in which a user's own model was last traced in this process."""


def precision(dtype: str) -> AbstractContextManager[None]:
    """Context in which JAX computes in ``float32`` or ``float64``.

    It is local to a thread: every worker has to enter it.
    """
    return jax.enable_x64(dtype == "float64")


def begin(dtype: str) -> None:
    """Before a user's own model is traced: forget what JAX kept of it in the other precision.

    JAX 0.12 remembers the type of a NumPy constant across ``enable_x64``: a model that closes over
    a float64 array and was run in one precision fails to lower in the other.

    Args:
        dtype: ``float32`` or ``float64``.
    """
    global _last
    if _last not in (None, dtype):
        jax.clear_caches()
    _last = dtype


def strongly_typed(tree: Any) -> Any:
    """The same with types that a loop keeps: a weakly typed leaf would compile it a second time.

    Args:
        tree: of arrays and numbers; traced.
    """
    return jax.tree.map(
        lambda leaf: jax.lax.convert_element_type(leaf, jnp.result_type(leaf)), tree
    )
