"""Simulation-based calibration of the exact backends, at T = 1 and T = 0.1.

    python benchmarks/sbc.py [BACKEND ...] [--simulations 400]

Draw parameters from the prior and data from the likelihood, sample the posterior, and rank what the
parameters imply among the draws: over many simulations ranks are uniform if, and only if, the
sampler follows the posterior (Talts et al. 2018, theorem 1). Ranked are the function at three new
inputs, the noise scale and the log-likelihood: never weights, whose symmetries no run visits all.

At a temperature T, with Gaussian priors and known Gaussian noise, the tempered posterior is the
posterior of the model whose two variances are T times as large: that one draws parameters and data.

Ranks among L draws are made continuous, (rank + U) / (L + 1) with U uniform, so that exact draws
give exactly uniform values. Writes ``benchmarks/results/sbc-BACKEND.json`` and ``docs/sbc.svg``.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import stats

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.inference.loop import run_chains
from bnnzoo.inference.precision import precision
from bnnzoo.models.simulated._draw import draw_dataset

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURE = ROOT / "docs" / "sbc.svg"

ROWS, POINTS, FEATURES = 12, 3, 2
RANKED = 99
"""Draws among which the truth is ranked."""
NOISE = 0.5
WIDTH = 5


def linear(temperature: float, known: bool) -> Callable[..., Any]:
    """Linear regression whose variances are multiplied by a temperature."""
    root = temperature**0.5

    def model(x: Any, y: Any = None) -> None:
        w = numpyro.sample("w", dist.Normal(0.0, root).expand([FEATURES]).to_event(1))
        noise = NOISE * root if known else numpyro.sample("noise", dist.HalfNormal(1.0))
        f = numpyro.deterministic("f", x @ w)
        numpyro.sample("y", dist.Normal(f, noise), obs=y)

    return model


def network(temperature: float, known: bool, prior: str = "gaussian") -> Any:
    """One hidden layer; its variances are multiplied by a temperature."""
    root = temperature**0.5
    fixed = {"noise": "fixed", "noise_std": NOISE * root}
    return bz.make_model(
        network="mlp",
        prior=prior,
        likelihood="gaussian",
        network_options={"widths": [WIDTH], "activation": "tanh"},
        prior_options={"std": root, "bias_std": root},
        likelihood_options=fixed if known else {"noise": "learned"},
    )


@dataclass(frozen=True)
class Case:
    """One model at one temperature.

    Attributes:
        make: the model by (temperature that multiplies variances, noise known).
        known: noise scale known.
        temperature: posterior temperature.
    """

    make: Callable[[float, bool], Any]
    known: bool
    temperature: float


CASES = {
    "linear, T=1": Case(linear, False, 1.0),
    "linear, T=0.1": Case(linear, True, 0.1),
    "network, T=1": Case(network, False, 1.0),
    "network, T=0.1": Case(network, True, 0.1),
    "hierarchy, T=1": Case(functools.partial(network, prior="hierarchical-gaussian"), False, 1.0),
}


def able(backend: Any, case: Case) -> bool:
    """Whether a backend can treat a case: elliptical slices need Gaussian priors, say."""
    source = case.make(case.temperature, case.known)
    data = draw_dataset(source, np.random.default_rng(0).normal(size=(ROWS, FEATURES)), seed=0)
    try:
        backend.check(bz.Posterior(case.make(1.0, case.known), data, case.temperature))
    except bz.errors.InputError:
        return False
    return True


def uniforms(
    backend: Any, case: Case, simulations: int, *, warmup: int, thin: int, first: int = 0
) -> dict[str, np.ndarray]:
    """Continuous ranks ``(simulation,)`` of every quantity; uniform under exactness.

    Args:
        backend: built, not planned yet.
        case: what is simulated.
        simulations: their number.
        warmup: steps before the draws.
        thin: every so many draws one is ranked against.
        first: seed of the first simulation.
    """
    fitted = case.make(1.0, case.known)
    source = case.make(case.temperature, case.known)
    collected: dict[str, list[float]] = {}
    with precision("float64"):
        for seed in range(first, first + simulations):
            rng = np.random.default_rng(seed)
            x, x_new = rng.normal(size=(ROWS, FEATURES)), rng.normal(size=(POINTS, FEATURES))
            data = draw_dataset(source, x, x_new, seed=seed)
            posterior = bz.Posterior(fitted, data, case.temperature)
            made = run_chains(
                backend.planned(warmup),
                posterior,
                chains=1,
                draws=RANKED * thin,
                warmup=warmup,
                seed=seed,
                dtype="float64",
            )
            assert data.truth is not None
            truth = {s.name: jnp.asarray(data.truth[s.name]) for s in posterior.sites}
            kept = jnp.asarray(made.u.take(0, slice(thin - 1, RANKED * thin, thin)))
            ours = _quantities(posterior, kept, jnp.asarray(x_new))
            true = _quantities(posterior, posterior.unconstrain(truth)[None], jnp.asarray(x_new))
            for name, values in ours.items():
                rank = float(np.sum(np.asarray(values) < float(true[name][0])))
                collected.setdefault(name, []).append((rank + rng.uniform()) / (RANKED + 1))
    return {name: np.array(values) for name, values in collected.items()}


@functools.partial(jax.jit)
def _quantities(posterior: Any, u: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
    def one(u: jax.Array) -> dict[str, jax.Array]:
        values = posterior.constrain(u)
        f = posterior.predictive(values, x).f[:, 0]
        found = {f"f{i + 1}": f[i] for i in range(POINTS)}
        found |= {n: values[n] for n in ("noise", "sigma", "noise_std") if n in values}
        return found | {"log-likelihood": posterior.log_likelihood(u)}

    return jax.vmap(one)(u)


def p_values(values: np.ndarray) -> dict[str, float]:
    """Of uniformity: Kolmogorov-Smirnov, and a z-test of (2u - 1)^2 that sees spread and tails."""
    squares = (2 * values - 1) ** 2  # mean 1/3, variance 4/45 for uniform u
    z = (squares.mean() - 1 / 3) / np.sqrt(4 / 45 / len(values))
    return {
        "ks": float(stats.kstest(values, "uniform").pvalue),
        "spread": float(2 * stats.norm.sf(abs(z))),
    }


SETTINGS = {"warmup": 300, "thin": 8}

STRIDE = 4
"""Of the grid of an empirical distribution, every so many points are drawn."""

OPTIONS: dict[str, dict[str, Any]] = {"smc": {"particles": 128}}
"""Options of backends that need them to be quick enough."""


def exact_backends() -> list[str]:
    """Backends whose stationary law is the posterior."""
    return registry.list_names("backends", exact=True)


def calibrate(name: str, simulations: int) -> dict[str, Any]:
    """Every case a backend can treat, as plain data."""
    backend = registry.get("backends", name).build(OPTIONS.get(name, {}))
    found: dict[str, Any] = {"backend": name, "simulations": simulations, **SETTINGS, "cases": {}}
    for label, case in CASES.items():
        if not able(backend, case):
            continue
        values = uniforms(backend, case, simulations, **SETTINGS)
        found["cases"][label] = {
            quantity: {"uniforms": np.sort(u).round(5).tolist(), **p_values(u)}
            for quantity, u in values.items()
        }
        print(f"{name}, {label}: {said(values)}", flush=True)
    return found


def said(values: dict[str, np.ndarray]) -> str:
    """The p-values of each quantity in one line."""
    parts = []
    for quantity, u in values.items():
        p = p_values(u)
        parts.append(f"{quantity} p = {p['ks']:.3f}, {p['spread']:.3f}")
    return "; ".join(parts)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """ECDF of the ranks minus uniform, a panel a backend and case, with 95 % simultaneous bands."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    from bnnzoo.reports.calibration import _grid, ecdf_band

    columns = list(CASES)
    figure, axes = plt.subplots(
        len(results),
        len(columns),
        figsize=(2.6 * len(columns), 1.9 * len(results)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, result in zip(axes, results, strict=True):
        row[0].set_ylabel(result["backend"])
        for axis, label in zip(row, columns, strict=True):
            axis.tick_params(labelsize=7)
            if result is results[0]:
                axis.set_title(label, fontsize=9)
            if label not in result["cases"]:
                axis.text(0.5, 0.0, "does not apply", ha="center", fontsize=7, color="0.4")
                continue
            for quantity, kept in result["cases"][label].items():
                u = np.array(kept["uniforms"])
                # The band is simultaneous over a fine grid; the eye needs fewer points of it.
                at, low, high = (v[::STRIDE] for v in (_grid(len(u)), *ecdf_band(len(u))))
                ecdf = np.searchsorted(u, at, side="right") / len(u)
                axis.plot(at, ecdf - at, lw=1, label=quantity)
            axis.fill_between(at, low - at, high - at, color="0.5", alpha=0.2, lw=0)
    handles, quantities = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, quantities, loc="outside upper right", ncols=5, fontsize=8, frameon=False
    )
    figure.supxlabel("rank of the truth among the draws", fontsize=9)
    figure.supylabel("ECDF − uniform", fontsize=9)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Calibrate the backends named, keep their ranks and draw all that are kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("backends", nargs="*", help="all exact ones if none is named")
    parser.add_argument("--simulations", type=int, default=400)
    given = parser.parse_args()
    known = exact_backends()
    if unknown := set(given.backends) - set(known):
        parser.error(f"no exact backend {min(unknown)!r}; choices: {', '.join(known)}")
    RESULTS.mkdir(exist_ok=True)
    for name in given.backends or known:
        path = RESULTS / f"sbc-{name}.json"
        path.write_text(json.dumps(calibrate(name, given.simulations)) + "\n", encoding="utf-8")
    kept = sorted(RESULTS.glob("sbc-*.json"))
    draw([json.loads(path.read_text(encoding="utf-8")) for path in kept], FIGURE)
    print(f"Wrote {FIGURE}")


if __name__ == "__main__":
    main()
