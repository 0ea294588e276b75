"""Work 1: four chains of NUTS on diabetes, 10-50-1 tanh, noise learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import arviz_stats
import numpy as np
from _bench import markdown, middle
from _environments import Peer

import bnnzoo as bz
from bnnzoo.metrics import mixture_nll, rmse

TITLE = "Sampling"
PEERS = (
    Peer("bnnzoo `nuts`, draws alone", None, "bnnzoo_nuts.py", "draws"),
    Peer("bnnzoo `nuts`, `bz.fit`", None, "bnnzoo_nuts.py", "fit"),
    Peer("NumPyro, parallel", "numpyro", "numpyro_nuts.py", "parallel"),
    Peer("NumPyro, vectorised", "numpyro", "numpyro_nuts.py", "vectorized"),
    Peer("BlackJAX by hand", "blackjax", "blackjax_nuts.py", "pmap"),
)
WIDTH, POINTS, LIKE = 50, 20, 1e-4
"""Units; test points whose functions are judged; relative distance of two equal densities."""

_stats = arviz_stats.base.array_stats


def asked(quick: bool) -> dict[str, Any]:
    """The job but for its seed."""
    steps = 20 if quick else 150
    return {"width": WIDTH, "chains": 4, "draws": steps, "warmup": steps, "acceptance": 0.8}


def rows() -> dict[str, np.ndarray]:
    """Standardised diabetes, and points at which all log densities must agree."""
    data = bz.load_dataset("diabetes")
    scaling = data.scaling_for(False)
    inputs = data.x.shape[1]
    rng = np.random.default_rng(0)
    sizes = ((inputs * WIDTH, inputs**-0.5), (WIDTH, 1.0), (WIDTH, WIDTH**-0.5), (1, 1.0), (1, 0.5))
    points = [np.concatenate([s * rng.normal(size=n) for n, s in sizes]) for _ in range(3)]
    return {
        "x": scaling.transform_x(data.x),
        "y": scaling.transform_y(data.y),
        "x_test": scaling.transform_x(data.x_test),
        "y_test": scaling.transform_y(data.y_test),
        "y_std": np.asarray(scaling.y_std),
        "points": np.asarray(points),
    }


def score(
    found: dict[str, Any], draws: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Accuracy and effective draws, by the same code whoever drew.

    Args:
        found: a worker's figures.
        draws: ``(chain, draw, ...)`` of each parameter.
        rows: the data.
    """
    k0, b0, k1, b1, noise = (np.asarray(draws[n], float) for n in ("k0", "b0", "k1", "b1", "noise"))
    hidden = np.tanh(rows["x_test"] @ k0 + b0[..., None, :])
    f = (hidden @ k1 + b1[..., None, :])[..., 0]
    scale = float(rows["y_std"])
    noise = noise[..., None]
    terms = -0.5 * ((rows["y_test"] - f) / noise) ** 2 - np.log(noise * scale)
    terms -= 0.5 * np.log(2.0 * np.pi)
    density = bz.metrics.log_mean_exp(terms, axis=(0, 1))
    at = np.linspace(0, f.shape[2] - 1, POINTS).astype(int)
    ess = _stats.ess(f[..., at], method="bulk", chain_axis=0, draw_axis=1)
    rhat = _stats.rhat(f[..., at], method="rank", chain_axis=0, draw_axis=1)
    return found | {
        "log_likelihood": -mixture_nll(density),
        "rmse": scale * rmse(f.mean((0, 1)), rows["y_test"]),
        "ess": float(np.min(ess)),
        "rhat": float(np.max(rhat)),
        "scale": scale,
    }


def check(runs: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Largest relative distance of a log density from ours; of our own scores from the library's.

    Raises:
        AssertionError: a peer samples another density, or our scores are not the library's.
    """
    ours = np.asarray(runs[PEERS[0].name][0]["density"])
    apart = {}
    for name, found in runs.items():
        far = max(float(np.max(np.abs(np.asarray(r["density"]) / ours - 1.0))) for r in found)
        assert far < LIKE, f"{name} samples another density: {far:.2g} away"
        apart[name] = far
    for run in runs[PEERS[1].name]:
        library = run["metrics"]
        # Its rows are standardised already, so it knows nothing of their scale.
        assert abs(library["rmse"] * run["scale"] / run["rmse"] - 1.0) < LIKE
        assert abs(library["nll"] + np.log(run["scale"]) + run["log_likelihood"]) < LIKE
    return {"log density": apart}


def table(runs: Mapping[str, Sequence[dict[str, Any]]], job: Mapping[str, Any]) -> str:
    """Medians over the turns.

    Args:
        runs: a peer's figures, a turn each; without those that failed.
        job: what was asked.
    """
    lines = []
    for name, found in runs.items():
        first = found[0]

        def over(of: Any, found: Any = found) -> float:
            return middle([of(run) for run in found])

        lines.append(
            [
                name,
                f"{over(lambda r: r['load']):.1f}",
                f"{over(lambda r: r['wall']):.1f}",
                f"{over(lambda r: r['compiling']):.1f}",
                f"{over(lambda r: r['wall'] - r['compiling']):.1f}",
                f"{over(lambda r: r['cpu']):.1f}",
                f"{first['gradients']:,}",
                f"{first['gradients'] / (first['wall'] - first['compiling']):,.0f}",
                f"{over(lambda r: r['log_likelihood']):.3f}",
                f"{over(lambda r: r['rmse']):.1f}",
                f"{over(lambda r: r['ess']):.0f}",
                f"{over(lambda r: r['ess'] / r['wall']):.1f}",
                f"{over(lambda r: r['ess'] / r['cpu']):.1f}",
            ]
        )
    heads = ["", "load", "seconds", "compiling", "without", "of the processor", "gradients"]
    heads += ["gradients/s", "test log-likelihood", "RMSE", "ESS", "ESS/s", "ESS/processor s"]
    said = (
        f"{job['chains']} chains of {job['warmup']} + {job['draws']} steps; gradients, and their "
        "rate without compiling, of the first turn."
    )
    return f"{said}\n\n{markdown(heads, lines)}"
