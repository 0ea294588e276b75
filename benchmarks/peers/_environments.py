"""An environment for each peer, and a worker run in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE.parents[1] / "constraints.txt"

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "numpyro": ("numpyro==0.22.0", "jax==0.12.0.1", "jaxlib==0.12.0.1"),
    "blackjax": ("blackjax==1.7.1", "jax==0.12.0.1", "jaxlib==0.12.0.1"),
    "bde": ("sklearn-contrib-bde==1.0.2", "jax==0.12.0.1", "jaxlib==0.12.0.1"),
    "laplace": ("laplace-torch==0.3", "torch==2.15.0"),
}
"""What is installed in each. Those of JAX are the versions we are tested with."""

CONSTRAINED = ("numpyro", "blackjax")
"""Environments all of whose packages have our versions; the others pin old ones or have none."""


class Peer(NamedTuple):
    """A line of a table.

    Attributes:
        name: in the table.
        environment: of :data:`REQUIREMENTS`; None for ours.
        worker: file of this folder.
        method: what the worker is asked for.
    """

    name: str
    environment: str | None
    worker: str
    method: str


def make(name: str, folder: Path) -> str | None:
    """Make an environment where there is none of these requirements; why not, if it cannot be.

    Args:
        name: of :data:`REQUIREMENTS`.
        folder: of all environments.
    """
    wanted = REQUIREMENTS[name]
    mark = folder / name / "made.txt"
    if mark.exists() and mark.read_text(encoding="utf-8") == "\n".join(wanted):
        return None
    print(f"making the environment of {name}: {' '.join(wanted)}", flush=True)
    under = ["-c", str(CONSTRAINTS)] if name in CONSTRAINED else []
    python = str(interpreter(name, folder))
    for command in (
        [sys.executable, "-m", "venv", str(folder / name)],
        [python, "-m", "pip", "install", "--quiet", *under, *wanted],
    ):
        done = subprocess.run(command, env=bare(), capture_output=True, text=True)
        if done.returncode:
            return reason(done)
    mark.write_text("\n".join(wanted), encoding="utf-8")
    return None


def interpreter(name: str, folder: Path) -> Path:
    """Python of an environment."""
    return folder / name / "bin" / "python"


def run(
    peer: Peer, asked: Mapping[str, Any], rows: Mapping[str, np.ndarray], folder: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A worker's figures and arrays; of one that failed, ``failed`` with its last line.

    Args:
        peer: which.
        asked: the job; the peer's method is added.
        rows: its arrays.
        folder: of all environments.
    """
    if peer.environment is None:
        python, environment = sys.executable, bare()
        path = [str(HERE), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
    else:
        python, environment = str(interpreter(peer.environment, folder)), bare()
    with tempfile.TemporaryDirectory() as name:
        job = Path(name)
        text = json.dumps({**asked, "method": peer.method})
        (job / "job.json").write_text(text, encoding="utf-8")
        np.savez(job / "rows.npz", **rows)
        command = [python, str(HERE / peer.worker), name]
        done = subprocess.run(command, env=environment, cwd=name, capture_output=True, text=True)
        if done.returncode:
            return {"failed": reason(done)}, {}
        found = json.loads((job / "found.json").read_text(encoding="utf-8"))
        with np.load(job / "found.npz") as arrays:
            return found, dict(arrays)


def bare() -> dict[str, str]:
    """Our environment without what would lead a peer to our packages, or to kept programs."""
    ours = ("PYTHONPATH", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
    return {name: value for name, value in os.environ.items() if name not in ours}


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last line a process said, or its exit code."""
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    said = [line for line in lines if "Error" in line or "ERROR" in line] or lines
    return said[-1][:200] if said else f"exit code {done.returncode}"
