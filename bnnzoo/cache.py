"""What bnnzoo keeps between processes because it can be had again: downloads, compiled programs."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path

MOST_BYTES = 500_000_000
"""Of compiled programs that are kept; a small network's take about half a megabyte."""

LEAST_SECONDS = "0.1"
"""Programs that compile faster are not kept: to read them back takes as long."""


def cache_folder() -> Path:
    """Where downloads and programs are kept: ``BNNZOO_CACHE``, else the platform's place for it.

    Returns:
        The folder, which may not be there yet.
    """
    if chosen := os.environ.get("BNNZOO_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
        return Path(base).expanduser() / "bnnzoo" / "Cache"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/bnnzoo").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bnnzoo"


def keep_programs() -> Path | None:
    """Keep compiled programs on disk, so that the next process does not compile them again.

    The command line does so by itself; a script calls this before its first fit. It turns on JAX's
    own cache of compiled programs, in a folder of this machine's processor below
    ``cache_folder``, and removes the programs unused for longest beyond half a gigabyte. A
    cache that is set already (``JAX_COMPILATION_CACHE_DIR``) stays as it is;
    ``JAX_ENABLE_COMPILATION_CACHE=0`` turns it off.

    Returns:
        The folder in use; None where it cannot be written, and nothing is kept.
    """
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(chosen)
    folder = cache_folder() / "programs" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a home that cannot be written, in a container say
    if not os.access(folder, os.W_OK):
        return None
    _forget_oldest(folder)
    # JAX reads them when it is imported, and so do the processes started from this one.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", LEAST_SECONDS)
    if "jax" in sys.modules:
        import jax

        least = float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    return folder


def _processor() -> str:
    """A name for what this processor can do: a program for another may not run here.

    Homes are shared between machines, and JAX's key holds the instruction set's name alone.
    """
    said = [platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        wanted = ("model name", "flags", "Features")
        said += sorted({line for line in lines if line.startswith(wanted)})
    except OSError:
        pass  # not Linux
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


def _forget_oldest(folder: Path) -> None:
    """Remove the files read or written longest ago until the rest is small enough."""
    try:
        files = [(place, place.stat()) for place in folder.iterdir() if place.is_file()]
    except OSError:
        return  # not there yet
    files.sort(key=lambda item: max(item[1].st_atime, item[1].st_mtime))
    excess = sum(stat.st_size for _, stat in files) - MOST_BYTES
    for place, stat in files:
        if excess <= 0:
            return
        place.unlink(missing_ok=True)
        excess -= stat.st_size
