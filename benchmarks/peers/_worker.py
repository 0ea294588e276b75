"""What the workers share: the job of a folder, clocks, what goes back. NumPy alone, and Python.

A worker is ``PYTHON worker.py FOLDER``: ``job.json`` says what is wanted, ``rows.npz`` has the
data, ``found.json`` and ``found.npz`` go back. It runs in the environment of its peer, which has
nothing of bnnzoo.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()


def job() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is asked for, and the arrays that go with it."""
    asked = json.loads((FOLDER / "job.json").read_text(encoding="utf-8"))
    with np.load(FOLDER / "rows.npz") as rows:
        return asked, dict(rows)


def answer(found: dict[str, Any], packages: Sequence[str], **arrays: np.ndarray) -> None:
    """Write what was found.

    Args:
        found: figures.
        packages: whose versions go with them.
        arrays: draws, and the like.
    """
    found = {"versions": {name: version(name) for name in packages}, **found}
    np.savez(FOLDER / "found.npz", **arrays)
    (FOLDER / "found.json").write_text(json.dumps(found), encoding="utf-8")


class Clock:
    """Wall and processor seconds of a block, and of the wall's those in which JAX compiled.

    Compiling is the union of the spans that ``jax.monitoring`` reports of tracing, lowering and
    compiling: they nest, and may overlap where several threads compile.
    """

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def watch_jax(self) -> Clock:
        """Listen to JAX, which the caller has imported."""
        import jax

        def heard(event: str, seconds: float, **_: Any) -> None:
            if event.startswith("/jax/core/compile/"):
                now = time.perf_counter()
                self._spans.append((now - seconds, now))

        jax.monitoring.register_event_duration_secs_listener(heard)
        return self

    def __enter__(self) -> Clock:
        self._spans.clear()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        now = time.perf_counter()
        self.figures = {
            "wall": now - self._wall,
            "cpu": time.process_time() - self._cpu,
            "compiling": union(self._spans, self._wall, now),
        }


def union(spans: Sequence[tuple[float, float]], start: float, stop: float) -> float:
    """Length of the union of intervals within one.

    Args:
        spans: begin and end of each.
        start, stop: what is outside of them does not count.
    """
    total, reached = 0.0, start
    for begin, end in sorted(spans):
        begin, end = max(begin, reached), min(end, stop)
        total += max(end - begin, 0.0)
        reached = max(reached, end)
    return total
