"""A web server on this machine that misbehaves as told, and remembers what it was asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bnnzoo.datasets._remote import RemoteFile


class Server(ThreadingHTTPServer):
    """Serves ``content`` at every path.

    Attributes:
        content: the bytes it has.
        ranges: whether it honours range requests and says so.
        cuts: lengths after which it breaks off, one a response, then no more.
        lengths: whether it says how long an answer is.
        shift: how far off the parts are that it sends.
        redirect: an address to send everyone to.
        status: what it answers, if not the content.
        asked: the Range header (or None) of every request.
        sent: body bytes of every answer.
        gate: set it to let answers go out; open from the start.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.ranges = True
        self.cuts: list[int] = []
        self.lengths = True
        self.shift = 0
        self.redirect = ""
        self.status = 200
        self.asked: list[str | None] = []
        self.sent: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file"

    def file(self, content: bytes | None = None, path: str = "a/file.txt") -> RemoteFile:
        """The description of ``content`` (default: what is served) at this server."""
        content = self.content if content is None else content
        return RemoteFile(path, self.url, hashlib.sha256(content).hexdigest(), len(content))


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        server.gate.wait(10)
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        body, start = server.content, 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) + server.shift
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
            if server.ranges:
                self.send_header("Accept-Ranges", "bytes")
        body = body[start:]
        if server.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts:
            body = body[: server.cuts.pop(0)]
        server.sent.append(len(body))
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
