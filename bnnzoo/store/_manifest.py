"""``manifest.json``: what a run folder holds, written last, and the check that it still does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from bnnzoo.errors import CorruptRunError, RunError, hint
from bnnzoo.store._files import (
    CHECKPOINT_FOLDER,
    MANIFEST_FILE,
    TEMPORARY,
    TREE_FOLDER,
    reason,
    write_file,
)

FORMAT = 1
"""Version of the folder's layout."""


def write_manifest(path: str | Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest of the run at ``path``, atomically.

    Args:
        path: the run folder.
        manifest: plain data, NumPy scalars and arrays allowed. ``format`` is added, and so is
            the ``fingerprint`` of the manifest it replaces unless a new one is given.

    Raises:
        StorageError: it could not be written; the old manifest is still there.
    """
    path = Path(path)
    content = {"format": FORMAT, **manifest}
    if "fingerprint" not in content and (path / MANIFEST_FILE).exists():
        kept = read_manifest(path).get("fingerprint")
        content |= {} if kept is None else {"fingerprint": kept}
    text = json.dumps(content, indent=1, default=_plain) + "\n"
    write_file(path / MANIFEST_FILE, lambda file: file.write(text.encode()))


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of the run at ``path``.

    Raises:
        RunError: there is no such folder.
        CorruptRunError: the manifest is missing, not JSON, or of another format.
    """
    path = Path(path)
    file = path / MANIFEST_FILE
    try:
        manifest = json.loads(file.read_bytes())
    except FileNotFoundError:
        if not path.exists():
            raise RunError(f"no run at {path}{hint(path.name, _runs_beside(path))}") from None
        raise CorruptRunError(f"{file} is missing: not a run, or not a whole one") from None
    except NotADirectoryError:
        raise RunError(f"no run at {path}: it is not a folder") from None
    except OSError as error:
        raise CorruptRunError(f"cannot read {file}: {reason(error)}") from None
    except (ValueError, RecursionError):
        raise CorruptRunError(f"{file} is not valid JSON") from None
    if not isinstance(manifest, dict):
        raise CorruptRunError(f"{file} holds no JSON object")
    if manifest.get("format") != FORMAT:
        raise CorruptRunError(
            f"{file} has format {manifest.get('format')!r}; this version reads format {FORMAT}"
        )
    return manifest


def file_hashes(path: str | Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of a run but its manifest and checkpoints.

    Args:
        path: the run folder.

    Returns:
        ``{"draws.zarr/zarr.json": {"bytes": 12, "sha256": "..."}, ...}``, names sorted and
        with forward slashes: the entry ``files`` of a manifest.
    """
    path = Path(path)
    return {name: _fingerprint(path / name) for name in _files(path)}


def verify(path: str | Path) -> dict[str, Any]:
    """Check every file against the manifest.

    Args:
        path: the run folder.

    Returns:
        The manifest.

    Raises:
        RunError: there is no such folder.
        CorruptRunError: the first file that is missing, truncated, changed or not in the manifest.
    """
    path = Path(path)
    manifest = read_manifest(path)
    recorded = manifest.get("files", {})
    if not isinstance(recorded, dict):
        raise CorruptRunError(f"{path / MANIFEST_FILE}: 'files' is not an object")
    for name, expected in recorded.items():
        _check(path, name, expected)
    for name in _files(path, TREE_FOLDER):
        if name not in recorded:
            raise CorruptRunError(f"{path / name} is not in the manifest")
    return manifest


def _check(path: Path, name: str, expected: Any) -> None:
    file = path / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise CorruptRunError(f"{path / MANIFEST_FILE} names {name!r}, outside the run")
    size_recorded = expected.get("bytes") if isinstance(expected, dict) else None
    if not isinstance(size_recorded, int):
        raise CorruptRunError(f"{path / MANIFEST_FILE} has no size and hash for {name!r}")
    try:
        size = file.stat().st_size
        if size < size_recorded:
            raise CorruptRunError(f"{file} is truncated: {size} of {size_recorded} bytes")
        if _fingerprint(file) != expected:
            raise CorruptRunError(f"{file} has changed since the run was written")
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptRunError(f"{file} is missing") from None
    except OSError as error:
        raise CorruptRunError(f"cannot read {file}: {reason(error)}") from None


def _files(path: Path, below: str = "") -> list[str]:
    """Names of a run's files, relative to it, sorted."""
    found = []
    for folder, folders, names in os.walk(path / below):
        if Path(folder) == path:
            folders[:] = [
                f for f in folders if f != CHECKPOINT_FOLDER and not f.startswith(TEMPORARY)
            ]
            names = [n for n in names if n != MANIFEST_FILE and not n.startswith(TEMPORARY)]
        found += [(Path(folder) / name).relative_to(path).as_posix() for name in names]
    return sorted(found)


def _fingerprint(file: Path) -> dict[str, Any]:
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return {"bytes": os.fstat(opened.fileno()).st_size, "sha256": digest}


def _runs_beside(path: Path) -> list[str]:
    parent = path.parent
    return [p.parent.name for p in parent.glob(f"*/{MANIFEST_FILE}")] if parent.is_dir() else []


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a manifest cannot hold a {type(value).__name__}")
