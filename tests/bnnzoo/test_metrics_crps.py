"""CRPS, quantile and interval scores against integrals, naive loops and scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats

from bnnzoo import metrics
from bnnzoo.errors import InputError

NUMBERS = st.floats(-1e3, 1e3)
RNG = np.random.default_rng(0)


def by_integral(cdf, y, low=-40.0, high=40.0):
    """Definition: the integral of (F(x) - 1{y <= x})^2."""
    below = integrate.quad(lambda x: cdf(x) ** 2, low, y, limit=200, epsabs=1e-11)[0]
    above = integrate.quad(lambda x: (1 - cdf(x)) ** 2, y, high, limit=200, epsabs=1e-11)[0]
    return below + above


def naive(draws, y, fair=False):
    """E|X - y| - E|X - X'| / 2, pair by pair."""
    n = len(draws)
    pairs = sum(abs(a - b) for a in draws for b in draws)
    return sum(abs(a - y) for a in draws) / n - pairs / (2 * (n * (n - 1) if fair else n**2))


# Draws


@given(arrays(np.float64, st.integers(2, 8), elements=NUMBERS), NUMBERS, st.booleans())
def test_crps_of_draws_is_the_sum_over_pairs(draws, y, fair):
    found = metrics.crps(draws[:, None], [y], fair=fair)
    assert found == pytest.approx(naive(draws, y, fair), abs=1e-9)


def test_crps_of_draws_is_the_integral_of_the_definition():
    draws, y = np.sort(RNG.normal(size=7)), 0.3
    edges = np.sort([*draws, y])
    middles = (edges[1:] + edges[:-1]) / 2  # the integrand is constant between edges
    heights = ((draws <= middles[:, None]).mean(axis=1) - (y <= middles)) ** 2
    expected = np.sum(heights * np.diff(edges))
    assert metrics.crps(draws[:, None], [y]) == pytest.approx(expected, rel=1e-12)


@given(arrays(np.float64, (5,), elements=NUMBERS), st.permutations(range(6)))
def test_crps_does_not_see_the_order_of_draws(y, order):
    draws = np.random.default_rng(1).normal(size=(6, 5))
    np.testing.assert_array_equal(
        metrics.crps(draws, y, per_row=True), metrics.crps(draws[list(order)], y, per_row=True)
    )


@given(NUMBERS, NUMBERS, st.integers(1, 5))
def test_crps_of_a_point_mass_is_the_absolute_error(point, y, draws):
    assert metrics.crps(np.full((draws, 1), point), [y]) == pytest.approx(abs(point - y), abs=1e-12)


def test_crps_keeps_its_digits_beside_a_large_offset():
    draws, y = RNG.normal(size=(50, 3)), RNG.normal(size=3)
    shift = 2.0**30  # adding it loses some digits of the data, about 1e-7 each, and no more
    assert metrics.crps(draws + shift, y + shift) == pytest.approx(metrics.crps(draws, y), abs=1e-6)


def test_fair_crps_has_the_mean_of_the_distribution_and_plain_crps_is_too_large():
    n, rows = 5, 200_000
    draws = RNG.normal(size=(n, rows))
    exact = metrics.crps_gaussian([0.0], [1.0], [0.4])
    fair = metrics.crps(draws, np.full(rows, 0.4), fair=True, per_row=True)
    error = fair.std() / np.sqrt(rows)
    assert abs(fair.mean() - exact) < 4.5 * error  # fails by chance once in 150 000
    plain = metrics.crps(draws, np.full(rows, 0.4))
    excess = 2 / np.sqrt(np.pi) / (2 * n)  # E|X - X'| / (2 n)
    assert abs(plain - exact - excess) < 4.5 * error


def test_chains_are_pooled_and_outputs_averaged():
    draws, y = RNG.normal(size=(2, 10, 4, 3)), RNG.normal(size=(4, 3))
    each = [[naive(draws[:, :, i, j].ravel(), y[i, j]) for j in range(3)] for i in range(4)]
    assert metrics.crps(draws, y) == pytest.approx(np.mean(each))
    np.testing.assert_allclose(metrics.crps(draws, y, per_row=True), np.mean(each, axis=1))


# Normals and their mixtures


@pytest.mark.parametrize(("mean", "std", "y"), [(0, 1, 0), (0, 1, 3), (2, 0.3, 1.5), (-1, 5, 4)])
def test_crps_gaussian_is_the_integral(mean, std, y):
    expected = by_integral(stats.norm(mean, std).cdf, y)
    assert metrics.crps_gaussian([mean], [std], [y]) == pytest.approx(expected, abs=1e-8)


@given(arrays(np.float64, (3, 2), elements=st.floats(-5, 5)), st.floats(-5, 5))
def test_mixture_of_normals_is_the_integral(parameters, y):
    means, stds = parameters[:, 0], 0.2 + np.abs(parameters[:, 1])
    expected = by_integral(lambda x: stats.norm.cdf(x, means, stds).mean(), y)
    found = metrics.crps_gaussian_mixture(means[:, None], stds[:, None], [y])
    assert found == pytest.approx(expected, abs=1e-6)


def test_mixture_of_one_normal_is_the_normal():
    mean, y = RNG.normal(size=(2, 6))
    std = RNG.uniform(0.1, 2, 6)
    np.testing.assert_allclose(
        metrics.crps_gaussian_mixture(mean[None], std[None], y, per_row=True),
        metrics.crps_gaussian(mean, std, y, per_row=True),
    )


@pytest.mark.parametrize("std", [0.0, 1e-8])
def test_mixture_becomes_the_draws_as_the_normals_narrow(std):
    draws, y = RNG.normal(size=(2, 9, 5)), RNG.normal(size=5)
    found = metrics.crps_gaussian_mixture(draws, np.full_like(draws, std), y)
    assert found == pytest.approx(metrics.crps(draws, y), abs=1e-7)


def test_narrowest_normal_scores_the_absolute_error():
    assert metrics.crps_gaussian([1.0, 2.0], [0.0, 0.0], [4.0, 1.5]) == 1.75


@given(st.floats(-3, 3), st.floats(0.1, 5))
def test_crps_is_proper(mean, std):
    """Under y ~ N(0, 1) the expected score, a sum over a fine grid, is smallest for N(0, 1)."""
    y = np.linspace(-12, 12, 4801)
    each = metrics.crps_gaussian(np.full_like(y, mean), np.full_like(y, std), y, per_row=True)
    expected = stats.norm.pdf(y) @ each * (y[1] - y[0])
    # With y ~ N(0, 1) the difference X - y is N(mean, 1 + std^2), which makes it a closed form.
    wide = np.sqrt(1 + std**2)
    exact = metrics.crps_gaussian([mean], [wide], [0.0]) + (wide - std) / np.sqrt(np.pi)
    assert expected == pytest.approx(exact, abs=1e-9)
    assert expected >= 1 / np.sqrt(np.pi) - 1e-9  # what N(0, 1) itself scores


# Quantiles and intervals


@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.9])
def test_quantile_score_is_scikit_learns_pinball_loss(alpha):
    quantile, y = RNG.normal(size=(2, 50))
    expected = sk.mean_pinball_loss(y, quantile, alpha=alpha)
    assert metrics.quantile_score(quantile, y, alpha) == pytest.approx(expected)


def test_crps_is_twice_the_integral_of_quantile_scores():
    def at(probability):
        return metrics.quantile_score([stats.norm.ppf(probability)], [0.7], probability)

    expected = 2 * integrate.quad(at, 0, 1, points=[stats.norm.cdf(0.7)])[0]
    assert metrics.crps_gaussian([0.0], [1.0], [0.7]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("level", [0.0, 0.5, 0.9])
def test_interval_score_is_the_scaled_sum_of_its_quantile_scores(level):
    y = RNG.normal(size=(40, 2))
    lower, upper = np.sort(RNG.normal(size=(2, 40, 2)), axis=0)
    alpha = 1 - level
    ends = metrics.quantile_score(lower, y, alpha / 2, per_row=True)
    ends = ends + metrics.quantile_score(upper, y, 1 - alpha / 2, per_row=True)
    found = metrics.interval_score(lower, upper, y, level, per_row=True)
    assert found.shape == (40,)
    np.testing.assert_allclose(found, 2 / alpha * ends)
    assert metrics.interval_score(lower, upper, y, level) == pytest.approx(found.mean())


def test_interval_score_by_hand():
    score = metrics.interval_score([0.0] * 3, [2.0] * 3, [1.0, 3.0, -0.5], 0.9, per_row=True)
    np.testing.assert_allclose(score, [2, 2 + 20 * 1, 2 + 20 * 0.5])


# What is refused, and NaN


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.crps(np.ones((5, 3)), np.ones(4)), r"draws has shape \(5, 3\) and y"),
        (lambda: metrics.crps(np.ones(3), np.ones(3)), r"\(draw, 3\) is needed"),
        (lambda: metrics.crps(np.ones((1, 3)), np.ones(3), fair=True), "2 or more"),
        (lambda: metrics.crps(np.ones((0, 3)), np.ones(3)), "draws has no rows"),
        (lambda: metrics.crps_gaussian([0.0], [-1.0], [0.0]), "std holds a negative"),
        (lambda: metrics.crps_gaussian([0.0, 1.0], [1.0], [0.0, 1.0]), "std has shape"),
        (lambda: metrics.crps_gaussian_mixture([[0.0]], [[-1.0]], [0.0]), "stds holds a negative"),
        (lambda: metrics.crps_gaussian_mixture([[0.0]], [[1.0, 2.0]], [0.0]), "means has shape"),
        (lambda: metrics.quantile_score([0.0], [0.0], 1.0), r"probability in \(0, 1\)"),
        (lambda: metrics.quantile_score([0.0], [0.0], float("nan")), "probability_below = nan"),
        (lambda: metrics.interval_score([0.0], [1.0], [0.0], 1.0), r"level = 1.0.* \[0, 1\)"),
        (lambda: metrics.interval_score([2.0], [1.0], [0.0], 0.9), "above its upper end"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_nan_stays_in_its_row_and_in_the_mean():
    draws, y = RNG.normal(size=(6, 3)), RNG.normal(size=3)
    holed = draws.copy()
    holed[4, 1] = np.nan
    holed_y = np.array([y[0], np.nan, y[2]])
    stds, flat = np.ones_like(draws), np.ones(3)
    for score in (
        lambda **k: metrics.crps(holed, y, **k),
        lambda **k: metrics.crps(draws, holed_y, fair=True, **k),
        lambda **k: metrics.crps_gaussian(holed[4], flat, y, **k),
        lambda **k: metrics.crps_gaussian(y, holed_y * 0 + 1, y, **k),
        lambda **k: metrics.crps_gaussian_mixture(holed, stds, y, **k),
        lambda **k: metrics.quantile_score(y, holed_y, 0.5, **k),
        lambda **k: metrics.interval_score(y - 1, y + 1, holed_y, 0.5, **k),
    ):
        np.testing.assert_array_equal(np.isnan(score(per_row=True)), [False, True, False])
        assert np.isnan(score())


def test_single_precision_is_scored_in_double():
    draws, y = RNG.normal(size=(6, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    assert metrics.crps(draws, y) == metrics.crps(draws.astype(float), y.astype(float))
