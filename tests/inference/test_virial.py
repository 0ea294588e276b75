"""The virial identity: 1 for exact draws at every temperature, flagged where it is not.

Each comparison allows 4.9 standard errors (1e-6 two-sided); there are ten.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.inference.draws import ArrayDraws
from bnnzoo.inference.loop import run_chains
from bnnzoo.inference.precision import precision
from bnnzoo.inference.virial import virial_flags, virial_ratios
from bnnzoo.metrics._montecarlo import mean_with_error
from bnnzoo.models import Posterior

sys.path.insert(0, str(Path(__file__).parent))
import _closed_forms as forms
from _estimates import SEEDS
from _planted import untempered_hmc

TEMPERATURES = [(1.0, 1.0), (0.3, 1.0), (0.1, 1.0), (0.3, 2.0)]
BOUND = 4.9


def draws_of(backend, T, chains=2, draws=2000):
    with precision("float64"):
        posterior = Posterior(forms.known_noise, forms.regression_data(), T)
        made = run_chains(
            backend, posterior, chains=chains, draws=draws, warmup=300, seed=1, dtype="float64"
        )
        return virial_ratios(posterior, made.u)


@pytest.mark.parametrize("T", [0.3, 0.1, 3.0])
def test_a_sampler_that_ignores_its_temperature_is_caught(T):
    wrong = draws_of(untempered_hmc(), T)
    mean, error = mean_with_error(wrong)
    assert abs(mean - 1 / T) < BOUND * error
    assert [(c, f.kind) for c, f in virial_flags(wrong)] == [(0, "virial"), (1, "virial")]
    assert "too widely" in virial_flags(wrong)[0][1].message or T > 1
    assert not virial_flags(draws_of(registry.get("backends", "hmc").build({}), T))


def heavy(x, y=None):
    """A skewed scale and a heavy-tailed weight: no part of it is Gaussian."""
    scale = numpyro.sample("scale", dist.Gamma(3.0, 2.0))
    w = numpyro.sample("w", dist.StudentT(4.0, 0.0, 1.0).expand([forms.FEATURES]).to_event(1))
    numpyro.sample("y", dist.StudentT(4.0, x @ w, scale), obs=y)


@pytest.mark.validate
@pytest.mark.parametrize(
    "model",
    [
        forms.known_noise,
        pytest.param(forms.unknown_noise, marks=pytest.mark.validate),
        pytest.param(heavy, marks=pytest.mark.validate),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_identity_holds_at_every_temperature(seed, model):
    for T, L in TEMPERATURES:
        run = bz.fit(
            model,
            forms.regression_data(),
            "nuts",
            chains=2,
            draws=1500,
            warmup=500,
            seed=seed,
            posterior_temperature=T,
            likelihood_temperature=L,
            dtype="float64",
            progress=False,
        )
        mean, error = mean_with_error(run.tree["sample_stats"]["virial"].to_numpy())
        said = f"{model.__name__}, T={T}, L={L}: virial {mean:.4f} +- {error:.4f}"
        print(said)
        assert error < 0.05 and abs(mean - 1) < BOUND * error, said
        assert not any(flag["kind"] == "virial" for flag in run.manifest["flags"])


def test_exact_draws_in_any_number_of_dimensions():
    """The law of the ratio on N(m, S) is known: mean 1, variance 2/d about the true mean."""
    with precision("float64"):
        posterior = Posterior(forms.known_noise, forms.regression_data(), 0.3)
        mean, covariance = forms.known_noise_moments(forms.regression_data(), 0.3, 1.0)
        rng = np.random.default_rng(3)
        u = rng.multivariate_normal(mean, covariance, size=(4, 4000))
        ratios = virial_ratios(posterior, ArrayDraws(u))
    seen = ratios[np.isfinite(ratios)]
    assert seen.shape == (4 * 1000,)  # every fourth draw
    # Relative errors of a mean of variance 2/d and, for a chi^2_d/d variable, of its variance.
    d, n = len(mean), len(seen)
    assert abs(seen.mean() - 1) < BOUND * np.sqrt(2 / d / n)
    assert abs(seen.var() / (2 / d) - 1) < BOUND * np.sqrt((2 + 12 / d) / n)


def test_what_is_not_finite_is_left_out():
    with precision("float64"):
        posterior = Posterior(forms.known_noise, forms.regression_data())
        u = np.random.default_rng(0).normal(size=(3, 20, forms.FEATURES))
        u[1, 12:] = np.nan
        ratios = virial_ratios(posterior, ArrayDraws(u))
    assert np.isfinite(ratios[[0, 2]]).all() and np.isnan(ratios[1, 12:]).all()
    mean, error = mean_with_error(ratios)
    assert np.isfinite([mean, error]).all()
    assert np.isnan(mean_with_error(np.full((2, 10), np.nan))).all()
    assert virial_flags(np.full((2, 10), np.nan)) == []
