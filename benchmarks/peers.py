"""Peers in one table: the same work by other libraries, each in an environment of its own.

    python benchmarks/peers.py [--turns 3] [--envs FOLDER] [--works sampling ...] [--quick]

- *sampling*: NUTS on diabetes, 1 x 50 tanh, by NumPyro (parallel and vectorised chains), by
  BlackJAX with a log density written by hand, and by ``nuts`` here.
- *evidence*: Laplace's, by laplace-torch and here, at the same weights.
- *ensembles*: microcanonical Langevin ensembles, by sklearn-contrib-bde and ``mile``.

Environments are made by ``venv`` and ``pip`` under FOLDER (``build/peers`` if not given) and kept;
a peer whose environment cannot be made, or whose worker fails, is a line that says why. Workers are
processes, one at a time, that take turns: each turn has a seed of its own. They read data that one
process wrote, and scores are computed here, by the same code for all. Before anything is written
it is checked that all did the same work. Writes ``benchmarks/results/peers.json`` and ``.md``;
``--quick`` takes one turn of small sizes and writes nothing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from _bench import keep, machine
from _environments import REQUIREMENTS, make, run

ROOT = Path(__file__).resolve().parents[1]
WORKS = ("sampling", "evidence", "ensembles")
"""``work_NAME.py`` of the folder ``peers``."""


def begin(works: dict[str, Any], quick: bool, envs: Path) -> dict[str, Any]:
    """What will be found, empty; environments are made, and those that cannot be say why."""
    failed: dict[str, str] = {}
    for name in REQUIREMENTS:
        if any(peer.environment == name for work in works.values() for peer in work.PEERS):
            why = make(name, envs)
            if why is not None:
                failed[name] = why
    return {
        name: {
            "asked": work.asked(quick),
            "runs": {peer.name: [] for peer in work.PEERS},
            "failed": {
                p.name: failed[p.environment] for p in work.PEERS if p.environment in failed
            },
        }
        for name, work in works.items()
    }


def turn(work: Any, here: dict[str, Any], seed: int, envs: Path) -> None:
    """Every worker of a work once; then it is checked that all did the same.

    Args:
        work: its module.
        here: what was found of it, which grows.
        seed: of this turn.
        envs: folder of the environments.
    """
    rows = work.rows()
    for peer in work.PEERS:
        if peer.name in here["failed"]:
            continue
        load = os.getloadavg()[0]
        figures, arrays = run(peer, here["asked"] | {"seed": seed}, rows, envs)
        if "failed" in figures:
            here["failed"][peer.name] = figures["failed"]
            print(peer.name, figures, flush=True)
            continue
        figures = work.score(figures, arrays, rows) | {"load": load}
        here["runs"][peer.name].append(figures)
        shown = {k: v for k, v in figures.items() if isinstance(v, int | float)}
        print(peer.name, {k: round(v, 3) for k, v in shown.items()}, flush=True)
    here["same"] = work.check(measured(here))
    here["turns"] = seed + 1


def measured(here: dict[str, Any]) -> dict[str, Any]:
    """Figures of the peers that have some."""
    return {peer: runs for peer, runs in here["runs"].items() if runs}


def text(works: dict[str, Any], found: dict[str, Any], said: str) -> str:
    """The page of results, medians over the turns there were."""
    parts = [f"{said}."]
    for name, work in works.items():
        here = found[name]
        if "turns" not in here:
            continue
        runs = measured(here)
        turns = f"medians of {here['turns']} turns" if here["turns"] > 1 else "one turn"
        parts += [f"**{work.TITLE}**, {turns}. " + work.table(runs, here["asked"])]
        parts += [f"{peer}: none, {why}" for peer, why in here["failed"].items()]
        pairs = (pair for several in runs.values() for pair in several[0]["versions"].items())
        versions = dict.fromkeys(f"{package} {number}" for package, number in pairs)
        parts += ["Versions: " + ", ".join(versions) + "."]
    return "\n\n".join(parts)


def main() -> None:
    """Make what is missing, run all in turns, write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=3, help="medians are over so many")
    parser.add_argument("--envs", type=Path, default=ROOT / "build" / "peers", metavar="FOLDER")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--quick", action="store_true", help="one turn, small, no files")
    given = parser.parse_args()
    turns = 1 if given.quick else max(given.turns, 1)
    works = {name: importlib.import_module(f"work_{name}") for name in given.works}
    load, envs = os.getloadavg()[0], given.envs.resolve()
    found = begin(works, given.quick, envs)
    page = ""
    for seed in range(turns):
        for name, work in works.items():
            turn(work, found[name], seed, envs)
            every = (r for here in found.values() for runs in here["runs"].values() for r in runs)
            loads = [r["load"] for r in every]
            said = f"{machine(load)}, {min(loads):.1f} to {max(loads):.1f} before the runs"
            page = text(works, found, said)
            if not given.quick:  # as it goes, so that a run that is stopped has what it measured
                record = {"machine": said, "requirements": REQUIREMENTS, "works": found}
                keep("peers", "Peers in one table", page, record)
    print(page)


if __name__ == "__main__":
    main()
