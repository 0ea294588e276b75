"""Compiled programs: let go before there are too many for the system, or made in less time.

Every program that XLA compiles for a CPU takes some of a process's memory maps, and JAX keeps them
all. Linux allows a process 65,530 by default, and beyond them the compiler crashes without a word,
as it did in a long test session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax

SHARE = 0.6
"""Of the maps a process may have, at which programs are dropped."""

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
