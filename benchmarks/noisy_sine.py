"""Where evidence works: the prior's precision of a network on a noisy sine.

    python benchmarks/noisy_sine.py [--sets 10] [--quick]

A sine at 100 points: two dense clusters whose noise has a standard deviation of 0.1, and between
them a thin one of 1; 2,000 test rows of the same law. The network has two hidden layers of 20 tanh
units, N(0, 1/delta) of every weight and bias, and noise of 1. For 21 values of delta stand
Laplace's evidence, by the full Gauss-Newton matrix and by Kronecker factors, of two climbs the
higher, and the squared errors of the mode. The climbs are put together from the parts of estimator
``laplace``, which keeps no mode: ``tests/inference/test_evidence_failures.py`` sets the two side by
side. Data and model are those of Khan et al. (2019), Approximate Inference Turns Deep Networks into
Gaussian Processes, but for a constant second input; the code is not. Writes
``benchmarks/results/noisy-sine.json`` and ``docs/noisy-sine.svg``.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _studies import canvas, interval, keep, save, written
from jax import Array

import bnnzoo as bz
from bnnzoo.inference.climbing import ascend
from bnnzoo.inference.laplace_options import CurvatureOptions
from bnnzoo.inference.laplace_structures import log_normaliser
from bnnzoo.inference.start import find_start

PRECISIONS = np.logspace(-2.0, 2.0, 21)
MODES = 2
"""Climbs, as those of estimator ``laplace``."""

STEPS, ROUNDS, LEAST_GAIN = 100, 10, 1e-3
"""Steps of L-BFGS at a time, how many times, and the nats that they have to gain to go on."""

TEST_ROWS = 2000


def draw_rows(rows: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``(row, 1)`` and noisy sines ``(row,)`` of three clusters.

    Args:
        rows: how many.
        random: source of them.
    """
    cluster = random.choice(3, size=rows, p=[0.45, 0.1, 0.45])
    x = np.array([-3.5, -1.0, 1.5])[cluster] + 2.0 * random.uniform(size=rows)
    y = np.sin(x) + np.array([0.1, 1.0, 0.1])[cluster] * random.normal(size=rows)
    return x[:, None], y


def make_data(seed: int) -> bz.Dataset:
    """A data set, not scaled, with its test rows.

    Args:
        seed: of it.
    """
    random = np.random.default_rng(seed)
    x, y = draw_rows(100, random)
    return bz.make_dataset(x, y, task="regression", scale="none", name="noisy sine")


def make_test(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Test rows of the same law.

    Args:
        seed: of the data set.
    """
    return draw_rows(TEST_ROWS, np.random.default_rng([seed, 1]))


def make_network(precision: float) -> bz.Model:
    """Two layers of 20 tanh units, every weight N(0, 1 / precision), noise of 1.

    Args:
        precision: delta.
    """
    std = float(precision) ** -0.5
    return bz.make_model(
        network_options={"widths": [20, 20]},
        prior_options={"std": std, "bias_std": std, "absolute": True},
        likelihood_options={"noise": "fixed", "noise_std": 1.0},
    )


@jax.jit
def _climb(posterior: bz.Posterior, u: Array) -> tuple[Array, Array]:
    u, _ = ascend(posterior.log_density, u, STEPS)
    return u, posterior.log_density(u)


@jax.jit
def _seen(posterior: bz.Posterior, u: Array, x: Array) -> tuple[list[Array], list[Array]]:
    flavours = (CurvatureOptions(structure=name).flavour() for name in ("full", "kron"))
    evidence = [log_normaliser(posterior, u, flavour) for flavour in flavours]
    weights = posterior.constrain(u)
    return evidence, [posterior.predictive(weights, rows).f[:, 0] for rows in (posterior.x, x)]


def at(data: bz.Dataset, test: Any, precision: float) -> dict[str, float]:
    """Both evidences, and errors of the mode, at one precision.

    Args:
        data: training rows.
        test: inputs and targets of new rows.
        precision: delta.
    """
    posterior, ends = bz.Posterior(make_network(precision), data), []
    x, y = test
    for key in jax.random.split(jax.random.key(0), MODES):
        u, value = find_start(posterior, key, "noisy sine"), -np.inf
        for _ in range(ROUNDS):
            u, higher = _climb(posterior, u)
            if float(higher) < value + LEAST_GAIN:
                break
            value = float(higher)
        ends.append(_seen(posterior, u, jnp.asarray(x, posterior.x.dtype)))
    full, kron = np.array([evidence for evidence, _ in ends], float).T
    best = int(np.argmax(full))
    fitted, new = (np.asarray(f, float) for f in ends[best][1])
    return {
        "full": float(full[best]),
        "kron": float(kron.max()),
        "train": float(np.mean((fitted - data.y) ** 2)),
        "test": float(np.mean((new - y) ** 2)),
    }


def one(seed: int, precisions: np.ndarray = PRECISIONS) -> dict[str, Any]:
    """Curves over precisions of one data set.

    Args:
        seed: of the data set.
        precisions: to try.
    """
    data, test = make_data(seed), make_test(seed)
    found = [at(data, test, p) for p in precisions]
    return {"seed": seed} | {name: [f[name] for f in found] for name in found[0]}


def summary(sets: list[dict[str, Any]], precisions: np.ndarray = PRECISIONS) -> dict[str, Any]:
    """How near to the smallest test error each criterion chooses, by evidence and training error.

    Args:
        sets: of :func:`one`.
        precisions: that were tried.
    """
    logs, rows = np.log10(precisions), np.arange(len(sets))
    test = np.array([s["test"] for s in sets])
    right = test.argmin(1)
    found = {}
    for name, sign in (("full", 1.0), ("kron", 1.0), ("train", -1.0)):
        curves = sign * np.array([s[name] for s in sets])
        chosen = curves.argmax(1)
        found[name] = {
            "chosen": precisions[chosen].tolist(),
            "best": precisions[right].tolist(),
            "decades_above": interval(logs[chosen] - logs[right]),
            "excess": interval(test[rows, chosen] - test[rows, right]),
            "of_means": float(precisions[curves.mean(0).argmax()]),
            "best_of_means": float(precisions[test.mean(0).argmin()]),
        }
    return found


def draw(found: dict[str, Any]) -> None:
    """Evidence and errors over the precision, means over data sets and the points chosen in each.

    Args:
        found: what is written to JSON.
    """
    figure, axes = canvas(2)
    precisions = np.array(found["precisions"])
    panels = (("full", "kron", "Laplace evidence, nats"), ("test", "train", "Squared error"))
    labels = {"full": "Gauss-Newton", "kron": "Kronecker", "test": "new rows", "train": "training"}
    for axis, (first, second, title) in zip(axes, panels, strict=True):
        for number, name in enumerate((first, second)):
            curves = np.array([s[name] for s in found["sets"]])
            axis.plot(precisions, curves.mean(0), f"C{number}", label=labels[name])
            if name in ("full", "kron", "test"):
                best = curves.argmin(1) if name == "test" else curves.argmax(1)
                heights = curves[np.arange(len(curves)), best]
                axis.plot(precisions[best], heights, "o", color=f"C{number}", ms=2.5, alpha=0.6)
        axis.set(title=title, xscale="log", xlabel="precision of the prior")
        axis.legend(fontsize=8, frameon=False)
    axes[0].set_ylim(-200.0, -95.0)  # the Kronecker one falls to -500
    axes[1].set_yscale("log")
    save(figure, "noisy-sine")


def main() -> None:
    """Run the study, write its numbers and its figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", type=int, default=10, help="data sets")
    parser.add_argument("--quick", action="store_true", help="two data sets, no files")
    given = parser.parse_args()
    sets = []
    for seed in range(2 if given.quick else given.sets):
        sets.append(one(seed))
        print(f"data set {seed}", flush=True)
    found = {"precisions": PRECISIONS.tolist(), "summary": summary(sets), "sets": sets}
    for name, said in found["summary"].items():
        print(f"{name}: decades above the best {written(said['decades_above'])}")
        print(f"  chosen {np.round(said['chosen'], 3)}, best {np.round(said['best'], 3)}")
        print(f"  excess test error {written(said['excess'], 4)}")
        print(f"  by mean curves {said['of_means']:.3g}, best {said['best_of_means']:.3g}")
    if not given.quick:
        keep("noisy-sine", found)
        draw(found)


if __name__ == "__main__":
    main()
