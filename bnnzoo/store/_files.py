"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from bnnzoo.errors import StorageError

RUN_FILE = "run.toml"
TREE_FOLDER = "draws.zarr"
MANIFEST_FILE = "manifest.json"
CHECKPOINT_FOLDER = "checkpoint"
ENDS_FILE = "ends.npz"
CHAIN_PREFIX = "chain-"
"""How the names of checkpoints that hold progress begin."""
TEMPORARY = ".tmp-"
"""Prefix of what a killed process may leave behind."""

_REASONS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the size limit",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "a file is in the way",
    errno.ENAMETOOLONG: "the name is too long",
}


def reason(error: OSError) -> str:
    """Why the system refused, in words."""
    return _REASONS.get(error.errno or 0) or (error.strerror or str(error)).lower()


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Turn any failure to write into a ``StorageError`` that names ``folder``."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {reason(error)}") from error


_passing: set[Path] = set()
"""Folders of :func:`temporary_folder` that are there."""


class _Handle:
    """Kept as long as a folder; ``TemporaryDirectory`` would warn that it goes by itself."""


def temporary_folder() -> tuple[Path, object]:
    """A folder that lives as long as the handle returned with it.

    No writer waits for the disk in it. A small run writes a hundred files, which together would
    wait for as long as it samples.
    """
    folder, handle = Path(tempfile.mkdtemp(prefix="bnnzoo-")), _Handle()
    _passing.add(folder)
    weakref.finalize(handle, _end, folder)
    return folder, handle


def _end(folder: Path) -> None:
    remove(folder)
    _passing.discard(folder)


def _stays(path: Path) -> bool:
    return _passing.isdisjoint((path, *path.parents))


def temporary_for(target: Path) -> Path:
    """A name beside ``target`` that no other process uses; renaming to it stays on one disk."""
    return target.with_name(f"{TEMPORARY}{os.getpid()}-{target.name}")


def write_file(target: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Replace ``target`` by what ``fill`` writes, on the disk before its name is.

    Args:
        target: the file; its folder exists.
        fill: writes the content to an open binary file.

    Raises:
        StorageError: it could not be written; ``target`` is as it was.
    """
    temporary = temporary_for(target)
    with storing(target.parent):
        try:
            with open(temporary, "wb") as file:
                fill(file)
                sync(file)
            os.replace(temporary, target)
        except BaseException:
            remove(temporary)
            raise
        sync_folder(target.parent)


def write_bytes(target: str | os.PathLike[str], content: bytes) -> None:
    """Replace ``target`` by some bytes, whole or not at all; missing folders are made.

    Args:
        target: the file.
        content: what it is to hold.

    Raises:
        StorageError: it could not be written; ``target`` is as it was.
    """
    target = Path(target)
    with storing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, lambda file: file.write(content))


def sync(file: BinaryIO) -> None:
    """Wait until what was written is on the disk."""
    file.flush()
    if _stays(Path(file.name)):
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk."""
    if os.name != "posix" or not _stays(folder):  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or folder as far as that is possible; never raises."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
