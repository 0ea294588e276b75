"""Work 3: microcanonical ensembles on diabetes, 10-50-2 ReLU, noise of the inputs.

ReLU because sklearn-contrib-bde has no tanh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import work_sampling
from _bench import markdown, middle
from _environments import Peer

import bnnzoo as bz
from bnnzoo.metrics import crps_gaussian_mixture, mixture_nll, rmse

TITLE = "Microcanonical ensembles"
PEERS = (
    Peer("bnnzoo `mile`", None, "bnnzoo_mile.py", ""),
    Peer("sklearn-contrib-bde", "bde", "bde_regressor.py", ""),
)
LIKE = 1e-4
"""Relative distance of our scores from the library's."""


def asked(quick: bool) -> dict[str, Any]:
    """The job but for its seed."""
    sizes = {"members": 4, "draws": 100, "thinning": 5, "epochs": 500, "tuning": 2000}
    return {"width": 50, **(sizes | {"epochs": 100, "tuning": 200} if quick else sizes)}


def rows() -> dict[str, np.ndarray]:
    """Standardised diabetes."""
    return work_sampling.rows()


def score(
    found: dict[str, Any], draws: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Accuracy of the mixture of normals, by the same code whoever drew.

    Args:
        found: a worker's figures.
        draws: ``mean`` and ``std`` ``(draw, row)``.
        rows: the data.
    """
    scale = float(rows["y_std"])
    mean, std = (np.asarray(draws[name], float) for name in ("mean", "std"))
    assert mean.shape == std.shape and mean.shape[1:] == rows["y_test"].shape
    terms = -0.5 * ((rows["y_test"] - mean) / std) ** 2 - np.log(std * scale)
    terms -= 0.5 * np.log(2.0 * np.pi)
    return found | {
        "draws": len(mean),
        "log_likelihood": -mixture_nll(bz.metrics.log_mean_exp(terms)),
        "rmse": scale * rmse(mean.mean(0), rows["y_test"]),
        "crps": scale * float(crps_gaussian_mixture(mean, std, rows["y_test"])),
        "scale": scale,
    }


def check(runs: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """As many draws of each, and our scores are the library's.

    Raises:
        AssertionError: they are not.
    """
    counts = {name: found[0]["draws"] for name, found in runs.items()}
    assert len(set(counts.values())) == 1, f"draws differ: {counts}"
    for run in (r for found in runs.values() for r in found if "metrics" in r):
        library = run["metrics"]
        assert abs(library["rmse"] * run["scale"] / run["rmse"] - 1.0) < LIKE
        assert abs(library["nll"] + np.log(run["scale"]) + run["log_likelihood"]) < LIKE
    return {"draws": counts}


def table(runs: Mapping[str, Sequence[dict[str, Any]]], job: Mapping[str, Any]) -> str:
    """Medians over the turns.

    Args:
        runs: a peer's figures, a turn each; without those that failed.
        job: what was asked.
    """
    keys = ("load", "wall", "compiling", "cpu", "log_likelihood", "rmse", "crps")
    lines = []
    for name, found in runs.items():
        at = {key: middle([run[key] for run in found]) for key in keys}
        cells = [f"{at[key]:.1f}" for key in ("load", "wall", "compiling", "cpu")]
        cells += [f"{at['log_likelihood']:.3f}", f"{at['rmse']:.1f}", f"{at['crps']:.1f}"]
        lines.append([name, *cells])
    heads = [
        "",
        "load",
        "seconds",
        "compiling",
        "of the processor",
        "test log-likelihood",
        "RMSE",
        "CRPS",
    ]
    said = (
        f"{job['members']} members, {job['draws']} draws each, one in {job['thinning']} kept; "
        f"at most {job['epochs']} epochs, {job['tuning']} steps of tuning."
    )
    return f"{said}\n\n{markdown(heads, lines)}"
