"""Synthetic runs that keep to the schema of docs/design.md, made without JAX in milliseconds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from bnnzoo.specs import RunSpec, spec_from_tree

PRIORS = ("gaussian", "laplace", "student-t")
BACKENDS = ("nuts", "mean-field-vi")
TEMPERATURES = (1.0, 0.1)


@dataclass
class FakeRun:
    label: str
    path: Path
    spec: RunSpec
    manifest: dict[str, Any]
    tree: xr.DataTree


@dataclass
class FakeEvidence:
    value: float
    standard_error: float
    kind: str
    method: str
    record: dict[str, Any]
    gradients: int = 1000
    seconds: float = 12.5
    diagnostics: dict[str, Any] = field(default_factory=lambda: {"particles": 512})
    cautions: str = "modes that no particle finds"
    warnings: tuple[str, ...] = ()
    log_jacobian: float = -20.0
    data_dependent: tuple[str, ...] = ("scaling of the targets",)


def evidences(run: FakeRun) -> list[FakeEvidence]:
    """Numbers of five kinds on the data of a run: three models by the first of them."""
    kinds = (("unbiased", "smc", 0.3), ("exact", "exact", 0.0), ("lower-bound", "elbo", 0.05))
    kinds += (("approximation", "laplace", 0.0), ("predictive", "loo", 2.0))
    made = []
    for k, (kind, method, error) in enumerate(kinds):
        for std in (1.0, 2.0, 0.5) if k == 0 else (1.0,):
            spec = {"network": {"name": "mlp"}, "prior": {"name": "gaussian", "std": std}}
            record = {"label": "mlp, gaussian", "spec": spec, "external": "", "options": {}}
            record |= {"data": dict(run.manifest["data"]), "seed": 0, "dtype": "float32"}
            record |= {"created": "2026-01-01T00:00:00Z", "device": "cpu", "versions": {}}
            value = -2100.0 - 3.0 * k - 5.0 * abs(std - 1.0)
            warnings = ("few survived",) if std == 2.0 else ()
            made.append(FakeEvidence(value, error, kind, method, record, warnings=warnings))
    return made


def regression_runs(**kwargs: Any) -> list[FakeRun]:
    """Twelve runs on one regression set: 3 priors x 2 backends x 2 temperatures."""
    return [fake_run(task="regression", **k) for k in _grid(**kwargs)]


def classification_runs(**kwargs: Any) -> list[FakeRun]:
    """Twelve runs on one classification set."""
    return [fake_run(task="classification", **k) for k in _grid(**kwargs)]


def _grid(**kwargs: Any) -> list[dict[str, Any]]:
    made = []
    for backend in BACKENDS:
        for prior in PRIORS:
            for temperature in TEMPERATURES:
                worse = 0.03 * PRIORS.index(prior) + 0.08 * (temperature < 1)
                worse += 0.05 * (backend != "nuts")
                made.append(
                    {"prior": prior, "backend": backend, "T": temperature, "worse": worse} | kwargs
                )
    return made


def fake_run(
    *,
    task: str = "regression",
    name: str | None = None,
    prior: str = "gaussian",
    backend: str = "nuts",
    T: float = 1.0,
    L: float = 1.0,
    worse: float = 0.0,
    label: str | None = None,
    chains: int = 4,
    draws: int = 250,
    test_rows: int | None = None,
    unmixed: float = 0.0,
    divergences: int = 0,
    flags: tuple[dict[str, Any], ...] = (),
    seed: int = 0,
    split: int = 0,
    state: str = "complete",
    prior_options: dict[str, Any] | None = None,
) -> FakeRun:
    """One run.

    ``worse`` raises the error of its predictions, ``unmixed`` sets its chains apart.
    """
    name = name or {"regression": "diabetes", "classification": "breast-cancer"}[task]
    rows = 397 if task == "regression" else 455
    tests = (45 if task == "regression" else 114) if test_rows is None else test_rows
    rng = np.random.default_rng(
        [seed, round(1e3 * T), round(1e3 * L), *f"{prior}{backend}".encode()]
    )
    truth = np.random.default_rng(7 + split)  # the data are the same for every run of a split
    make = _regression if task == "regression" else _classification
    groups = make(rng, truth, rows, tests, chains, draws, worse, T)
    groups |= _sampling(rng, backend, chains, draws, unmixed, divergences, task, T)
    options = {"std": 1.0, "match": "variance"} | ({"df": 5.0} if prior == "student-t" else {})
    options |= prior_options or {}
    tree = {
        "data": {"name": name, "test_size": 0.1, "seed": split},
        "network": {"name": "mlp", "widths": [50], "activation": "tanh"},
        "prior": {"name": prior, **options},
        "likelihood": {"name": "gaussian" if task == "regression" else "categorical"},
        "inference": {
            "backend": backend,
            "chains": chains,
            "draws": draws,
            "warmup": 300,
            "seed": seed,
            "posterior_temperature": T,
            "likelihood_temperature": L,
            "dtype": "float32",
        },
    }
    label = label or f"mlp, {prior}, {backend}, T={T:g}" + (f", L={L:g}" if L != 1 else "")
    manifest = {
        "format": 1,
        "state": state,
        "label": label,
        "created": "2026-01-01T00:00:00Z",
        "versions": {"bnnzoo": "0.1.0", "jax": "0.12.0.1", "numpyro": "0.22.0", "arviz": "1.3.0"},
        "device": "cpu (2 cores)",
        "data": {
            "name": name,
            "hash": hashlib.sha256(f"{name}{tests}{split or ''}".encode()).hexdigest(),
            "task": task,
            "rows": rows,
            "test_rows": tests,
            "features": 10 if task == "regression" else 30,
        },
        "model": {"description": "mlp 10-50-1, tanh", "dimension": 602, "handwritten": False},
        "gradients": 123_456 if backend == "nuts" else 12_000,
        "wall_seconds": 6.2,
        "compile_seconds": 1.93,
        "warmup_seconds": 2.1,
        "sampling_seconds": 2.2,
        "metrics": {},
        "flags": list(flags),
        "files": {},
    }
    path = Path("runs") / f"{name}-{prior}-{backend}-T{T:g}"
    return FakeRun(label, path, spec_from_tree(tree), manifest, xr.DataTree.from_dict(groups))


def replace(run: FakeRun, group: str, **variables: Any) -> None:
    """Put other values in place of variables of a group, dimensions as they were."""
    dataset = run.tree[group].to_dataset()
    for name, values in variables.items():
        dims = dataset[name].dims
        dataset = dataset.assign({name: (dims, np.asarray(values))})
    run.tree[group] = xr.DataTree(dataset)


def _regression(rng, truth, rows, tests, chains, draws, worse, T):
    y, noise = truth.normal(150, 75, rows), truth.normal(0, 1, tests)
    y_test = truth.normal(150, 75, tests)
    residual = truth.normal(0, 10, (chains, draws, rows)) + rng.normal(0, 4, (chains, draws, rows))
    groups = {"log_likelihood": _draws("y", stats.norm.logpdf(residual, 0, 55), "row")}
    groups["observed_data"] = xr.Dataset({"y": ("row", y)})
    if not tests:
        return groups
    std = 54.0 * (0.9 if T < 1 else 1.0)
    mean = y_test - 54 * noise * (1 + 0.2 * worse) - 12 * rng.normal(size=tests) * (0.3 + worse)
    groups["predictions_constant_data"] = xr.Dataset({"y": ("test_row", y_test)})
    groups["test_scores"] = xr.Dataset(
        {
            "log_density": ("test_row", stats.norm.logpdf(y_test, mean, std)),
            "mean": ("test_row", mean),
            "std": ("test_row", np.full(tests, std)),
            "pit": ("test_row", stats.norm.cdf(y_test, mean, std)),
        }
    )
    return groups


def _classification(rng, truth, rows, tests, chains, draws, worse, T):
    y = truth.integers(0, 2, rows)
    fitted = -np.abs(truth.normal(0.05, 0.1, rows) + rng.normal(0, 0.05, (chains, draws, rows)))
    groups = {"log_likelihood": _draws("y", fitted, "row")}
    groups["observed_data"] = xr.Dataset({"y": ("row", y)})
    if not tests:
        return groups
    y_test = truth.integers(0, 2, tests)
    score = truth.normal(3.2, 2.2, tests) + rng.normal(0, 0.3 + 2 * worse, tests)
    score *= 1.25 if T < 1 else 1.0
    p = stats.logistic.cdf(np.where(y_test == 1, score, -score))
    both = np.stack([1 - p, p], 1)
    groups["predictions_constant_data"] = xr.Dataset({"y": ("test_row", y_test)})
    groups["test_scores"] = xr.Dataset(
        {
            "log_density": ("test_row", np.log(both[np.arange(tests), y_test])),
            "probabilities": (("test_row", "class"), both),
        }
    )
    return groups


def _sampling(rng, backend, chains, draws, unmixed, divergences, task, T):
    variational = backend == "mean-field-vi"
    apart = unmixed * rng.normal(size=(chains, 1, 1))
    rho = 0.0 if variational else 0.6
    f = _correlated(rng, rho, (chains, draws, 20)) + apart
    outputs = f[..., None] if task == "regression" else -np.logaddexp(0, np.stack([f, -f], -1))
    groups = {
        "function_draws": xr.Dataset(
            {
                "f": (("chain", "draw", "point", "output"), outputs),
                "log_likelihood": (
                    ("chain", "draw"),
                    -2000 + 4 * (_correlated(rng, rho, (chains, draws, 1)) + apart)[..., 0],
                ),
            }
        ),
        "posterior": xr.Dataset(
            {
                "layers.0.kernel": (
                    ("chain", "draw", "k0", "k1"),
                    rng.normal(size=(chains, draws, 10, 5)) + rng.normal(size=(chains, 1, 10, 5)),
                ),
                "noise_std": (("chain", "draw"), rng.normal(0.7, 0.02, (chains, draws))),
            },
            attrs={"posterior_temperature": T},
        ),
    }
    if variational:
        step = np.arange(2000)
        rise = -5000 * np.exp(-step / 150) - 2100
        noisy = rise + rng.normal(0, 15, (chains, len(step)))
        groups["warmup_sample_stats"] = xr.Dataset({"elbo": (("chain", "draw"), noisy)})
        groups["sample_stats"] = xr.Dataset(
            {"lp": (("chain", "draw"), rng.normal(size=(chains, draws)))}
        )
        return groups
    diverging = np.zeros(chains * draws, bool)
    diverging[:divergences] = True
    dims = ("chain", "draw")
    groups["sample_stats"] = xr.Dataset(
        {
            "lp": (dims, rng.normal(size=(chains, draws))),
            "acceptance_rate": (dims, rng.uniform(0.7, 0.95, (chains, draws))),
            "diverging": (dims, diverging.reshape(chains, draws)),
            "step_size": (dims, np.repeat(rng.uniform(0.02, 0.03, (chains, 1)), draws, 1)),
            "n_steps": (dims, np.full((chains, draws), 63)),
        }
    )
    return groups


def _correlated(rng, rho, shape):
    """Draws with lag-one correlation ``rho`` along the second axis."""
    x = rng.normal(size=shape)
    for t in range(1, shape[1]):
        x[:, t] = rho * x[:, t - 1] + np.sqrt(1 - rho**2) * x[:, t]
    return x


def _draws(name, values, last):
    return xr.Dataset({name: (("chain", "draw", last), values)})
