"""Where evidence fails: kernels on features that are trained by it.

    python benchmarks/deep_kernel.py [--rows 20 50 150] [--steps 300] [--quick]

Gaussian process regression on Friedman's function of five inputs with noise of 1, standardised by
the training rows. *Plain*: a squared-exponential kernel with a lengthscale an input, 7 numbers with
variance and noise. *Deep*: the same kernel on two features, outputs of a network of two hidden
layers of 50 tanh units, 2,956 numbers with the weights. Both climb the exact log evidence by Adam,
all numbers together, and predict 1,000 new rows on the way; ten data sets of each size (Ober,
Rasmussen & van der Wilk 2021, The Promises and Pitfalls of Deep Kernel Learning). Evidence and
predictions are those of :class:`bnnzoo.inference.GaussianProcess`. Writes
``benchmarks/results/deep-kernel.json`` and ``docs/deep-kernel.svg``.
"""

from __future__ import annotations

import argparse
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _studies import canvas, interval, keep, save, written
from jax import Array

from bnnzoo.inference import GaussianProcess

INPUTS, UNITS, FEATURES = 5, 50, 2
TEST_ROWS = 1000
LEAST_NOISE = 0.01
"""Standard deviation under which the noise cannot fall, standardised: evidence has no maximum of
its own where features pass through every target."""

RATE = 0.01
LOOKS = (0, 10, 30, 100, 300, 1000)
"""Steps after which evidence and predictions are looked at."""


def draw_rows(rows: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Friedman's function and noise: inputs ``(row, 5)``, targets ``(row,)``.

    Args:
        rows: how many.
        random: source of them.
    """
    x = random.uniform(size=(rows, INPUTS))
    f = 10 * np.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    return x, f + 10 * x[:, 3] + 5 * x[:, 4] + random.normal(size=rows)


def make_data(rows: int, seed: int) -> tuple[np.ndarray, ...]:
    """Training and test rows, standardised by the former: x, y, new x, new y.

    Args:
        rows: of training.
        seed: of both.
    """
    random = np.random.default_rng([seed, rows])
    (x, y), (new_x, new_y) = draw_rows(rows, random), draw_rows(TEST_ROWS, random)
    at, width = x.mean(0), x.std(0)
    centre, scale = y.mean(), y.std()
    return (x - at) / width, (y - centre) / scale, (new_x - at) / width, (new_y - centre) / scale


def start(deep: bool, key: Array) -> dict[str, Any]:
    """Numbers to begin with: logarithms of the kernel's, and weights.

    Args:
        deep: with a network before the kernel.
        key: of its weights.
    """
    inputs = FEATURES if deep else INPUTS
    found: dict[str, Any] = {
        "lengths": jnp.zeros(inputs),
        "std": jnp.zeros(()),
        "noise": jnp.log(jnp.asarray(0.3)),
    }
    if deep:
        sizes = (INPUTS, UNITS, UNITS, FEATURES)
        keys = jax.random.split(key, 3)
        found["layers"] = [
            (jax.random.normal(k, (a, b)) / math.sqrt(a), jnp.zeros(b))
            for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]
    return found


def features(numbers: dict[str, Any], x: Array) -> Array:
    """What the kernel sees of inputs ``(row, input)``, in units of its lengthscales.

    Args:
        numbers: of the model.
        x: inputs.
    """
    layers = numbers.get("layers", [])
    for place, (kernel, bias) in enumerate(layers):
        x = x @ kernel + bias
        x = jnp.tanh(x) if place < len(layers) - 1 else x
    return x / jnp.exp(numbers["lengths"])


def covariance(numbers: dict[str, Any], x: Array, new: Array) -> Array:
    """Prior covariance ``(row, new row)``.

    Args:
        numbers: of the model.
        x: inputs.
        new: other inputs.
    """
    one, two = features(numbers, x), features(numbers, new)
    apart = jnp.sum((one[:, None] - two[None]) ** 2, -1)
    return jnp.exp(2.0 * numbers["std"] - 0.5 * apart)


def noise_variance(numbers: dict[str, Any]) -> Array:
    """Of the noise, with its floor.

    Args:
        numbers: of the model.
    """
    return jnp.exp(2.0 * numbers["noise"]) + LEAST_NOISE**2


def log_evidence(numbers: dict[str, Any], x: Array, y: Array) -> Array:
    """Exact, nats, differentiable by every number.

    Args:
        numbers: of the model.
        x: inputs.
        y: targets.
    """
    total = covariance(numbers, x, x) + noise_variance(numbers) * jnp.eye(len(y))
    root = jnp.linalg.cholesky(total)
    white = jax.scipy.linalg.solve_triangular(root, y, lower=True)
    log_det = 2.0 * jnp.sum(jnp.log(jnp.diag(root)))
    return -0.5 * (white @ white + log_det + len(y) * math.log(2.0 * math.pi))


@jax.jit
def climb(numbers: Any, state: Any, x: Array, y: Array, steps: Any) -> tuple[Any, Any]:
    """Steps of Adam on the evidence of several data sets at once.

    Args:
        numbers: of their models, a first axis of data sets.
        state: of the optimiser.
        x: inputs ``(set, row, input)``.
        y: targets ``(set, row)``.
        steps: how many.
    """

    def loss(numbers: Any) -> Array:
        return -jnp.sum(jax.vmap(log_evidence)(numbers, x, y))

    def step(_: Any, carry: Any) -> Any:
        numbers, state = carry
        update, state = optax.adam(RATE).update(jax.grad(loss)(numbers), state)
        return optax.apply_updates(numbers, update), state

    # The number of steps is an argument: one program serves every piece of the way.
    return jax.lax.fori_loop(0, steps, step, (numbers, state))


def look(numbers: dict[str, Any], rows: tuple[np.ndarray, ...]) -> dict[str, float]:
    """Evidence a row, and predictions of new rows, of one data set.

    Args:
        numbers: of the model.
        rows: of :func:`make_data`.
    """
    x, y, new, _ = (jnp.asarray(r) for r in rows)
    noise = float(jnp.sqrt(noise_variance(numbers)))
    process = GaussianProcess(covariance(numbers, x, x), y, noise)
    prior = np.full(len(new), float(jnp.exp(2.0 * numbers["std"])))
    said = process.predict(covariance(numbers, new, x), prior)
    fitted = process.predict(covariance(numbers, x, x), prior[: len(y)]).mean
    return {
        "evidence": process.log_evidence / len(y),
        "test": float(said.log_prob(rows[3]).mean()),
        "error": float(np.mean((said.mean - rows[3]) ** 2)),
        "train_error": float(np.mean((fitted - rows[1]) ** 2)),
        "noise": noise,
    }


def study(deep: bool, rows: int, seeds: int, steps: int) -> dict[str, Any]:
    """What is seen on the way, by steps: values of every data set.

    Args:
        deep: with a network before the kernel.
        rows: of training.
        seeds: data sets.
        steps: of Adam.
    """
    with jax.enable_x64(True):
        sets = [make_data(rows, seed) for seed in range(seeds)]
        x, y = (jnp.asarray(np.stack([s[i] for s in sets])) for i in (0, 1))
        keys = jax.random.split(jax.random.key(0), seeds)
        numbers = jax.vmap(functools.partial(start, deep))(keys)
        state, done, found = optax.adam(RATE).init(numbers), 0, {}
        for until in sorted({s for s in LOOKS if s < steps} | {steps}):
            numbers, state = climb(numbers, state, x, y, until - done)
            done = until
            each = [
                look(jax.tree.map(lambda leaf, i=i: leaf[i], numbers), rows)
                for i, rows in enumerate(sets)
            ]
            found[str(done)] = {name: [e[name] for e in each] for name in each[0]}
    return found


def summary(plain: dict[str, Any], deep: dict[str, Any]) -> dict[str, Any]:
    """Differences deep less plain at the end, with intervals over data sets.

    Args:
        plain: of :func:`study`.
        deep: of the same data sets.
    """
    ends = [list(found.values())[-1] for found in (plain, deep)]
    return {
        name: interval(np.subtract(ends[1][name], ends[0][name]))
        for name in ("evidence", "test", "error", "train_error")
    }


def draw(found: dict[str, Any]) -> None:
    """Evidence and predictions at the end by rows, and on the way.

    Args:
        found: what is written to JSON.
    """
    figure, axes = canvas(3)
    sizes = [int(n) for n in found["by_rows"]]
    for number, kind in enumerate(("plain", "deep")):
        for axis, name in zip(axes, ("evidence", "test"), strict=False):
            ends = [list(part[kind].values())[-1][name] for part in found["by_rows"].values()]
            said = [interval(end) for end in ends]
            means = np.array([s["mean"] for s in said])
            bars = [means - [s["low"] for s in said], [s["high"] for s in said] - means]
            axis.errorbar(sizes, means, bars, fmt="o-", color=f"C{number}", label=kind, lw=1)
    some = found["by_rows"][str(sizes[min(1, len(sizes) - 1)])]["deep"]
    looks = np.array([int(s) for s in some])
    for number, (name, label) in enumerate({"evidence": "evidence", "test": "new rows"}.items()):
        curve = [np.mean(values[name]) for values in some.values()]
        axes[2].plot(looks, curve, "o-", color=f"C{number + 2}", label=label)
    axes[0].set(title="Log evidence a row", xscale="log", xlabel="training rows")
    axes[1].set(title="Log density of a new row", xscale="log", xlabel="training rows")
    axes[1].set_yscale("symlog")
    title = f"Deep, {sizes[min(1, len(sizes) - 1)]} rows"
    axes[2].set(title=title, xlabel="steps", yscale="symlog")
    axes[2].set_xscale("symlog", linthresh=10)
    for axis in axes:
        axis.legend(fontsize=8, frameon=False)
    save(figure, "deep-kernel")


def main() -> None:
    """Run the study, write its numbers and its figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20, 50, 150])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="20 rows, 100 steps, no files")
    given = parser.parse_args()
    rows, steps = ([20], 100) if given.quick else (given.rows, given.steps)
    by_rows = {}
    for n in rows:
        plain, deep = (study(kind, n, 10, steps) for kind in (False, True))
        by_rows[str(n)] = {"plain": plain, "deep": deep, "summary": summary(plain, deep)}
        for kind, curves in (("plain", plain), ("deep", deep)):
            for done, values in curves.items():
                said = {name: round(float(np.mean(v)), 3) for name, v in values.items()}
                print(f"{n} rows, {kind}, {done} steps: {said}")
        for name, gap in by_rows[str(n)]["summary"].items():
            print(f"{n} rows, deep less plain, {name}: {written(gap)}", flush=True)
    if not given.quick:
        found = {"steps": steps, "by_rows": by_rows}
        keep("deep-kernel", found)
        draw(found)


if __name__ == "__main__":
    main()
