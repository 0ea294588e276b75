"""What Laplace's evidence and its gradient in the prior's widths cost, in epochs of training.

    BNNZOO_DATA=folder python benchmarks/laplace_cost.py [--turns 15] [--cpu-time] [--quick]

784-50-50-10 ReLU on 10,000 images of MNIST (training and test rows of ``mnist-10k``). An epoch is
one gradient of the log joint density over all rows, a minibatch at a time; the evidence is that of
``tune(method="laplace", structure="kron")`` at new weights, value and gradient in a width a layer,
its rows in blocks of the same size. What neither weights nor widths move, the factor of the images
with its eigenvectors, ``tune`` finds once; ``first`` is an evaluation that finds it as well. Beside
them the factors at new weights, other widths at the same weights, and one block of 100 rows with
one output of ``laplace-ntk``, with its gradient. Then the same against rows, weights and classes.
All programs take turns within one run, and medians over turns are compared, so that a machine that
slows down slows all of them; where others use the machine, ``--cpu-time`` counts the processor's
seconds in place of the clock's. Writes
``benchmarks/results/laplace-cost.json`` and ``.md`` and ``docs/laplace_cost.svg``; ``--quick``
takes three turns of the first network alone and writes nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import bnnzoo as bz
from bnnzoo.inference import kfac
from bnnzoo.inference.hyper_parameters import grouped, make_groups, placed
from bnnzoo.inference.kfac_evidence import hold, log_normaliser_of
from bnnzoo.inference.laplace_ntk import Blocks, log_dets, without_data
from bnnzoo.inference.laplace_structures import Flavour
from bnnzoo.inference.network_layers import find_layers
from bnnzoo.inference.tuners.laplace import evidence_and_slope, inputs_once

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
FIGURE = ROOT / "docs" / "laplace_cost.svg"
BATCH = 500
"""Rows of a minibatch of training, and of a block of the curvature."""

NTK_BATCH = 100
"""Rows of one block of ``laplace-ntk``."""

ROWS, WIDTH, CLASSES = 10_000, 50, 10
SWEEPS: dict[str, list[dict[str, int]]] = {
    "rows": [{"rows": n} for n in (1_000, 2_500, 5_000, 10_000)],
    "weights": [{"width": w} for w in (10, 25, 50, 100, 200)],
    "classes": [{"classes": c} for c in (2, 5, 10, 20, 50)],
}
TURNS = 15
TARGET = 3.0
"""Epochs that the Kronecker evidence with its gradient should cost at most."""


def images() -> tuple[np.ndarray, np.ndarray]:
    """All rows of ``mnist-10k``, flat, and their classes."""
    data = bz.load_dataset("mnist-10k")
    assert data.x_test is not None and data.y_test is not None
    x = np.concatenate([data.x, data.x_test])
    return x.reshape(len(x), -1), np.concatenate([data.y, data.y_test])


def programs(
    x: np.ndarray, y: np.ndarray, width: int, classes: int
) -> tuple[dict[str, Callable[[], Any]], int]:
    """What is timed, compiled, and the number of weights.

    Args:
        x, y: rows.
        width: of both hidden layers.
        classes: other than ten are drawn at random: what labels are costs nothing.
    """
    if classes != CLASSES:
        y = np.random.default_rng(0).permutation(np.arange(len(y)) % classes)
    data = bz.make_dataset(x, y, task="classification")
    network = {"widths": [width, width], "activation": "relu"}
    model = bz.make_model("mlp", likelihood="categorical", network_options=network)
    bound = model.bind(data)
    assert bound.bound is not None
    groups, hyper = make_groups(bound, bound.bound, "layer", False)
    posterior = bz.Posterior(grouped(model, groups, hyper), data)
    u = posterior.initial(jax.random.key(0))
    layers = find_layers(posterior)

    @jax.jit
    def epoch(posterior: Any, hyper: Any, u: Any) -> Any:
        target = placed(posterior, groups, hyper)

        def body(block: Any, total: Any) -> Any:
            rows = block * BATCH + jnp.arange(BATCH)
            return total + jax.grad(lambda v: target.log_density(v, rows))(u)

        return jax.lax.fori_loop(0, posterior.rows // BATCH, body, jnp.zeros_like(u))

    per_row = kfac.numbers_a_row(posterior, u, layers, "ggn")
    kron = Flavour("kron", "ggn", "expand", 1, 2 * per_row * BATCH * u.dtype.itemsize)

    @jax.jit
    def ntk(posterior: Any, hyper: Any, u: Any, rows: Any) -> Any:
        def bound_of(hyper: Any) -> Any:
            target = placed(posterior, groups, hyper)
            base, precision = without_data(target, u, 2**29)
            block = Blocks(rows[None], jnp.ones((1, len(rows)), u.dtype))
            scale = posterior.rows / len(rows)
            column = jnp.zeros(1, int)
            found = log_dets(target, u, precision, block, column, "random", 2**29)
            return base - 0.5 * scale * found.sum()

        return jax.value_and_grad(bound_of)(hyper)

    once = inputs_once(posterior, kron)
    moved = [one is None for one in once]
    factors = jax.jit(functools.partial(kfac.row_sums, layers=layers, flavour=kron, wanted=moved))
    held = jax.jit(hold, static_argnames="flavour")(posterior, u, flavour=kron, known=once)

    @jax.jit
    def widths(posterior: Any, hyper: Any, u: Any, held: Any) -> Any:
        def value(hyper: Any) -> Any:
            return log_normaliser_of(placed(posterior, groups, hyper), u, kron, held)

        return jax.value_and_grad(value)(hyper)

    rows = jnp.arange(NTK_BATCH) * (posterior.rows // NTK_BATCH)
    made: dict[str, Callable[[], Any]] = {
        "epoch": lambda: epoch(posterior, hyper, u),
        "kron": lambda: evidence_and_slope(posterior, groups, hyper, u, kron, once),
        "first": lambda: evidence_and_slope(posterior, groups, hyper, u, kron),
        "factors": lambda: factors(posterior, u),
        "widths": lambda: widths(posterior, hyper, u, held),
        "ntk": lambda: ntk(posterior, hyper, u, rows),
    }
    for call in made.values():
        jax.block_until_ready(call())
    return made, posterior.dimension


def timed(
    made: dict[str, Callable[[], Any]], turns: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median seconds of each program, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(turns):
        for name, call in made.items():
            begun = clock()
            jax.block_until_ready(call())
            seconds[name].append(clock() - begun)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def study(
    turns: int, sweeps: dict[str, list[dict[str, int]]], clock: Callable[[], float]
) -> dict[str, list[dict[str, Any]]]:
    """Each point of the sweeps with its seconds by program."""
    x, y = images()
    found: dict[str, list[dict[str, Any]]] = {}
    known: dict[tuple[int, int, int], dict[str, Any]] = {}
    for sweep, points in sweeps.items():
        found[sweep] = []
        for point in points:
            rows, width, classes = (
                point.get(name, usual)
                for name, usual in (("rows", ROWS), ("width", WIDTH), ("classes", CLASSES))
            )
            if (rows, width, classes) not in known:
                made, weights = programs(x[:rows], y[:rows], width, classes)
                known[rows, width, classes] = {
                    "rows": rows,
                    "width": width,
                    "weights": weights,
                    "classes": classes,
                    "seconds": timed(made, turns, clock),
                }
                print(known[rows, width, classes], flush=True)
            found[sweep].append(known[rows, width, classes])
    return found


def epochs(point: dict[str, Any], name: str) -> float:
    """What a program costs in epochs of training on the same rows."""
    return float(point["seconds"][name] / point["seconds"]["epoch"])


def draw(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Cost in epochs against rows, weights and classes.

    Args:
        found: what :func:`study` gave.
        path: of the figure.
    """
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.style.use(ROOT / "docs" / "gallery" / "gallery.mplstyle")
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2), sharey=True)
    shown = {"kron": "Kronecker", "first": "the first of them", "ntk": "a block of 100 rows"}
    for axis, (sweep, points) in zip(axes, found.items(), strict=True):
        at = [point[sweep] for point in points]
        for number, (name, label) in enumerate(shown.items()):
            axis.plot(at, [epochs(p, name) for p in points], "o-", color=f"C{number}", label=label)
        axis.axhline(1.0, color="C3", lw=0.7, ls="--")
        axis.set(xscale="log", yscale="log", xlabel=sweep)
        axis.set_xticks(at, [f"{n:,}" for n in at], fontsize=7)
        axis.minorticks_off()
    axes[0].set(title="Cost of evidence and gradient, in epochs")
    axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def table(found: dict[str, list[dict[str, Any]]], machine: str, turns: int) -> str:
    """The page of results."""
    heads = ["rows", "weights", "classes", "epoch, ms", "kron", "of it factors"]
    heads += ["other widths", "the first", "one block"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    said = set()
    for point in (p for points in found.values() for p in points):
        place = tuple(point[n] for n in ("rows", "weights", "classes"))
        if place in said:
            continue
        said.add(place)
        cells = [f"{n:,}" for n in place] + [f"{1e3 * point['seconds']['epoch']:.0f}"]
        names = ("kron", "factors", "widths", "first", "ntk")
        cells += [f"{epochs(point, name):.2f}" for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    text = (
        f"{machine}. Minibatches and blocks of {BATCH} rows; medians of {turns} turns. The goal "
        f"for kron at 10,000 rows, 50 units and 10 classes is {TARGET:.0f} epochs.\n"
        "kron: evidence and gradient at new weights; other widths: at weights where the factors "
        "are known; the first: with what is found once a search.\n\n"
    )
    head = "# Laplace's evidence and its gradient, in epochs of training\n\n<!-- table -->\n"
    return head + text + "\n".join([*lines, ""])


def main() -> None:
    """Run the study, write its numbers and its figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=TURNS, help="medians are over so many")
    parser.add_argument("--cpu-time", action="store_true", help="of all threads, not of the wall")
    parser.add_argument("--quick", action="store_true", help="three turns, one point, no files")
    given = parser.parse_args()
    turns, quick = (3 if given.quick else given.turns), given.quick
    warnings.simplefilter("ignore", bz.errors.DataWarning)  # pixels that never change
    load = os.getloadavg()[0]
    clock = time.process_time if given.cpu_time else time.perf_counter
    found = study(turns, {"rows": [{}]} if quick else SWEEPS, clock)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start, "
        f"{'processor' if given.cpu_time else 'wall'} time, "
        f"{os.environ.get('OPENBLAS_NUM_THREADS', 'all')} BLAS threads, Python "
        f"{platform.python_version()}, jax {version('jax')}, {jax.default_backend()}"
    )
    print(table(found, machine, turns))
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        record = {"machine": machine, "batch": BATCH, "turns": turns, "sweeps": found}
        path = RESULTS / "laplace-cost.json"
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "laplace-cost.md").write_text(table(found, machine, turns), encoding="utf-8")
        draw(found, FIGURE)


if __name__ == "__main__":
    main()
