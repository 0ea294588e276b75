"""Hierarchies: tempered alike in both parameterisations, and eight schools with its known answer.

Bounds are 4.9 Monte Carlo standard errors (two-sided 1e-6 each), 14 comparisons: 1.4e-5 in all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import arviz_stats
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bnnzoo as bz

sys.path.insert(0, str(Path(__file__).parent))
import _closed_forms as forms
from _estimates import SEEDS

BOUND = 4.9
SCHOOLS_Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SCHOOLS_SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
GROUPS_Y = np.array([3.1, -2.2, 1.4, 5.0, -4.1, 0.3, 2.7, -1.6])
GROUPS_SIGMA = np.full(8, 0.8)
_stats = arviz_stats.base.array_stats


def centred(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(3.0))
    with numpyro.plate("group", x.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, x[:, 0]), obs=y)


def non_centred(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(3.0))
    with numpyro.plate("group", x.shape[0]):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("f", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, x[:, 0]), obs=y)


def eight_schools(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", x.shape[0]):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("f", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, x[:, 0]), obs=y)


def half_normal(tau):
    return -0.5 * (tau / 3.0) ** 2


def half_cauchy(tau):
    return -np.log1p((tau / 5.0) ** 2)


def compare(run, exact):
    """Means and standard deviations of mu and log tau within ``BOUND`` standard errors."""
    posterior = run.tree["posterior"]
    draws = {"mu": posterior["mu"].to_numpy(), "log_tau": np.log(posterior["tau"].to_numpy())}
    for name, (mean, deviation) in exact.items():
        for what, method, truth in (("mean", "mean", mean), ("sd", "sd", deviation)):
            estimate = draws[name].mean() if what == "mean" else draws[name].std()
            error = float(_stats.mcse(draws[name], method=method, chain_axis=0, draw_axis=1))
            z = (estimate - truth) / error
            print(f"{run.label}: {name} {what} {estimate:.4f}, exact {truth:.4f}, z {z:+.2f}")
            assert abs(z) < BOUND, (run.label, name, what)


@pytest.mark.validate
@pytest.mark.parametrize(("T", "L"), [(1.0, 1.0), (0.3, 2.0)])
@pytest.mark.parametrize("model", [pytest.param(centred, marks=pytest.mark.validate), non_centred])
@pytest.mark.parametrize("seed", SEEDS)
def test_both_parameterisations_give_the_renormalised_posterior(seed, model, T, L):
    data = bz.make_dataset(GROUPS_SIGMA, GROUPS_Y, task="regression", scale="none")
    run = bz.fit(
        model, data, "nuts", chains=4, draws=6000, warmup=1000, seed=seed, dtype="float64",
        posterior_temperature=T, likelihood_temperature=L, target_acceptance=0.95, progress=False,
    )  # fmt: skip
    exact = forms.hierarchy_moments(GROUPS_Y, GROUPS_SIGMA, 5.0, half_normal, T, L)
    compare(run, exact)


@pytest.mark.validate
@pytest.mark.parametrize("seed", SEEDS)
def test_eight_schools_has_its_known_answer(seed):
    data = bz.make_dataset(SCHOOLS_SIGMA, SCHOOLS_Y, task="regression")
    run = bz.fit(
        eight_schools, data, "nuts", chains=4, draws=6000, warmup=1000, seed=seed, dtype="float64",
        target_acceptance=0.95, progress=False,
    )  # fmt: skip
    exact = forms.hierarchy_moments(SCHOOLS_Y, SCHOOLS_SIGMA, 5.0, half_cauchy, 1.0, 1.0)
    compare(run, exact)
    # The published reference (posteriordb, eight_schools-eight_schools_noncentered): mu 4.4 +- 3.3.
    assert exact["mu"] == pytest.approx((4.4, 3.3), abs=0.1)
    assert set(run.tree["posterior"].data_vars) == {"mu", "tau", "z"}
    assert run.tree["function_draws"]["f"].shape == (4, 6000, 8, 1)
    with pytest.raises(bz.errors.InputError, match="'z' belongs to the training rows"):
        run.predict(SCHOOLS_SIGMA[:3])
