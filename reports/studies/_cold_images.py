"""The part of `cold-posterior` that is of a GPU: networks of convolutions on whole data sets."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from bnnzoo.datasets import load_dataset
from bnnzoo.models import make_model
from bnnzoo.reports.claims import Claim, Measurement
from bnnzoo.reports.studies._digits import fitted, gain, scored
from bnnzoo.reports.study import Cell, Results

KINDS: dict[str, dict[str, Any]] = {
    "cnn": {"dataset": "mnist", "network_options": {"channels": [50, 50]}, "passes": 45},
    "resnet20": {"dataset": "cifar-10", "network_options": {}, "passes": 50},
}
"""By the network's name; a cycle is so many passes over the rows, and gives one draw."""

NAMES = {"cnn": "CNN on MNIST", "resnet20": "ResNet-20 on CIFAR-10"}

SEEDS = 3

SAMPLER: dict[str, Any] = {
    **{"chains": 1, "warmup": 10, "draws": 50},
    **{"batch_size": 128, "learning_rate": 0.1, "momentum": 0.98},
}
"""Of ``cyclical-sghmc``, after Wenzel et al. (2020)."""


def cells(temperatures: tuple[float, ...]) -> list[Cell]:
    """Every network at every posterior temperature, with every seed."""
    return [
        Cell(f"{kind}-T={T:g},L=1-{seed}", {"kind": kind, "split": seed, "T": T, "L": 1.0})
        for kind in KINDS
        for seed in range(SEEDS)
        for T in temperatures
    ]


def run(kind: str, seed: int, T: float) -> dict[str, Any]:
    """One chain, scored on the test rows.

    Args:
        kind: of :data:`KINDS`.
        seed: of the chain.
        T: posterior temperature.
    """
    given = KINDS[kind]
    data = load_dataset(given["dataset"])
    model = make_model(
        network=kind, likelihood="categorical", network_options=given["network_options"]
    )
    batches = -(-len(data.x) // SAMPLER["batch_size"])
    settings = {**SAMPLER, "thin": given["passes"] * batches}
    made = fitted(model, data, "cyclical-sghmc", seed=seed, posterior_temperature=T, **settings)
    return scored(made)


def claims(cold: float) -> list[Claim]:
    """That each is cold.

    Args:
        cold: the temperature compared with 1.
    """
    return [
        Claim(
            f"posterior-temperature-{kind}",
            f"{NAMES[kind]}: a posterior at T = {cold:g} predicts better than at T = 1.",
            source,
            "gain in test log-likelihood, nats a row, over seeds and test rows",
            functools.partial(_gain, kind=kind, cold=cold),
        )
        for kind, source in (
            ("cnn", "Fortuin et al. (2022), Bayesian Neural Network Priors Revisited"),
            ("resnet20", "Wenzel et al. (2020), on ResNet-20 and CIFAR-10"),
        )
    ]


def _gain(results: Results, kind: str, cold: float) -> Measurement:
    found = gain(results.where(kind=kind, T=cold, L=1.0), results.where(kind=kind, T=1.0, L=1.0))
    return dataclasses.replace(found, covers="seeds and test rows")
