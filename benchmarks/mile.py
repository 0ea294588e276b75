"""``mile`` beside the published implementation, sklearn-contrib-bde, on airfoil.

    python benchmarks/mile.py --peer PYTHON [--repeats 1]

PYTHON is an interpreter of its own environment with ``sklearn-contrib-bde==1.0.2``, which pins
an old BlackJAX. Both get the same rows (80/20, ``train_test_split(random_state=42)``, standardised
by the training rows), ten members of 4 x 16 ReLU with N(0, 1) weights and a second output for the
noise, 50,000 warm-up steps, and 100 kept draws a member from 1,000 further steps. Scores are of the
standardised target: RMSE of the mixture's mean, mean log density of the mixture. Seconds are of
the whole fit, compilation included, on the same machine, one after the other. Without ``--peer``
our side alone runs. Writes ``benchmarks/results/mile-airfoil.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

import bnnzoo as bz

RESULTS = Path(__file__).parent / "results"
MEMBERS, DRAWS = 10, 100
WARMUP = 10_000
OPTIONS: dict[str, Any] = {
    # Near theirs, which end at this energy error: no metric, a direction lost over sqrt(dim).
    **{"metric": "unit", "length": 1.0, "energy_error": 0.1, "max_steps": 10},
    **{"block": 2, "patience": 200},  # of Adam: up to 10,000 steps
}

PEER = """
import sys, time
import numpy as np
import jax
from bde import BdeRegressor
from bde.loss import loss
import importlib.metadata

seed, path = int(sys.argv[1]), sys.argv[2]
rows = np.load(path)
begun = time.perf_counter()
model = BdeRegressor(
    n_members=10, hidden_layers=[16] * 4, seed=seed, loss=loss.GaussianNLL(), activation="relu",
    epochs=1000, patience=20, lr=1e-3, warmup_steps=50_000, n_samples=1000, n_thinning=10,
    desired_energy_var_start=0.5, desired_energy_var_end=0.1,
)
model.fit(rows["x"], rows["y"])
seconds = time.perf_counter() - begun
raw = np.asarray(model.predict(rows["x_test"], raw=True))
scale = np.logaddexp(raw[..., 1], 0) + 1e-6
np.savez(
    path, mean=raw[..., 0], std=scale, seconds=seconds,
    versions=[f"{p} {importlib.metadata.version(p)}" for p in
              ("sklearn-contrib-bde", "jax", "blackjax")],
)
"""


def airfoil() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training inputs and targets, then test ones, standardised by the training rows."""
    whole = bz.load_dataset("uci/airfoil", split=0)
    x = np.concatenate([whole.x, whole.x_test])
    y = np.concatenate([whole.y, whole.y_test])
    order = np.lexsort((*x.T, y))  # whatever order the split left
    x_train, x_test, y_train, y_test = train_test_split(
        x[order], y[order], test_size=0.2, random_state=42
    )
    mean, std = x_train.mean(0), x_train.std(0)
    centre, spread = y_train.mean(), y_train.std()
    return (
        (x_train - mean) / std,
        (y_train - centre) / spread,
        (x_test - mean) / std,
        (y_test - centre) / spread,
    )


def scores(mean: np.ndarray, std: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """RMSE and mean log density of the equal mixture of normals ``(draw, row)``."""
    terms = -0.5 * ((y - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    density = np.logaddexp.reduce(terms, axis=0) - np.log(len(terms))
    return {
        "rmse": float(np.sqrt(np.mean((mean.mean(0) - y) ** 2))),
        "log_density": float(density.mean()),
    }


def run_ours(rows: tuple[np.ndarray, ...], seed: int) -> dict[str, Any]:
    """One fit of ``mile``."""
    x, y, x_test, y_test = rows
    model = bz.make_model(
        network_options={"widths": [16] * 4, "activation": "relu"},
        prior_options={"std": 1.0, "absolute": True},
        likelihood_options={"noise": "heteroscedastic"},
    )
    data = bz.make_dataset(x, y, x_test, y_test, task="regression", scale="none")
    begun = time.perf_counter()
    run = bz.fit(
        model,
        data,
        "mile",
        chains=MEMBERS,
        draws=DRAWS,
        warmup=WARMUP,
        seed=seed,
        progress=False,
        **OPTIONS,
    )
    seconds = time.perf_counter() - begun
    prediction = run.predict(x_test)
    return {
        "seconds": seconds,
        "gradients": run.manifest["gradients"],
        "rmse": float(np.sqrt(np.mean((prediction.mean - y_test) ** 2))),
        "log_density": float(prediction.log_prob(y_test).mean()),
    }


def run_peer(python: str, rows: tuple[np.ndarray, ...], seed: int) -> dict[str, Any]:
    """One fit of sklearn-contrib-bde, in its own environment."""
    x, y, x_test, y_test = rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(path, x=x, y=y, x_test=x_test)
        command = [python, "-c", PEER, str(seed), str(path)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)  # 50,000 lines of progress
        found = np.load(path)
        mean, std = (found[name].reshape(-1, len(y_test)) for name in ("mean", "std"))
        return {
            "seconds": float(found["seconds"]),
            "versions": [str(v) for v in found["versions"]],
            **scores(mean, std, y_test),
        }


def main() -> None:
    """Both, one after the other, as often as asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peer", help="Python interpreter that has sklearn-contrib-bde 1.0.2")
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    rows = airfoil()
    found: dict[str, list[dict[str, Any]]] = {"bnnzoo mile": []}
    for seed in range(args.repeats):
        found["bnnzoo mile"].append(run_ours(rows, seed))
        print("bnnzoo mile", found["bnnzoo mile"][-1], flush=True)
        if args.peer:
            found.setdefault("sklearn-contrib-bde", []).append(run_peer(args.peer, rows, seed))
            print("sklearn-contrib-bde", found["sklearn-contrib-bde"][-1], flush=True)
    if args.peer:
        write(found)


def write(found: dict[str, list[dict[str, Any]]]) -> None:
    """The table and the figures behind it."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    versions = [f"{p} {version(p)}" for p in ("jax", "blackjax")]
    lines = ["| | RMSE | log density | seconds |", "|---|---|---|---|"]
    for name, runs in found.items():
        cells = [
            f"{np.mean([r[key] for r in runs]):.{digits}f}"
            for key, digits in (("rmse", 3), ("log_density", 3), ("seconds", 0))
        ]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    theirs = ", ".join(found["sklearn-contrib-bde"][0]["versions"])
    text = (
        f"# mile on airfoil\n\n{machine}; ours: {', '.join(versions)}; theirs: {theirs}; means of "
        f"{len(found['bnnzoo mile'])} interleaved fits, standardised target.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "mile-airfoil.md").write_text(text, encoding="utf-8")
    record = {"machine": machine, "versions": versions, "options": OPTIONS, "runs": found}
    path = RESULTS / "mile-airfoil.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
