"""Gradients of many rows and of images: what blocks and convolutions as products are worth.

    python benchmarks/large_gradients.py [--turns 5] [--quick]

A gradient of the log density in a jitted loop, as every sampler takes it, from as many threads as
there are cores; processor seconds are counted, so that times are a core's. In turns within one run:

- a table of random numbers through 9-100-1 tanh (the shape of `uci/protein`), *in blocks* that fit
  the cache and *all rows at once*, with the memory that XLA plans for either beside the arguments;
- random images of 28 x 28 through `cnn` (50 and 50 filters), with convolutions whose gradients are
  products of matrices, and with JAX's own, which XLA leaves in a slow form inside a loop. All rows
  at once in both, so that blocks are not what is compared, and again in blocks.

Writes ``benchmarks/results/large-gradients.json`` and ``.md``; ``--quick`` takes two turns of the
smallest sizes and writes nothing.
"""

from __future__ import annotations

import argparse
import os
from typing import Any
from unittest import mock

import jax
import numpy as np
from _bench import keep, machine, markdown, middle
from roofline import Timed, looped

import bnnzoo as bz

ROWS = (1_000, 10_000, 40_000, 100_000, 1_000_000)
"""Of tables."""

IMAGES = (50, 150)
"""Of 28 x 28; a gradient of more takes minutes with the convolutions of JAX."""

FEATURES, UNITS = 9, 100

THEIRS = "JAX's"


def table(rows: int) -> bz.Posterior:
    """Random rows under a network of 100 units."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    y = np.sin(x).sum(1) + 0.1 * rng.normal(size=rows)
    model = bz.make_model(network_options={"widths": [UNITS]})
    return bz.Posterior(model, bz.make_dataset(x, y, task="regression", name="random rows"))


def images(rows: int, own: bool) -> bz.Posterior:
    """Random images under the convolutional network, with JAX's convolutions or ours."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 28, 28, 1)).astype(np.float32)
    y = rng.integers(0, 10, rows)
    data = bz.make_dataset(x, y, task="classification", name="random images")
    model = bz.make_model("cnn", likelihood="categorical")
    if own:
        return bz.Posterior(model, data)
    with mock.patch("bnnzoo.models.scaled_layers.convolve", jax.lax.conv_general_dilated):
        return bz.Posterior(model, data)


def timed(posterior: bz.Posterior, in_blocks: bool) -> tuple[Timed, float]:
    """A loop over its gradients, and the megabytes that XLA plans for it."""
    posterior.in_blocks = posterior.in_blocks and in_blocks
    u = 0.1 * posterior.initial(jax.random.key(0))
    program = looped(lambda p, u: u + 1e-9 * jax.grad(p.log_density)(u))
    planned = program.lower(posterior, u, 1).compile().memory_analysis()
    return Timed(program, posterior, u), planned.temp_size_in_bytes / 1e6


def compared(ways: dict[str, bz.Posterior], turns: int) -> dict[str, Any]:
    """Median seconds of a gradient of each, which take turns, with blocks and memory."""
    loops = {name: timed(made, name.endswith("in blocks")) for name, made in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(turns):
        for name, (loop, _) in loops.items():
            seconds[name].append(loop.seconds())
    return {
        name: {
            "seconds": middle(seconds[name]),
            "megabytes": megabytes,
            "block_rows": ways[name].block_rows,
        }
        for name, (_, megabytes) in loops.items()
    }


def rows_of(found: dict[str, Any], base: str) -> list[list[str]]:
    """Cells of the table of results; ``base`` is what the others are compared with."""
    made = []
    for case, ways in found.items():
        for name, one in ways.items():
            gain = ways[base]["seconds"] / one["seconds"]
            made.append(
                [
                    case,
                    name,
                    f"{one['block_rows']:,}" if one["block_rows"] else "",
                    f"{1e3 * one['seconds']:,.2f}",
                    f"{one['megabytes']:,.1f}",
                    "" if name == base else f"{gain:.1f}",
                ]
            )
    return made


def main() -> None:
    """Time tables and images, write both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5, help="medians are over so many")
    parser.add_argument("--quick", action="store_true", help="two turns of the smallest sizes")
    given = parser.parse_args()
    said = machine(os.getloadavg()[0])
    turns = 2 if given.quick else given.turns
    tables, pictures = {}, {}
    for rows in ROWS[:2] if given.quick else ROWS:
        ways = {"all at once": table(rows), "in blocks": table(rows)}
        tables[f"{rows:,} rows"] = compared(ways, turns)
    for rows in IMAGES[:1] if given.quick else IMAGES:
        ways = {
            THEIRS: images(rows, own=False),
            "as products": images(rows, own=True),
            "as products, in blocks": images(rows, own=True),
        }
        pictures[f"{rows:,} images"] = compared(ways, turns)
    heads = ["data", "how", "rows of a block", "ms a gradient", "MB", "times as fast"]
    text = (
        f"{said}. Milliseconds of a core, medians of {turns} turns; MB is what XLA plans beside "
        f"data and parameters.\n\n{markdown(heads, rows_of(tables, 'all at once'))}\n\n"
        f"{markdown(heads, rows_of(pictures, THEIRS))}"
    )
    print(text)
    if not given.quick:
        record = {"machine": said, "turns": turns, "tables": tables, "images": pictures}
        keep("large-gradients", "Gradients of many rows and of images", text, record)


if __name__ == "__main__":
    main()
