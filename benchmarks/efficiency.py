"""How much of a sampler's time goes into gradients: host work, statistics and disk are the rest.

    BNNZOO_DATA=folder python benchmarks/efficiency.py [diabetes] [airfoil] [mnist-10k]
        [--turns 5] [--quick]

*Efficiency* is gradients used x time of one gradient in a bare jitted loop / time of sampling,
warm-up included, compilation and the search for a start left out. Four chains, checkpoints as every
run keeps them. The bare loop (the quicker of one with the density's value and one without) runs
before and after each sampler, from as many threads at once as there are chains at once, so that
both have the same share of the machine. A chain's program is compiled for wider vectors than
``jax.jit`` takes, which quickens the gradient too: *alike* is beside the quickest of these loops
and the same compiled so. *Processor* counts the seconds of all threads in place of
the clock's, and hardly depends on who else uses the machine.
Medians over turns, in which samplers alternate. Writes ``benchmarks/results/efficiency.json`` and
``.md``; ``--quick`` takes one turn of a tenth of the steps and writes nothing.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from _bench import CASES, Clocks, keep, machine, markdown, middle

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.inference import start
from bnnzoo.inference.checkpoint import Checkpoint
from bnnzoo.inference.loop import CPU_OPTIONS, chains_on_threads, run_chains

CHAINS = 4
GOALS = {"hmc": 0.9, "mclmc": 0.9, "sgld": 0.9, "nuts": 0.7}


class Sampler(NamedTuple):
    """What is run.

    Attributes:
        backend: its name; ``batch_size`` among its options makes the bare gradient of a batch.
        options: of the backend.
        warmup, draws: steps of each chain.
    """

    backend: str
    options: dict[str, Any]
    warmup: int
    draws: int


SAMPLERS: dict[str, dict[str, Sampler]] = {
    "diabetes": {
        "hmc": Sampler("hmc", {}, 200, 300),
        "mclmc": Sampler("mclmc", {}, 200, 600),
        "sgld": Sampler("sgld", {}, 50, 200),
        "sgld, batches of 64": Sampler("sgld", {"batch_size": 64}, 100, 500),
        "nuts": Sampler("nuts", {}, 200, 200),
    },
    # Short trajectories: a gradient costs the same in long ones, and host work counts for more.
    "airfoil": {
        "hmc": Sampler("hmc", {"max_steps": 30}, 120, 180),
        "mclmc": Sampler("mclmc", {"max_steps": 15}, 120, 180),
        "sgld": Sampler("sgld", {}, 30, 60),
        "sgld, batches of 64": Sampler("sgld", {"batch_size": 64}, 50, 200),
        "nuts": Sampler("nuts", {"max_tree_depth": 5}, 120, 180),
    },
    "mnist-10k": {
        "hmc": Sampler("hmc", {"max_steps": 10}, 3, 4),
        "mclmc": Sampler("mclmc", {"max_steps": 5}, 3, 4),
        "sgld": Sampler("sgld", {"thin": 10}, 3, 4),
        "sgld, batches of 100": Sampler("sgld", {"batch_size": 100}, 5, 20),
        "nuts": Sampler("nuts", {"max_tree_depth": 4}, 3, 6),
    },
}
"""Samplers of each case, long enough for a few seconds."""

CLIMB_STEPS = 20
"""Of the search for a start, 300 else: it is not what is measured, and 4 x 900 gradients of MNIST
before each run would take longer than the run."""

BARE_SECONDS = 0.3
"""Of one bare loop, about."""


def loop(valued: bool, options: dict[str, Any] | None) -> Any:
    """A compiled loop over gradients and nothing else, with the log density or without it."""

    @functools.partial(jax.jit, compiler_options=options)
    def gradients(posterior: bz.Posterior, u: jax.Array, steps: int, rows: Any) -> Any:
        def body(i: Any, carry: Any) -> Any:
            batch = None if rows is None else rows[i % len(rows)]
            if not valued:
                return carry[0] + 1e-9 * jax.grad(posterior.log_density)(carry[0], batch), carry[1]
            value, slope = jax.value_and_grad(posterior.log_density)(carry[0], batch)
            return carry[0] + 1e-9 * slope, value

        return jax.lax.fori_loop(0, steps, body, (u, jax.numpy.zeros((), u.dtype)))

    return gradients


PLAIN = {"without value": loop(False, None), "with value": loop(True, None)}
"""Of the two the quicker counts: XLA sometimes makes more of the larger program."""

ALIKE = {f"{name}, wide": loop(name == "with value", CPU_OPTIONS) for name in PLAIN}
"""The same, compiled as a chain is."""

LOOPS = PLAIN | (ALIKE if chains_on_threads() else {})


class Bare:
    """Seconds of one gradient in a bare loop, from as many threads as chains run at once."""

    def __init__(self, posterior: bz.Posterior, batch_size: int | None, at_once: int) -> None:
        self.posterior, self.at_once = posterior, at_once
        # Where chains start: at a draw of the prior arithmetic may be slower (subnormal numbers).
        self.u = start.find_start(posterior, jax.random.key(0), "the bare loop")
        self.rows = None
        if batch_size is not None:
            rng = np.random.default_rng(0)
            rows = [rng.permutation(posterior.rows)[:batch_size] for _ in range(64)]
            self.rows = jax.numpy.asarray(np.stack(rows))
        self.steps = {}
        for name in LOOPS:
            self._run(name, 1)  # compiles, in this thread
            clocks = Clocks()
            self._run(name, 3)
            seconds = max(clocks.read()["wall"], 1e-4)
            self.steps[name] = max(3, int(3 * BARE_SECONDS / seconds))

    def _run(self, name: str, steps: int) -> None:
        jax.block_until_ready(LOOPS[name](self.posterior, self.u, steps, self.rows))

    def seconds(self) -> dict[str, dict[str, float]]:
        """Of one gradient of each loop, when ``at_once`` are computed: clock's and processor's."""
        found = {}
        for name, steps in self.steps.items():
            clocks = Clocks()
            with ThreadPoolExecutor(self.at_once) as pool:
                list(pool.map(self._run, [name] * self.at_once, [steps] * self.at_once))
            found[name] = {k: s / (steps * self.at_once) for k, s in clocks.read().items()}
        return found


class Stopwatch:
    """A monitor of a run that starts the clocks once programs are compiled."""

    def __init__(self) -> None:
        self.clocks = Clocks()

    def start(self, done: int) -> None:
        """Programs are compiled."""
        self.clocks.start()

    def advance(self, chain: int, steps: int, sampling: bool, gradients: int, bad: int) -> None:
        """Nothing is shown."""


def sample(posterior: bz.Posterior, sampler: Sampler, seed: int) -> dict[str, float]:
    """One run through the loop that every fit goes through: gradients and seconds.

    Args:
        posterior: the target.
        sampler: what is run.
        seed: of the run.
    """
    backend = registry.get("backends", sampler.backend).build(sampler.options, "inference")
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        chains = run_chains(
            backend.planned(sampler.warmup),
            posterior,
            chains=CHAINS,
            draws=sampler.draws,
            warmup=sampler.warmup,
            seed=seed,
            dtype="float32",
            monitor=watch,
            checkpoint=Checkpoint(Path(folder)),
        )
        seconds = watch.clocks.read()
    used = backend.gradients(chains.stats) + backend.gradients(chains.warmup_stats)
    return {"gradients": used, **seconds}


def study(case: str, turns: int, share: float) -> dict[str, Any]:
    """Every sampler of a case, in turns.

    Args:
        case: its name.
        turns: medians are over so many.
        share: of the steps.
    """
    model, data = CASES[case]()
    posterior = bz.Posterior(model, data)
    at_once = min(CHAINS, os.cpu_count() or 1) if chains_on_threads() else 1
    samplers = {
        name: s._replace(warmup=max(2, int(share * s.warmup)), draws=max(2, int(share * s.draws)))
        for name, s in SAMPLERS[case].items()
    }
    sizes = {s.options.get("batch_size") for s in samplers.values()}
    bare = {size: Bare(posterior, size, at_once) for size in sizes}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in samplers}
    for turn in range(turns):
        for name, sampler in samplers.items():
            loops = bare[sampler.options.get("batch_size")]
            before = loops.seconds()
            row = sample(posterior, sampler, turn)
            after = loops.seconds()
            for clock in ("wall", "cpu"):
                times = {n: (before[n][clock] + after[n][clock]) / 2 for n in LOOPS}
                row[f"bare_{clock}"] = min(times[n] for n in PLAIN)
                pace = row["gradients"] / row[clock]
                row[f"efficiency_{clock}"] = pace * row[f"bare_{clock}"]
                row[f"alike_{clock}"] = pace * min(times.values())
            found[name].append(row)
            print(case, name, {k: f"{v:.4g}" for k, v in row.items()}, flush=True)
    return {"data": data.name, "rows": data.rows, "at_once": at_once, "runs": found}


def table(found: dict[str, Any], said: str, turns: int) -> str:
    """The page of results."""
    rows = []
    for case, result in found.items():
        for name, runs in result["runs"].items():
            m = {key: middle([run[key] for run in runs]) for key in runs[0]}
            wall = [run["efficiency_wall"] for run in runs]
            goal = GOALS[name.partition(",")[0]]
            cells = [case, name, f"{m['gradients']:,.0f}", f"{1e6 * m['bare_cpu']:,.0f}"]
            cells += [f"{m['wall']:.1f}", f"{m['efficiency_wall']:.2f}"]
            cells += [f"{min(wall):.2f} to {max(wall):.2f}", f"{m['efficiency_cpu']:.2f}"]
            rows.append([*cells, f"{m['alike_wall']:.2f}", f"{goal:.1f}"])
    heads = ["network", "sampler", "gradients", "one of them, us", "seconds", "efficiency"]
    heads += ["over turns", "of processor time", "alike", "goal"]
    data = ", ".join(f"{case}: {r['rows']:,} rows of {r['data']}" for case, r in found.items())
    return f"{said}. {CHAINS} chains, medians of {turns} turns. {data}.\n\n{markdown(heads, rows)}"


def main() -> None:
    """Run the cases named, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"{', '.join(CASES)}; all if none is named")
    parser.add_argument("--turns", type=int, default=5, help="medians are over so many")
    parser.add_argument("--quick", action="store_true", help="one turn, a tenth of the steps")
    given = parser.parse_args()
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"unknown case {min(unknown)!r}; choices: {', '.join(CASES)}")
    warnings.simplefilter("ignore", bz.errors.DataWarning)  # pixels that never change
    start.CLIMB_STEPS = CLIMB_STEPS
    load = os.getloadavg()[0]
    turns, share = (1, 0.1) if given.quick else (given.turns, 1.0)
    found = {case: study(case, turns, share) for case in given.cases or CASES}
    said = machine(load)
    text = table(found, said, turns)
    print(text)
    if not given.quick:
        record = {"machine": said, "turns": turns, "chains": CHAINS, "cases": found}
        keep("efficiency", "Sampler efficiency", text, record)


if __name__ == "__main__":
    main()
