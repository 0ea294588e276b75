"""Laplace's evidence of networks: where it is known, and what it chooses."""

from __future__ import annotations

import os

import numpy as np
import pytest

import bnnzoo as bz

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))


def noisy_sine(seed):
    """A sine on [-4, 4] whose noise is large in the middle: 100 rows to train on, 400 to test."""
    random = np.random.default_rng(seed)
    x = random.uniform(-4.0, 4.0, size=(500, 1))
    noise = np.where(np.abs(x[:, 0]) < 1.5, 0.7, 0.2)
    y = np.sin(2.0 * x[:, 0]) + noise * random.normal(size=500)
    return bz.make_dataset(x[:100], y[:100], x[100:], y[100:], task="regression", scale="none")


@pytest.mark.validate
@pytest.mark.parametrize("seed", range(2))
def test_the_evidence_peaks_about_where_the_test_error_is_least(seed):
    """Khan et al. (2019), fig. 4: 2 x 20 tanh, precisions 10^-2 to 10^2, one mode each.

    The mode's test error at the peak is within 15 % of the least on the grid, and at either end it
    is higher than at the peak, as is the evidence lower by over 5 nats. A mode is found anew for
    each precision by the same seed, so that there is no chance in it but the data's.
    """
    data = noisy_sine([SEED, seed])
    grid = np.linspace(-2.0, 2.0, 9)
    evidence, error = [], []
    for exponent in grid:
        std = 10.0 ** (-exponent / 2)
        model = bz.make_model(
            network_options={"widths": [20, 20]},
            prior_options={"std": std, "bias_std": std, "absolute": True},
            likelihood_options={"noise": "fixed", "noise_std": 0.45},
        )
        run = bz.fit(model, data, "laplace", chains=3, draws=2, warmup=1500, progress=False, seed=0)
        values = run.tree["sample_stats"]["log_normaliser"].to_numpy()[:, -1]
        best = int(np.argmax(values))
        evidence.append(values[best])
        mode = {s.name: run.tree["mode"][s.name].to_numpy()[best] for s in run.posterior.sites}
        f = run.posterior.predict(run.posterior.unconstrain(mode), data.x_test)
        error.append(float(np.mean((np.asarray(f)[:, 0] - data.y_test) ** 2)))
    peak = int(np.argmax(evidence))
    print(
        "log precision", grid, "evidence", np.round(evidence, 1), "test error", np.round(error, 3)
    )
    assert error[peak] < 1.15 * min(error)
    assert 0 < peak < len(grid) - 1
    assert error[0] > error[peak] and error[-1] > error[peak]
    assert evidence[0] < evidence[peak] - 5 and evidence[-1] < evidence[peak] - 5
