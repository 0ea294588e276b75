"""The mean-field bound over widths of the prior, beside the evidence of infinitely wide networks.

    python benchmarks/collapse_grid.py [--networks 50x1 200x1 50x2] [--steps 6000]

Data, networks and fits are those of ``collapse.py``; here the width of the prior goes over a grid,
for a picture. Writes ``benchmarks/results/collapse-grid.json`` and ``docs/collapse-grid.svg``.
"""

from __future__ import annotations

import argparse
from typing import Any

import collapse
import numpy as np
from _studies import canvas, keep, save

SCALES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def study(networks: list[tuple[int, int]], steps: int) -> dict[str, Any]:
    """Bounds of every network, and evidences of every depth, over the grid.

    Args:
        networks: pairs of width and number of hidden layers.
        steps: of the optimiser.
    """
    data = collapse.make_data()
    found: dict[str, Any] = {"steps": steps, "scales": SCALES, "bounds": {}, "evidence": {}}
    for layers in sorted({n for _, n in networks}):
        exact = [collapse.log_evidence(data, s, layers) for s in SCALES]
        found["evidence"][f"{layers} x infinity"] = exact
        print(f"{layers} x infinity: {np.round(exact, 1)}", flush=True)
    for width, layers in networks:
        fits = []
        for scale in SCALES:
            fits.append(collapse.bound(data, scale, width, layers, steps))
            print(f"{layers} x {width}: {fits[-1]}", flush=True)
        found["bounds"][f"{layers} x {width}"] = fits
    return found


def draw(found: dict[str, Any]) -> None:
    """Bounds and evidences over the width of the prior.

    Args:
        found: of :func:`study`.
    """
    figure, axis = canvas(1)
    figure.set_size_inches(5.4, 3.4)
    for number, (name, fits) in enumerate(found["bounds"].items()):
        heights = [fit["bound"] for fit in fits]
        # A fit that was flagged as unconverged is a looser bound than the family has: no point.
        sound = np.array([not fit["unconverged"] for fit in fits])
        places = np.array(found["scales"])[sound]
        label = f"bound, {name}"
        axis.plot(places, np.array(heights)[sound], "o-", color=f"C{number}", label=label)
    for style, (name, heights) in zip(("--", ":"), found["evidence"].items(), strict=False):
        axis.plot(found["scales"], heights, style, color="C3", label=f"evidence, {name}")
    axis.set(xscale="log", xlabel="standard deviation of the prior", title="nats")
    axis.legend(fontsize=8, frameon=False)
    save(figure, "collapse-grid")


def main() -> None:
    """Run the study, write its numbers and its figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=["50x1", "200x1", "50x2"])
    parser.add_argument("--steps", type=int, default=6000)
    given = parser.parse_args()
    networks = [(int(w), int(n)) for w, n in (text.split("x") for text in given.networks)]
    found = study(networks, given.steps)
    keep("collapse-grid", found)
    draw(found)


if __name__ == "__main__":
    main()
