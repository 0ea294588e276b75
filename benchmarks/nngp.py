"""Finite networks approach their infinitely wide partner: the prior and the posterior.

    python benchmarks/nngp.py [--quick]

Widths from 1 to 1024. Of the prior: the excess kurtosis of a function value, which is 0 for a
Gaussian process, and the covariance of two values, beside ``nngp_kernel``. For networks of L hidden
ReLU layers of n units each and no biases the excess kurtosis is 3 ((1 + 5/n)^L - 1) exactly. Of the
posterior: mean and standard deviation of the function of a tanh network of one hidden layer given
eight rows, by HMC, beside ``InfiniteNetwork``. Writes ``benchmarks/results/nngp.json`` and
``docs/nngp.svg``.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import handlers

import bnnzoo as bz
from bnnzoo.inference import InfiniteNetwork
from bnnzoo.models import nngp_kernel

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "nngp.json"
FIGURE = ROOT / "docs" / "nngp.svg"

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DEPTHS = (1, 2, 4)
WEIGHTS = 2**26
"""Weights drawn for one estimate of a kurtosis: narrow networks are drawn more often."""

POSTERIOR_WIDTHS = (4, 16, 64, 256, 1024)
"""A single unit is left out: its posterior has modes that no chain leaves."""
NOISE = 0.2


def make_network(activation: str, width: int, depth: int, bias_std: float) -> bz.Model:
    """A network of hidden layers alike, its noise known.

    Args:
        activation: of the hidden layers.
        width: of each.
        depth: their number.
        bias_std: of the prior; of the order of 1e-9 for none.
    """
    return bz.make_model(
        network_options={
            "widths": [width] * depth,
            "activation": activation,
            "parameterisation": "ntk",
        },
        prior_options={"bias_std": bias_std},
        likelihood_options={"noise": "fixed", "noise_std": NOISE},
    )


def covariances(model: bz.Model, x: np.ndarray, networks: int, seed: int = 0) -> np.ndarray:
    """Covariance of an output at pairs of rows, given the hidden layers of each of some networks.

    The network itself runs, with as many outputs as units and the unit matrix in place of its last
    kernel: it returns its hidden units, and the last layer is summed over.

    Args:
        model: of one width.
        x: inputs ``(row, feature)``.
        networks: how many.
        seed: of their weights.

    Returns:
        ``(network, row, row)``.
    """
    width = model.network.factory.keywords["options"].widths[-1]
    bound = model.network.bind(x.shape[1:], width)
    last = len(model.network.factory.keywords["options"].widths)
    hidden = [i for i in bound.infos if not i.path.startswith(f"layers.{last}.")]
    (kernel,) = [i for i in bound.infos if i.path == f"layers.{last}.kernel"]
    (bias,) = [i for i in bound.infos if i.path == f"layers.{last}.bias"]
    fixed = {
        kernel.path: jnp.sqrt(width) * jnp.eye(width),  # ntk layers divide by sqrt(width)
        bias.path: jnp.zeros(width),
    }
    weight = float(model.prior.distribution(kernel).variance[0, 0])
    offset = float(model.prior.distribution(bias).variance[0])
    rows = jnp.asarray(x, jnp.float32)

    def one(key: Array) -> Array:
        with handlers.seed(rng_seed=key):
            drawn = model.prior.sample(hidden)
        units = bound.apply({**drawn, **fixed}, rows)
        return offset + weight * units @ units.T / width

    # Some at a time: half a million weights fit a cache, all at once would not fit memory.
    size = sum(math.prod(i.shape) for i in hidden)
    keys = jax.random.split(jax.random.key(seed), networks)
    batch = max(1, min(networks, 2**19 // size))
    return np.asarray(jax.jit(lambda k: jax.lax.map(one, k, batch_size=batch))(keys), float)


def excess_kurtosis(variances: np.ndarray) -> tuple[float, float]:
    """Excess kurtosis of a function value, and its standard error.

    Given the hidden layers a value is Gaussian of variance q: the kurtosis is 3 E[q^2] / E[q]^2.

    Args:
        variances: q of each network.
    """
    q = variances / variances.mean()
    value = 3.0 * ((q**2).mean() - 1.0)
    # To first order, the mean in the denominator moves with the mean of the squares.
    terms = 3.0 * (q**2 - 2.0 * (q**2).mean() * (q - 1.0))
    return float(value), float(terms.std() / math.sqrt(len(q)))


def exact_kurtosis(width: int, depth: int) -> float:
    """Excess kurtosis of a value of a ReLU network without biases, at any input.

    Args:
        width: of every hidden layer.
        depth: number of hidden layers.
    """
    return 3.0 * ((1.0 + 5.0 / width) ** depth - 1.0)


def prior_study(
    activation: str,
    depth: int,
    bias_std: float,
    widths: tuple[int, ...],
    weights: int,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Kurtosis and covariance of two function values, for several widths.

    Args:
        activation: of the hidden layers.
        depth: their number.
        bias_std: of the prior.
        widths: of the hidden layers.
        weights: how many to draw for each.
        seed: of the draws.
    """
    x = np.array([[1.0, 0.5], [-0.3, 1.2]])
    found = []
    for width in widths:
        model = make_network(activation, width, depth, bias_std)
        count = width * (2 + width * (depth - 1)) + width * depth
        networks = int(np.clip(weights // count, 64, 200_000))
        each = covariances(model, x, networks, seed)
        value, error = excess_kurtosis(each[:, 0, 0])
        limit = nngp_kernel(model, x)
        gap = each.mean(0) - limit
        found.append(
            {
                "width": width,
                "networks": networks,
                "kurtosis": value,
                "kurtosis_error": error,
                "covariance": float(each[:, 0, 1].mean()),
                "covariance_error": float(each[:, 0, 1].std() / math.sqrt(networks)),
                "variance_gap": float(gap[0, 0]),
                "limit": float(limit[0, 1]),
                "spread": float(np.sqrt(((each - limit) ** 2).mean((1, 2)).mean())),
            }
        )
    return found


def posterior_data() -> tuple[bz.Dataset, np.ndarray]:
    """Eight rows and the places at which posteriors are compared."""
    x = np.linspace(-2.0, 2.0, 8)
    y = np.sin(2.0 * x) + NOISE * np.random.default_rng(1).normal(size=8)
    return bz.make_dataset(x, y, task="regression", scale="none"), np.linspace(-3.0, 3.0, 25)


def posterior_study(
    widths: tuple[int, ...], draws: int = 2000, seed: int = 0
) -> list[dict[str, Any]]:
    """Posterior mean and standard deviation of the function, beside the exact ones of the limit.

    Args:
        widths: of the hidden layer.
        draws: of each of four chains.
        seed: of the chains.

    Returns:
        For each width, root mean square differences over the places, in units of the limit's mean
        standard deviation, and the Monte Carlo error that such a difference of means would have.
    """
    data, places = posterior_data()
    found = []
    for width in widths:
        model = make_network("tanh", width, 1, 1.0)
        exact = InfiniteNetwork(model, data).predict(places, noise=False)
        run = bz.fit(
            model, data, "hmc", chains=4, draws=draws, warmup=1000, seed=seed, progress=False
        )
        f = run.predict(places[:, None], raw=True)[..., 0]
        size = exact.std.mean()
        between = f.mean(1).std(0, ddof=1) / 2.0  # of the mean of four chains
        values = f.reshape(-1, len(places))
        found.append(
            {
                "width": width,
                "mean": float(np.sqrt(((values.mean(0) - exact.mean) ** 2).mean()) / size),
                "std": float(np.sqrt(((values.std(0) - exact.std) ** 2).mean()) / size),
                "error": float(np.sqrt((between**2).mean()) / size),
                "flags": sorted({f["kind"] for f in run.manifest["flags"]}),
            }
        )
    return found


def finite_evidence(width: int, networks: int, seed: int = 0) -> tuple[float, float]:
    """Log evidence of a network of finite width on :func:`posterior_data`, and its standard error.

    Given the hidden layer the targets are Gaussian: the evidence is the mean of their density over
    hidden layers drawn from the prior.

    Args:
        width: of the hidden layer.
        networks: hidden layers to draw.
        seed: of them.
    """
    data, _ = posterior_data()
    model = make_network("tanh", width, 1, 1.0)
    rows = len(data.y)
    total = covariances(model, data.x, networks, seed) + NOISE**2 * np.eye(rows)
    square = (
        data.y * np.linalg.solve(total, np.tile(data.y, (networks, 1))[..., None])[..., 0]
    ).sum(1)
    logs = -0.5 * (square + np.linalg.slogdet(total)[1] + rows * math.log(2.0 * math.pi))
    shares = np.exp(logs - logs.max())
    error = shares.std() / shares.mean() / math.sqrt(networks)
    return float(logs.max() + math.log(shares.mean())), float(error)


def draw(found: dict[str, Any], path: Path) -> None:
    """Three panels: kurtosis, covariance, posterior.

    Args:
        found: what :func:`study` gave.
        path: of the figure.
    """
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.style.use(ROOT / "docs" / "gallery" / "gallery.mplstyle")
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2))
    for number, (label, rows) in enumerate(found["prior"].items()):
        colour = f"C{number}"
        widths = np.array([row["width"] for row in rows])
        values = np.array([row["kurtosis"] for row in rows])
        errors = np.array([row["kurtosis_error"] for row in rows])
        axes[0].errorbar(widths, values, 2 * errors, fmt="o", color=colour, label=label, lw=1)
        if label.startswith("relu"):
            exact = [exact_kurtosis(w, int(label.rpartition(" ")[2])) for w in widths]
            axes[0].plot(widths, exact, color=colour, lw=1)
        axes[1].plot(widths, [row["spread"] for row in rows], "o-", color=colour, label=label, lw=1)
    axes[0].set(title="Excess kurtosis of f(x)", xlabel="width")
    axes[1].set(title="Distance of covariances", xlabel="width")
    rows = found["posterior"]
    widths = [row["width"] for row in rows]
    axes[2].plot(widths, [row["mean"] for row in rows], "o-", color="C0", label="mean")
    axes[2].plot(widths, [row["std"] for row in rows], "o-", color="C1", label="standard deviation")
    axes[2].plot(widths, [row["error"] for row in rows], "--", color="C3", label="HMC's own error")
    axes[2].set(title="Distance of posteriors", xlabel="width")
    for axis in axes:
        axis.set(xscale="log", yscale="log")
    axes[0].set_ylim(bottom=2e-8)  # room for the legend, which is of the second panel too
    for axis in (axes[0], axes[2]):
        axis.legend(fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _from(least: int) -> tuple[int, ...]:
    """Widths not below the depth: the kurtosis of narrower ones asks for too many draws."""
    return tuple(width for width in WIDTHS if width >= least)


def study(weights: int, draws: int) -> dict[str, Any]:
    """Everything that the figure shows.

    Args:
        weights: to draw for one estimate of a kurtosis.
        draws: of each chain.
    """
    prior = {
        f"relu, no biases, depth {depth}": prior_study("relu", depth, 1e-9, _from(depth), weights)
        for depth in DEPTHS
    }
    prior["tanh, depth 2"] = prior_study("tanh", 2, 1.0, _from(1), weights)
    return {"prior": prior, "posterior": posterior_study(POSTERIOR_WIDTHS, draws)}


def main() -> None:
    """Run the study, write its numbers and its figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fraction of the draws, no files")
    quick = parser.parse_args().quick
    found = study(WEIGHTS // 64, 200) if quick else study(WEIGHTS, 2000)
    for label, rows in found["prior"].items():
        for row in rows:
            depth = int(label.rpartition(" ")[2])
            exact = f" ({exact_kurtosis(row['width'], depth):.4g})" if "relu" in label else ""
            print(
                f"{label}, width {row['width']}: kurtosis {row['kurtosis']:.4g}{exact} "
                f"+- {row['kurtosis_error']:.2g}, covariance {row['covariance']:.4f} "
                f"({row['limit']:.4f}) +- {row['covariance_error']:.2g}"
            )
    for row in found["posterior"]:
        print(row)
    if not quick:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        draw(found, FIGURE)


if __name__ == "__main__":
    main()
