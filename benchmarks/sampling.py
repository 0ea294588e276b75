"""Sampling speed: the exact backends, NumPyro's NUTS and the bare gradient, interleaved in one run.

    python benchmarks/sampling.py [diabetes] [airfoil] [--repeats 3] [--draws 6000] [--warmup 1000]

Cases: ``diabetes`` (1 x 50 tanh, learned noise) and ``airfoil`` (4 x 16 ReLU, heteroscedastic
noise; needs the table, see docs/datasets.md). Writes ``benchmarks/results/sampling-CASE.json`` and
``.md``. Every figure is a ratio within this run: speed depends on the machine, ratios much less.

- *ESS* is the smallest of bulk, tail and squared deviation of the function at 20 test points, over
  all chains; *ESS/s* counts the *seconds* until the draws are there, compilation included, as a
  newcomer pays for it. *Whole run* adds what bnnzoo alone does then: predictions, scores, the
  log-likelihood of every row, the virial ratio, the folder.
- *efficiency* leaves compilation out: gradients used x time of one gradient in a bare jitted loop /
  (sampling seconds x chains run at once).
- *mean* and *std*: against NumPyro's, over the draws of all repeats: the largest difference of
  posterior means in its standard errors, and of standard deviations in percent. Deviations are
  compared where both have 5,000 effective draws, else said to be too few.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.infer import MCMC, NUTS

import bnnzoo as bz

numpyro.set_host_device_count(os.cpu_count() or 1)  # for NumPyro's parallel chains

RESULTS = Path(__file__).parent / "results"
PEER = "numpyro nuts"
OURS: dict[str, tuple[str, dict[str, float]]] = {
    "hmc": ("hmc", {}),
    "hmc, short": ("hmc", {"trajectory": 0.8, "target_acceptance": 0.8, "jitter": 0.5}),
    "nuts": ("nuts", {}),
    "adjusted-mclmc": ("adjusted-mclmc", {}),
}
"""Backends and their options, by name in the table."""

POINTS = 20
ENOUGH = 5000
"""Effective draws before standard deviations are compared."""

_stats = arviz_stats.base.array_stats


def diabetes() -> tuple[Any, bz.Dataset]:
    """One hidden layer, one learned noise."""
    return bz.make_model(), bz.load_dataset("diabetes")


def airfoil() -> tuple[Any, bz.Dataset]:
    """Four narrow ReLU layers and noise that depends on the inputs."""
    model = bz.make_model(
        network_options={"widths": [16] * 4, "activation": "relu"},
        likelihood="gaussian",
        likelihood_options={"noise": "heteroscedastic"},
    )
    return model, bz.load_dataset("uci/airfoil", split=0)


CASES: dict[str, Callable[[], tuple[Any, bz.Dataset]]] = {"diabetes": diabetes, "airfoil": airfoil}


def smallest_ess(f: np.ndarray) -> float:
    """Smallest of bulk, tail and squared-deviation ESS over points ``(chain, draw, point)``."""
    squares = (f - f.mean((0, 1))) ** 2
    axes = {"chain_axis": 0, "draw_axis": 1}
    return min(
        float(np.min(_stats.ess(f, method="bulk", **axes))),
        float(np.min(_stats.ess(f, method="tail", prob=0.9, **axes))),
        float(np.min(_stats.ess(squares, method="mean", **axes))),
    )


def bare_gradient_seconds(posterior: bz.Posterior, steps: int = 2000) -> float:
    """Seconds of one gradient of the log density in a jitted loop that does nothing else."""

    @jax.jit
    def loop(posterior: bz.Posterior, u: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(
            0, steps, lambda _, u: u + 1e-9 * jax.grad(posterior.log_density)(u), u
        )

    u = posterior.initial(jax.random.key(0))
    loop(posterior, u).block_until_ready()
    begun = time.perf_counter()
    loop(posterior, u).block_until_ready()
    return (time.perf_counter() - begun) / steps


def run_ours(
    model: Any, data: bz.Dataset, name: str, seed: int, args: argparse.Namespace
) -> tuple[dict[str, float], np.ndarray]:
    """One run of a backend: its figures, and the function at the points."""
    backend, options = OURS[name]
    jax.clear_caches()  # every repeat pays for its own compilation, as a newcomer does
    begun = time.perf_counter()
    sizes = {"chains": args.chains, "draws": args.draws, "warmup": args.warmup}
    run = bz.fit(model, data, backend, seed=seed, progress=False, **sizes, **options)
    whole, manifest = time.perf_counter() - begun, run.manifest
    f = run.tree["function_draws"]["f"].to_numpy()[..., 0]
    sampling = manifest["warmup_seconds"] + manifest["sampling_seconds"]
    figures = {
        # Before the loop: data and model are checked, the folder is made.
        "seconds": whole - manifest["wall_seconds"] + manifest["compile_seconds"] + sampling,
        "whole": whole,
        "compile": manifest["compile_seconds"],
        "sampling": sampling,
        "gradients": manifest["gradients"],
        "ess": smallest_ess(f),
    }
    return figures, f


def run_numpyro(
    model: Any, data: bz.Dataset, seed: int, args: argparse.Namespace
) -> tuple[dict[str, float], np.ndarray]:
    """The same of NumPyro's NUTS, with parallel chains."""
    jax.clear_caches()
    scaling = data.scaling_for(False)
    x = jnp.asarray(scaling.transform_x(data.x), jnp.float32)
    y = jnp.asarray(scaling.transform_y(data.y), jnp.float32)
    points = np.linspace(0, data.test_rows - 1, POINTS).astype(int)
    test = jnp.asarray(scaling.transform_x(data.x_test[points]), jnp.float32)
    bound = model.bind(data)
    begun = time.perf_counter()
    mcmc = MCMC(
        NUTS(bound), num_warmup=args.warmup, num_samples=args.draws, num_chains=args.chains,
        chain_method="parallel", progress_bar=False,
    )  # fmt: skip
    mcmc.run(jax.random.key(seed), x, y, extra_fields=("num_steps",))
    samples = jax.block_until_ready(mcmc.get_samples(group_by_chain=True))
    seconds = time.perf_counter() - begun
    function = jax.jit(jax.vmap(jax.vmap(lambda w: bound.function(w, test)[:, 0])))
    f = scaling.inverse_y(np.asarray(function(samples)))
    figures = {
        "seconds": seconds,
        "whole": float("nan"),
        "compile": float("nan"),
        "sampling": seconds,
        "gradients": float(mcmc.get_extra_fields()["num_steps"].sum()),
        "ess": smallest_ess(f),
    }
    return figures, f


def agreement(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """How far two samplers' functions are apart ``(chain, draw, point)``."""
    z = []
    for point in range(ours.shape[2]):
        means, variances = zip(
            *(
                (f[..., point].mean(), _stats.mcse(f[..., [point]], chain_axis=0, draw_axis=1) ** 2)
                for f in (ours, theirs)
            ),
            strict=True,
        )
        z.append(abs(means[0] - means[1]) / np.sqrt(float(np.sum(variances))))
    ess = min(smallest_ess(ours), smallest_ess(theirs))
    ratio = ours.std((0, 1)) / theirs.std((0, 1))
    found: dict[str, Any] = {"mean_errors": float(max(z)), "effective_draws": ess}
    found["std_percent"] = float(100 * np.abs(ratio - 1).max()) if ess >= ENOUGH else None
    return found


def run_case(case: str, args: argparse.Namespace) -> None:
    """Every sampler, interleaved, as often as asked."""
    model, data = CASES[case]()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (*OURS, PEER)}
    functions: dict[str, list[np.ndarray]] = {name: [] for name in rows}
    bare = []
    for seed in range(args.repeats):
        bare.append(bare_gradient_seconds(bz.Posterior(model, data)))
        for name in rows:
            if name == PEER:
                figures, f = run_numpyro(model, data, seed, args)
            else:
                figures, f = run_ours(model, data, name, seed, args)
            rows[name].append(figures)
            functions[name].append(f)
            print(case, name, {k: round(v, 3) for k, v in figures.items()}, flush=True)
    together = {name: np.concatenate(f) for name, f in functions.items()}
    apart = {name: agreement(together[name], together[PEER]) for name in OURS}
    write(case, rows, statistics.median(bare), apart, args)


def write(
    case: str,
    rows: dict[str, list[dict[str, float]]],
    bare: float,
    apart: dict[str, dict[str, Any]],
    args: argparse.Namespace,
) -> None:
    """The table and the figures behind it."""
    at_once = min(args.chains, os.cpu_count() or 1)
    peer = statistics.median(r["ess"] / r["seconds"] for r in rows[PEER])
    lines = [
        "| sampler | ESS | seconds | compiling | whole run | ESS/s | over NumPyro | efficiency "
        "| mean | std |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        middle = {k: statistics.median(r[k] for r in found) for k in found[0]}
        rate = statistics.median(r["ess"] / r["seconds"] for r in found)
        efficiency = middle["gradients"] * bare / (middle["sampling"] * at_once)
        cells = [name, f"{middle['ess']:.0f}", f"{middle['seconds']:.1f}"]
        if name == PEER:
            cells += ["", "", f"{rate:.1f}", "1.0", "", "", ""]
        else:
            far = apart[name]
            spread = far["std_percent"]
            said = f"{spread:.1f} %" if spread is not None else "too few draws"
            cells += [f"{middle['compile']:.1f}", f"{middle['whole']:.1f}"]
            cells += [f"{rate:.1f}", f"{rate / peer:.1f}"]
            cells += [f"{efficiency:.2f}", f"{far['mean_errors']:.1f} s.e.", said]
        lines.append("| " + " | ".join(cells) + " |")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    versions = f"jax {jax.__version__}, numpyro {numpyro.__version__}"
    text = (
        f"# Sampling: {case}\n\n{machine}; {versions}; medians of {args.repeats} interleaved "
        f"repeats of {args.chains} chains, {args.warmup} + {args.draws} steps; one bare gradient "
        f"takes {1e6 * bare:.0f} us.\n\n" + "\n".join(lines) + f"\n\n{_options()}\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"sampling-{case}.md").write_text(text, encoding="utf-8")
    record = {"machine": machine, "versions": versions, "bare_gradient_seconds": bare}
    record |= {"runs": rows, "agreement": apart}
    path = RESULTS / f"sampling-{case}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(text)


def _options() -> str:
    """What was set otherwise than by default."""
    said = [
        f"`{name}`: " + ", ".join(f"{option} {value:g}" for option, value in options.items())
        for name, (_, options) in OURS.items()
        if options
    ]
    return f"All by default but {'; '.join(said)}."


def main() -> None:
    """Run the cases named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help="diabetes, airfoil; diabetes if none is named")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--draws", type=int, default=6000)
    parser.add_argument("--warmup", type=int, default=1000)
    args = parser.parse_args()
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown case {min(unknown)!r}; choices: {', '.join(CASES)}")
    for case in args.cases or ["diabetes"]:
        run_case(case, args)


if __name__ == "__main__":
    main()
