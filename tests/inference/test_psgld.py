"""psgld: its correction takes the bias away, and what is left without it is known."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import _stochastic as lin

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))

FLOOR = 0.2


def psgld_ratios(rate, correction):
    """E[(u - m)^2] over the target's, and its standard error ``(2,)``; None: with batches."""
    backend = lin.make(
        "psgld",
        learning_rate=rate,
        thin=int(0.2 / rate),
        batch_size=lin.BATCH if correction is None else None,
        average=0.5,
        floor=FLOOR,
        correction=correction is not False,
    )
    mean, precisions = lin.moments()
    u, _, _ = lin.simulate(backend, lin.location_posterior(), lin.near_the_mode(), SEED)
    own = ((u - mean) ** 2 * precisions).mean(1)
    return own.mean(0), own.std(0, ddof=1) / np.sqrt(len(own))


@functools.cache
def uncorrected_limit():
    """Variance ratios of p(u) / G(u) in the limit: (f + 2 a E|z|) / (f + a E|z|), a = sd of g / N.

    The drift (e/2) G grad log p and the noise sqrt(e G) have the stationary density p / G, and
    1 / G = floor + |g| / N. For a standard normal E|z|^3 = 2 E|z|.
    """
    slope = np.sqrt(lin.moments()[1]) / lin.ROWS * np.sqrt(2.0 / np.pi)
    return (FLOOR + 2.0 * slope) / (FLOOR + slope)


@pytest.mark.validate
def test_psgld_without_its_correction_keeps_its_bias():
    """Full batches at a short step: no correction gives the closed form of p / G, to 5 %."""
    wrong, error = psgld_ratios(0.01, False)
    right, _ = psgld_ratios(0.01, True)
    print(f"without {wrong} (limit {uncorrected_limit()}), with {right}, errors {error}")
    np.testing.assert_allclose(wrong / uncorrected_limit(), 1.0, atol=0.05 + 5.0 * error.max())
    assert (np.abs(right - 1.0) < 0.1 + 5.0 * error).all()
    assert (wrong - 1.0 > 0.4).all()


@pytest.mark.validate
@pytest.mark.parametrize("correction", [True, None], ids=["full", "batches"])
def test_psgld_bias_vanishes_with_the_step_when_corrected(correction):
    """It falls with every halving, to under 0.05 + 5 errors; without, it tends to that of p / G."""
    rates = (0.04, 0.02, 0.01, 0.005)
    found = np.array([psgld_ratios(rate, correction) for rate in rates])
    bias, error = found[:, 0] - 1.0, found[:, 1].max()
    print(f"biases {bias.tolist()}, error {error:.4f}")
    assert (bias[1:, 0] < bias[:-1, 0]).all()
    assert (np.abs(bias[-1]) < 0.07 + 5.0 * error).all()
