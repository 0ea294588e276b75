"""Where evidence works and where it misleads: the figures of docs/evidence-failures.md."""

import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import bnnzoo as bz
from bnnzoo.inference import GaussianProcess

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import deep_kernel
import mixing
import noisy_sine

# -- the noisy sine ------------------------------------------------------------------------------


def test_the_noisy_sine_is_the_one_described():
    """Shares of the clusters and their noise within 4 standard errors, each 1 in 15,000."""
    x, y = noisy_sine.draw_rows(20_000, np.random.default_rng(0))
    for centre, share, noise in ((-2.5, 0.45, 0.1), (0.0, 0.1, 1.0), (2.5, 0.45, 0.1)):
        here = np.abs(x[:, 0] - centre) < 1.0
        assert abs(here.mean() - share) < 4 * math.sqrt(share * (1 - share) / len(x))
        off = (y - np.sin(x[:, 0]))[here]
        assert abs(off.std() / noise - 1) < 4 / math.sqrt(2 * len(off))


@pytest.mark.validate
@pytest.mark.parametrize("precision", [0.63, 10.0])
def test_the_study_has_the_evidence_of_the_estimator(precision):
    """Both climb from starts of their own to one height, within 0.3 nats of what select ranks."""
    data = noisy_sine.make_data(0)
    found = noisy_sine.at(data, noisy_sine.make_test(0), precision)
    model = noisy_sine.make_network(precision)
    said = bz.log_evidence(model, data, "laplace")
    assert found["full"] == pytest.approx(said.value, abs=0.3)
    run = bz.fit(model, data, "laplace", chains=2, draws=1, warmup=500, progress=False)
    best = run.tree["sample_stats"]["log_normaliser"].to_numpy()[:, -1].argmax()
    mean = bz.inference.function_moments(run, data.x).mean[best, :, 0]
    assert found["train"] == pytest.approx(np.mean((mean - data.y) ** 2), abs=0.003)


@pytest.mark.validate
def test_laplace_evidence_and_test_error_choose_alike_while_training_error_falls():
    """Four precisions a decade apart; the minimum on new rows is flat, 0.01 are forgiven."""
    precisions = np.logspace(-1.0, 2.0, 4)
    for seed in range(2):
        curves = noisy_sine.one(seed, precisions)
        print(seed, {name: np.round(curves[name], 3) for name in ("full", "train", "test")})
        chosen = int(np.argmax(curves["full"]))
        assert chosen == 1
        assert curves["test"][chosen] < min(curves["test"]) + 0.01
        assert np.all(np.diff(curves["train"]) > 0)


# -- deep kernels --------------------------------------------------------------------------------


def _numbers(deep):
    numbers = deep_kernel.start(deep, jax.random.key(1))
    return jax.tree.map(lambda leaf: leaf + 0.1, numbers)


@pytest.mark.validate
def test_a_deep_kernel_is_that_of_its_features_and_its_evidence_that_of_the_library():
    rows = deep_kernel.make_data(12, 0)
    with jax.enable_x64(True):
        numbers = _numbers(True)
        x, y = jnp.asarray(rows[0]), jnp.asarray(rows[1])
        units = np.asarray(deep_kernel.features(numbers, x))
        h = rows[0]
        for place, (kernel, bias) in enumerate(numbers["layers"]):
            h = h @ np.asarray(kernel) + np.asarray(bias)
            h = np.tanh(h) if place < 2 else h
        np.testing.assert_allclose(units, h / np.exp(numbers["lengths"]), rtol=1e-10)
        covariance = np.asarray(deep_kernel.covariance(numbers, x, x))
        apart = np.array([[np.sum((a - b) ** 2) for b in units] for a in units])
        expected = np.exp(2.0 * float(numbers["std"])) * np.exp(-0.5 * apart)
        np.testing.assert_allclose(covariance, expected, rtol=1e-10)
        noise = float(jnp.sqrt(deep_kernel.noise_variance(numbers)))
        process = GaussianProcess(covariance, rows[1], noise)
        found = float(deep_kernel.log_evidence(numbers, x, y))
    assert found == pytest.approx(process.log_evidence, abs=1e-8)


@pytest.mark.validate
def test_trained_features_raise_the_evidence_and_lose_on_new_rows():
    """Four data sets of 30 rows: every one, so that no interval is asked for."""
    plain, deep = (deep_kernel.study(kind, 30, 4, 300)["300"] for kind in (False, True))
    print({name: (np.round(plain[name], 2), np.round(deep[name], 2)) for name in plain})
    assert np.all(np.array(deep["evidence"]) > np.array(plain["evidence"]) + 0.5)
    assert np.all(np.array(deep["test"]) < np.array(plain["test"]) - 0.5)


# -- one best hyper-parameter, or all of them ----------------------------------------------------


def test_given_hyper_parameters_predictions_are_those_of_the_covariance():
    data = mixing.make_data(8, 0)
    width, offset, noise = 0.7, 1.3, 0.4
    evidence, said = mixing.given(data, np.array([[width, offset, noise]]))

    def covariance(a, b):
        return width**2 * a @ b.T / mixing.INPUTS + offset**2

    process = GaussianProcess(covariance(data.x, data.x), data.y, noise)
    prior = np.diag(covariance(data.x_test, data.x_test))
    expected = process.predict(covariance(data.x_test, data.x), prior).log_prob(data.y_test)
    assert evidence[0] == pytest.approx(process.log_evidence, abs=1e-8)
    np.testing.assert_allclose(said[0], expected, atol=1e-8)


def test_the_grid_of_hyper_parameters_is_fine_and_wide_enough():
    """Half the spacing gives the same answer, and the ends leave out little of either law."""
    data = mixing.make_data(8, 3)
    (coarse, said), (fine, finer) = (mixing.mixed(data, points) for points in (15, 29))
    assert coarse == pytest.approx(fine, abs=0.01)
    np.testing.assert_allclose(said, finer, atol=0.01)
    variance, noise = np.exp([-3.5, 4.0]), np.exp([-4.5, 1.5])
    assert np.diff(stats.invgamma(3, scale=2).cdf(variance)) > 0.999
    assert np.diff(stats.halfnorm.cdf(noise)) > 0.98


@pytest.mark.validate
def test_nuts_predicts_what_the_grid_does():
    """Mean log density of 50 rows: 4,000 draws are off by hundredths; 0.05 is 3 of them or more."""
    data = mixing.make_data(8, 0)
    run = bz.fit(mixing.mixed_model(), data, "nuts", progress=False)
    assert -run.metrics()["nll"] == pytest.approx(mixing.mixed(data)[1].mean(), abs=0.05)
