"""The slope of the test log-likelihood over a temperature, against closed forms."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import bnnzoo as bz
from bnnzoo.errors import InputError, OptionError
from bnnzoo.inference.temperature_slope import slope_of_draws, temperature_slope
from bnnzoo.reports.cold_posterior import cold_verdict

NOISE, FEATURES = 0.5, 3


def linear(x, y=None):
    w = numpyro.sample("w", dist.Normal(jnp.zeros(FEATURES), 1.0).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


def drawn(seed, rows=12, test=40, truth_noise=NOISE):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=FEATURES)
    x = rng.normal(size=(rows + test, FEATURES))
    y = x @ w + truth_noise * rng.normal(size=rows + test)
    return x[:rows], y[:rows], x[rows:], y[rows:]


def posterior_moments(x, y, T=1.0, L=1.0, noise=NOISE):
    precision = (x.T @ x / (noise**2 * L) + np.eye(FEATURES)) / T
    covariance = np.linalg.inv(precision)
    return covariance @ x.T @ y / (noise**2 * T * L), covariance


def test_log_likelihood(sets, T=1.0, L=1.0, noise=NOISE):
    """Mean over test rows of the exact tempered predictive."""
    x, y, x_new, y_new = sets
    mean, covariance = posterior_moments(x, y, T, L, noise)
    std = np.sqrt(noise**2 + np.einsum("ri,ij,rj->r", x_new, covariance, x_new))
    return stats.norm(x_new @ mean, std).logpdf(y_new).mean()


test_log_likelihood.__test__ = False


def exact_slope(sets, axis, noise=NOISE, T=1.0):
    h = 1e-5
    if axis == "posterior_temperature":
        up, down = (test_log_likelihood(sets, T + s, 1.0, noise) for s in (h, -h))
    else:
        up, down = (test_log_likelihood(sets, T, 1.0 + s, noise) for s in (h, -h))
    return (up - down) / (2 * h)


def from_exact_draws(sets, rng, axis="posterior_temperature", draws=4000, noise=NOISE):
    """The slope from independent draws of the exact posterior at T = L = 1."""
    x, y, x_new, y_new = sets
    mean, covariance = posterior_moments(x, y, noise=noise)
    w = rng.multivariate_normal(mean, covariance, size=draws)
    energy = 0.5 * ((y - w @ x.T) ** 2).sum(1) / noise**2
    if axis == "posterior_temperature":
        energy = energy + 0.5 * (w**2).sum(1)
    log_prob = stats.norm(w @ x_new.T, noise).logpdf(y_new)
    return slope_of_draws(log_prob[None], energy[None], axis)


@pytest.mark.parametrize("axis", ["posterior_temperature", "likelihood_temperature"])
def test_draws_give_the_slope_of_the_closed_form(axis):
    """Twenty data sets: sum of squared errors over their own variances against chi squared."""
    rng = np.random.default_rng(1)
    z = []
    for seed in range(20):
        sets = drawn(seed)
        said = from_exact_draws(sets, rng, axis)
        z.append((said.value - exact_slope(sets, axis)) / said.draw_error)
    # The jackknife over 8 batches has 7 degrees of freedom: t, whose square has mean 1.4.
    assert abs(np.mean(z)) < 5 * np.sqrt(1.4 / 20)
    assert 0.3 < np.std(z) < 2.2  # each tail under 1e-4 by 10,000 simulated sets of 20


def test_chains_in_modes_of_their_own_are_in_the_error():
    """Four chains whose energies lie apart: batches of one chain are no independent draws.

    Root mean square of 200 errors over the scatter of 200 slopes, 1.10 here. Taken
    for independent, batches give 0.37.
    """
    rng = np.random.default_rng(4)
    values, errors = [], []
    for _ in range(200):
        energy = rng.normal(size=(4, 1)) + rng.normal(size=(4, 100))
        said = slope_of_draws(0.1 * energy[..., None] + rng.normal(size=(4, 100, 3)) / 3, energy)
        values.append(said.value)
        errors.append(said.draw_error)
    assert 0.7 < np.sqrt(np.mean(np.square(errors))) / np.std(values) < 1.4


@pytest.mark.validate
@pytest.mark.parametrize("T", [0.3, pytest.param(1.0, marks=pytest.mark.validate)])
def test_a_run_gives_the_slope_at_its_own_temperature(T):
    sets = drawn(3)
    data = bz.make_dataset(*sets, task="regression", scale="none")
    run = bz.fit(
        linear, data, "hmc", chains=4, draws=1500, warmup=300, seed=2, dtype="float64",
        posterior_temperature=T, progress=False,
    )  # fmt: skip
    for axis in ("posterior_temperature", "likelihood_temperature"):
        said = temperature_slope(run, axis)
        # The jackknife over 32 batches: |t| > 5.5 once in 200,000.
        assert abs(said.value - exact_slope(sets, axis, T=T)) < 5.5 * said.draw_error
        assert said.temperature == (T if axis == "posterior_temperature" else 1.0)
        assert said.rows == 40 and said.draw_error < 0.25 * said.row_error + 0.02


@pytest.mark.validate
def test_units_of_the_target_do_not_matter_to_a_zoo_model():
    rng = np.random.default_rng(0)
    x, x_new = rng.normal(size=(30, 2)), rng.normal(size=(20, 2))
    y, y_new = np.sin(x[:, 0]), np.sin(x_new[:, 0])
    slopes = []
    for unit in (1.0, 1000.0):
        data = bz.make_dataset(x, unit * y, x_new, unit * y_new, task="regression")
        model = bz.make_model(network_options={"widths": [4]})
        run = bz.fit(model, data, "hmc", chains=2, draws=60, warmup=60, progress=False)
        slopes.append(temperature_slope(run).value)
    assert slopes[0] == pytest.approx(slopes[1], rel=2e-2)


def pooled_verdict(noise):
    """Of 200 data sets of 40 rows, each a row of scores, by exact predictives without a sampler."""
    sets = [drawn(1000 + s, rows=40, test=200) for s in range(200)]
    grid = (0.3, 1.0, 3.0)
    scores = [[test_log_likelihood(one, T, 1.0, noise) for one in sets] for T in grid]
    return cold_verdict("log density", grid, scores).verdict


def test_in_a_model_that_is_right_neither_colder_nor_warmer_is_better():
    """Weights, training rows and test rows from the model, 200 times, an exact sampler.

    The 99 % interval of the mean slope covers 0: another seed would fail once in a hundred. With a
    likelihood four times too wide colder is better, and is seen to be.
    """
    rng = np.random.default_rng(5)
    right = np.array([from_exact_draws(drawn(100 + s), rng, draws=500).value for s in range(200)])
    t = right.mean() / (right.std(ddof=1) / np.sqrt(200))
    assert abs(t) < stats.t.isf(0.005, 199)
    assert pooled_verdict(NOISE) == "none"
    wide = np.array(
        [from_exact_draws(drawn(300 + s), rng, draws=500, noise=2.0).value for s in range(200)]
    )
    assert wide.mean() / (wide.std(ddof=1) / np.sqrt(200)) < -5
    assert pooled_verdict(2.0) == "cold"


@pytest.mark.validate
def test_what_has_no_slope_is_refused():
    x, y, x_new, y_new = drawn(0)
    data = bz.make_dataset(x, y, x_new, y_new, task="regression", scale="none")
    run = bz.fit(linear, data, "map", draws=2, chains=1, steps=50, progress=False)
    with pytest.raises(InputError, match="map is not exact; fit with hmc or nuts"):
        temperature_slope(run)
    with pytest.raises(OptionError, match="axis = 'T'; choices: posterior_temperature"):
        temperature_slope(run, "T")
    bare = bz.make_dataset(x, y, task="regression", scale="none")
    run = bz.fit(linear, bare, "hmc", draws=5, warmup=10, chains=1, progress=False)
    with pytest.raises(InputError, match="no test rows"):
        temperature_slope(run)
