"""One file from the network: checked while it arrives, resumed where it broke off, moved whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bnnzoo.datasets._remote import BLOCK, RemoteFile, save_as, sha256_of, where_to_put
from bnnzoo.errors import InputError
from bnnzoo.store._files import storing

TRIES = 3
"""Connections in a row that may break without bringing a byte."""

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""


class _BrokenError(Exception):
    """The connection ended early; what arrived is kept where it can be used."""


class _WrongContentError(Exception):
    """What arrives is not the published file; no part of it is worth keeping."""


def download(file: RemoteFile, place: Path) -> None:
    """Download ``file`` to ``place``; nobody ever sees a part of it there.

    What a broken connection left in ``<place>.part`` is continued with a range request. Several
    processes may ask for the same file: one downloads, the others wait for it.

    Raises:
        InputError: an address that is not HTTPS, a server that cannot be reached or refuses, or
            content of another length or hash.
        StorageError: the folder cannot be written.
    """
    _refuse_insecure(file)
    part = place.with_name(place.name + ".part")
    with storing(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place):
        if file.is_at(place):  # another process was faster
            return
        try:
            _complete(file, part)
        except _WrongContentError as error:
            raise InputError(
                f"{file.url} {error}; nothing was kept. If you have the published file,"
                f" {save_as(file)}"
            ) from None
        with storing(place.parent):
            os.replace(part, place)


def _complete(file: RemoteFile, part: Path) -> None:
    """Bring ``part`` to its full length, over as many connections as that takes."""
    fruitless, restarted = 0, False
    with _progress(file) as show:
        while fruitless < TRIES:
            held = _length(part)
            try:
                if held < file.size:
                    _receive(file, part, show)
                else:
                    _compare(sha256_of(part), file)
                return
            except _BrokenError as error:
                reason = str(error)
            except _WrongContentError:
                part.unlink(missing_ok=True)
                if restarted or not held:
                    raise
                restarted = True  # the file may have changed between its parts: from the start
                continue
            fruitless = 0 if _length(part) > held else fruitless + 1
    kept = f"; {_length(part)} of {file.size} bytes are kept" if part.exists() else ""
    raise InputError(f"{where_to_put(file)} ({reason}{kept})")


def _receive(file: RemoteFile, part: Path, show: Callable[[int], None]) -> None:
    """One connection: the rest of the file, hashed while it is written."""
    held = _length(part)
    with _open(file, held) as response:
        if response.status != 206:  # all of it, whatever part was asked for
            held = 0
        _refuse_length(response, held, file)
        digest = hashlib.sha256()
        if held:
            with open(part, "rb") as begun:
                while block := begun.read(BLOCK):
                    digest.update(block)
        try:
            with storing(part.parent), open(part, "ab" if held else "wb") as out:
                for block in _blocks(response):
                    held += len(block)
                    if held > file.size:
                        raise _WrongContentError(f"sends more than the expected {file.size} bytes")
                    out.write(block)
                    digest.update(block)
                    show(held)
            if held < file.size:
                raise _BrokenError("the connection ended early")
        except _BrokenError:
            # A server without ranges sends everything again: its part is of no use.
            if response.status != 206 and response.headers.get("Accept-Ranges") != "bytes":
                part.unlink()
            raise
    _compare(digest.hexdigest(), file)


def _blocks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            block = response.read1(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(f"the connection broke: {_words(error)}") from None
        if not block:
            return
        yield block


def _open(file: RemoteFile, held: int) -> Any:
    request = urllib.request.Request(file.url, headers={"User-Agent": "bnnzoo"})
    if held:
        request.add_header("Range", f"bytes={held}-")
    try:
        return urllib.request.build_opener(_OnlyHttps).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if held and error.code == 416:
            raise _WrongContentError(f"has no more than {held} bytes") from None
        answer = f"the server answers {error.code} {error.reason}"
        raise InputError(f"{where_to_put(file)} ({answer})") from None
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{where_to_put(file)} (no connection: {_words(error)})") from None


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTPS alone."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Refuse any other scheme."""
        if urlsplit(newurl).scheme != "https":
            raise InputError(f"{req.full_url} redirects to {newurl}, which is not HTTPS: refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refuse_insecure(file: RemoteFile) -> None:
    parts = urlsplit(file.url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return
    raise InputError(f"{file.url} is not an HTTPS address: refused")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_length(response: Any, held: int, file: RemoteFile) -> None:
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and held + int(length) != file.size:
        raise _WrongContentError(f"has {held + int(length)} bytes; {file.size} are expected")


def _compare(sha256: str, file: RemoteFile) -> None:
    if sha256 != file.sha256:
        raise _WrongContentError(
            f"has SHA-256 {sha256[:12]}..., not {file.sha256[:12]}... as published"
        )


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _words(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return (getattr(reason, "strerror", None) or str(reason) or type(reason).__name__).lower()


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold the lock of one file; another process waits here.

    The system lets go of it when a process dies. Where there are no such locks (Windows), two
    downloads at once can only end in a wrong hash, which is refused.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with storing(place.parent):
        lock = open(place.with_name(f".{place.name}.lock"), "wb")  # noqa: SIM115
    with lock:
        with storing(place.parent):  # some network drives have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _progress(file: RemoteFile) -> Iterator[Callable[[int], None]]:
    """A function that shows how much has arrived: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda held: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(file.path, total=file.size)
        yield lambda held: progress.update(task, completed=held)
