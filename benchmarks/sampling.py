"""Sampling speed: bnnzoo's backends, NumPyro's NUTS and the bare gradient, interleaved in one run.

    python benchmarks/sampling.py [--repeats 3] [--chains 2] [--draws 1000] [--warmup 1000]

Writes ``benchmarks/results/sampling.json`` and ``.md``. Every figure is a ratio within this run:
speed depends on the machine, ratios much less. ESS is the smallest of bulk, tail and squared
deviation of the function at 20 test points, over all chains; seconds include compilation in
``ESS/s`` and leave it out in ``efficiency``, which is gradients used x time of one gradient in a
bare jitted loop / sampling seconds x chains run at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.infer import MCMC, NUTS

import bnnzoo as bz

numpyro.set_host_device_count(os.cpu_count() or 1)  # for NumPyro's parallel chains

RESULTS = Path(__file__).parent / "results"
_stats = arviz_stats.base.array_stats


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
    def loop(posterior, u):
        return jax.lax.fori_loop(
            0, steps, lambda _, u: u + 1e-9 * jax.grad(posterior.log_density)(u), u
        )

    u = posterior.initial(jax.random.key(0))
    loop(posterior, u).block_until_ready()
    begun = time.perf_counter()
    loop(posterior, u).block_until_ready()
    return (time.perf_counter() - begun) / steps


def run_ours(model, data, backend: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    jax.clear_caches()  # every repeat pays for its own compilation, as a newcomer does
    begun = time.perf_counter()
    run = bz.fit(
        model, data, backend, chains=args.chains, draws=args.draws, warmup=args.warmup, seed=seed,
        progress=False,
    )  # fmt: skip
    manifest = run.manifest
    f = run.tree["function_draws"]["f"].to_numpy()[..., 0]
    return {
        "seconds": time.perf_counter() - begun,
        "compile": manifest["compile_seconds"],
        "sampling": manifest["warmup_seconds"] + manifest["sampling_seconds"],
        "gradients": manifest["gradients"],
        "ess": smallest_ess(f),
        "mean": float(f.mean()),
    }


def run_numpyro(model, data, seed: int, args: argparse.Namespace) -> dict[str, float]:
    jax.clear_caches()
    scaling = data.scaling_for(False)
    x = jnp.asarray(scaling.transform_x(data.x), jnp.float32)
    y = jnp.asarray(scaling.transform_y(data.y), jnp.float32)
    points = np.linspace(0, data.test_rows - 1, 20).astype(int)
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
    return {
        "seconds": seconds,
        "compile": float("nan"),
        "sampling": seconds,
        "gradients": float(mcmc.get_extra_fields()["num_steps"].sum()),
        "ess": smallest_ess(f),
        "mean": float(f.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--warmup", type=int, default=1000)
    args = parser.parse_args()
    data = bz.load_dataset("diabetes")
    model = bz.make_model()
    rows: dict[str, list[dict[str, float]]] = {"hmc": [], "nuts": [], "numpyro nuts": []}
    bare = []
    for seed in range(args.repeats):
        bare.append(bare_gradient_seconds(bz.Posterior(model, data)))
        for name, found in rows.items():
            if name == "numpyro nuts":
                found.append(run_numpyro(model, data, seed, args))
            else:
                found.append(run_ours(model, data, name, seed, args))
            print(name, {k: round(v, 3) for k, v in found[-1].items()}, flush=True)
    write(rows, statistics.median(bare), args)


def write(rows: dict[str, list[dict[str, float]]], bare: float, args: argparse.Namespace) -> None:
    at_once = min(args.chains, os.cpu_count() or 1)
    peer = statistics.median(r["ess"] / r["seconds"] for r in rows["numpyro nuts"])
    lines = [
        "| sampler | ESS | seconds | of which compiling | ESS/s | over NumPyro NUTS | efficiency |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        middle = {k: statistics.median(r[k] for r in found) for k in found[0]}
        rate = statistics.median(r["ess"] / r["seconds"] for r in found)
        efficiency = middle["gradients"] * bare / (middle["sampling"] * at_once)
        shown = "" if name.startswith("numpyro") else f"{efficiency:.2f}"
        compiling = "" if name.startswith("numpyro") else f"{middle['compile']:.1f}"
        lines.append(
            f"| {name} | {middle['ess']:.0f} | {middle['seconds']:.1f} | {compiling} | {rate:.0f} "
            f"| {rate / peer:.1f} | {shown} |"
        )
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    versions = f"jax {jax.__version__}, numpyro {numpyro.__version__}"
    text = (
        f"# Sampling, diabetes, mlp 1x50 tanh, learned noise\n\n{machine}; {versions}; medians of "
        f"{args.repeats} interleaved repeats of {args.chains} chains, {args.warmup} + {args.draws} "
        f"steps; one bare gradient takes {1e6 * bare:.0f} us.\n\n" + "\n".join(lines) + "\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sampling.md").write_text(text)
    record = {"machine": machine, "versions": versions, "bare_gradient_seconds": bare, "runs": rows}
    (RESULTS / "sampling.json").write_text(json.dumps(record, indent=1))
    print(text)


if __name__ == "__main__":
    main()
