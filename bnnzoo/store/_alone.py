"""A folder that one process at a time writes to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnnzoo.errors import InputError
from bnnzoo.store._files import storing


@contextmanager
def alone(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a folder; another process or thread that wants to hold it is refused.

    The system lets go of it when a process dies. Where folders have no locks (Windows, some network
    drives) nobody is refused.

    Args:
        path: the folder; made, with its parents, where it does not exist. What was made and is
            empty at an error goes again.

    Raises:
        InputError: somebody else holds it.
        StorageError: it cannot be made.
    """
    path = Path(path)
    with storing(path):
        made = [p for p in (path, *path.parents) if not p.exists()]
        path.mkdir(parents=True, exist_ok=True)
    try:
        handle = _hold(path)
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)
    except BaseException:
        for folder in made:  # innermost first; one that holds something stays
            with suppress(OSError):
                folder.rmdir()
        raise


def _hold(path: Path) -> int | None:
    """A handle with the lock, which goes when it is closed; None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    with storing(path):
        handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"another process is at work in {path}: wait for it, or give another folder with --out"
        ) from None
    except OSError:
        os.close(handle)
        return None
    return handle
