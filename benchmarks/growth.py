"""How time and memory of a fit grow with rows, parameters, chains, draws and test rows.

    python benchmarks/growth.py [rows] [parameters] [chains] [draws] [tests] [--quick]

Each point is a process of its own: random rows of five columns, ``mlp`` with one layer of tanh
units, ``hmc`` with trajectories of at most five steps. It fits twice, and the second fit, which
compiles nothing, is timed in processor seconds of all threads; memory is the largest resident set
of the process. One size grows at a time, the others are as in ``USUAL``. *Slope* is that of the
logarithms between the last two points: 1 is as fast as the size, 0 not at all. Writes
``benchmarks/results/growth.json`` and ``.md`` and ``docs/growth.svg``; ``--quick`` leaves out the
last two points of each size and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from typing import Any

from _bench import keep, machine, markdown
from _studies import canvas, save

FEATURES = 5
USUAL = {"rows": 200, "parameters": 100, "chains": 2, "draws": 20, "tests": 50}
WARMUP = 10
SIZES: dict[str, list[int]] = {
    "rows": [1_000, 10_000, 100_000, 1_000_000],
    "parameters": [100, 1_000, 10_000, 100_000, 1_000_000],
    "chains": [1, 4, 16, 64, 256],
    "draws": [100, 1_000, 10_000, 100_000],
    "tests": [100, 1_000, 10_000, 100_000],
}
NAMES = {"tests": "test rows"}

MUST = {
    "rows": "1: every gradient looks at every row",
    "parameters": "1: every gradient has as many numbers",
    "chains": "1: chains do not share work",
    "draws": "1, memory 0: draws leave the memory",
    "tests": "1: every draw predicts every row",
}
"""How fast time must grow, and why."""

CLIMB_STEPS = 2
"""Of the search for a start, 300 else, so that sampling is what is timed."""


def one_point(sizes: dict[str, int]) -> dict[str, Any]:
    """Fit twice in this process: seconds of the second fit, bytes of the process.

    Args:
        sizes: under the names of ``USUAL``.
    """
    import numpy as np

    import bnnzoo as bz
    from bnnzoo.inference import start

    start.CLIMB_STEPS = CLIMB_STEPS
    rng = np.random.default_rng(0)
    x = rng.normal(size=(sizes["rows"] + sizes["tests"], FEATURES))
    y = np.sin(x).sum(1) + 0.1 * rng.normal(size=len(x))
    rows = sizes["rows"]
    data = bz.make_dataset(x[:rows], y[:rows], x[rows:], y[rows:], task="regression")
    width = max(1, round((sizes["parameters"] - 2) / (FEATURES + 2)))
    model = bz.make_model(network_options={"widths": [width]})
    took = {}
    for seed in range(2):
        clocks = time.perf_counter(), time.process_time()
        run = bz.fit(
            model, data, "hmc", chains=sizes["chains"], draws=sizes["draws"], warmup=WARMUP,
            seed=seed, max_steps=5, progress=False,
        )  # fmt: skip
        took = {
            "wall": time.perf_counter() - clocks[0],
            "cpu": time.process_time() - clocks[1],
            "sampling": run.manifest["sampling_seconds"] + run.manifest["warmup_seconds"],
        }
    kilo = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo
    return {**sizes, "dimension": run.manifest["model"]["dimension"], **took, "bytes": peak}


def in_process(sizes: dict[str, int]) -> dict[str, Any]:
    """The same in a process of its own."""
    flags = ["-P"] if sys.flags.safe_path else []
    command = [sys.executable, *flags, __file__, "--child", json.dumps(sizes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def slope(points: list[dict[str, Any]], size: str, of: str) -> float:
    """Of logarithms, between the last two points.

    Args:
        points: of one size.
        size: its name.
        of: ``cpu`` or ``bytes``.
    """
    a, b = points[-2:]
    return math.log(b[of] / a[of]) / math.log(b[size] / a[size])


def table(found: dict[str, list[dict[str, Any]]], said: str) -> str:
    """The page of results."""
    rows = []
    for size, points in found.items():
        for point in points:
            last = point is points[-1]
            cells = [NAMES.get(size, size), f"{point[size]:,}", f"{point['cpu']:.2f}"]
            cells += [f"{point['bytes'] / 1e6:,.0f}"]
            cells += [f"{slope(points, size, of):.2f}" if last else "" for of in ("cpu", "bytes")]
            rows.append([*cells, MUST[size] if last else ""])
    heads = ["size", "", "seconds of the processor", "MB", "slope of seconds", "of MB"]
    usual = ", ".join(f"{n:,} {NAMES.get(size, size)}" for size, n in USUAL.items())
    return f"{said}. Else {usual}.\n\n{markdown([*heads, 'must grow as'], rows)}"


def draw(found: dict[str, list[dict[str, Any]]]) -> None:
    """Seconds and memory against each size, ``docs/growth.svg``."""
    figure, axes = canvas(2)
    for number, (size, points) in enumerate(found.items()):
        at = [p[size] / points[0][size] for p in points]
        label = NAMES.get(size, size)
        for axis, of, unit in ((axes[0], "cpu", 1.0), (axes[1], "bytes", 1e-6)):
            values = [unit * p[of] for p in points]
            axis.plot(at, values, "o-", color=f"C{number}", label=label, ms=3)
    for axis, title in zip(axes, ("Processor seconds of a fit", "Largest memory, MB"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="size, times its first", title=title)
    axes[0].legend(fontsize=7, frameon=False)
    save(figure, "growth")


def main() -> None:
    """Run the sizes named, write the table and the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sizes", nargs="*", help=f"{', '.join(SIZES)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="without the largest, no files")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(one_point(given.child)))
        return
    if unknown := set(given.sizes) - set(SIZES):
        parser.error(f"unknown size {min(unknown)!r}; choices: {', '.join(SIZES)}")
    said = machine(os.getloadavg()[0])
    found: dict[str, list[dict[str, Any]]] = {}
    for size in given.sizes or SIZES:
        found[size] = []
        for n in SIZES[size][: -2 if given.quick else None]:
            found[size].append(in_process({**USUAL, size: n}))
            print(found[size][-1], flush=True)
    text = table(found, said)
    print(text)
    if not given.quick and not given.sizes:
        keep("growth", "Growth", text, {"machine": said, "usual": USUAL, "points": found})
        draw(found)


if __name__ == "__main__":
    main()
