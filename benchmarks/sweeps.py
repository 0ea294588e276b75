"""A sweep is one program: what sixteen fits and ten splits compile beyond what one fit does.

    python benchmarks/sweeps.py [--backend hmc] [--draws 50] [--quick]

Eight temperatures x two widths of the prior x four chains on diabetes, in turn, and then ten
splits of a table of equal shape. Each process counts the programs that XLA is asked to compile
(``jax.monitoring``) and takes each fit's seconds with those of compiling apart. Three processes:
one without a cache on disk, one that fills an empty one (``bz.keep_programs``), and one that finds
it filled. Seconds of compiling are JAX's own (tracing, lowering and XLA, or reading the disk).
Writes ``benchmarks/results/sweeps.json`` and ``.md``; ``--quick`` makes two fits of each kind with
twenty draws and writes nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from _bench import keep, machine, markdown, middle

TEMPERATURES = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05)
WIDTHS = (1.0, 0.5)
SPLITS = 10
CHAINS = 4
HELD_OUT = 45

OPTIONS: dict[str, dict[str, int]] = {"hmc": {"max_steps": 50}}
"""Of backends: what is compiled does not depend on them, and fits are short."""

PHASES = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
"""JAX's events of the way to a program; the last includes reading one from the disk."""


def together(spans: list[tuple[float, float]]) -> float:
    """Seconds that at least one of some spans of time covers: tracing is nested."""
    total, end = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, end))
        end = max(end, ended)
    return total


def one_process(args: argparse.Namespace) -> dict[str, Any]:
    """Every fit of both sweeps, in this process."""
    import bnnzoo as bz

    if args.cache:
        bz.keep_programs()
    import jax

    spans: list[tuple[float, float]] = []
    counts = {"compiled": 0, "read": 0}

    def listen(event: str, duration: float, **kwargs: object) -> None:
        if event in PHASES:
            now = time.perf_counter()
            spans.append((now - duration, now))
            counts["compiled"] += event.endswith("backend_compile_duration")

    def hear(event: str, **kwargs: object) -> None:
        counts["read"] += event == "/jax/compilation_cache/cache_hits"

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.monitoring.register_event_listener(hear)
    sizes = {"chains": CHAINS, "draws": args.draws, "warmup": args.draws, "progress": False}
    sizes |= OPTIONS.get(args.backend, {})

    def fit(model: Any, data: Any, **settings: Any) -> dict[str, Any]:
        spans.clear()
        counts.update(compiled=0, read=0)
        begun = time.perf_counter()
        bz.fit(model, data, args.backend, **sizes, **settings)
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "compiling": together(spans), **counts}

    data = bz.load_dataset("diabetes")
    grid = list(itertools.product(TEMPERATURES, WIDTHS))[: 2 if args.quick else None]
    sweep = []
    for number, (temperature, width) in enumerate(grid):
        model = bz.make_model(prior_options={"std": width})
        sweep.append(fit(model, data, seed=number, posterior_temperature=temperature))
    x, y = np.concatenate([data.x, data.x_test]), np.concatenate([data.y, data.y_test])
    splits = []
    for split in range(2 if args.quick else SPLITS):
        order = np.random.default_rng(split).permutation(len(x))
        out, rest = order[:HELD_OUT], order[HELD_OUT:]
        part = bz.make_dataset(x[rest], y[rest], x[out], y[out], task="regression")
        splits.append(fit(bz.make_model(), part, seed=split))
    return {"sweep": sweep, "splits": splits}


def in_process(args: argparse.Namespace, cache: str | None) -> dict[str, Any]:
    """The same in a process of its own, with a folder for programs or none."""
    environment = dict(os.environ, BNNZOO_CACHE=cache or "")
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, *(["-P"] if sys.flags.safe_path else []), __file__, "--child"]
    command += ["--backend", args.backend, "--draws", str(args.draws)]
    command += ["--cache"] * (cache is not None) + ["--quick"] * args.quick
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: dict[str, Any], said: str, args: argparse.Namespace) -> str:
    """The page of results."""
    rows = []
    for process, result in found.items():
        first, *rest = result["sweep"]
        for name, fits in {
            "first fit": [first],
            f"{len(rest)} more of the sweep": rest,
            f"{len(result['splits'])} splits": result["splits"],
        }.items():
            cells = [process, name, str(sum(f["compiled"] for f in fits))]
            cells += [str(sum(f["read"] for f in fits))]
            cells += [f"{sum(f['compiling'] for f in fits):.2f}"]
            cells += [f"{middle([f['seconds'] - f['compiling'] for f in fits]):.2f}"]
            rows.append([*cells, f"{middle([f['seconds'] for f in fits]):.2f}"])
    heads = ["process", "fits", "programs asked for", "of them from the disk"]
    heads += ["seconds compiling, all", "else, median", "a fit, median"]
    return (
        f"{said}. `{args.backend}`, {CHAINS} chains of {args.draws} + {args.draws} steps on "
        f"diabetes.\n\n{markdown(heads, rows)}"
    )


def main() -> None:
    """Run three processes, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", default="hmc")
    parser.add_argument("--draws", type=int, default=50, help="and as many warm-up steps")
    parser.add_argument("--quick", action="store_true", help="two fits of each kind, no files")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cache", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.draws = min(args.draws, 20)
    if args.child:
        print(json.dumps(one_process(args)))
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "no cache": in_process(args, None),
            "empty cache": in_process(args, folder),
            "filled cache": in_process(args, folder),
        }
    said = machine(load)
    text = table(found, said, args)
    print(text)
    if not args.quick:
        record = {"machine": said, "backend": args.backend, "draws": args.draws, "runs": found}
        keep("sweeps", "A sweep is one program", text, record)


if __name__ == "__main__":
    main()
