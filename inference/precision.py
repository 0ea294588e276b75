"""float32 or float64 for one block of code, without touching JAX's global configuration."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax


def precision(dtype: str) -> AbstractContextManager[None]:
    """Context in which JAX computes in ``float32`` or ``float64``.

    It is local to a thread: every worker has to enter it.
    """
    return jax.enable_x64(dtype == "float64")
