"""Leave-one-out: weights and moment matching against closed forms, then the whole estimator."""

import math
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.special import logsumexp

import bnnzoo as bz
from bnnzoo.inference.leave_one_out import left_out, matched, relative_efficiency, smoothed

sys.path.insert(0, str(Path(__file__).parent))
from _evidence import NOISE, left_out_truth, linear, linear_model

SHORT = {"backend": "hmc", "chains": 2, "draws": 500, "warmup": 300}


def _with_outlier(seed, far=6.0, off=2.0):
    """The linear data, row 0 far out in x and off in y: the fit hangs on it."""
    _, data, _ = linear(3, seed, rows=20)
    x, y = data.x.copy(), data.y.copy()
    x[0], y[0] = far, y[0] + off
    return bz.make_dataset(x, y, task="regression", scale="none")


def _posterior_draws(data, rng, count):
    """Exact draws of offset and weights, and the log densities that matching asks for."""
    phi = np.concatenate([np.ones((len(data.y), 1)), data.x], axis=1)
    prior = np.array([1.0] + [data.x.shape[1]] * data.x.shape[1])  # precisions
    precision = np.diag(prior) + phi.T @ phi / NOISE**2
    mean = np.linalg.solve(precision, phi.T @ data.y / NOISE**2)
    root = np.linalg.inv(np.linalg.cholesky(precision)).T
    us = mean + rng.normal(size=(count, len(mean))) @ root.T

    def rows(us):
        return stats.norm.logpdf(data.y, us @ phi.T, NOISE)

    def densities(row):
        return lambda us: (-0.5 * us**2 @ prior + rows(us).sum(1), rows(us)[:, row])

    return us, rows, densities


# -- weights -------------------------------------------------------------------------------------


@pytest.mark.validate
def test_left_out_rows_and_their_errors():
    """z of 60 sets of 1000 draws, rows matched that ask for it: mean within 4 / sqrt(60).

    Moved draws mirror one another, so that their error is smaller than said: std below 1.37, four
    of its errors, and no bound from below.
    """
    _, data, _ = linear(2, 1, rows=20)
    truth, z = left_out_truth(data).sum(), []
    for seed in range(60):
        us, rows, densities = _posterior_draws(data, np.random.default_rng(seed), 1000)
        found = [left_out(-row, row) for row in rows(us).T]
        found = [
            matched(us, densities(i), 0.3) if row.khat > 0.3 else row for i, row in enumerate(found)
        ]
        error = np.sum([row.influence for row in found], axis=0).std(ddof=1) / math.sqrt(1000)
        z.append((sum(row.log_density for row in found) - truth) / error)
    assert abs(np.mean(z)) < 4 / math.sqrt(60)
    assert np.std(z, ddof=1) < 1.37


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_weights_are_those_of_arviz(memory):
    """Of independent draws and of an autoregression, whose relative efficiency is known.

    It is (1 - memory) / (1 + memory) = .053, or a little more for the exponential of the draws,
    which forgets sooner.
    """
    from arviz_stats.base import array_stats
    from scipy.signal import lfilter

    noise = np.random.default_rng(0).normal(size=(2, 4_000))
    rows = 0.3 * math.sqrt(1 - memory**2) * lfilter([1.0], [1.0, -memory], noise)
    share = relative_efficiency(rows)
    expected = (1 - memory) / (1 + memory)
    assert 0.7 * expected < share < min(1.5 * expected, 1.0 + 1e-12)
    elpd, khat, _ = array_stats.loo(rows, r_eff=share)
    found = left_out(-rows.ravel(), rows.ravel(), share)
    assert found.log_density == pytest.approx(float(elpd), abs=1e-6)
    assert found.khat == pytest.approx(float(khat), abs=1e-6)
    if memory:  # the tail is longer than that of as many independent draws
        assert left_out(-rows.ravel(), rows.ravel()).khat != found.khat


def test_weights_of_draws_without_density_are_nothing():
    weights, _ = smoothed(np.append(np.random.default_rng(0).normal(size=400), [np.nan, -np.inf]))
    assert logsumexp(weights) == pytest.approx(0.0, abs=1e-12)
    assert np.all(weights[-2:] < -300)
    flat, khat = smoothed(np.zeros(100))
    assert (flat[0], khat) == (pytest.approx(-math.log(100)), -math.inf)
    # Equal at the top, lower elsewhere: weights are bounded, and stay what they are.
    lower = np.where(np.arange(100) % 2, 0.0, -1.0)
    weights, khat = smoothed(lower)
    np.testing.assert_allclose(weights - weights.max(), lower)
    assert khat == -math.inf and np.exp(weights).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(3))
def test_moment_matching_predicts_a_row_that_weights_cannot(seed):
    """4000 exact draws: within 4 standard errors; without matching tenths of a nat are missed."""
    data = _with_outlier(seed)
    us, rows, densities = _posterior_draws(data, np.random.default_rng(seed), 4000)
    truth = left_out_truth(data)[0]
    plain = left_out(-rows(us)[:, 0], rows(us)[:, 0])
    assert plain.khat > 0.7
    found = matched(us, densities(0), 0.3)
    assert found.khat < 0.5
    error = found.influence.std(ddof=1) / math.sqrt(4000)
    assert error < 0.1
    assert abs(found.log_density - truth) < 4 * error
    assert abs(plain.log_density - truth) > 2 * abs(found.log_density - truth)


# -- the estimator -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_loo_of_linear_models(seed):
    """Of an outlier and the rest, by matching: within 4 standard errors."""
    data = _with_outlier(seed)
    said = bz.log_evidence(linear_model(), data, "loo", seed=seed, **SHORT)
    truth = left_out_truth(data)
    assert said.kind == "predictive" and not said.is_evidence
    assert said.diagnostics["largest_khat_before_matching"] > 0.7
    assert said.diagnostics["matched"] >= 1
    assert abs(said.value - truth.sum()) < 4 * said.standard_error < 1.5
    rows = np.array(said.diagnostics["rows"])
    assert said.diagnostics["standard_error_over_rows"] == pytest.approx(
        math.sqrt(20) * rows.std(ddof=1)
    )


@pytest.mark.validate
def test_a_row_is_sampled_anew_where_asked():
    data = _with_outlier(9)
    left = bz.log_evidence(linear_model(), data, "loo", matching=False, **SHORT)
    assert any("k-hat over" in line for line in left.warnings)
    said = bz.log_evidence(linear_model(), data, "loo", matching=False, refits=1, **SHORT)
    assert said.diagnostics["refitted"] == [0]
    assert said.gradients > left.gradients
    truth = left_out_truth(data)
    assert said.diagnostics["rows"][0] == pytest.approx(truth[0], abs=4 * said.standard_error)
    assert said.standard_error < 1.2
    assert abs(left.value - truth.sum()) > 4 * said.standard_error
    assert abs(said.value - truth.sum()) < 4 * said.standard_error


@pytest.mark.validate
def test_loo_is_calibrated_on_linear_models(record_property):
    """50 seeds with an outlier: mean of z within 4 / sqrt(50), std below 1.4, four of its errors.

    Moved draws mirror one another: the error is smaller than said, and std has no lower bound.
    """
    z = []
    for seed in range(50):
        data = _with_outlier(seed, 2.0, 1.0)
        said = bz.log_evidence(linear_model(), data, "loo", seed=seed)
        assert not said.warnings
        z.append((said.value - left_out_truth(data).sum()) / said.standard_error)
    record_property("mean z", round(float(np.mean(z)), 3))
    record_property("std z", round(float(np.std(z, ddof=1)), 3))
    assert abs(np.mean(z)) < 4 / math.sqrt(50)
    assert np.std(z, ddof=1) < 1.4


@pytest.mark.validate
def test_loo_of_a_network_is_that_of_sampling_anew():
    """1x3 tanh, 20 rows, one off: matching in one arrangement against every row left out.

    Of the one that is off no matching makes a proposal: it is said, and sampled anew.
    """
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2, 2, 20))
    y = np.tanh(2 * x) + 0.1 * rng.normal(size=20)
    y[3] += 0.5
    data = bz.make_dataset(x[:, None], y, task="regression", scale="none")
    model = bz.make_model("mlp", network_options={"widths": [3], "activation": "tanh"})
    said = bz.log_evidence(model, data, "loo", backend="hmc", refits=2)
    assert said.diagnostics["refitted"] == [3] and not said.warnings
    exact = []
    others = [row for row in range(20) if row != 3]
    for row in others:
        keep = np.arange(20) != row
        made = bz.make_dataset(
            x[keep, None], y[keep], x[[row], None], y[[row]], task="regression", scale="none"
        )
        run = bz.fit(model, made, "hmc", chains=2, draws=1000, seed=row, progress=False)
        exact.append(float(run.tree["test_scores"]["log_density"].values[0]))
    # Each exact row has an error of about 0.02 by its 2000 draws: four times that of 19, and ours.
    found = sum(said.diagnostics["rows"][row] for row in others)
    assert abs(found - sum(exact)) < 4 * math.hypot(0.02 * math.sqrt(19), said.standard_error)


# -- refusals ------------------------------------------------------------------------------------


def _joint(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    covariance = jnp.eye(x.shape[0]) + 0.5
    numpyro.sample("y", dist.MultivariateNormal(w * x[:, 0], covariance), obs=y)


def test_rows_without_likelihoods_of_their_own():
    _, data, _ = linear(2, 0)
    with pytest.raises(bz.errors.InputError, match="'y' has log-likelihood terms of shape"):
        bz.log_evidence(_joint, data, "loo")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "nutz"}, "did you mean 'nuts'"),
        ({"refits": -1}, "estimator.refits = -1"),
        ({"draws": 10**7}, "take fewer draws"),
        ({"match": True}, "did you mean 'matching'"),
    ],
)
def test_options_that_are_none(options, said):
    _, data, _ = linear(2, 0)
    with pytest.raises(bz.errors.InputError, match=said):
        bz.log_evidence(linear_model(), data, "loo", **options)
