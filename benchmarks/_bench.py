"""What the benches of speed share: three networks, the machine in a line, where figures go."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import bnnzoo as bz

RESULTS = Path(__file__).resolve().parent / "results"

AIRFOIL = (1_503, 5)
"""Rows and columns of the table, where the table itself is not at hand."""


def diabetes() -> tuple[Any, bz.Dataset]:
    """10-50-1 tanh, one learned noise; 397 training rows."""
    return bz.make_model(), bz.load_dataset("diabetes")


def airfoil() -> tuple[Any, bz.Dataset]:
    """5-16-16-16-16-2 ReLU, noise that depends on the inputs; nine tenths of 1,503 rows.

    Speed depends on shapes alone, so that where the table is not at hand random rows of its shape
    stand in for it, and the data set's name says so.
    """
    model = bz.make_model(
        network_options={"widths": [16] * 4, "activation": "relu"},
        likelihood="gaussian",
        likelihood_options={"noise": "heteroscedastic"},
    )
    try:
        return model, bz.load_dataset("uci/airfoil", split=0)
    except bz.errors.BnnzooError:
        rng = np.random.default_rng(0)
        x = rng.normal(size=AIRFOIL)
        y = np.sin(x).sum(1) + 0.1 * rng.normal(size=len(x))
        rows = round(0.9 * len(x))
        parts = (x[:rows], y[:rows], x[rows:], y[rows:])
        return model, bz.make_dataset(*parts, task="regression", name="random, airfoil's shape")


def mnist() -> tuple[Any, bz.Dataset]:
    """784-50-50-10 ReLU on MNIST's test images; 8,000 training rows. Needs the files."""
    network = {"widths": [50, 50], "activation": "relu"}
    model = bz.make_model("mlp", likelihood="categorical", network_options=network)
    return model, bz.load_dataset("mnist-10k")


CASES: dict[str, Callable[[], tuple[Any, bz.Dataset]]] = {
    "diabetes": diabetes,
    "airfoil": airfoil,
    "mnist-10k": mnist,
}


class Clocks:
    """Wall and processor seconds since it was made, or last started."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Both from zero."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """``wall``, and ``cpu`` of all threads of this process."""
        return {
            "wall": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
        }


def machine(load: float) -> str:
    """What a figure was measured on, in a line.

    Args:
        load: mean number of busy processes over a minute, when the bench began.
    """
    import jax

    return (
        f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start, Python "
        f"{platform.python_version()}, jax {version('jax')}, {jax.default_backend()}"
    )


def middle(values: Sequence[float]) -> float:
    """The median."""
    return float(statistics.median(values))


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table.

    Args:
        heads: of its columns.
        rows: cells as text.
    """
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def keep(name: str, title: str, text: str, record: dict[str, Any]) -> None:
    """Write ``results/NAME.json`` and ``results/NAME.md``.

    Args:
        name: of the bench.
        title: of the page.
        text: what follows the mark from which pages include it.
        record: the figures.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    page = f"# {title}\n\n<!-- table -->\n{text}\n"
    (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
