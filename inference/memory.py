"""Memory that passing draws leave behind goes back to the system.

The allocator of Linux's C library keeps, thread by thread, what buffers of a few megabytes leave
behind: up to a quarter of the process after gigabytes of draws have gone through it.
"""

from __future__ import annotations

import ctypes
import threading

EVERY_BYTES = 64 * 2**20
"""Bytes of draws between two times that memory is handed back: that takes milliseconds."""

_passed = 0
_lock = threading.Lock()


def let_pass(size: int) -> None:
    """Note that a buffer of draws is on its way; now and then, hand free memory back.

    Args:
        size: bytes.
    """
    global _passed
    with _lock:
        _passed += size
        due = _passed >= EVERY_BYTES
        if due:
            _passed = 0
    if due:
        hand_back()


def hand_back() -> None:
    """Give free memory back to the system, where its C library can (glibc)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return
