"""Single files out of tar archives, read in place: nothing is ever unpacked to the disk."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bnnzoo.errors import DataError


def read_members(place: Path, largest: int, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The content of the files that are wanted, in one pass over the archive.

    Args:
        place: the archive, compressed or not.
        largest: bytes that one of them may have.
        wanted: says for a name, as the archive has it, whether to read that file.

    Returns:
        Content by name. Folders and links are passed over, whatever their names.

    Raises:
        DataError: no tar archive, a cut one, or a file that is too long.
    """
    found = {}
    with _opened(place) as archive:
        for member in archive:
            if member.isreg() and wanted(member.name):
                if member.size > largest:
                    raise DataError(
                        f"{member.name} in {place} has {member.size} bytes, more than {largest}"
                    )
                found[member.name] = _stream(archive, member).read()
    return found


@contextmanager
def open_member(place: Path, name: str) -> Iterator[Any]:
    """One file of an archive that is not compressed, to seek in and read parts of.

    Raises:
        DataError: no tar archive, or none with that file.
    """
    with _opened(place) as archive:
        try:
            member = archive.getmember(name)
        except KeyError:
            raise DataError(f"{place} has no file {name!r}") from None
        if not member.isreg():
            raise DataError(f"{name} in {place} is not a file")
        yield _stream(archive, member)


@contextmanager
def _opened(place: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(place) as archive:
            yield archive
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        reason = str(error).partition(":\n")[0]  # one line a compression it is not of
        raise DataError(f"{place} cannot be read as a tar archive: {reason}") from None


def _stream(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    stream = archive.extractfile(member)
    assert stream is not None  # it is None for what is not a regular file
    return stream
