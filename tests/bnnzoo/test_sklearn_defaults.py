"""The estimators as they come against scikit-learn's own, on tables of a few hundred rows."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bnnzoo as bz
from bnnzoo.datasets.uci import standard_split

# The six regressions of fewest rows among the UCI tables of the literature and diabetes; the
# choice was made before any test score was seen.
TABLES = ["yacht", "diabetes", "boston", "energy", "concrete", "airfoil"]
SPLITS = 3


def split_of(table: str, split: int) -> tuple[np.ndarray, ...]:
    """Training and test inputs and targets of one of the literature's splits."""
    if table == "diabetes":
        x, y = load_diabetes(return_X_y=True)
        train, test = standard_split(len(y), split)
        return x[train], y[train], x[test], y[test]
    data = bz.load_dataset(f"uci/{table}", split=split)
    assert data.x_test is not None and data.y_test is not None
    return data.x, data.y, data.x_test, data.y_test


def gaussian_process(features: int):
    kernel = ConstantKernel() * RBF(np.ones(features), (1e-2, 1e4)) + WhiteKernel()
    return GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2)


def scores(model, x, y, x_test, y_test) -> tuple[float, float]:
    """Mean test log density, nats, and the share of targets inside 90 % intervals."""
    model.fit(x, y)
    if isinstance(model, bz.BNNRegressor):
        density = model.log_prob(x_test, y_test)
        lower, upper = model.predict_interval(x_test, 0.9)
    else:
        mean, std = model.predict(x_test, return_std=True)
        density = norm(mean, std).logpdf(y_test)
        lower, upper = norm(mean, std).interval(0.9)
    return float(density.mean()), float(((lower <= y_test) & (y_test <= upper)).mean())


@pytest.mark.validate
def test_defaults_beat_scikit_learn():
    """A better mean log density than both on five tables of six, and intervals that cover."""
    if not os.environ.get("BNNZOO_DATA"):
        pytest.skip("BNNZOO_DATA is not set: no folder with the UCI tables")
    wins, covered = 0, []
    print("table: log density of ridge, GP, BNN; coverage of ridge, GP, BNN; warned BNN fits")
    for table in TABLES:
        found, warned = [], 0
        for split in range(SPLITS):
            rows = split_of(table, split)
            models = [
                make_pipeline(StandardScaler(), BayesianRidge()),
                make_pipeline(StandardScaler(), gaussian_process(rows[0].shape[1])),
                bz.BNNRegressor(random_state=split),
            ]
            models[1].set_params(gaussianprocessregressor__random_state=split)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", ConvergenceWarning)
                found.append([scores(model, *rows) for model in models])
            warned += any("BNNRegressor" in str(w.message) for w in said)
        density, coverage = np.mean(found, 0).T
        wins += density[2] > density[:2].max()
        covered.append(coverage[2])
        print(
            f"{table}: {density.round(3).tolist()}; {coverage.round(3).tolist()}; {warned}",
            flush=True,
        )
    print(f"better on {wins} of {len(TABLES)}; mean coverage {np.mean(covered):.3f}")
    assert wins >= 5
    assert 0.85 <= np.mean(covered) <= 0.95
