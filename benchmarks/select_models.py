"""Choosing one of 48 networks by Laplace evidence: how long it takes, and what it chooses.

    BNNZOO_DATA=folder python benchmarks/select_models.py [diabetes energy digits] [--scores]
    BNNZOO_DATA=folder python benchmarks/select_models.py energy --method laplace-ntk

Depth 1 to 3, width 10, 25, 50, 100, tanh or ReLU, prior std 0.5 or 2; Kronecker-factored
Gauss-Newton curvature, one mode. With ``--scores`` every candidate is fitted by the ``laplace``
backend as well and scored on test rows: does the winner's log-likelihood come within a standard
error of the best candidate's? Writes ``benchmarks/results/select-DATA.json`` and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import bnnzoo as bz

RESULTS = Path(__file__).parent / "results"
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


def test_scores(models: dict[str, Any], data: bz.Dataset) -> dict[str, tuple[float, float]]:
    """Mean log-likelihood of the test rows, and its standard error over them."""
    found = {}
    for name, model in models.items():
        run = bz.fit(
            model, data, "laplace", chains=1, draws=100, warmup=STEPS, progress=False, **LAPLACE
        )
        rows = run.predict(data.x_test).log_prob(data.y_test)
        found[name] = (float(rows.mean()), float(rows.std(ddof=1) / np.sqrt(len(rows))))
        print(f"{name}: test log-likelihood {found[name][0]:.3f}", flush=True)
    return found


def one(name: str, method: str, scores: bool) -> dict[str, Any]:
    """One data set: the selection, its time, and the scores."""
    options = dict(DATA[name])
    data = bz.load_dataset(options.pop("name"), **options)
    likelihood = "categorical" if data.task == "classification" else "gaussian"
    models = bz.model_grid(GRID, {"likelihood": {"name": likelihood}})
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
    record = {
        "data": name,
        "method": method,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
        "versions": f"jax {version('jax')}, numpyro {version('numpyro')}",
        "seconds": seconds,
        "winner": found.candidates[0].name,
        "evidences": evidences,
    }
    if scores:
        tested = test_scores(models, data)
        best = max(tested, key=lambda model: tested[model][0])
        mean, error = tested[best]
        winner = tested[found.candidates[0].name][0]
        record |= {"scores": tested, "best": best, "within": bool(winner >= mean - error)}
        print(
            f"{name}: winner {record['winner']} {winner:.3f}, best {best} {mean:.3f} +- {error:.3f}"
        )
    return record


def main() -> None:
    """Run the data sets, writing after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="*", default=list(DATA), choices=[*DATA, []])
    parser.add_argument("--scores", action="store_true", help="fit and score every candidate")
    parser.add_argument("--method", default="laplace", choices=["laplace", "laplace-ntk"])
    given = parser.parse_args()
    warnings.simplefilter("ignore", bz.errors.DataWarning)
    for name in given.data:
        record = one(name, given.method, given.scores)
        path = RESULTS / f"select-{name}{'-ntk' if given.method == 'laplace-ntk' else ''}.json"
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
