"""NUTS and HMC against closed forms at several temperatures.

Budget of false alarms: 1e-3 for the whole file. With n effective draws of d coordinates the squared
covariance error times d n is about 2 chi^2 with d (d + 1) / 2 degrees of freedom, the squared mean
error times d n is chi^2 with d. With n = 60,000 and d <= 6 the bar of 2 % is passed by chance with
probability under 1e-5 (covariance, allowing for the Student-t marginals of the unknown-noise model)
and 1e-15 (mean); a seed has up to 24
comparisons of each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import bnnzoo as bz

sys.path.insert(0, str(Path(__file__).parent))
import _closed_forms as forms
from _estimates import effective_draws, pooled_errors

BAR = 0.02
TEMPERATURES = [(1.0, 1.0), (0.3, 1.0), (0.1, 1.0), (1.0, 0.5), (1.0, 2.0), (0.3, 2.0)]
QUICK = [(1.0, 1.0), (0.1, 1.0), (0.3, 2.0)]
"""Of seed 0, which `make test` runs."""

MODELS = {
    "known": (forms.known_noise, forms.known_noise_moments, forms.known_noise_draws),
    "unknown": (forms.unknown_noise, forms.unknown_noise_moments, forms.unknown_noise_draws),
}


def sample(model, data, backend, T, L, seed=0):
    return bz.fit(
        model,
        data,
        backend,
        chains=4,
        draws=35_000,
        warmup=1000,
        seed=seed,
        posterior_temperature=T,
        likelihood_temperature=L,
        dtype="float64",
        progress=False,
    )


@pytest.fixture(scope="module")
def data():
    return forms.regression_data()


@pytest.mark.parametrize(
    ("seed", "which", "backend"),
    [
        *(
            pytest.param(seed, which, backend, marks=pytest.mark.validate)
            for seed in range(11)
            for which in MODELS
            for backend in ("nuts", "hmc")
        ),
    ],
)
def test_moments_equal_the_closed_form_at_every_temperature(seed, which, backend, data):
    model, exact, extract = MODELS[which]
    for T, L in TEMPERATURES if seed else QUICK:
        draws = extract(sample(model, data, backend, T, L, seed))
        moments = exact(data, T, L)
        n = effective_draws(draws)
        mean_error, covariance_error = pooled_errors(draws, *moments)
        said = (
            f"{which} noise, {backend}, T={T}, L={L}: {n:.0f} effective draws, "
            f"mean {mean_error:.4f}, covariance {covariance_error:.4f}"
        )
        print(said)
        assert n >= 60_000, said
        assert mean_error < BAR and covariance_error < BAR, said


@pytest.mark.validate
def test_the_bar_catches_a_temperature_that_is_ignored(data):
    """The same comparison against the moments of another temperature fails by far."""
    draws = forms.known_noise_draws(sample(forms.known_noise, data, "hmc", 1.0, 1.0))
    for T, L in TEMPERATURES[1:]:
        _, covariance_error = pooled_errors(draws, *forms.known_noise_moments(data, T, L))
        assert covariance_error > 10 * BAR
