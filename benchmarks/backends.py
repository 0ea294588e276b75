"""How near each backend's predictions come to those of long HMC.

    python benchmarks/backends.py [diabetes] [mnist-10k] [--backends NAME...] [--runs FOLDER]

Cases: ``diabetes`` (1 x 50 tanh, learned noise), ``mnist-10k`` (196-50-10 ReLU on images averaged
2 x 2, so that HMC can be long; needs MNIST's test files, see docs/datasets.md). The reference is
``hmc`` in long chains, of another seed than the backend ``hmc`` of the table, whose row says what
is left by chance. Writes ``benchmarks/results/backends-CASE.json`` and ``.md``.

On the test rows, over all draws:

- *total variation* of the predictive distributions, mean over rows: half the integral of the
  absolute difference of densities (numbers), half the summed difference of probabilities (classes);
- *agreement* (classes): share of rows with the same most probable class;
- *mean*: root mean square difference of the means of f over draws, in standard deviations of the
  reference's; for classes of the probabilities;
- *std ratio*: median over rows of the standard deviation over draws, over the reference's; with its
  5 % and 95 % quantiles over rows. It sees width where total variation sees the whole;
- *NLL*: of the mixture, test rows; *seconds*: the whole fit, with compilation.

The first row sets one half of the reference's chains beside the other: smaller differences say
nothing. Every backend runs with its defaults but for what the table names. With ``--runs`` the runs
are kept in that folder, and those that are there are not run again: a benchmark that was stopped
goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import bnnzoo as bz
from bnnzoo.reports.diagnostics import diagnose

RESULTS = Path(__file__).parent / "results"
GRID = 400
"""Points of the integral of two densities, a row."""


class Case(NamedTuple):
    """A model, its data and how each backend is run on it.

    Attributes:
        data: name of the data set.
        model: options of ``make_model``.
        reference: settings of the long run.
        settings: by backend, what differs from its defaults; those not named are left out.
        pool: side of the squares that images are averaged over.
    """

    data: str
    model: dict[str, Any]
    reference: dict[str, Any]
    settings: dict[str, dict[str, Any]]
    pool: int = 1


BATCH = {"batch_size": 64}
CASES = {
    "diabetes": Case(
        "diabetes",
        {"network_options": {"widths": [50]}},
        {"chains": 4, "draws": 5000, "warmup": 1000, "seed": 1},
        {
            "hmc": {"chains": 2},
            "nuts": {"chains": 2},
            "adjusted-mclmc": {"chains": 2},
            "elliptical-slice": {"chains": 2, "draws": 5000},
            "smc": {"chains": 2},
            "mclmc": {"chains": 2},
            "mile": {"chains": 4, "draws": 500},
            "sgld": {"chains": 2, **BATCH},
            "psgld": {"chains": 2, "learning_rate": 3e-4, **BATCH},
            "sghmc": {"chains": 2, **BATCH},
            "sgnht": {"chains": 2, **BATCH},
            "cyclical-sgld": {"chains": 2, "draws": 100, **BATCH},
            "cyclical-sghmc": {"chains": 2, "draws": 100, **BATCH},
            "gg-mc": {"chains": 2},
            "mean-field-vi": {"chains": 1},
            "low-rank-vi": {"chains": 1},
            "full-rank-vi": {"chains": 1},
            "last-layer-vi": {"chains": 1},
            "flow-vi": {"chains": 1},
            "svgd": {"chains": 1, "draws": 100},
            "pathfinder": {"chains": 1},
            "laplace": {"chains": 2},
            "laplace kron": {"chains": 2, "structure": "kron"},
            "laplace sampled": {"chains": 2, "predictive": "sampled"},
            "deep-ensemble": {},
            "deep-ensemble anchored": {"variant": "anchored"},
            "swag": {"chains": 4, "draws": 250},
            "mc-dropout": {"chains": 1},
            "map": {},
        },
    ),
    "mnist-10k": Case(
        "mnist-10k",
        {
            "network_options": {"widths": [50], "activation": "relu"},
            "likelihood": "categorical",
        },
        {"chains": 2, "draws": 300, "warmup": 200, "seed": 1, "max_steps": 300},
        {
            "hmc": {"chains": 2, "draws": 100, "warmup": 200, "max_steps": 150},
            "sgld": {"chains": 2, "draws": 100, "warmup": 50, "batch_size": 256},
            "sghmc": {"chains": 2, "draws": 200, "warmup": 100, "batch_size": 256},
            "cyclical-sghmc": {"chains": 2, "draws": 20, "warmup": 2, "batch_size": 256},
            "mean-field-vi": {"chains": 1, "draws": 200, "batch_size": 256},
            "last-layer-vi": {"chains": 1, "draws": 200, "batch_size": 256},
            "laplace": {"chains": 1, "draws": 100, "structure": "kron"},
            "deep-ensemble": {"draws": 5, "chains": 2, "steps": 2000, "batch_size": 256},
            "swag": {"chains": 2, "draws": 100, "batch_size": 256},
            "mc-dropout": {"chains": 1, "draws": 100},
            "map": {"steps": 2000, "batch_size": 256, "restarts": 1},
        },
        pool=2,
    ),
}


class Predicted(NamedTuple):
    """What a run says of the test rows.

    Attributes:
        mean: of f, or class probabilities ``(row, output)``.
        std: over draws, the same shape.
        density: predictive density on the grid ``(row, grid)``; None for classes.
        nll: mean over rows.
    """

    mean: np.ndarray
    std: np.ndarray
    density: np.ndarray | None
    nll: float


def predicted(run: bz.Run, data: bz.Dataset, grid: np.ndarray | None) -> Predicted:
    """Everything that is compared."""
    x, y = data.x_test, data.y_test
    prediction = run.predict(x)
    values = prediction.f if grid is not None else prediction.probability_draws
    flat = values.reshape(-1, *values.shape[2:])
    density = None
    if grid is not None:
        rows, points = grid.shape
        at = run.predict(np.repeat(x, points, axis=0))
        density = np.exp(at.log_prob(grid.ravel())).reshape(rows, points)
    nll = -float(prediction.log_prob(y).mean())
    return Predicted(flat.mean(0), flat.std(0), density, nll)


def compared(ours: Predicted, reference: Predicted, grid: np.ndarray | None) -> dict[str, float]:
    """The columns of the table."""
    ratio = ours.std / np.maximum(reference.std, 1e-12)
    off = (ours.mean - reference.mean) / np.maximum(reference.std, 1e-12)
    found = {
        "mean": float(np.sqrt(np.mean(off**2))),
        "std_ratio": float(np.median(ratio)),
        "std_low": float(np.quantile(ratio, 0.05)),
        "std_high": float(np.quantile(ratio, 0.95)),
        "nll": ours.nll,
    }
    if grid is None:
        found["mean"] = float(np.sqrt(np.mean((ours.mean - reference.mean) ** 2)))
        found["total_variation"] = float(bz.metrics.total_variation(ours.mean, reference.mean))
        found["agreement"] = float(bz.metrics.agreement(ours.mean, reference.mean))
        return found
    assert ours.density is not None and reference.density is not None
    gap = np.abs(ours.density - reference.density)
    found["total_variation"] = float((0.5 * np.trapezoid(gap, grid, axis=1)).mean())
    return found


def load(case: Case) -> bz.Dataset:
    """The case's data set, its images averaged."""
    data = bz.load_dataset(case.data)
    if case.pool == 1:
        return data
    x, x_test = (_averaged(images, case.pool) for images in (data.x, data.x_test))
    name = f"{case.data}, {case.pool} x {case.pool} means"
    return bz.make_dataset(x, data.y, x_test, data.y_test, task=data.task, name=name)


def _averaged(images: np.ndarray, side: int) -> np.ndarray:
    rows, height, width, channels = images.shape
    cut = images.reshape(rows, height // side, side, width // side, side, channels)
    return cut.mean((2, 4))


def grid_of(run: bz.Run, data: bz.Dataset) -> np.ndarray | None:
    """Targets at which densities are compared ``(row, grid)``: ten standard deviations about."""
    if data.task == "classification":
        return None
    prediction = run.predict(data.x_test)
    steps = np.linspace(-10, 10, GRID)
    return prediction.mean[:, None] + prediction.std[:, None] * steps


def fit(case: Case, data: bz.Dataset, label: str, settings: dict[str, Any], out: Path) -> bz.Run:
    """One run, in a folder named by its label, or the one that is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bz.errors.DataWarning)
        model = bz.make_model(**case.model)
        backend = "hmc" if label == "reference" else label.partition(" ")[0]
        folder = out / label.replace(" ", "-")
        return bz.fit(model, data, backend, out=folder, progress=False, **settings)


def run_case(name: str, only: list[str], out: Path) -> None:
    """The reference, then every backend."""
    case = CASES[name]
    data = load(case)
    run = fit(case, data, "reference", case.reference, out)
    grid = grid_of(run, data)
    reference = predicted(run, data, grid)
    diagnosed = diagnose(run.tree)["function"]
    about = {
        "settings": case.reference,
        "seconds": run.manifest["wall_seconds"],
        "rhat": diagnosed["worst_rhat"],
        "ess": diagnosed["worst_ess"],
        "nll": reference.nll,
    }
    print("reference", about, flush=True)
    rows: dict[str, Any] = {"reference": against_itself(run, data, grid) | {"seconds": 0.0}}
    for label, settings in case.settings.items():
        if only and label not in only:
            continue
        run = fit(case, data, label, settings, out)
        found = compared(predicted(run, data, grid), reference, grid)
        flags = sorted({flag["kind"] for flag in run.manifest["flags"]})
        sizes = run.spec.inference
        rows[label] = {
            **found,
            "seconds": run.manifest["wall_seconds"],
            "draws": sizes.chains * sizes.draws,
            "flags": flags,
            "settings": settings,
        }
        print(label, rows[label], flush=True)
        write(name, about, rows)


def against_itself(run: bz.Run, data: bz.Dataset, grid: np.ndarray | None) -> dict[str, Any]:
    """One half of the reference's chains as if it were a backend, the other as the reference."""
    chains = range(run.spec.inference.chains)
    middle = len(chains) // 2
    first, second = (bz.drop_chains(run, out) for out in (chains[middle:], chains[:middle]))
    found = compared(predicted(first, data, grid), predicted(second, data, grid), grid)
    draws = middle * run.spec.inference.draws
    return found | {"draws": draws, "flags": [], "settings": {"half against half": ""}}


def write(name: str, about: dict[str, Any], rows: dict[str, Any]) -> None:
    """The table and the figures behind it."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    versions = f"jax {version('jax')}, numpyro {version('numpyro')}"
    classes = "agreement" in next(iter(rows.values()))
    heads = ["backend", "total variation", *(["agreement"] if classes else []), "mean"]
    heads += ["std ratio", "NLL", "draws", "seconds", "flags", "set"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for label, row in rows.items():
        cells = [f"`{label}`", f"{row['total_variation']:.3f}"]
        cells += [f"{row['agreement']:.3f}"] if classes else []
        spread = f"{row['std_ratio']:.2f} ({row['std_low']:.2f} to {row['std_high']:.2f})"
        cells += [f"{row['mean']:.3f}" if classes else f"{row['mean']:.2f}", spread]
        chosen = {k: v for k, v in row["settings"].items() if k not in ("chains", "draws")}
        said = ", ".join(f"{k} {v}".strip() for k, v in chosen.items())
        seconds = f"{row['seconds']:.0f}" if label != "reference" else ""
        cells += [f"{row['nll']:.3f}", f"{row['draws']}", seconds]
        lines.append("| " + " | ".join([*cells, ", ".join(row["flags"]), said]) + " |")
    given = ", ".join(f"{k} {v}" for k, v in about["settings"].items())
    text = (
        f"# Backends beside long HMC: {name}\n\n<!-- table -->\n{machine}; {versions}. "
        f"Reference: `hmc`, {given}; "
        f"R-hat of functions {about['rhat']:.3f}, least ESS {about['ess']:.0f}, NLL "
        f"{about['nll']:.3f}, {about['seconds']:.0f} s.\n\n" + "\n".join(lines) + "\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"backends-{name}.md").write_text(text, encoding="utf-8")
    record = {"machine": machine, "versions": versions, "reference": about, "rows": rows}
    path = RESULTS / f"backends-{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run the cases named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help="diabetes, mnist-10k; diabetes if none is named")
    parser.add_argument("--backends", nargs="*", default=[], help="only these rows")
    parser.add_argument("--runs", type=Path, help="keep runs in this folder, and use what is there")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown case {min(unknown)!r}; choices: {', '.join(CASES)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.cases or ["diabetes"]:
            run_case(name, args.backends, (args.runs or Path(folder)) / name)


if __name__ == "__main__":
    main()
