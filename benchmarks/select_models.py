"""Choosing one of 48 networks by Laplace evidence: how long it takes, and what it chooses.

    BNNZOO_DATA=folder python benchmarks/select_models.py [diabetes energy digits]
    BNNZOO_DATA=folder python benchmarks/select_models.py energy --method laplace-ntk
    BNNZOO_DATA=folder python benchmarks/select_models.py --scores laplace
    BNNZOO_DATA=folder python benchmarks/select_models.py --scores mclmc

Depth 1 to 3, width 10, 25, 50, 100, tanh or ReLU, prior std 0.5 or 2; Kronecker-factored
Gauss-Newton curvature, one mode. With ``--scores``, of what was selected before, every candidate is
fitted by that backend and scored on test rows (a new selection drops its scores). Does the winner's
log-likelihood come within a standard error of the best candidate's? By ``laplace`` that is of the
same approximation as the evidence, by ``mclmc`` of draws from the posterior. Writes
``benchmarks/results/select-DATA.json`` and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from typing import Any

import numpy as np
from _bench import RESULTS, machine
from _studies import keep

import bnnzoo as bz

DATA: dict[str, dict[str, Any]] = {
    "diabetes": {"name": "diabetes"},
    "energy": {"name": "uci/energy", "split": 0},
    "digits": {"name": "digits"},
}
GRID = {
    "network.activation": ["tanh", "relu"],
    "network.depth": [1, 2, 3],
    "network.width": [10, 25, 50, 100],
    "prior.std": [0.5, 2.0],
}
LAPLACE = {"structure": "kron"}
OWN: dict[str, dict[str, Any]] = {
    "laplace": LAPLACE | {"copies": "told-apart"},
    "laplace-ntk": {"batch": 10**6},  # all rows in one block
}
STEPS = 300
"""Steps of L-BFGS."""

FITS: dict[str, dict[str, Any]] = {
    "laplace": {"chains": 1, "draws": 100, "warmup": STEPS, **LAPLACE},
    "mclmc": {"chains": 2, "draws": 100, "warmup": 200, "max_steps": 150},
}
"""How candidates are fitted for their scores. Paths of ``mclmc`` are cut so that 3 x 100 units on
digits take two minutes."""


def candidates(name: str) -> tuple[dict[str, Any], bz.Dataset]:
    """The networks, and the data.

    Args:
        name: of :data:`DATA`.
    """
    options = dict(DATA[name])
    data = bz.load_dataset(options.pop("name"), **options)
    likelihood = "categorical" if data.task == "classification" else "gaussian"
    return bz.model_grid(GRID, {"likelihood": {"name": likelihood}}), data


def select(name: str, method: str) -> dict[str, Any]:
    """One data set: the selection and its time.

    Args:
        name: of :data:`DATA`.
        method: of :data:`OWN`.
    """
    models, data = candidates(name)
    where = machine(os.getloadavg()[0])
    begun = time.perf_counter()
    found = bz.select(models, data, method, modes=1, steps=STEPS, progress=False, **OWN[method])
    seconds = time.perf_counter() - begun
    print(found)
    print(f"{name}: {len(models)} candidates in {seconds:.0f} s", flush=True)
    evidences = {
        c.name: {
            "value": c.evidence.original_units,
            "log_told_apart": c.evidence.diagnostics.get("log_told_apart"),
            "warnings": c.evidence.warnings,
        }
        for c in found.candidates
        if c.evidence is not None
    }
    return {
        "data": name,
        "method": method,
        "machine": where,
        "seconds": seconds,
        "winner": found.candidates[0].name,
        "evidences": evidences,
    }


def score(name: str, winner: str, backend: str) -> dict[str, Any]:
    """Mean log-likelihood of the test rows, and its standard error over them, of each candidate.

    Args:
        name: of :data:`DATA`.
        winner: the chosen candidate.
        backend: of :data:`FITS`.
    """
    models, data = candidates(name)
    found: dict[str, tuple[float, float]] = {}
    flags: dict[str, list[str]] = {}
    for model in models:
        run = bz.fit(models[model], data, backend, progress=False, **FITS[backend])
        rows = run.predict(data.x_test).log_prob(data.y_test)
        found[model] = (float(rows.mean()), float(rows.std(ddof=1) / np.sqrt(len(rows))))
        flags[model] = [flag["message"] for flag in run.manifest["flags"]]
        mean, error = found[model]
        print(f"{name}, {model}: test log-likelihood {mean:.3f} +- {error:.3f}", flush=True)
    best = max(found, key=lambda model: found[model][0])
    mean, error = found[best]
    chosen = found[winner][0]
    print(f"{name}, {backend}: winner {winner} {chosen:.3f}, best {best} {mean:.3f} +- {error:.3f}")
    return {"candidates": found, "best": best, "within": chosen >= mean - error, "flags": flags}


def main() -> None:
    """Run the data sets, writing after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="*", help=f"{', '.join(DATA)}; all if none is named")
    parser.add_argument("--scores", choices=list(FITS), help="score what was selected before")
    parser.add_argument("--method", default="laplace", choices=list(OWN))
    given = parser.parse_args()
    if unknown := set(given.data) - set(DATA):
        parser.error(f"unknown data {min(unknown)!r}; choices: {', '.join(DATA)}")
    warnings.simplefilter("ignore", bz.errors.DataWarning)
    for name in given.data or DATA:
        file = f"select-{name}{'-ntk' if given.method == 'laplace-ntk' else ''}"
        if given.scores is None:
            keep(file, select(name, given.method))
            continue
        record = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
        scores = score(name, record["winner"], given.scores)
        record["scores"] = record.get("scores", {}) | {given.scores: scores}
        keep(file, record)


if __name__ == "__main__":
    main()
