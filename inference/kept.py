"""Numbers kept as files: plain JSON with a format, a checksum and every number as it was."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnnzoo.errors import CorruptRunError, InputError, hint_file
from bnnzoo.store import write_bytes

FORMAT = 1
"""Of the file; raised when a field changes its meaning."""

SUFFIX = ".json"


def plain(value: Any) -> Any:
    """Data that JSON can hold and :func:`restored` gives back; tuples and arrays become lists.

    Args:
        value: numbers, text, lists, tuples, mappings with names as keys, arrays.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy and JAX
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}  # strict JSON has no infinity
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def restored(value: Any) -> Any:
    """What :func:`plain` was given, with lists for tuples and arrays.

    Args:
        value: as JSON gives it.
    """
    if isinstance(value, dict):
        if value.keys() == {"float"} and isinstance(value["float"], str):
            return float(value["float"])
        return {k: restored(v) for k, v in value.items()}
    return [restored(v) for v in value] if isinstance(value, list) else value


def check_target(path: str | os.PathLike[str]) -> Path:
    """A path that a number can be kept under, before it is made.

    Args:
        path: of the file.

    Raises:
        InputError: a folder, or another ending than ``.json``.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the file a name, such as {path / 'kept.json'}")
    if path.suffix != SUFFIX:
        name = path.with_suffix(SUFFIX)
        raise InputError(f"{path}: numbers are kept as JSON; give a name such as {name}")
    return path


def write(path: str | os.PathLike[str], what: str, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all; missing folders are made.

    Args:
        path: of the file, ending in ``.json``.
        what: kind of content, such as ``evidence``.
        content: see :func:`plain`.

    Raises:
        InputError: as :func:`check_target`.
        StorageError: it cannot be written.
    """
    path = check_target(path)
    kept = plain(content)
    whole = {"bnnzoo": what, "format": FORMAT, "sha256": _checksum(kept), "content": kept}
    write_bytes(path, (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode())


def read(path: str | os.PathLike[str], kinds: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """What a file holds: its kind and its content.

    Args:
        path: of the file.
        kinds: what is wanted, such as ``evidence``.

    Raises:
        InputError: no such file, or one that holds something else.
        CorruptRunError: it was changed or is of another format.
    """
    path = Path(path)
    wanted = " or ".join(kinds)
    try:
        whole = json.loads(path.read_bytes())
    except FileNotFoundError:
        folder = path.parent
        others = [p.name for p in folder.glob(f"*{SUFFIX}")] if folder.is_dir() else []
        raise InputError(f"cannot read {path}: no such file{hint_file(path, others)}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or '').lower()}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not valid JSON: it holds no {wanted}") from None
    if not isinstance(whole, dict) or whole.get("bnnzoo") not in kinds:
        raise InputError(f"{path} holds no {wanted} that was kept by bnnzoo")
    if whole.get("format") != FORMAT:
        raise CorruptRunError(
            f"{path} has format {whole.get('format')!r}; this version reads format {FORMAT}"
        )
    content = whole.get("content")
    if not isinstance(content, dict) or whole.get("sha256") != _checksum(content):
        raise CorruptRunError(f"{path} was changed since it was written")
    return whole["bnnzoo"], restored(content)


def _checksum(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def incomplete(path: str | os.PathLike[str], error: Exception) -> CorruptRunError:
    """The error for a file whose content lacks a part.

    Args:
        path: of the file.
        error: what reading the part raised.
    """
    return CorruptRunError(f"{path} is incomplete: {type(error).__name__} {error}")
