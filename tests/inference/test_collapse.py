"""The collapse of mean-field VI (benchmarks/collapse.py) and the evidence it is set beside."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import collapse


def test_the_evidence_is_that_of_wide_networks():
    """The kernel of two layers against 4,000 networks of 100 units, within 10 % of its size.

    Five standard errors are 11 % of a variance; finite width adds of the order of 1/100.
    """
    random, sigma, width, count = np.random.default_rng(0), 1.3, 100, 4000
    x = np.array([[-1.0], [0.2], [1.5]])
    h = x @ random.normal(size=(count, 1, width)) + random.normal(size=(count, 1, width))
    inner = random.normal(size=(count, width, width)) / width**0.5
    h = special.erf(sigma * h) @ inner + random.normal(size=(count, 1, width))
    out = special.erf(sigma * h) @ random.normal(size=(count, width, 1)) / width**0.5
    values = sigma * (out[..., 0] + random.normal(size=(count, 1)))
    expected = values.T @ values / count
    size = expected.diagonal().max()
    np.testing.assert_allclose(collapse.kernel(x, sigma, 2), expected, atol=0.11 * size)


@pytest.mark.validate
def test_the_bound_falls_as_the_network_grows_and_the_evidence_rises():
    """Differences are of ten nats and more; standard errors of a bound are under one."""
    data = collapse.make_data()
    bounds = {
        (width, sigma): collapse.bound(data, sigma, width, 1, 6000)["bound"]
        for width in (10, 50)
        for sigma in collapse.SCALES
    }
    evidence = [collapse.log_evidence(data, sigma, 1) for sigma in collapse.SCALES]
    print({key: round(value, 1) for key, value in bounds.items()}, np.round(evidence, 1))
    assert evidence[0] < evidence[1] - 10 < evidence[2] - 20
    for width in (10, 50):
        assert abs(bounds[width, 0.01] - evidence[0]) < 1.0, "no weights, nothing to lose"
    # Ten units do not collapse yet; fifty do.
    assert bounds[50, 0.01] > bounds[50, 1.0] + 10 > bounds[50, 3.0] + 20
    for sigma in (1.0, 3.0):
        assert bounds[50, sigma] < bounds[10, sigma] - 10
    small, large = (collapse.learned(data, width, 1, 3000) for width in (10, 50))
    print(
        "learned sigma:", small["sigma"], large["sigma"], "bound:", small["bound"], large["bound"]
    )
    # Both far below where the evidence is highest, which is 3: 0.18, as near as eight fits tell.
    assert large["sigma"] <= small["sigma"] < 0.3 and large["bound"] < max(evidence) - 20
