"""A prior matched to a Gaussian process against a fixed one: Boston, as Tran et al. (2022) have it.

    BNNZOO_DATA=folder python benchmarks/gp_matched.py [--splits 10] [--method moments]

Protocol: one layer of 100 tanh units, weights N(0, 1 / fan-in) and biases N(0, 1) (*fixed*), or
widths matched to the process ``rbf`` with log-normal lengthscales and variance (*matched*); noise
variance 0.1 on standardised targets; measurement points 70 % training inputs, 30 % uniform in their
box. NLL is that of a Gaussian of the predictive mean and variance, in original units, as published.
The study's splits may be others than the standard ones here and its sampler was adaptive SGHMC, so
that figures compare in size, not split by split. Ours is ``hmc``, 4 chains of 300 + 250. Writes
``benchmarks/results/gp-matched-METHOD.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import bnnzoo as bz

RESULTS = Path(__file__).parent / "results"
PUBLISHED = {"fixed": (3.132, 2.567), "matched": (2.797, 2.470)}
"""RMSE and NLL, means over its ten splits (figures of the study's notebook)."""


def score(model: Any, data: bz.Dataset, seed: int) -> dict[str, float]:
    """A posterior's figures on the test rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bz.errors.DataWarning)
        run = bz.fit(model, data, "hmc", chains=4, draws=250, warmup=300, seed=seed, progress=False)
    said = run.predict(data.x_test)
    density = stats.norm.logpdf(data.y_test, said.mean, said.std)
    return {
        "rmse": bz.metrics.rmse(data.y_test, said.mean),
        "nll": -float(density.mean()),
        "nll_mixture": run.metrics()["nll"],
        "seconds": run.manifest["wall_seconds"],
        "rhat": float(bz.reports.diagnostics.diagnose(run.tree)["function"]["worst_rhat"]),
    }


def one_split(split: int, method: str) -> dict[str, Any]:
    """Both priors on one split."""
    data = bz.load_dataset("uci/boston", split=split)
    model = bz.load_model("gpi-mlp")
    matched = bz.match_prior(
        model, data, "rbf", method=method, seed=split, process_options={"hyper": "log-normal"}
    )
    return {
        "split": split,
        "fixed": score(model, data, split),
        "matched": score(matched.model, data, split),
        "widths": matched.widths,
        "off": {"before": matched.error_before, "after": matched.error_after},
        "match_seconds": matched.seconds,
    }


def write(rows: list[dict[str, Any]], method: str) -> str:
    """The table, and the figures behind it."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    versions = f"jax {version('jax')}, numpyro {version('numpyro')}"
    lines = ["| split | RMSE fixed | RMSE matched | NLL fixed | NLL matched | matching (s) |"]
    lines.append("|" + "---|" * 6)
    names = [(metric, prior) for metric in ("rmse", "nll") for prior in ("fixed", "matched")]
    for row in rows:
        cells = [f"{row[prior][metric]:.3f}" for metric, prior in names]
        lines.append(
            "| " + " | ".join([str(row["split"]), *cells, f"{row['match_seconds']:.0f}"]) + " |"
        )
    means = [np.mean([row[prior][metric] for row in rows]) for metric, prior in names]
    lines.append("| mean | " + " | ".join(f"{value:.3f}" for value in means) + " | |")
    published = [PUBLISHED[prior][0 if metric == "rmse" else 1] for metric, prior in names]
    lines.append("| published | " + " | ".join(f"{value:.3f}" for value in published) + " | |")
    better = sum(row["matched"]["rmse"] < row["fixed"]["rmse"] for row in rows)
    text = (
        f"# Boston with a matched prior: {method}\n\n<!-- table -->\n{machine}; {versions}. "
        f"Matched is better in RMSE on {better} of {len(rows)} splits.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    (RESULTS / f"gp-matched-{method}.md").write_text(text, encoding="utf-8")
    record = {"machine": machine, "versions": versions, "method": method, "rows": rows}
    path = RESULTS / f"gp-matched-{method}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return text


def main() -> None:
    """Run the splits, writing after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--method", choices=("moments", "wasserstein"), default="moments")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for split in range(given.splits):
        rows.append(one_split(split, given.method))
        text = write(rows, given.method)
        print(json.dumps(rows[-1]), flush=True)
    print(text)


if __name__ == "__main__":
    main()
