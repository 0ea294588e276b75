"""Small files in the place of published ones, in a data folder of the test's own."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bnnzoo.datasets import load_dataset
from bnnzoo.datasets._remote import RemoteFile
from bnnzoo.errors import DataError


class OwnFolder:
    """The folder that ``BNNZOO_DATA`` names during a test; nothing is downloaded."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BNNZOO_DATA", str(folder))
        monkeypatch.setenv("BNNZOO_OFFLINE", "1")
        self.folder = folder

    def put(self, file: RemoteFile, content: bytes) -> RemoteFile:
        """Write ``content`` where ``file`` belongs; returns the description that fits it."""
        place = self.folder / file.path
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        return replace(file, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def refused(
    words: Iterable[str], name: str, error: type[Exception] = DataError, **options: Any
) -> None:
    """Loading raises ``error``, one line with these words."""
    with pytest.raises(error) as caught:
        load_dataset(name, **options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


def tar(
    files: Mapping[str, bytes], mode: Any = "w", links: Iterable[tuple[str, str]] = ()
) -> bytes:
    """A tar archive of files by name, and before them symbolic links to targets."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def without(files: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The files whose name does not hold ``name``."""
    return {key: value for key, value in files.items() if name not in key}
