"""Simulation-based calibration of every exact backend: `benchmarks/sbc.py`, by `make validate`.

Budget of false alarms: 1e-3 for all, shared equally by the p-values (two a quantity:
Kolmogorov-Smirnov and spread). The stationary law itself is held by `test_law.py` in `make test`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo import registry

sys.path.insert(0, str(Path(__file__).parent))
from _planted import untempered_hmc

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("sbc", ROOT / "benchmarks" / "sbc.py")
sbc = importlib.util.module_from_spec(_spec)
sys.modules["sbc"] = sbc  # dataclasses look their module up
_spec.loader.exec_module(sbc)

MOST_QUANTITIES = 5


def least_p(values):
    return min(min(sbc.p_values(u).values()) for u in values.values())


@pytest.mark.validate
@pytest.mark.parametrize("label", list(sbc.CASES))
@pytest.mark.parametrize("name", sbc.exact_backends())
def test_ranks_are_uniform_over_many_simulations(name, label):
    backend = registry.get("backends", name).build(sbc.OPTIONS.get(name, {}))
    if not sbc.able(backend, sbc.CASES[label]):
        with pytest.raises(bz.errors.InputError):  # the fit itself refuses as well
            bz.fit(sbc.CASES[label].make(1.0, False), bz.load_dataset("gap", n=9), name)
        return
    values = sbc.uniforms(backend, sbc.CASES[label], 400, **sbc.SETTINGS)
    print(f"{name}, {label}: {sbc.said(values)}")
    tests = 2 * MOST_QUANTITIES * len(sbc.CASES) * len(sbc.exact_backends())
    assert least_p(values) > 1e-3 / tests


@pytest.mark.validate
def test_a_sampler_that_ignores_its_temperature_is_caught():
    values = sbc.uniforms(untempered_hmc(), sbc.CASES["linear, T=0.1"], 40, warmup=200, thin=4)
    assert least_p(values) < 1e-6, sbc.said(values)


def test_the_p_values_are_those_of_uniform_numbers():
    """Of 2,000 uniform samples, 5 % fall below 0.05, within 4.4 binomial standard errors."""
    rng = np.random.default_rng(0)
    found = [sbc.p_values(rng.uniform(size=200)) for _ in range(2000)]
    for test in ("ks", "spread"):
        share = np.mean([p[test] < 0.05 for p in found])
        assert abs(share - 0.05) < 4.4 * np.sqrt(0.05 * 0.95 / 2000)
