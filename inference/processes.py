"""Several processes that make one run: who leads, and what the others are told.

Every process runs the same program on its own part of the devices. Process 0 leads: it alone
writes the run folder, and what it alone knows (a clock, a checkpoint) it tells the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bnnzoo import errors
from bnnzoo.errors import BnnzooError, InputError, ProcessLostError, RunError
from bnnzoo.inference import meeting

CONNECT_SECONDS = 300.0
"""How long processes wait for one another at the start."""

SHARED_SECONDS = 60.0
"""How long a file of process 0 may take to show in the others."""

LEAST_MESSAGE = 1024
"""Bytes of the shortest message; lengths are powers of two, so that few programs are compiled."""


def start_distributed(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    timeout: float = CONNECT_SECONDS,
) -> None:
    """Make this process one of several that fit together; before anything else is computed.

    All of them then call ``fit`` with the same arguments. Under SLURM, Open MPI and Kubernetes
    nothing needs to be given.

    Args:
        coordinator: ``host:port`` at which process 0 listens; found by the scheduler's environment
            if not given.
        processes: how many there are.
        process_id: which this is, from 0.
        timeout: seconds to wait for the others.

    Raises:
        InputError: an argument that cannot be used, or no scheduler that says what was left out.
        RunError: the coordinator cannot be reached, or the others did not come.
    """
    if jax.distributed.is_initialized():
        raise InputError("this process was made one of several before: start_distributed is once")
    if coordinator is None and (processes is not None or process_id is not None):
        raise InputError("processes and process_id need a coordinator as well: HOST:PORT")
    if coordinator is not None:
        host, port = _address(coordinator)
        processes, process_id = _numbers(processes, process_id)
        if process_id == 0:
            meeting.gather(port, processes, timeout)
        else:
            meeting.come(host, port, process_id, processes, timeout)
    # Processes without accelerators speak over TCP; nothing else does it on a CPU.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator, processes, process_id, initialization_timeout=max(1, round(timeout))
        )
    except ValueError as error:
        said = str(error).splitlines()[0]
        raise InputError(
            f"no SLURM, Open MPI or Kubernetes says what the processes are ({said}); give "
            "coordinator = HOST:PORT, processes and process_id"
        ) from None
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        if "before any JAX" in said:
            raise InputError(
                "start_distributed comes too late: JAX has computed something; call it first"
            ) from None
        raise RunError(f"the processes did not find one another: {said}") from None


def _address(coordinator: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.+):(\d+)", coordinator)
    if not found or not 0 < int(found[2]) < 65536:
        raise InputError(f"coordinator = {coordinator!r}: HOST:PORT is needed, as node-1:4100")
    return found[1].strip("[]"), int(found[2])


def _numbers(processes: int | None, process_id: int | None) -> tuple[int, int]:
    if processes is None or process_id is None:
        raise InputError("a coordinator needs processes (how many) and process_id (which, from 0)")
    if processes < 1:
        raise InputError(f"processes = {processes}: a whole number above 0 is needed")
    if not 0 <= process_id < processes:
        raise InputError(
            f"process_id = {process_id}: of {processes} processes it is 0 to {processes - 1}"
        )
    return processes, process_id


@contextlib.contextmanager
def together(folder: Path) -> Iterator[None]:
    """What JAX raises where another process is gone, as one line.

    Args:
        folder: of the run they make.

    Raises:
        ProcessLostError: a computation of several processes broke off.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not several():
            raise
        said = str(error).splitlines()[0][:200]
        raise ProcessLostError(
            f"process {jax.process_index()} of {jax.process_count()} lost another ({said}); start "
            f"all again, with bnnzoo resume {folder}"
        ) from error


def several() -> bool:
    """Whether there is more than this process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def leads() -> bool:
    """Whether this is the process that writes."""
    return not several() or jax.process_index() == 0


def tell(message: bytes) -> bytes:
    """What process 0 says, in every process; all of them must call it.

    Args:
        message: of process 0; that of the others is passed over.
    """
    if not several():
        return message
    from jax.experimental.multihost_utils import broadcast_one_to_all

    length = int(broadcast_one_to_all(np.int32(len(message))))
    room = max(LEAST_MESSAGE, 1 << (length - 1).bit_length())
    sent = np.zeros(room, np.uint8)
    if leads():
        sent[:length] = np.frombuffer(message, np.uint8)
    return np.asarray(broadcast_one_to_all(sent))[:length].tobytes()


def tell_number(number: int) -> int:
    """A whole number of process 0, in every process."""
    return int(tell(str(number).encode())) if several() else number


def tell_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of process 0, by name, in every process."""
    if not several():
        return arrays
    buffer = io.BytesIO()
    if leads():
        held: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
        np.savez(buffer, **held)
    with np.load(io.BytesIO(tell(buffer.getvalue())), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def led(function: Callable[[], Any]) -> Any:
    """What process 0 gets from a function that it alone calls; where it raises, all do.

    Args:
        function: without arguments; gives what JSON holds.
    """
    if not several():
        return function()
    answer: dict[str, Any] = {}
    if leads():
        try:
            answer = {"value": function()}
        except BnnzooError as error:
            answer = {"error": type(error).__name__, "text": str(error)}
    answer = json.loads(tell(json.dumps(answer).encode()))
    if "error" in answer:
        # UnknownNameError is made of other arguments than its text.
        kind = getattr(errors, answer["error"].replace("UnknownNameError", "InputError"))
        raise kind(answer["text"])
    return answer["value"]


def on_host(tree: Any) -> Any:
    """Arrays as NumPy's, whole in every process; all of them must call it.

    Args:
        tree: of arrays, some of which may lie on the devices of several processes.
    """

    def whole(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return leaf
        from jax.experimental.multihost_utils import process_allgather

        return process_allgather(leaf, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))


def check_seen(folder: Path) -> None:
    """Raise in every process where one of them does not see process 0's folder.

    Args:
        folder: that process 0 has made.

    Raises:
        RunError: a file system of its own.
    """
    if not several():
        return
    from jax.experimental.multihost_utils import process_allgather

    seen = np.atleast_1d(process_allgather(np.int32(_soon((folder / "manifest.json").is_file))))
    if not seen.all():
        blind = int(np.argmin(seen))
        raise RunError(
            f"process {blind} of {jax.process_count()} does not see {folder}, which process 0 has "
            "made: choose a folder on a file system that all share"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def await_file(path: Path, wanted: str) -> None:
    """Wait until this process sees a file as process 0 has written it.

    Args:
        path: the file.
        wanted: its :func:`digest`.

    Raises:
        RunError: it does not come.
    """
    if not leads() and not _soon(lambda: path.is_file() and digest(path) == wanted):
        raise RunError(f"{path}: process 0 has written it, and this process does not see it")


def _soon(seen: Callable[[], bool]) -> bool:
    """Whether something comes true before long: a network's file system may be behind."""
    end = time.monotonic() + SHARED_SECONDS
    while not seen():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
