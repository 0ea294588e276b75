"""Where a study's cells are run: in this process, in several, or on the workers of a scheduler."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bnnzoo.errors import InputError

COMPARED = ("bnnzoo", "jax", "numpyro")
"""Packages whose versions must be the same on every worker."""

TIMEOUT = 10
"""Seconds that a scheduler has to answer."""


def executor(workers: int, scheduler: str | None) -> Callable[[], Executor] | None:
    """What makes the pool that cells are run by; None for this very process.

    Args:
        workers: processes on this machine.
        scheduler: address of a ``dask.distributed`` scheduler, or None.

    Raises:
        InputError: the scheduler cannot be reached or used, with the local way on.
    """
    if scheduler is not None:
        _connect(scheduler).close()  # says at once what is wrong
        return lambda: _ClusterExecutor(_connect(scheduler))
    if workers == 1:
        return None
    # Spawned: a forked process would inherit the locks of JAX's threads.
    context = multiprocessing.get_context("spawn")
    share = max(1, (os.cpu_count() or 1) // workers)
    return lambda: ProcessPoolExecutor(
        workers, mp_context=context, initializer=_take_share, initargs=(share,)
    )


def _take_share(cores: int) -> None:
    """LAPACK's threads in all workers are no more than the cores: more would spin in turns."""
    import scipy.linalg  # noqa: F401  # whose LAPACK is JAX's; what is not loaded has no limit
    from threadpoolctl import threadpool_info, threadpool_limits

    for library in threadpool_info():
        if library["user_api"] == "blas" and library["num_threads"] > cores:
            threadpool_limits({library["prefix"]: cores})


def versions() -> dict[str, str]:
    """Of the packages that must agree, in the process this is called in."""
    found = {}
    for package in COMPARED:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _connect(address: str) -> Any:
    """A client of the scheduler, whose workers have been looked at."""
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            "--scheduler needs the package distributed: pip install 'bnnzoo[cluster]'; "
            "--workers runs cells in processes of this machine without it"
        ) from None
    try:
        client = Client(address, timeout=TIMEOUT)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"no dask scheduler answers at {address}: {_why(error)}; "
            "--workers runs cells in processes of this machine instead"
        ) from None
    try:
        _compare(address, client.run(versions))
    except BaseException:
        client.close()
        raise
    return client


def _why(error: BaseException | None) -> str:
    """What went wrong, in words: dask says of everything that it timed out, and why underneath."""
    if isinstance(error, ValueError):  # an address that is none
        return " ".join(str(error).split())
    while error is not None:
        if isinstance(error, OSError) and error.strerror:  # of the system, as "connection refused"
            return error.strerror.lower()
        error = error.__cause__ or error.__context__
    return f"timed out after {TIMEOUT} s"


def _compare(address: str, found: dict[str, dict[str, str]]) -> None:
    if not found:
        raise InputError(
            f"the scheduler at {address} has no workers: start some with "
            f"'dask worker {address}', or use --workers for processes of this machine"
        )
    own = versions()
    for worker, theirs in sorted(found.items()):
        for package, wanted in own.items():
            if theirs.get(package) != wanted:
                raise InputError(
                    f"worker {worker} has {package} {theirs.get(package, 'not at all')}, this "
                    f"process {wanted}: results would not compare; install the same versions"
                )


class _ClusterExecutor(Executor):
    """Workers of a scheduler as an executor; a killed worker's cell goes to another one."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor(retries=2)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A future of ``fn(*args, **kwargs)``, done anew each time: cells write files."""
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let go of the scheduler, which lives on."""
        with contextlib.suppress(TypeError):
            self._executor.shutdown(wait=wait)
        self._client.close()
