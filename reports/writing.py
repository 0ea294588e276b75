"""The files of a report: in one format or in three, all of them or none."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bnnzoo.errors import InputError, OptionError, StorageError, brief, hint
from bnnzoo.reports import rendering

FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "html": rendering.to_html,
    "md": rendering.to_markdown,
    "json": rendering.to_json,
}
"""What a report can be written as."""


def check_target(path: str | Path, format: str | None = None) -> Path:
    """A path that a report can be written to, before it is made.

    Args:
        path: of the page, or of the one file.
        format: of the one file; None for a page with the others beside it.

    Raises:
        InputError: a folder, or an ending that is not the format's.
        OptionError: no such format.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path = {brief(path)}: the name of a file is needed, as report.html")
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise OptionError(f"format = {format!r}{hint(format, FORMATS)}")
    name = path.with_suffix(f".{format or 'html'}")
    if path.is_dir():
        raise InputError(
            f"{path} is a folder; give the page a name, such as {path / f'report{name.suffix}'}"
        )
    if path.suffix in {f".{other}" for other in FORMATS} - {name.suffix}:
        if format is None:
            raise InputError(
                f"{path} must name the page, such as {name}; "
                "Markdown and JSON are written beside it, or alone by format"
            )
        raise InputError(f"{path} is not named as {format}; give a name such as {name}")
    if path.suffix.lower() not in ("", name.suffix):
        every = ", ".join(f".{one}" for one in FORMATS)
        raise InputError(
            f"{path} ends in {path.suffix}, and a report in {every}; give a name such as {name}"
        )
    return path


def write(report: Mapping[str, Any], path: Path, format: str | None = None) -> list[Path]:
    """Write a report that was collected.

    Args:
        report: plain data.
        path: see :func:`check_target`.
        format: see :func:`check_target`.

    Returns:
        The files, that of ``path`` first.

    Raises:
        StorageError: one cannot be written; none is then left behind.
    """
    if format is not None:
        files = {path: FORMATS[format](report)}
    else:
        beside = {path.with_suffix(f".{name}"): name for name in ("md", "json")}
        files = {path: FORMATS["html"](report)}
        files |= {place: FORMATS[name](report) for place, name in beside.items()}
    # the page last: what stands beside it is there once it is
    _write({place: files[place] for place in reversed(files)})
    return list(files)


def _write(files: Mapping[Path, str]) -> None:
    """Write all files or none: each to a temporary name first, then all renamed."""
    folder = next(iter(files)).parent
    made: list[Path] = []
    waiting: list[tuple[Path, Path]] = []
    try:
        made = _make_folders(folder)
        for target, text in files.items():
            handle, name = tempfile.mkstemp(dir=folder, prefix=f".{target.name}.", suffix=".tmp")
            waiting.append((Path(name), target))
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o666 & ~_umask())  # mkstemp makes files only their owner can read
        for temporary, target in waiting:
            temporary.replace(target)
    except OSError as error:
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)
        for created in reversed(made):
            with contextlib.suppress(OSError):  # not empty: something else uses it by now
                created.rmdir()
        reason = error.strerror or str(error)
        raise StorageError(f"cannot write the report in {folder}: {reason}") from None


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns those that were missing, outermost first."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
