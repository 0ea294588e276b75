"""Processes meet before JAX joins them: what goes wrong there is one line, and nobody is killed.

JAX ends a process, with a stack trace, where its coordinator or one of the others does not come.
"""

from __future__ import annotations

import contextlib
import socket
import time

from bnnzoo.errors import InputError, RunError

GO = b"go"


def gather(port: int, processes: int, timeout: float) -> None:
    """Wait at a port until all other processes have said who they are, then let them go.

    Args:
        port: where process 0 will listen.
        processes: how many there are, this one included.
        timeout: seconds to wait.

    Raises:
        InputError: one that says it is another's double, or one of another number.
        RunError: the port cannot be had, or not all have come.
    """
    end = time.monotonic() + timeout
    there: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(port))
        try:
            while len(there) < processes - 1:
                server.settimeout(max(0.01, end - time.monotonic()))
                try:
                    connection = stack.enter_context(server.accept()[0])
                    connection.settimeout(5.0)
                    number, count = map(int, connection.recv(64).split())
                except TimeoutError:
                    if time.monotonic() < end:
                        continue
                    away = [str(i) for i in range(1, processes) if i not in there]
                    raise RunError(
                        f"process {', '.join(away)} of {processes} did not come to port {port} "
                        f"within {timeout:g} s"
                    ) from None
                except (ValueError, OSError):
                    continue  # somebody else knocked
                if number in there or count != processes:
                    raise InputError(
                        f"a process came as number {number} of {count}, where {processes} are "
                        "awaited, each with a number of its own"
                    )
                there[number] = connection
            for connection in there.values():
                connection.sendall(GO)
        except (InputError, RunError) as error:
            for connection in there.values():
                with contextlib.suppress(OSError):
                    connection.sendall(str(error).encode())
            raise
        for connection in there.values():  # they hang up first, which leaves the port free
            with contextlib.suppress(OSError):
                connection.recv(1)


def _listen(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
            )
        return socket.create_server(("", port), backlog=128)
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise RunError(f"process 0 cannot listen at port {port}: {words}") from None


def come(host: str, port: int, process_id: int, processes: int, timeout: float) -> None:
    """Say to process 0 who this is, and wait until all have.

    Args:
        host: where process 0 is.
        port: where it listens.
        process_id: which this is.
        processes: how many there are.
        timeout: seconds to wait.

    Raises:
        RunError: it cannot be reached, or has given up.
    """
    end = time.monotonic() + timeout
    said = b""
    while not said:
        left = end - time.monotonic()
        try:
            with socket.create_connection((host, port), timeout=max(0.1, min(5.0, left))) as line:
                line.sendall(f"{process_id} {processes}".encode())
                line.settimeout(max(0.1, left))
                said = line.recv(1024)
        except socket.gaierror:
            raise RunError(f"coordinator {host}:{port}: no host of that name is known") from None
        except OSError as error:
            if left <= 0:
                words = (error.strerror or str(error)).lower()
                raise RunError(
                    f"coordinator {host}:{port} cannot be reached ({words}, {timeout:g} s long): "
                    "is process 0 running there?"
                ) from None
        if not said:
            time.sleep(0.2)
    if said != GO:
        raise RunError(f"process 0 has given up: {said.decode(errors='replace')}")
