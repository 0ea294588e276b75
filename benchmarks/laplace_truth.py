"""Laplace's evidence with a learned noise, against sampling: where the noise is, what copies count.

    python benchmarks/laplace_truth.py

One hidden layer on ``gap`` (20 rows) and diabetes. ``smc`` is the truth; beside it ``laplace`` at
the joint mode of weights and noise, with the noise at the mode of its marginal, and that with the
equal copies of the mode that are told apart, and with all. Writes
``benchmarks/results/laplace-truth.json`` and prints a table.
"""

from __future__ import annotations

import argparse
import os
import warnings

from _bench import machine
from _studies import keep

import bnnzoo as bz

CASES = (("gap", 3, 1.0, 256), ("gap", 10, 2.0, 256), ("diabetes", 3, 1.0, 64),
         ("diabetes", 10, 1.0, 64))  # fmt: skip
"""Data, width, prior's standard deviation, particles."""


def row(name: str, width: int, std: float, particles: int) -> dict[str, float | str]:
    """Log evidence of standardised targets, by each."""
    data = bz.load_dataset(name, **({"n": 20} if name == "gap" else {}))
    model = bz.make_model(network_options={"widths": [width]}, prior_options={"std": std})
    truth = bz.log_evidence(model, data, "smc", particles=particles, repeats=4)
    joint, marginal = (
        bz.log_evidence(model, data, "laplace", noise=noise, modes=8)
        for noise in ("joint", "marginal")
    )
    return {
        "data": name,
        "width": width,
        "std": std,
        "smc": truth.value,
        "smc_error": truth.standard_error,
        "joint": joint.value,
        "marginal": marginal.value,
        "told_apart": marginal.diagnostics["with_those_told_apart"],
        "all": marginal.diagnostics["with_all_arrangements"],
    }


def main() -> None:
    """Run the cases in turn."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    warnings.simplefilter("ignore", bz.errors.DataWarning)
    where = machine(os.getloadavg()[0])
    rows = [row(*case) for case in CASES]
    keep("laplace-truth", {"machine": where, "rows": rows})
    print("| data | network | smc | joint | marginal | told apart | all |\n" + "|---" * 7 + "|")
    for r in rows:
        print(
            f"| {r['data']} | tanh, 1 × {r['width']}, std {r['std']:g} | {r['smc']:.2f} ± "
            f"{r['smc_error']:.2f} | {r['joint']:.2f} | {r['marginal']:.2f} | "
            f"{r['told_apart']:.2f} | {r['all']:.2f} |"
        )


if __name__ == "__main__":
    main()
