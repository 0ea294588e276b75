"""UCI regression over the standard splits, with one rule for every table.

    BNNZOO_DATA=folder python benchmarks/uci.py boston energy yacht [--splits 20] [--resume]

The rule, fixed before any test row was scored (chosen by cross-validation within the training rows
of split 0 of boston, energy and yacht; ``docs/uci.md`` has the figures):

- network 1 x 50 tanh (protein: 1 x 100, as in the published table), weights N(0, 2^2 / fan-in),
  biases N(0, 1);
- two noise models, Gaussian and Student-t, each with learned scale (and degrees of freedom);
- HMC with trajectories of pi/2 in the metric, at most 300 leapfrog steps, 8 chains of 250 warm-up
  and 250 draws, each from its own start; on tables of more than 1,000 rows a smaller budget
  (`BUDGETS`), so that two cores can run them, fixed before any of their test rows was scored;
- on each split the noise model of higher PSIS-LOO on that split's training rows predicts.

Writes ``benchmarks/results/uci-TABLE.json``: a row a split. Scores are the mean log density of the
mixture over draws and the RMSE of its mean, both in original units; standard errors are over
splits, as published ones are, and splits overlap.
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
from typing import Any, NamedTuple

import arviz as az
import numpy as np

import bnnzoo as bz

RESULTS = Path(__file__).parent / "results"

NOISE = ("gaussian", "student-t")
STD = 2.0


class Budget(NamedTuple):
    """What HMC may spend on a split."""

    chains: int = 8
    warmup: int = 250
    draws: int = 250
    max_steps: int = 300


BUDGETS = {
    "concrete": Budget(4, 150, 150, 150),
    "wine": Budget(4, 150, 150, 150),
    "kin8nm": Budget(4, 150, 150, 100),
    "naval": Budget(4, 150, 150, 100),
    "power": Budget(4, 150, 150, 100),
    "protein": Budget(2, 100, 100, 100),
}
"""Budgets of the tables of more than 1,000 rows."""

TABLES = ("boston", "concrete", "energy", "kin8nm", "naval", "power", "protein", "wine", "yacht")

PUBLISHED = {
    "boston": (2.90, 0.18, -2.40, 0.04),
    "concrete": (4.83, 0.16, -2.94, 0.02),
    "energy": (0.539, 0.014, -1.21, 0.01),
    "kin8nm": (0.0789, 0.0006, 1.14, 0.01),
    "naval": (0.00074, None, 4.45, None),
    "power": (4.01, 0.04, -2.81, 0.01),
    "protein": (4.27, 0.02, -2.87, None),
    "wine": (0.622, 0.008, -0.93, 0.01),
    "yacht": (0.666, 0.049, -1.25, 0.02),
}
"""MC dropout (Gal & Ghahramani 2016), 1 x 50 units (protein 100), 4000 epochs: RMSE, its standard
error, log-likelihood, its standard error; None where none is known."""


def splits_of(table: str) -> int:
    """How many standard splits a table has."""
    return 5 if table == "protein" else 20


def fit(data: bz.Dataset, noise: str, table: str, seed: int) -> bz.Run:
    """One candidate of the rule."""
    model = bz.make_model(
        network="mlp",
        prior="gaussian",
        likelihood=noise,
        network_options={"widths": [100 if table == "protein" else 50], "activation": "tanh"},
        prior_options={"std": STD},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bz.errors.DataWarning)
        return bz.fit(
            model,
            data,
            backend="hmc",
            seed=seed,
            progress=False,
            **BUDGETS.get(table, Budget())._asdict(),
        )


def loo(run: bz.Run) -> tuple[float, float]:
    """PSIS-LOO expected log density a training row, and the share of rows of k-hat above 0.7."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that k-hats are large is recorded instead
        found = az.loo(run.tree, pointwise=True)
    bad = float((found.pareto_k.to_numpy() > 0.7).mean())
    return float(found.elpd) / run.tree["observed_data"].sizes["row"], bad


def one_split(table: str, split: int) -> dict[str, Any]:
    """Both candidates, the choice, and what the chosen one scores on the test rows."""
    data = bz.load_dataset(f"uci/{table}", split=split)
    made: dict[str, Any] = {"split": split}
    chosen: tuple[float, bz.Run] | None = None
    for noise in NOISE:
        begun = time.perf_counter()
        run = fit(data, noise, table, seed=split)
        score, bad = loo(run)
        kinds = [flag["kind"] for flag in run.manifest["flags"]]
        made[noise] = {
            "loo": score,
            "large_khat": bad,
            "seconds": time.perf_counter() - begun,
            "stuck": kinds.count("stuck"),
            "divergent_chains": kinds.count("divergent"),
        }
        if chosen is None or score > chosen[0]:
            chosen = score, run
            made["chosen"] = noise
    assert chosen is not None
    metrics = chosen[1].metrics()
    made |= {"log_likelihood": -metrics["nll"], "rmse": metrics["rmse"]}
    made |= {"crps": metrics["crps"], "coverage_90": metrics["coverage_90"]}
    return made


def run_table(
    table: str, splits: int | None = None, path: Path | None = None, resume: bool = False
) -> dict[str, Any]:
    """Every split of a table and the summary over them, kept in ``path`` after each split."""
    rows: list[dict[str, Any]] = []
    if resume and path is not None and path.exists():
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    rows = rows[:splits]
    for split in range(len(rows), splits_of(table) if splits is None else splits):
        row = one_split(table, split)
        rows.append(row)
        if path is not None:
            result = {"table": table, "rows": rows, "summary": summary(rows)} | machine()
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(
            f"{table} split {split}: {row['chosen']}, log-likelihood {row['log_likelihood']:.3f}, "
            f"RMSE {row['rmse']:.4g}, coverage {row['coverage_90']:.2f}",
            flush=True,
        )
    return {"table": table, "rows": rows, "summary": summary(rows)}


def machine() -> dict[str, Any]:
    """Where a table was run, and with what."""
    packages = ("bnnzoo", "jax", "numpyro", "blackjax", "arviz")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {package: version(package) for package in packages},
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over splits with their standard errors."""
    found: dict[str, Any] = {"splits": len(rows)}
    for name in ("log_likelihood", "rmse", "crps", "coverage_90"):
        values = np.array([row[name] for row in rows])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        found[name] = {"mean": float(values.mean()), "se": float(error)}
    found["student_t"] = sum(row["chosen"] == "student-t" for row in rows)
    found["seconds"] = sum(row[noise]["seconds"] for row in rows for noise in NOISE)
    return found


def as_text(result: dict[str, Any]) -> str:
    """One line: ours beside the published figures."""
    s, (rmse, rmse_se, ll, ll_se) = result["summary"], PUBLISHED[result["table"]]
    rmse, ll = (f"{v}" if e is None else f"{v} ± {e}" for v, e in ((rmse, rmse_se), (ll, ll_se)))
    return (
        f"{result['table']}: log-likelihood {s['log_likelihood']['mean']:.3f} "
        f"± {s['log_likelihood']['se']:.3f} (published {ll}), "
        f"RMSE {s['rmse']['mean']:.4g} ± {s['rmse']['se']:.2g} (published {rmse}), "
        f"90 % coverage {s['coverage_90']['mean']:.3f}, Student-t on {s['student_t']} of "
        f"{s['splits']} splits, {s['seconds']:.0f} s"
    )


def main() -> None:
    """Run the tables named and write their results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", default=["boston", "energy", "yacht"])
    parser.add_argument("--splits", type=int, default=None, help="only the first so many")
    parser.add_argument("--resume", action="store_true", help="keep the splits already written")
    given = parser.parse_args()
    if unknown := set(given.tables) - set(TABLES):
        parser.error(f"unknown table {min(unknown)!r}; choices: {', '.join(TABLES)}")
    for table in given.tables:
        path = RESULTS / f"uci-{table}.json"
        print(as_text(run_table(table, given.splits, path, given.resume)), flush=True)
        print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    main()
