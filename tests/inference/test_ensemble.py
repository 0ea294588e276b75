"""Deep ensembles and modes where both are known, and what they refuse.

A linear model with known noise has posterior N(m, A^-1), A = X'X / (s^2 T L) + I / (p^2 T), and a
ridge regression as its mode. Sample-then-optimise members are draws from it; members with anchors
and without noise have covariance T A1^-1 P A1^-1, A1 and P being A and its prior part at T = 1.

False alarms: with n independent draws of d coordinates n d times the squared mean error is chi^2
with d degrees of freedom, n d times the squared covariance error about 2 chi^2 with d (d + 1) / 2.
Both bars below are passed by chance with probability 1e-6 a comparison.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import bnnzoo as bz

sys.path.insert(0, str(Path(__file__).parent))
import _closed_forms as forms
from _estimates import SEEDS, pooled_errors

MEMBERS = 1000
"""Of two chains each: 4 million steps, in seconds."""


def fit(data, model=forms.known_noise, backend="deep-ensemble", **changes):
    settings = {"seed": 0, "progress": False} | changes
    return bz.fit(model, data, backend, **settings)


def members(data, variant, **changes):
    settings = {"chains": 2, "draws": MEMBERS, "steps": 2000, "learning_rate": 0.05} | changes
    return fit(data, variant=variant, **settings)


def bars(count: int, d: int) -> tuple[float, float]:
    """Errors of mean and covariance that ``count`` independent draws exceed once in 1e6."""
    mean = stats.chi2.isf(1e-6, d) / (count * d)
    covariance = 2.0 * stats.chi2.isf(1e-6, d * (d + 1) / 2) / (count * d)
    return float(np.sqrt(mean)), float(np.sqrt(covariance))


def anchored_moments(data, T, L) -> forms.Moments:
    x, y = data.x, data.y
    prior = np.eye(forms.FEATURES) / forms.PRIOR_STD**2
    spread = np.linalg.inv(x.T @ x / (forms.NOISE**2 * L) + prior)
    return forms.Moments(spread @ (x.T @ y) / (forms.NOISE**2 * L), T * spread @ prior @ spread)


@pytest.fixture(scope="module")
def data():
    return forms.regression_data()


EXACT = {"sample-then-optimise": forms.known_noise_moments, "anchored": anchored_moments}


@pytest.mark.parametrize(
    ("variant", "T", "L"),
    [
        pytest.param(v, T, L, marks=() if (T, L) == (0.3, 2.0) else pytest.mark.validate)
        for v in EXACT
        for T, L in ((1.0, 1.0), (0.1, 1.0), (0.3, 2.0))
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_members_of_a_linear_model_have_the_moments_of_the_closed_form(data, seed, variant, T, L):
    run = members(
        data, variant, seed=seed, posterior_temperature=T, likelihood_temperature=L
    )  # fmt: skip
    errors = pooled_errors(forms.known_noise_draws(run), *EXACT[variant](data, T, L))
    print(f"{variant}, T={T}, L={L}: mean {errors[0]:.4f}, covariance {errors[1]:.4f}")
    assert np.all(np.array(errors) < bars(2 * MEMBERS, forms.FEATURES)), errors


def test_anchors_alone_are_no_posterior(data):
    """Planted: without the noise of the targets the spread is too narrow by far, and flagged."""
    run = members(data, "anchored")
    exact = forms.known_noise_moments(data, 1.0, 1.0)
    _, error = pooled_errors(forms.known_noise_draws(run), *exact)
    assert error > 6 * bars(2 * MEMBERS, forms.FEATURES)[1]
    assert {f["kind"] for f in run.manifest["flags"]} == {"virial"}


def test_a_temperature_that_is_ignored_is_caught(data):
    run = members(data, "sample-then-optimise")
    for T, L in [(0.3, 1.0), (0.1, 1.0), (1.0, 2.0)]:
        _, error = pooled_errors(
            forms.known_noise_draws(run), *forms.known_noise_moments(data, T, L)
        )
        assert error > 4 * bars(2 * MEMBERS, forms.FEATURES)[1]


@pytest.mark.validate
def test_minibatches_and_both_precisions_reach_the_posterior(data):
    """Gradients of 10 of 30 rows: the falling step leaves a covariance within 10 %."""
    run = members(data, "sample-then-optimise", draws=300, batch_size=10, dtype="float64")
    errors = pooled_errors(forms.known_noise_draws(run), *forms.known_noise_moments(data, 1.0, 1.0))
    allowed = bars(600, forms.FEATURES)
    assert errors[0] < allowed[0] + 0.05 and errors[1] < allowed[1] + 0.1, errors


# -- modes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("L", [1.0, 0.5])
def test_the_mode_is_ridge_regression_whatever_the_temperature(data, L):
    """Deterministic: Adam's last steps are within a thousandth of a posterior deviation."""
    ridge, covariance = forms.known_noise_moments(data, 1.0, L)
    deviation = np.sqrt(np.diag(covariance))
    for T in (1.0, 0.3, 0.1):
        run = fit(
            data, backend="map", posterior_temperature=T, likelihood_temperature=L
        )  # fmt: skip
        error = (forms.known_noise_draws(run)[0, 0] - ridge) / deviation
        np.testing.assert_allclose(error, 0.0, atol=1e-3)
        said = [f["message"] for f in run.manifest["flags"]]
        assert (said == []) if T == 1 else ("has no effect" in said[0] and len(said) == 1)


def unknown_scale(x, y=None):
    """A mode in constrained coordinates that the Jacobian would move: s has a half-normal prior."""
    s = numpyro.sample("s", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(jnp.zeros(len(x)), s), obs=y)


@pytest.mark.validate
def test_the_mode_is_that_of_the_parameters_as_written():
    """d/ds: -n/s + S/s^3 - s = 0, so s^2 = (-n + sqrt(n^2 + 4 S)) / 2; the Jacobian gives n - 1."""
    y = np.random.default_rng(3).normal(size=6)
    data = bz.make_dataset(np.zeros((6, 1)), y, task="regression")
    s = float(fit(data, unknown_scale, "map", dtype="float64").tree["posterior"]["s"].item())
    n, total = 6.0, float(y @ y)
    np.testing.assert_allclose(s**2, (-n + np.sqrt(n**2 + 4.0 * total)) / 2.0, rtol=1e-5)


@pytest.mark.validate
def test_restarts_find_the_higher_of_two_modes():
    """A start in the lower basin, which the chain's own may be, does not decide."""

    def two_modes(x, y=None):
        w = numpyro.sample("w", dist.Normal(0.0, 2.0))
        numpyro.sample("y", dist.Normal(jnp.full(len(x), w**2 + 0.3 * w), 0.3), obs=y)

    data = bz.make_dataset(np.zeros((4, 1)), np.full(4, 4.0), task="regression")
    grid = np.linspace(-4, 4, 80_001)
    density = -(grid**2) / 8 - 4 * (4.0 - grid**2 - 0.3 * grid) ** 2 / (2 * 0.09)
    found = fit(data, two_modes, "map", draws=8, restarts=12).tree["posterior"]["w"].to_numpy()
    np.testing.assert_allclose(found, grid[np.argmax(density)], atol=1e-3)
    alone = fit(data, two_modes, "map", chains=2, draws=8, restarts=1, seed=1)
    assert alone.tree["posterior"]["w"].shape == (2, 8)


@pytest.mark.validate
def test_plain_members_of_a_convex_model_are_its_mode_and_a_bootstrap_spreads_them(data):
    """Ridge regressions of resampled rows: their mean is near the ridge, their spread is not 0."""
    ridge, covariance = forms.known_noise_moments(data, 1.0, 1.0)
    w = forms.known_noise_draws(fit(data))
    assert w.shape == (2, 5, forms.FEATURES)  # the backend's own number of members
    error = (w - ridge) / np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(error, 0.0, atol=0.01)  # of a posterior deviation
    resampled = fit(data, bootstrap=True, draws=100)
    assert resampled.manifest["flags"] == []
    z = np.linalg.solve(
        np.linalg.cholesky(covariance),
        (forms.known_noise_draws(resampled).reshape(-1, forms.FEATURES) - ridge).T,
    )
    assert 0.3 < z.std() < 2.0 and np.abs(z.mean(1)).max() < 0.5


# -- what goes wrong ---------------------------------------------------------------------------


def cliff(x, y=None):
    """No density beyond w = 3, where the likelihood pulls: every long step falls off."""
    w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    f = jnp.where(w < 3.0, w, jnp.nan)
    numpyro.sample("y", dist.Normal(jnp.full(len(x), f), 0.1), obs=y)


@pytest.mark.validate
@pytest.mark.parametrize("backend", ["deep-ensemble", "map"])
def test_a_loss_that_is_not_finite_is_stepped_back_from(backend):
    data = bz.make_dataset(np.zeros((5, 1)), np.full(5, 10.0), task="regression")
    run = fit(data, cliff, backend, learning_rate=1.0)
    w = run.tree["posterior"]["w"].to_numpy()
    assert np.isfinite(w).all() and (w < 3.0).all() and (w > 2.0).all()
    flag = next(f for f in run.manifest["flags"] if "not finite" in f["message"])
    assert "lower learning_rate" in flag["message"]


@pytest.mark.validate
def test_too_few_steps_are_flagged(data):
    flags = fit(data, steps=3, learning_rate=1e-3).manifest["flags"]
    assert {f["kind"] for f in flags} == {"unconverged"}
    assert "raise steps" in flags[0]["message"]


def laplace_weights(x, y=None):
    w = numpyro.sample("w", dist.Laplace(0.0, 1.0).expand([forms.FEATURES]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def learned_noise(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([forms.FEATURES]).to_event(1))
    s = numpyro.sample("s", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(x @ w, s), obs=y)


def heavy_noise(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([forms.FEATURES]).to_event(1))
    numpyro.sample("y", dist.StudentT(3.0, x @ w, 0.5), obs=y)


@pytest.mark.parametrize(
    ("model", "variant", "said"),
    [
        (learned_noise, "sample-then-optimise", "noise = 'fixed'"),
        (heavy_noise, "sample-then-optimise", "StudentT"),
        (laplace_weights, "anchored", "Laplace prior"),
        (forms.unknown_noise, "anchored", "depends on other sites"),
    ],
)
def test_models_without_anchors_are_refused_before_anything_is_written(
    data, tmp_path, model, variant, said
):
    with pytest.raises(bz.errors.InputError, match=rf"{said}.*hmc, nuts"):
        fit(data, model, variant=variant, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("backend", "options", "said"),
    [
        ("deep-ensemble", {"batch_size": 31}, "batch_size = 31, but there are 30 training rows"),
        ("map", {"batch_size": 31}, "batch_size = 31, but there are 30 training rows"),
        ("deep-ensemble", {"warmup": 5}, "warmup = 5: this backend has none"),
        (
            "deep-ensemble",
            {"bootstrap": True, "variant": "anchored"},
            "bootstrap has no effect with inference.variant = 'anchored'",
        ),
        ("deep-ensemble", {"variant": "anchorde"}, "'anchorde'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(data, tmp_path, backend, options, said):
    with pytest.raises(bz.errors.InputError, match=said):
        fit(data, backend=backend, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.validate
def test_members_can_be_added_and_are_those_of_a_longer_run(data, tmp_path):
    longer = fit(data, bootstrap=True, draws=7)
    fit(data, bootstrap=True, draws=5, out=tmp_path / "run")
    resumed = bz.resume(tmp_path / "run", forms.known_noise, draws=7, progress=False)
    np.testing.assert_array_equal(forms.known_noise_draws(resumed), forms.known_noise_draws(longer))


# -- predictions from few draws ----------------------------------------------------------------


def test_one_draw_is_scored_by_its_whole_predictive_distribution(data):
    """CRPS of N(m, s^2) in closed form; of 1,000 targets its mean over 30 rows is 5 % off at most.

    The CRPS of one target would be about twice as large: |y - y'|.
    """
    run = fit(data, backend="map")
    prediction = run.predict(data.x)
    exact = bz.metrics.crps_gaussian(prediction.mean, prediction.std, data.y)
    np.testing.assert_allclose(prediction.crps(data.y).mean(), np.mean(exact), rtol=0.05)
    lower, upper = prediction.interval(0.9)
    np.testing.assert_allclose(upper - lower, 3.29 * prediction.std, rtol=0.2)
    assert prediction.draws.shape == (1, 1, forms.ROWS)


# -- networks ----------------------------------------------------------------------------------


@pytest.mark.validate
def test_more_members_predict_better_and_more_like_the_posterior():
    """Digits: the density rises with the number of members, and saturates.

    That it does not fall is convexity (Lakshminarayanan et al. 2017); that it rises by hundredths
    of a nat says that members differ. Anchored ones do; plain ones that are trained to a mode of
    the same posterior agree on nearly every row, so that a tenth adds next to nothing.
    """
    data = bz.load_dataset("digits", test_size=0.8)
    model = bz.make_model(
        likelihood="categorical", network_options={"widths": [30]}, prior_options={"std": 3.0}
    )
    hmc = fit(data, model, "hmc", chains=2, draws=200, warmup=200)
    exact = hmc.predict(data.x_test).probabilities
    print(f"hmc: NLL {bz.metrics.nll(exact, data.y_test):.4f}")
    gains, nearer = {}, {}
    for variant in ("anchored", "plain"):
        run = fit(data, model, variant=variant, steps=1000)
        p = run.predict(data.x_test).probability_draws.reshape(10, -1, 10)
        nlls, distances = {}, {}
        for count in (1, 2, 5, 10):
            groups = [p[i : i + count].mean(0) for i in range(0, 10, count)]
            nlls[count] = np.mean([bz.metrics.nll(g, data.y_test) for g in groups])
            distances[count] = np.mean([bz.metrics.total_variation(g, exact) for g in groups])
            agreement = np.mean([bz.metrics.agreement(g, exact) for g in groups])
            print(
                f"{variant}, {count} members: NLL {nlls[count]:.4f}, "
                f"TV to HMC {distances[count]:.4f}, agreement {agreement:.4f}"
            )
        gains[variant] = [nlls[1] - nlls[count] for count in (5, 10)]
        nearer[variant] = distances[1] - distances[10]
    assert gains["anchored"][1] > 0.01
    assert gains["anchored"][0] > 0.7 * gains["anchored"][1], "it saturates"
    assert nearer["anchored"] > 0.01
    assert gains["plain"][1] < 0.1 * gains["anchored"][1]
