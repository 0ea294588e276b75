"""Files that are not part of the package: found in a folder of the user's, kept, or downloaded."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from bnnzoo.cache import cache_folder
from bnnzoo.errors import InputError

BLOCK = 1 << 20
"""Bytes read at a time."""


@dataclass(frozen=True)
class RemoteFile:
    """One published file, byte for byte.

    Attributes:
        path: where it lies under the data folder, with forward slashes: ``uci/boston.txt``.
        url: its address.
        sha256: hash of its content, in hexadecimal.
        size: its length in bytes; nothing longer is ever accepted.
    """

    path: str
    url: str
    sha256: str
    size: int

    def is_at(self, place: Path) -> bool:
        """Whether ``place`` holds exactly this file."""
        try:
            return place.stat().st_size == self.size and sha256_of(place) == self.sha256
        except OSError:
            return False


def fetch(file: RemoteFile) -> Path:
    """The file on this machine, its hash checked.

    Looked for in the folder that the environment variable ``BNNZOO_DATA`` names, then in the
    cache (:func:`bnnzoo.cache.cache_folder`), then downloaded to the cache, unless
    ``BNNZOO_OFFLINE`` is set.

    Returns:
        Where it is.

    Raises:
        InputError: the user's own folder does not exist or has another file there, the file is
            nowhere and may not or cannot be downloaded, or the download is not what was published.
        StorageError: the cache cannot be written.
    """
    own = os.environ.get("BNNZOO_DATA")
    if own and not Path(own).expanduser().is_dir():
        raise InputError(f"BNNZOO_DATA names {own}, which is no folder")
    if own and (place := Path(own).expanduser() / file.path).exists():
        if file.is_at(place):
            return place
        raise InputError(
            f"{place} is not the published file ({file.size} bytes, SHA-256"
            f" {file.sha256[:12]}...): remove it from BNNZOO_DATA, or put the file from"
            f" {file.url} there"
        )
    place = cache_folder() / file.path
    if file.is_at(place):
        return place
    if os.environ.get("BNNZOO_OFFLINE", "0") not in ("", "0"):
        raise InputError(f"{where_to_put(file)} (BNNZOO_OFFLINE is set: nothing is downloaded)")
    from bnnzoo.datasets._download import download  # loads ssl and http: only where needed

    download(file, place)
    return place


def where_to_put(file: RemoteFile) -> str:
    """What a user without a network is told to do."""
    return f"{file.path} is not on this machine: download {file.url} and {save_as(file)}"


def save_as(file: RemoteFile) -> str:
    """Where a file that a user has would be found."""
    return (
        f"save it as {cache_folder() / file.path}, or as {file.path} in the folder that"
        " BNNZOO_DATA names"
    )


def sha256_of(place: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(place, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
