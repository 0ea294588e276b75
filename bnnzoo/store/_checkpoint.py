"""``checkpoint/`` and ``ends.npz``: what a run goes on from, as archives of plain arrays."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bnnzoo.errors import CorruptRunError
from bnnzoo.store._files import (
    CHECKPOINT_FOLDER,
    ENDS_FILE,
    reason,
    remove,
    storing,
    write_file,
)

_ARRAY = "array/"  # an array may have any name, "file" and "meta" included
_META = "meta"


def save_checkpoint(
    path: str | Path, name: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> None:
    """Replace the checkpoint ``name`` of the run at ``path``, atomically.

    Args:
        path: the run folder.
        name: such as ``chain-0``; :func:`discard_unstarted` keeps a run that has one of a chain.
        arrays: arrays of numbers or booleans, of any shape.
        meta: plain data that JSON can hold.

    Raises:
        StorageError: it could not be written; the old checkpoint is still there.
        TypeError: an array holds Python objects.
    """
    folder = Path(path) / CHECKPOINT_FOLDER
    with storing(folder):
        folder.mkdir(exist_ok=True)
    _save(folder / f"{name}.npz", arrays, meta)


def save_ends(path: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Replace ``ends.npz`` of the finished run at ``path``, atomically.

    Args:
        path: the run folder.
        arrays: arrays of numbers or booleans, of any shape.
        meta: plain data that JSON can hold.

    Raises:
        StorageError: it could not be written.
        TypeError: an array holds Python objects.
    """
    _save(Path(path) / ENDS_FILE, arrays, meta)


def _save(file: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    kept = {_ARRAY + key: np.asarray(value) for key, value in arrays.items()}
    for key, value in kept.items():
        if value.dtype.hasobject:
            raise TypeError(f"checkpoint array {key.removeprefix(_ARRAY)!r} holds Python objects")
    kept[_META] = np.frombuffer(json.dumps(dict(meta)).encode(), np.uint8)
    write_file(file, lambda opened: np.savez(opened, allow_pickle=False, **kept))


def load_checkpoint(
    path: str | Path, name: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays and plain data of a checkpoint, or None where there is none.

    Raises:
        CorruptRunError: the file is truncated or changed, or holds anything but plain arrays.
    """
    return _load(Path(path) / CHECKPOINT_FOLDER / f"{name}.npz")


def load_ends(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays and plain data of ``ends.npz``, or None where there is none.

    Raises:
        CorruptRunError: the file is truncated or changed, or holds anything but plain arrays.
    """
    return _load(Path(path) / ENDS_FILE)


def _load(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as archive:
            content = {key: archive[key] for key in archive.files}
        meta = json.loads(content.pop(_META).tobytes())
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, TypeError, AttributeError):
        raise CorruptRunError(
            f"{file} is not a whole checkpoint; delete it to start again"
        ) from None
    except OSError as error:
        raise CorruptRunError(f"cannot read {file}: {reason(error)}") from None
    return {key.removeprefix(_ARRAY): value for key, value in content.items()}, meta


def remove_checkpoints(path: str | Path) -> None:
    """Remove the checkpoints of the run at ``path``: it is finished."""
    remove(Path(path) / CHECKPOINT_FOLDER)
