"""The gradient of the log density against what the machine can multiply, and where the rest goes.

    BNNZOO_DATA=folder python benchmarks/roofline.py [diabetes] [airfoil] [mnist-10k]
        [--turns 9] [--quick]

Every loop runs from as many threads as there are cores, as chains do, and processor seconds are
counted, so that times and rates are a core's. The ceiling is the rate of a large float32 product of
matrices. *Arithmetic* is the products that a gradient cannot do without (a
layer's output, the slope in its kernel, and in its input but for the first layer), 2 operations for
each multiply-add, at that rate. Against it, in turns within one run:

- *gradient*: of the log density, in a jitted loop, and *with value*, as samplers take it;
- *likelihood alone*: written out by hand for these shapes, without priors, distributions or
  temperatures, and the same with the *identity* in place of the activation, and transposed
  (*features first*: rows are the contiguous axis);
- *products alone*: those products and nothing else, each row-major;
- *activation alone*: the hidden units' activations and their slopes;
- *dispatch*: as many operations as the compiled gradient has, each as long as one of 16 numbers.

Writes ``benchmarks/results/roofline.json`` and ``.md``; ``--quick`` takes three turns of the first
two networks and writes nothing.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _bench import CASES, keep, machine, markdown, middle

import bnnzoo as bz
from bnnzoo.inference import start

SHAPES: dict[str, tuple[tuple[int, ...], str]] = {
    "diabetes": ((10, 50, 1), "tanh"),
    "airfoil": ((5, 16, 16, 16, 16, 2), "relu"),
    "mnist-10k": ((784, 50, 50, 10), "relu"),
}
"""Widths and activation of each case, for the parts written out by hand."""

SIDE = 1024
"""Of the matrices whose product is the ceiling."""

SECONDS = 0.1
"""Of one loop, about."""

CLIMB_STEPS = 20
"""Of the search for the point where gradients are timed, 300 else."""

GOAL = 0.5
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def operations(widths: tuple[int, ...], rows: int) -> int:
    """Floating-point operations of the products of one gradient.

    Args:
        widths: of inputs, hidden layers and outputs.
        rows: of the data.
    """
    products = [a * b for a, b in itertools.pairwise(widths)]
    return 2 * rows * (3 * sum(products) - products[0])


def loss(
    weights: list[Any], x: Any, y: Any, case: str, activation: Callable[[Any], Any], turned: bool
) -> Any:
    """The log-likelihood of a case without constants, written out by hand.

    Args:
        weights: kernel ``(input, output)`` and bias ``(output,)`` of each layer.
        x: inputs ``(row, input)``, ``(input, row)`` where turned.
        y: targets ``(row,)``.
        case: says the likelihood.
        activation: of hidden layers.
        turned: rows are the last axis.
    """
    h = x
    for number, (kernel, bias) in enumerate(weights):
        h = kernel.T @ h + bias[:, None] if turned else h @ kernel + bias
        h = activation(h) if number < len(weights) - 1 else h
    h = h if turned else h.T
    if case == "mnist-10k":
        return jnp.take_along_axis(jax.nn.log_softmax(h, axis=0), y[None], axis=0).sum()
    if case == "airfoil":
        return (-h[1] - 0.5 * ((y - h[0]) * jnp.exp(-h[1])) ** 2).sum()
    return -0.5 * ((y - h[0]) ** 2).sum()


def looped(body: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """A compiled loop ``(arguments, carry, steps)`` over ``body(arguments, carry)``."""
    return jax.jit(
        lambda given, carry, steps: jax.lax.fori_loop(0, steps, lambda _, c: body(given, c), carry)
    )


def by_hand(case: str, x: Any, y: Any, turned: bool, linear: bool) -> tuple[Any, Any, Any]:
    """A loop of gradients of :func:`loss`: the program, its arguments, where it begins."""
    widths, name = SHAPES[case]
    activation = (lambda h: h) if linear else ACTIVATIONS[name]
    rng = np.random.default_rng(0)
    weights = [
        (jnp.asarray(rng.normal(size=(a, b)) / math.sqrt(a), x.dtype), jnp.zeros(b, x.dtype))
        for a, b in itertools.pairwise(widths)
    ]

    def body(given: Any, weights: Any) -> Any:
        slope = jax.grad(loss)(weights, *given, case, activation, turned)
        return jax.tree.map(lambda w, g: w + 1e-12 * g, weights, slope)

    return looped(body), (x.T if turned else x, y), weights


def products_alone(case: str, x: Any) -> tuple[Any, Any, Any]:
    """The products of a gradient and nothing else; what each needs is given."""
    widths, _ = SHAPES[case]
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return jnp.asarray(rng.normal(size=shape), x.dtype)

    hidden = [x] + [random(len(x), width) for width in widths[1:]]
    kernels = [random(a, b) for a, b in itertools.pairwise(widths)]

    def body(given: Any, carry: Any) -> Any:
        # Barriers: else the compiler takes products out of the loop, or computes a corner of them.
        (hidden, kernels), carry = jax.lax.optimization_barrier((given, carry))
        made = []
        for number, (kernel, (a, b)) in enumerate(
            zip(kernels, itertools.pairwise(hidden), strict=True)
        ):
            made += [a @ kernel, a.T @ b]
            if number:
                made.append(b @ kernel.T)
        made = jax.lax.optimization_barrier(made)
        return carry + 1e-20 * sum(product[0, 0] for product in made)

    return looped(body), (hidden, kernels), jnp.zeros((), x.dtype)


def activation_alone(case: str, x: Any) -> tuple[Any, Any, Any]:
    """The activation of every hidden unit at every row, and its slope."""
    widths, name = SHAPES[case]
    rng = np.random.default_rng(0)
    hidden = [jnp.asarray(rng.normal(size=(len(x), w)), x.dtype) for w in widths[1:-1]]

    def body(given: Any, carry: Any) -> Any:
        def one(h: Any) -> Any:
            out, back = jax.vjp(ACTIVATIONS[name], h)
            return h + 1e-9 * back(out)[0]

        return jax.tree.map(one, carry)

    return looped(body), (), hidden


TINY = 4
"""Side of the matrices of an operation that costs nothing but its dispatch."""


def dispatch() -> tuple[Any, Any, Any]:
    """Products and activations of 4 x 4 numbers, ten of each, every one an operation."""

    def body(given: Any, carry: Any) -> Any:
        for _ in range(10):
            carry = jnp.tanh(given @ carry)
        return carry

    return looped(body), jnp.eye(TINY), jnp.ones((TINY, TINY))


def count_operations(program: Any, given: Any, carry: Any) -> int:
    """Operations that the compiled body of a loop dispatches one after the other."""
    text = program.lower(given, carry, 1).compile().as_text()
    entry = text.partition("\nENTRY ")[2]  # loops within the body come before it
    found = re.search(r" while\(.*body=%?([\w.\-]+)", entry)
    assert found is not None
    lines = re.split(r"\n\s*\}", text.partition(f"\n%{found[1]} (")[2])[0].splitlines()[1:]
    free = r" (parameter|get-tuple-element|tuple|constant|bitcast)\("
    return sum(1 for line in lines if "=" in line and not re.search(free, line))


class Timed:
    """A loop that is timed again and again: its program, compiled, and steps that take a while."""

    def __init__(self, program: Any, given: Any, carry: Any) -> None:
        self.program, self.given, self.carry = program, given, carry
        self.at_once = os.cpu_count() or 1
        self._run(1)
        begun = time.perf_counter()
        self._run(10)
        self.steps = max(3, int(10 * SECONDS / max(time.perf_counter() - begun, 1e-5)))

    def _run(self, steps: int) -> None:
        jax.block_until_ready(self.program(self.given, self.carry, steps))

    def seconds(self) -> float:
        """A core's, of one step."""
        begun = time.process_time()
        with ThreadPoolExecutor(self.at_once) as pool:
            list(pool.map(self._run, [self.steps] * self.at_once))
        return (time.process_time() - begun) / (self.steps * self.at_once)


def study(case: str, turns: int) -> dict[str, Any]:
    """Median seconds of every part of a case, which take turns."""
    model, data = CASES[case]()
    posterior = bz.Posterior(model, data)
    x, y = posterior.x.reshape(posterior.rows, -1), posterior.y
    u = start.find_start(posterior, jax.random.key(0), "the gradient")
    matrix = jnp.ones((SIDE, SIDE), jnp.float32)
    gradient = looped(lambda p, u: u + 1e-9 * jax.grad(p.log_density)(u))

    def both(posterior: Any, carry: Any) -> Any:
        value, slope = jax.value_and_grad(posterior.log_density)(carry[0])
        return carry[0] + 1e-9 * slope, value

    parts = {
        "ceiling": (looped(lambda a, b: a @ b / SIDE), matrix, matrix),
        "gradient": (gradient, posterior, u),
        "with value": (looped(both), posterior, (u, jnp.zeros((), u.dtype))),
        "likelihood alone": by_hand(case, x, y, turned=False, linear=False),
        "identity": by_hand(case, x, y, turned=False, linear=True),
        "features first": by_hand(case, x, y, turned=True, linear=False),
        "products alone": products_alone(case, x),
        "activation alone": activation_alone(case, x),
        "dispatch": dispatch(),
    }
    timed = {name: Timed(*part) for name, part in parts.items()}
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(turns):
        for name, loop in timed.items():
            seconds[name].append(loop.seconds())
    found = {name: middle(values) for name, values in seconds.items()}
    counted = {name: count_operations(*parts[name]) for name in ("gradient", "with value")}
    one = found["dispatch"] / count_operations(*parts["dispatch"])
    rate = 2 * SIDE**3 / found["ceiling"]
    return {
        "rows": posterior.rows,
        "data": data.name,
        "operations": operations(SHAPES[case][0], posterior.rows),
        "rate": rate,
        "dispatched": counted,
        "seconds_a_dispatch": one,
        "seconds": found,
    }


def table(found: dict[str, Any], said: str, turns: int) -> str:
    """The page of results: microseconds of a core."""
    parts = ("gradient", "with value", "likelihood alone", "identity", "features first")
    parts += ("products alone", "activation alone")
    heads = ["network", "rows", "Mflop", "arithmetic", "achieved", *parts, "dispatch"]
    rows = []
    for case, point in found.items():
        seconds, arithmetic = point["seconds"], point["operations"] / point["rate"]
        cells = [case, f"{point['rows']:,}", f"{point['operations'] / 1e6:.2f}"]
        cells += [f"{1e6 * arithmetic:,.0f}", f"{arithmetic / seconds['gradient']:.2f}"]
        cells += [f"{1e6 * seconds[part]:,.0f}" for part in parts]
        spent = point["dispatched"]["gradient"] * point["seconds_a_dispatch"]
        cells.append(f"{1e6 * spent:,.0f} ({point['dispatched']['gradient']})")
        rows.append(cells)
    rate = middle([point["rate"] for point in found.values()])
    return (
        f"{said}. Microseconds of a core, medians of {turns} turns; a core multiplies matrices at "
        f"{rate / 1e9:.0f} Gflop/s. *Arithmetic* is the gradient's products at that rate, "
        f"*achieved* their share of its time; the goal is {GOAL}. In brackets: operations "
        f"dispatched.\n\n{markdown(heads, rows)}"
    )


def main() -> None:
    """Time the cases named, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"{', '.join(CASES)}; all if none is named")
    parser.add_argument("--turns", type=int, default=9, help="medians are over so many")
    parser.add_argument("--quick", action="store_true", help="three turns, without mnist-10k")
    given = parser.parse_args()
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"unknown case {min(unknown)!r}; choices: {', '.join(CASES)}")
    warnings.simplefilter("ignore", bz.errors.DataWarning)  # pixels that never change
    start.CLIMB_STEPS = CLIMB_STEPS
    said = machine(os.getloadavg()[0])
    usual = [case for case in CASES if not (given.quick and case == "mnist-10k")]
    turns = 3 if given.quick else given.turns
    found = {case: study(case, turns) for case in given.cases or usual}
    text = table(found, said, turns)
    print(text)
    if not given.quick:
        record = {"machine": said, "turns": turns, "cases": found}
        keep("roofline", "The gradient against the roofline", text, record)


if __name__ == "__main__":
    main()
