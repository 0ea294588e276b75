"""gg-mc with minibatches: exact with its test; biased, and told so, without.

Moments of 1,000 independent chains are held to 5 standard errors: two-sided 6e-7 each, 25 of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import _stochastic as lin

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
TEMPERATURES = (1.0, 0.3, 0.1)


def pass_by_pass(rate, T, metropolis=True):
    backend = lin.make(
        "gg-mc",
        learning_rate=rate,
        thin=30,
        batch_size=lin.BATCH,
        momentum=0.8,
        metropolis=metropolis,
    )
    u, stats, _ = lin.simulate(backend, lin.location_posterior(T), lin.near_the_mode(T), SEED)
    return u, stats


@pytest.mark.validate
def test_gg_mc_is_exact_with_minibatches_at_large_steps():
    """And acceptance rises to 1 as the step falls."""
    for T in TEMPERATURES:
        mean, precisions = lin.moments(T)
        rates = np.array([0.1, 0.03, 0.003]) * (1.0 if T > 0.2 else 0.3)
        accepted = []
        for rate in rates if T == 1.0 else rates[1:2]:
            u, stats = pass_by_pass(rate, T)
            accepted.append(stats["acceptance_rate"].mean())
            lin.check(u, mean, np.diag(1.0 / precisions), f"gg-mc, T={T}, {accepted[-1]:.2f}")
        assert (np.diff(accepted) > 0.05).all()
        assert T < 1.0 or (accepted[0] < 0.4 and accepted[-1] > 0.85)


@pytest.mark.validate
def test_gg_mc_without_the_test_is_biased_and_reports_the_acceptance_it_would_have():
    mean, precisions = lin.moments()
    u, stats = pass_by_pass(0.03, 1.0, metropolis=False)
    assert ((u - mean) ** 2 * precisions).mean((0, 1))[0] > 1.3
    assert 0.4 < stats["acceptance_rate"].mean() < 0.8
    accepted = [
        pass_by_pass(r, 1.0, False)[1]["acceptance_rate"].mean() for r in (3e-3, 3e-4, 3e-5)
    ]
    print(f"acceptance {accepted}")
    assert (np.diff(accepted) > 0).all() and accepted[-1] > 0.98
