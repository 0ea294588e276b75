"""One best prior and noise, or all of them: tuning by exact evidence against full Bayes.

    python benchmarks/mixing.py [--rows 8 30] [--sets 40] [--quick]

A linear model of five inputs, its weights N(0, 1 / 5), offset N(0, 1) and noise 0.5 drawn anew for
every data set: no draw from the hyper-prior below. *Tuned*: :func:`bnnzoo.tune` with method
``exact`` chooses the widths of kernel and bias and the noise; given them predictions are Gaussian.
*Mixed*: those of prior ``hierarchical-gaussian``, the bias' variance random too, with learned
noise, exactly: the three numbers are summed over on a grid, the weights in closed form
(``tests/inference/test_evidence_failures.py`` sets ``nuts`` beside it). Scored by the log density
of new rows. Writes ``benchmarks/results/mixing.json``.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from _studies import interval, keep, written
from scipy import stats
from scipy.special import logsumexp

import bnnzoo as bz

INPUTS, NOISE = 5, 0.5
TEST_ROWS = 50
LINEAR: dict[str, Any] = {"network_options": {"widths": []}}
KERNEL, BIAS = "layers.0.kernel", "layers.0.bias"


def make_data(rows: int, seed: int) -> bz.Dataset:
    """A linear regression with test rows, not scaled.

    Args:
        rows: of training.
        seed: of weights and rows.
    """
    random = np.random.default_rng([seed, rows])
    weights, offset = random.normal(size=INPUTS) / np.sqrt(INPUTS), random.normal()
    x = random.normal(size=(rows + TEST_ROWS, INPUTS))
    y = x @ weights + offset + NOISE * random.normal(size=len(x))
    return bz.make_dataset(
        x[:rows], y[:rows], x[rows:], y[rows:], task="regression", scale="none", name="linear"
    )


def mixed_model() -> bz.Model:
    """The linear model whose widths and noise are random."""
    options = {"bias_variance": True}
    return bz.make_model(prior="hierarchical-gaussian", prior_options=options, **LINEAR)


def given(data: bz.Dataset, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log evidence, and log density of every test row, given hyper-parameters.

    Args:
        data: with test rows.
        widths: of kernel (in units of 1 / sqrt(inputs)), bias and noise ``(point, 3)``.

    Returns:
        ``(point,)`` and ``(point, row)``.
    """
    assert data.x_test is not None and data.y_test is not None
    # With an offset's column, weights whitened by their prior: y = (phi * scale) z + noise.
    phi, new = (np.pad(x, [(0, 0), (0, 1)], constant_values=1.0) for x in (data.x, data.x_test))
    scale = np.repeat(widths[:, :1] / math.sqrt(INPUTS), INPUTS, 1)
    scale, noise = np.concatenate([scale, widths[:, 1:2]], 1), widths[:, 2]
    inner = scale[:, :, None] * (phi.T @ phi) * scale[:, None, :] / noise[:, None, None] ** 2
    inner += np.eye(INPUTS + 1)
    pulled = scale * (phi.T @ data.y) / noise[:, None] ** 2
    inverse = np.linalg.inv(inner)
    mean = np.einsum("pij,pj->pi", inverse, pulled)
    rows = len(data.y)
    squares = data.y @ data.y / noise**2 - (pulled * mean).sum(1)
    log_det = np.linalg.slogdet(inner)[1] + 2.0 * rows * np.log(noise)
    evidence = -0.5 * (squares + log_det + rows * math.log(2.0 * math.pi))
    weights = scale[:, :, None] * inverse * scale[:, None, :]
    variance = np.einsum("ri,pij,rj->pr", new, weights, new, optimize=True)
    said = stats.norm.logpdf(
        data.y_test, (scale * mean) @ new.T, np.sqrt(variance + noise[:, None] ** 2)
    )
    return evidence, said


def mixed(data: bz.Dataset, points: int = 15) -> tuple[float, np.ndarray]:
    """Log evidence, and log density of every test row, of :func:`mixed_model`.

    Args:
        data: with test rows.
        points: of each logarithm's grid.
    """
    variance, noise = np.linspace(-3.5, 4.0, points), np.linspace(-4.5, 1.5, 2 * points - 1)
    grid = np.stack(np.meshgrid(variance, variance, noise, indexing="ij"), -1).reshape(-1, 3)
    # Densities of the logarithms: v ~ InverseGamma(3, 2), the noise half-normal of scale 1.
    logs = sum(stats.invgamma(3, scale=2).logpdf(np.exp(v)) + v for v in grid[:, :2].T)
    logs = logs + stats.halfnorm.logpdf(np.exp(grid[:, 2])) + grid[:, 2]
    logs += 2.0 * np.log(variance[1] - variance[0]) + np.log(noise[1] - noise[0])
    evidence, said = given(data, np.exp(grid * [0.5, 0.5, 1.0]))
    total = logsumexp(logs + evidence)
    return float(total), logsumexp(said + (logs + evidence - total)[:, None], axis=0)


def one(rows: int, seed: int) -> dict[str, float]:
    """Mean log density of a test row by both, and what was tuned.

    Args:
        rows: of training.
        seed: of the data.
    """
    data = make_data(rows, seed)
    tuned = bz.tune(bz.make_model(**LINEAR), data, "exact")
    assert tuned.noise_std is not None
    widths = [tuned.widths[KERNEL], tuned.widths[BIAS], tuned.noise_std]
    evidence, said = given(data, np.array([widths]))
    assert abs(evidence[0] - tuned.value) < 1e-4 * (1.0 + abs(tuned.value))
    return {
        "kernel": float(widths[0]),
        "bias": float(widths[1]),
        "noise": float(widths[2]),
        "tuned": float(said.mean()),
        "mixed": float(mixed(data)[1].mean()),
    }


def median(values: np.ndarray) -> dict[str, float]:
    """The median, and its 95 % interval by order statistics: no law is assumed.

    Args:
        values: independent ones ``(set,)``.
    """
    ordered = np.sort(values)
    low = int(stats.binom(len(ordered), 0.5).ppf(0.025))
    ends = {"low": float(ordered[max(low - 1, 0)]), "high": float(ordered[::-1][max(low - 1, 0)])}
    return {"mean": float(np.median(ordered)), **ends}


def study(rows: int, sets: int) -> dict[str, Any]:
    """Values of every data set, and the difference.

    Args:
        rows: of training.
        sets: how many.
    """
    found = [one(rows, seed) for seed in range(sets)]
    values = {name: [f[name] for f in found] for name in found[0]}
    gap = np.subtract(values["mixed"], values["tuned"])
    return {
        "values": values,
        "mixed_less_tuned": interval(gap),
        "median": median(gap),
        "mixed_ahead": int((gap > 0).sum()),
    }


def main() -> None:
    """Run the study and write its numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 30])
    parser.add_argument("--sets", type=int, default=40, help="data sets of each size")
    parser.add_argument("--quick", action="store_true", help="three data sets, no file")
    asked = parser.parse_args()
    sets = 3 if asked.quick else asked.sets
    found = {}
    for rows in asked.rows:
        said = found[str(rows)] = study(rows, sets)
        print(
            f"{rows} rows: mixed less tuned {written(said['mixed_less_tuned'], 3)} nats a row, "
            f"median {written(said['median'], 3)}, ahead in {said['mixed_ahead']} of {sets}; "
            f"least noise {min(said['values']['noise']):.3f}",
            flush=True,
        )
    if not asked.quick:
        keep("mixing", found)


if __name__ == "__main__":
    main()
