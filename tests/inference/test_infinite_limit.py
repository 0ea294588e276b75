"""Networks approach their infinitely wide partner (benchmarks/nngp.py).

Random: kurtosis of ReLU networks, at 5 standard errors of some thousand networks; their squares
have heavy tails, which is why no network is narrow and deep. The posterior: see there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.inference import InfiniteNetwork

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import nngp

from tests.models._tools import SEED


def assert_exact(depth, widths, weights):
    for row in nngp.prior_study("relu", depth, 1e-9, widths, weights, SEED):
        exact = nngp.exact_kurtosis(row["width"], depth)
        score = (row["kurtosis"] - exact) / row["kurtosis_error"]
        print(
            f"depth {depth}, width {row['width']}: {row['kurtosis']:.4g} ({exact:.4g}), {score:.1f}"
        )
        assert abs(score) < 5.0 and row["kurtosis_error"] < 0.1 * exact
        if depth == 1:  # the kernel is the covariance at any width
            assert abs(row["covariance"] - row["limit"]) < 5.0 * row["covariance_error"]


@pytest.mark.validate
def test_kurtosis_of_two_relu_layers():
    """Width 16: 3 ((1 + 5/16)^2 - 1) = 2.168, known within a tenth and held at 5 errors of that."""
    assert_exact(2, (16,), 2**24)


@pytest.mark.validate
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_kurtosis_falls_as_one_over_width(depth):
    assert_exact(depth, tuple(n for n in (1, 4, 16, 64, 256) if n >= 4 * (depth - 1)), 2**27)


@pytest.mark.validate
def test_the_posterior_converges():
    """Widths 16 and 256, HMC of 8,000 draws.

    The distance of means falls like 1/n; that of 256 units, about 0.13, is ten times the Monte
    Carlo error. Chance fails this test once in many thousand runs.
    """
    narrow, wide = nngp.posterior_study((16, 256), seed=SEED)
    print(narrow, wide)
    assert not narrow["flags"] and not wide["flags"]
    assert wide["mean"] < 0.2 and wide["std"] < 0.1
    assert wide["mean"] < narrow["mean"] / 3 and wide["std"] < narrow["std"] / 3


def test_the_record_shows_convergence():
    """What the figure of docs/infinite.md was drawn from."""
    found = json.loads(nngp.RESULTS.read_text(encoding="utf-8"))
    for rows in found["prior"].values():
        widths = np.log([row["width"] for row in rows])
        slope = np.polyfit(widths[-7:], np.log([row["spread"] for row in rows[-7:]]), 1)[0]
        assert abs(slope + 0.5) < 0.1
    means = [row["mean"] for row in found["posterior"]]
    assert (np.diff(means) < 0).all() and means[-1] < 0.1


@pytest.mark.validate
def test_the_evidence_converges():
    """Gaps to the limit fall like 1/n: at four times the width a quarter, within a third of it.

    Standard errors are below 0.01 nats, of gaps of 0.6 and 0.16.
    """
    data, _ = nngp.posterior_data()
    exact = InfiniteNetwork(nngp.make_network("tanh", 1, 1, 1.0), data).log_evidence
    found = {n: nngp.finite_evidence(n, 2**24 // n, SEED) for n in (256, 1024)}
    print({n: (round(value, 3), round(error, 3)) for n, (value, error) in found.items()}, exact)
    gaps = [value - exact for value, _ in found.values()]
    assert max(error for _, error in found.values()) < 0.01
    assert 0.0 < gaps[1] < 0.3 and 8 / 3 < gaps[0] / gaps[1] < 16 / 3


@pytest.mark.validate
def test_smc_has_the_evidence_of_a_wide_network():
    """Four runs of 512 particles at width 256, within 5 standard errors (t of 3: 0.015) and 0.1.

    The other side is the mean over hidden layers, whose own error is 0.01 nats. The limit itself is
    0.6 away from it.
    """
    data, _ = nngp.posterior_data()
    model = nngp.make_network("tanh", 256, 1, 1.0)
    run = bz.fit(model, data, "smc", chains=4, draws=512, seed=SEED, progress=False)
    found = run.tree["sample_stats"]["log_normaliser"].to_numpy()[:, -1]
    exact, _ = nngp.finite_evidence(256, 2**16, SEED)
    error = found.std(ddof=1) / 2.0
    print(f"smc {found.mean():.2f} +- {error:.2f}, mean over hidden layers {exact:.2f}")
    assert abs(found.mean() - exact) < 5.0 * error + 0.1 and error < 0.3
