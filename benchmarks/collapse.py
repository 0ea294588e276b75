"""The collapse of mean-field VI: its bound prefers a prior that says nothing.

    python benchmarks/collapse.py [--networks 50x1 50x2] [--steps 6000]

Data are sin(2.5 x) with noise of standard deviation 0.5 at 40 points; a network of erf units has
weights N(0, sigma^2 / fan-in) and biases N(0, sigma^2), so that infinitely wide it is a Gaussian
process of known evidence. For every sigma, ``mean-field-vi`` is fitted and its bound set beside
that evidence. sigma is then learned by the bound: it is the sigma whose fit has the highest bound,
the point at which climbing in sigma and the approximation together would end; found by golden
sections of log sigma, a fit each.

The evidence rises with sigma. The bound falls, the more so the larger the network, and the learned
sigma is far below 1 (Trippe & Turner 2018; Coker et al. 2022). Writes
``benchmarks/results/collapse.json`` and ``collapse.md``.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

import bnnzoo as bz
from bnnzoo.inference import InfiniteNetwork
from bnnzoo.models import nngp_kernel

RESULTS = Path(__file__).resolve().parent / "results"

ROWS, NOISE = 40, 0.5
SCALES = (0.01, 1.0, 3.0)
RANGE = (0.01, 3.0)
"""Where the learned sigma is looked for."""

SECTIONS = 8
"""Fits of a search: they leave sigma uncertain by a factor of 1.2."""


def make_data(seed: int = 0) -> bz.Dataset:
    """Noisy rows of sin(2.5 x) on [-2, 2], not scaled."""
    random = np.random.default_rng(seed)
    x = random.uniform(-2.0, 2.0, size=(ROWS, 1))
    y = np.sin(2.5 * x[:, 0]) + NOISE * random.normal(size=ROWS)
    return bz.make_dataset(x, y, task="regression", scale="none", name="sine")


def make_network(sigma: float, width: int, layers: int) -> bz.Model:
    """A network of erf units, its prior of scale sigma and its noise known.

    Args:
        sigma: scale of the prior.
        width: of each hidden layer.
        layers: their number.
    """
    return bz.make_model(
        "mlp",
        "gaussian",
        "gaussian",
        network_options={"widths": [width] * layers, "activation": "erf"},
        prior_options={"std": sigma, "bias_std": sigma},
        likelihood_options={"noise": "fixed", "noise_std": NOISE},
    )


def kernel(x: np.ndarray, sigma: float, layers: int) -> np.ndarray:
    """Covariance ``(row, row)`` of an infinitely wide network's outputs.

    Args:
        x: inputs ``(row, feature)``; one feature, so that a fan-in of 1 scales nothing.
        sigma: scale of the prior.
        layers: hidden layers of erf units.
    """
    return nngp_kernel(make_network(sigma, 1, layers), x)


def log_evidence(data: bz.Dataset, sigma: float, layers: int) -> float:
    """Log evidence of the infinitely wide network, a Gaussian process with known noise.

    Args:
        data: inputs and targets.
        sigma: scale of the prior.
        layers: hidden layers.
    """
    return InfiniteNetwork(make_network(sigma, 1, layers), data).log_evidence


def bound(
    data: bz.Dataset, sigma: float, width: int, layers: int, steps: int, seed: int = 0
) -> dict[str, Any]:
    """The bound of the better of two fits at one sigma, its standard error and its flags.

    Args:
        data: inputs and targets.
        sigma: scale of the prior.
        width: of each hidden layer.
        layers: their number.
        steps: of the optimiser.
        seed: of the fits.
    """
    model = make_network(sigma, width, layers)
    size = {"chains": 2, "draws": 1000, "warmup": steps, "seed": seed, "progress": False}
    # Where all weights are of the order of sigma, steps of the default size would jump over them.
    small = min(1.0, sigma)
    rates = {"learning_rate": 0.02 * small**0.5, "initial_std": 0.05 * small}
    run = bz.fit(model, data, "mean-field-vi", **rates, **size)
    terms = run.tree["sample_stats"]["elbo"].to_numpy()
    best = int(terms.mean(1).argmax())
    flags = {f["kind"] for f in run.manifest["flags"] if f["chain"] == best}
    return {
        "sigma": sigma,
        "bound": float(terms[best].mean()),
        "error": float(terms[best].std() / terms.shape[1] ** 0.5),
        "unconverged": "unconverged" in flags,
    }


def learned(data: bz.Dataset, width: int, layers: int, steps: int) -> dict[str, Any]:
    """The fit at the sigma of the highest bound, by golden sections of log sigma.

    Args:
        data: inputs and targets.
        width: of each hidden layer.
        layers: their number.
        steps: of the optimiser.
    """
    share = (math.sqrt(5.0) - 1.0) / 2.0
    low, high = (math.log(end) for end in RANGE)
    seen: dict[float, dict[str, Any]] = {}

    def at(place: float) -> dict[str, Any]:
        if place not in seen:
            seen[place] = bound(data, math.exp(place), width, layers, steps)
        return seen[place]

    left, right = high - share * (high - low), low + share * (high - low)
    while len(seen) < SECTIONS:
        if at(left)["bound"] > at(right)["bound"]:
            high, left, right = right, right - share * (right - low), left
        else:
            low, left, right = left, right, left + share * (high - left)
    return max(seen.values(), key=lambda fit: fit["bound"])


def study(networks: list[tuple[int, int]], steps: int, seed: int = 0) -> dict[str, Any]:
    """Bounds and evidences for some (width, layers).

    Args:
        networks: pairs of width and number of hidden layers.
        steps: of the optimiser.
        seed: of the data.
    """
    data = make_data(seed)
    rows = []
    for width, layers in networks:
        fits = [bound(data, sigma, width, layers, steps) for sigma in SCALES]
        rows.append(
            {
                "width": width,
                "layers": layers,
                "fits": fits,
                "learned": learned(data, width, layers, steps),
                "evidence": [log_evidence(data, sigma, layers) for sigma in SCALES],
            }
        )
    return {"steps": steps, "seed": seed, "scales": list(SCALES), "rows": rows}


def as_markdown(found: dict[str, Any]) -> str:
    """A table of what :func:`study` gave."""
    scales = " | ".join(f"sigma = {sigma:g}" for sigma in found["scales"])
    lines = [
        "# The collapse of mean-field VI",
        "",
        f"sin(2.5 x), {ROWS} rows, noise {NOISE}; {found['steps']} steps, the better of two fits. "
        "Bounds and log evidences in nats; * where the fit was flagged as unconverged.",
        "",
        f"| network | | {scales} | learned sigma | bound there |",
        "|" + "---|" * (4 + len(found["scales"])),
    ]
    for row in found["rows"]:
        name = f"{row['layers']} x {row['width']}"
        best = row["learned"]
        bounds = " | ".join(_nats(fit) for fit in row["fits"])
        lines.append(f"| {name} | bound | {bounds} | {best['sigma']:.2g} | {_nats(best)} |")
        exact = " | ".join(f"{value:.1f}" for value in row["evidence"])
        lines.append(f"| {row['layers']} x infinity | log evidence | {exact} | | |")
    return "\n".join(lines) + "\n"


def _nats(fit: dict[str, Any]) -> str:
    return f"{fit['bound']:.1f}{'*' if fit['unconverged'] else ''}"


def main() -> None:
    """Run the study and write its tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=["10x1", "50x1", "50x2", "200x2"])
    parser.add_argument("--steps", type=int, default=6000)
    given = parser.parse_args()
    networks = [(int(w), int(n)) for w, n in (text.split("x") for text in given.networks)]
    found = study(networks, given.steps)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "collapse.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "collapse.md").write_text(as_markdown(found), encoding="utf-8")
    print(as_markdown(found))


if __name__ == "__main__":
    main()
