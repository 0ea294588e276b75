"""What a needlessly wide prior costs a network in evidence, and in leave-one-out scores.

    python benchmarks/wide_prior.py [--widths 1 3 10 30]

Forty noisy rows of sin(2 x), five tanh units, known noise: 16 weights, whose prior is made wider.
Evidence by ``smc`` and ``laplace``, predictions by ``loo``. Writes
``benchmarks/results/wide-prior.json``.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from _studies import keep

import bnnzoo as bz

NOISE = 0.2
METHODS: dict[str, dict[str, Any]] = {"smc": {"particles": 256}, "laplace": {}, "loo": {}}


def make_data() -> bz.Dataset:
    """Noisy rows, not scaled."""
    random = np.random.default_rng(0)
    x = np.sort(random.uniform(-2, 2, 40))
    y = np.sin(2 * x) + NOISE * random.normal(size=40)
    return bz.make_dataset(x[:, None], y, task="regression", scale="none", name="sine")


def make_network(width: float) -> bz.Model:
    """Five tanh units, kernels and biases of one width of the prior.

    Args:
        width: kernels' in units of 1 / sqrt(fan-in).
    """
    return bz.make_model(
        network_options={"widths": [5]},
        prior_options={"std": width, "bias_std": width},
        likelihood_options={"noise": "fixed", "noise_std": NOISE},
    )


def main() -> None:
    """Run the study and write its numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--widths", type=float, nargs="+", default=[1.0, 3.0, 10.0, 30.0])
    data, found = make_data(), []
    for width in parser.parse_args().widths:
        for method, options in METHODS.items():
            said = bz.log_evidence(make_network(width), data, method, **options)
            names = ("value", "standard_error", "kind", "warnings")
            one = {name: getattr(said, name) for name in names}
            found.append({"width": width, "method": method, **one})
            print(f"width {width:g}: {said}; {'; '.join(said.warnings)}", flush=True)
    keep("wide-prior", {"rows": found})


if __name__ == "__main__":
    main()
