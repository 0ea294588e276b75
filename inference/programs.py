"""Compiled programs: let go before there are too many, made in less time, run side by side.

Every program that XLA compiles for a CPU takes some of a process's memory maps, and JAX keeps them
all. Linux allows a process 65,530 by default, and beyond them the compiler crashes without a word,
as it did in a long test session.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from threadpoolctl import threadpool_limits

SHARE = 0.6
"""Of the maps a process may have, at which programs are dropped."""

_LIMITING = threading.Lock()
_limited = 0
_limits: Any = None
"""Contexts of :func:`side_by_side` that are open, and how LAPACK was set before the first."""

_MAPS = Path("/proc/self/maps")
_MOST = Path("/proc/sys/vm/max_map_count")


def make_room() -> bool:
    """Drop every compiled program where the process is near its limit of memory maps.

    Returns:
        Whether they were dropped: what is needed again is compiled again.
    """
    try:
        most = int(_MOST.read_text())
        with _MAPS.open("rb") as maps:
            used = sum(1 for _ in maps)
    except (OSError, ValueError):
        return False  # not Linux
    if used < SHARE * most:
        return False
    jax.clear_caches()
    return True


@contextlib.contextmanager
def side_by_side(several: bool = True) -> Iterator[None]:
    """Context for several threads that each run a program: LAPACK takes one thread for a call.

    Its own threads wait for each other by spinning: beside another process on the same cores an
    eigendecomposition of 20 ms took a quarter of a second. It is the process's setting, not a
    thread's: of several such contexts at a time the first sets it and the last to end sets it back.

    Args:
        several: False changes nothing: a single program has all cores.
    """
    global _limits, _limited
    if not several:
        yield
        return
    with _LIMITING:
        _limited += 1
        if _limited == 1:
            _limits = threadpool_limits(1, user_api="blas")
    try:
        yield
    finally:
        with _LIMITING:
            _limited -= 1
            if _limited == 0:
                _limits.restore_original_limits()
                _limits = None


@contextlib.contextmanager
def compiled_quickly(wanted: bool = True) -> Iterator[None]:
    """Context in which programs are compiled in about half the time, to run up to twice as long.

    For what is run once on little data. It is the process's setting, not a thread's.

    Args:
        wanted: False changes nothing.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", wanted or before)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
