"""What a standard error of 0.3 nats costs each estimator of the evidence, on three small networks.

    python benchmarks/evidence.py [--problem 1x3] [--methods smc nested ...]

Regression on one input with 1x3 and 1x10 tanh, two moons with 1x5 tanh: every sampling estimator
at its defaults. Gradients are of the log density of all rows; ``nested`` takes none, and its
likelihood evaluations stand in for them. Those that 0.3 nats would take are scaled by
(error / 0.3)^2. Where ``dynesty`` is installed it samples the same posteriors, in the unit cube of
their Gaussian priors, and its evaluations are counted likewise. Processor seconds are of all
threads, compilation included. Writes
``benchmarks/results/evidence.json`` and ``.md``, in which figures of a run before stay where they
were not measured again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import stats

import bnnzoo as bz

RESULTS = Path(__file__).parent / "results"
AIM = 0.3
"""Nats."""


def regression(width: int) -> tuple[Any, bz.Dataset]:
    """Twenty points of a noisy sine, and a network with known noise."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2, 2, 20))
    y = np.sin(2 * x) + 0.2 * rng.normal(size=20)
    data = bz.make_dataset(x[:, None], y, task="regression", scale="none")
    model = bz.make_model(
        network_options={"widths": [width]},
        likelihood_options={"noise": "fixed", "noise_std": 0.2},
    )
    return model, data


def two_moons() -> tuple[Any, bz.Dataset]:
    """Sixty points of two classes."""
    data = bz.load_dataset("two-moons", n=60)
    return bz.make_model(likelihood="bernoulli", network_options={"widths": [5]}), data


PROBLEMS = {
    "1x3": lambda: regression(3),
    "1x10": lambda: regression(10),
    "two-moons 1x5": two_moons,
}


def nested_by_dynesty(model: Any, data: bz.Dataset) -> dict[str, float]:
    """The same evidence by dynesty's static sampler, 500 live points, random walks."""
    import dynesty

    posterior = bz.Posterior(model, data)
    # All priors here are normal: their quantiles carry the unit cube to the weights.
    scales = np.asarray(_scales(posterior))
    likelihood = jax.jit(posterior.log_likelihood)
    begun = time.perf_counter()
    sampler = dynesty.NestedSampler(
        lambda u: float(likelihood(np.asarray(u, np.float32))),
        lambda cube: scales * stats.norm.ppf(cube),
        len(scales),
        nlive=500,
        sample="rwalk",
        rstate=np.random.default_rng(0),
    )
    sampler.run_nested(print_progress=False)
    found = sampler.results
    return {
        "value": float(found.logz[-1]),
        "standard_error": float(found.logzerr[-1]),
        "gradients": 0,
        "evaluations": int(np.sum(found.ncall)),
        "seconds": time.perf_counter() - begun,
    }


def _scales(posterior: bz.Posterior) -> np.ndarray:
    """Standard deviation of every weight, from the prior's curvature: it is normal."""
    zero = np.zeros(posterior.dimension, np.float32)
    curvature = jax.jacfwd(jax.grad(posterior.log_prior_density))(zero)
    return np.asarray(1.0 / np.sqrt(-np.diag(curvature)))


def one(problem: str, method: str) -> dict[str, Any]:
    """One estimate."""
    model, data = PROBLEMS[problem]()
    begun = time.process_time()
    if method == "dynesty":
        found = nested_by_dynesty(model, data)
    else:
        said = bz.log_evidence(model, data, method)
        names = ("value", "standard_error", "gradients", "seconds", "kind", "warnings")
        found = {name: getattr(said, name) for name in names}
        found["evaluations"] = int(said.diagnostics.get("evaluations", 0))
    return {"problem": problem, "method": method, **found} | {
        "processor_seconds": time.process_time() - begun
    }


def write(rows: list[dict[str, Any]]) -> str:
    """The table, and the figures behind it."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    versions = f"jax {version('jax')}, numpyro {version('numpyro')}"
    titles = ("network", "estimator", "log evidence", "gradients", "evaluations")
    titles = (*titles, "processor seconds", "for 0.3 nats")
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        error = row["standard_error"]
        scaled = (row["gradients"] or row["evaluations"]) * (error / AIM) ** 2
        counts = f"{row['gradients']:,} | {row['evaluations']:,} | {row['processor_seconds']:.0f}"
        lines.append(
            f"| {row['problem']} | {row['method']} | {row['value']:.3f} ± {error:.3f} | "
            f"{counts} | {scaled:,.0f} |"
        )
    head = f"# Cost of the evidence\n\n<!-- table -->\n{machine}; {versions}.\n\n"
    text = head + "\n".join(lines)
    (RESULTS / "evidence.md").write_text(text + "\n", encoding="utf-8")
    record = {"machine": machine, "versions": versions, "rows": rows}
    path = RESULTS / "evidence.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return text


def main() -> None:
    """Run all, writing after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problem", choices=list(PROBLEMS), nargs="*", default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="*")
    given = parser.parse_args()
    methods = given.methods or bz.list("estimators", family="sampling")
    if given.methods is None and importlib.util.find_spec("dynesty"):
        methods = [*methods, "dynesty"]
    before = RESULTS / "evidence.json"
    rows: list[dict[str, Any]] = []
    if before.exists():
        rows = json.loads(before.read_text(encoding="utf-8"))["rows"]
    for problem in given.problem:
        for method in methods:
            found = one(problem, method)
            rows = [row for row in rows if (row["problem"], row["method"]) != (problem, method)]
            rows = sorted([*rows, found], key=lambda row: list(PROBLEMS).index(row["problem"]))
            text = write(rows)
            print(json.dumps(found), flush=True)
    print(text)


if __name__ == "__main__":
    main()
