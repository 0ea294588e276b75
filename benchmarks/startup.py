"""Seconds until something is there: an import, a help, a list, the first draw.

    python benchmarks/startup.py [--turns 7] [--quick]

Each line is a Python process of its own; they take turns, and medians over turns are shown beside
``python -c pass`` and ``import jax`` of the same run. *Processor* counts the seconds of all threads
of the process in place of the clock's, and hardly depends on who else uses the machine. The first
draw is that of ten from ``mlp`` with 10 tanh units on ``gap``, the cheapest way to see a run whole:
once with no compiled program at hand, once with those that ``bz.keep_programs`` kept. Writes
``benchmarks/results/startup.json`` and ``.md``; ``--quick`` takes one turn and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

from _bench import keep, machine, markdown, middle

COMMAND = "import sys; from bnnzoo.cli import main; sys.exit(main({!r}))"
DRAW = """
import bnnzoo as bz
bz.keep_programs()
model = bz.make_model(network_options={"widths": [10]})
sizes = dict(chains=1, draws=10, warmup=20, progress=False)
bz.fit(model, bz.load_dataset("gap"), "hmc", **sizes)
"""

LINES: dict[str, tuple[str, float | None]] = {
    "`python -c pass`": ("pass", None),
    "`import numpy`": ("import numpy", None),
    "`import jax`": ("import jax", None),
    "`import bnnzoo`": ("import bnnzoo", 0.3),
    "`bnnzoo --help`": (COMMAND.format(["--help"]), 0.5),
    "`bnnzoo fit --help`": (COMMAND.format(["fit", "--help"]), 0.5),
    "`bnnzoo list datasets`": (COMMAND.format(["list", "datasets"]), None),
    "`bnnzoo list priors`": (COMMAND.format(["list", "priors"]), None),
    "first run, programs to compile": (DRAW, None),
    "first run, programs kept": (DRAW, None),
}
"""What is run, and the goal in seconds where there is one."""


def spent(code: str, folder: str) -> dict[str, float]:
    """Seconds of a process that runs some code: clock's and processor's.

    Args:
        code: Python.
        folder: of compiled programs.
    """
    environment = dict(os.environ, BNNZOO_CACHE=folder)
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    flags = ["-P"] if sys.flags.safe_path else []
    command = [sys.executable, *flags, "-c", code]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return {"wall": wall, "cpu": user + system}


def study(turns: int) -> dict[str, list[dict[str, float]]]:
    """Every line in turns, after one of each that reads the files and keeps the programs."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in LINES}
    with tempfile.TemporaryDirectory() as kept:
        for turn in range(turns + 1):
            for name, (code, _) in LINES.items():
                with tempfile.TemporaryDirectory() as empty:
                    took = spent(code, empty if "to compile" in name else kept)
                if turn:
                    found[name].append(took)
                    print(name, {k: round(v, 3) for k, v in took.items()}, flush=True)
    return found


def table(found: dict[str, list[dict[str, float]]], said: str, turns: int) -> str:
    """The page of results."""
    rows = []
    for name, runs in found.items():
        goal = LINES[name][1]
        cells = [f"{middle([run[clock] for run in runs]):.2f}" for clock in ("wall", "cpu")]
        rows.append([name, *cells, "" if goal is None else f"under {goal}"])
    heads = ["", "seconds", "of the processor", "goal"]
    return f"{said}; medians of {turns} turns.\n\n{markdown(heads, rows)}"


def main() -> None:
    """Time every line, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=7, help="medians are over so many")
    parser.add_argument("--quick", action="store_true", help="one turn, no files")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    turns = 1 if given.quick else given.turns
    found = study(turns)
    said = machine(load)
    text = table(found, said, turns)
    print(text)
    if not given.quick:
        keep("startup", "Start-up", text, {"machine": said, "turns": turns, "seconds": found})


if __name__ == "__main__":
    main()
