"""Calibration of probabilities and of PIT values against naive loops, SciPy and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.calibration import calibration_curve

from bnnzoo import metrics
from bnnzoo.errors import InputError

BINNED = [metrics.adaptive_ece, metrics.classwise_ece, metrics.brier_decomposition]


@st.composite
def classified(draw):
    """Probabilities made of small whole counts, so that many are equal, 0 or 1, and labels."""
    classes, rows = draw(st.integers(1, 4)), draw(st.integers(1, 25))
    counts = draw(arrays(np.int64, (rows, classes), elements=st.integers(0, 4)))
    counts[:, 0] += counts.sum(axis=1) == 0
    y = draw(arrays(np.int64, (rows,), elements=st.integers(0, classes - 1)))
    return counts / counts.sum(axis=1, keepdims=True), y


def grouped_error(p, event, bin_of):
    """Mean over rows of |frequency - mean probability| of the row's group."""
    total = 0.0
    for group in set(bin_of):
        inside = [i for i, b in enumerate(bin_of) if b == group]
        total += abs(sum(float(event[i]) - p[i] for i in inside))
    return total / len(p)


def equal_mass_groups(p, bins):
    """Each row goes where the first row of its value would, in sorted order."""
    ordered = sorted(p)
    return [ordered.index(value) * bins // len(p) for value in p]


def equal_width_groups(p, bins):
    return [next(m for m in range(bins) if m == bins - 1 or v <= (m + 1) / bins) for v in p]


# Classes


@given(classified(), st.integers(1, 12))
def test_adaptive_ece_is_the_naive_sum(data, bins):
    p, y = data
    confidence, hit = p.max(axis=1), p.argmax(axis=1) == y
    expected = grouped_error(confidence, hit, equal_mass_groups(confidence, bins))
    assert metrics.adaptive_ece(p, y, bins) == pytest.approx(expected, abs=1e-12)


@given(classified(), st.integers(1, 12))
def test_classwise_ece_is_the_naive_sum(data, bins):
    p, y = data
    for equal_mass, groups in ((False, equal_width_groups), (True, equal_mass_groups)):
        expected = np.mean([grouped_error(c, y == k, groups(c, bins)) for k, c in enumerate(p.T)])
        found = metrics.classwise_ece(p, y, bins, equal_mass=equal_mass)
        assert found == pytest.approx(expected, abs=1e-12)


def test_equal_mass_bins_are_scikit_learns_where_nothing_ties():
    rng = np.random.default_rng(0)
    p1 = rng.uniform(size=600)
    y = (rng.uniform(size=600) < p1**2).astype(int)
    frequency, mean = calibration_curve(y, p1, n_bins=6, strategy="quantile")
    p = np.stack([1 - p1, p1], axis=1)
    expected = np.mean(np.abs(frequency - mean))  # 100 rows a bin
    assert metrics.classwise_ece(p, y, 6, equal_mass=True) == pytest.approx(expected)


@given(classified(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(data, random):
    p, y = data
    order = list(range(len(y)))
    random.shuffle(order)
    for metric in BINNED:
        np.testing.assert_allclose(metric(p[order], y[order], 4), metric(p, y, 4), atol=1e-12)


@given(classified(), st.data())
def test_order_of_classes_does_not_matter(data, more):
    p, y = data
    order = np.array(more.draw(st.permutations(range(p.shape[1]))))
    renamed = np.argsort(order)[y]
    for metric in (metrics.classwise_ece, metrics.brier_decomposition, metrics.brier, metrics.nll):
        np.testing.assert_allclose(metric(p[:, order], renamed), metric(p, y), atol=1e-12)


def test_equal_confidences_share_a_bin():
    # Split in the middle of the ties, the rows would score |0 - 0.7| / 2 + |1 - 0.7| / 2 = 0.5.
    p = np.array([[0.7, 0.3]] * 4)
    assert metrics.adaptive_ece(p, np.array([1, 1, 0, 0]), bins=2) == pytest.approx(0.2)


@given(classified(), st.integers(1, 12))
def test_brier_decomposition_adds_up(data, bins):
    p, y = data
    parts = metrics.brier_decomposition(p, y, bins)
    assert parts.brier == pytest.approx(metrics.brier(p, y), abs=1e-12)
    assert min(parts[:4]) >= 0


def test_brier_decomposition_by_hand():
    # Probabilities 0.2 and 0.8 of an event seen 1 time in 4 and 3 in 4: no spread inside bins.
    p1, y = np.repeat([0.2, 0.8], 4), np.array([1, 0, 0, 0, 1, 1, 1, 0])
    parts = metrics.brier_decomposition(np.stack([1 - p1, p1], axis=1), y, bins=10)
    # Both classes of two have the same parts.
    np.testing.assert_allclose(
        parts, [2 * 0.05**2, 2 * 0.25**2, 2 * 0.25, 0, 0], rtol=1e-12, atol=1e-15
    )


def test_bins_hide_resolution_that_the_extra_parts_show():
    p1, y = np.array([0.01, 0.99]), np.array([0, 1])
    p = np.stack([1 - p1, p1], axis=1)
    one = metrics.brier_decomposition(p, y, bins=1)
    assert one.resolution == 0
    generalised = one.resolution - one.within_bin_variance + one.within_bin_covariance
    assert generalised == pytest.approx(one.uncertainty + one.reliability - metrics.brier(p, y))
    assert generalised == pytest.approx(2 * (0.5 * 0.98 - 0.49**2))


def test_one_row_one_class_and_certainty():
    parts = metrics.brier_decomposition([[1.0, 0.0]], [0])
    assert parts == (0, 0, 0, 0, 0) and parts.brier == 0
    for metric in (metrics.adaptive_ece, metrics.classwise_ece, metrics.ece):
        assert metric([[1.0, 0.0]], [0]) == 0
        assert metric([[1.0]], [0]) == 0
        assert metric([[1.0, 0.0]] * 3, [1, 1, 1]) == 1


@pytest.mark.parametrize("metric", BINNED)
def test_probabilities_are_checked_and_nan_shows(metric):
    with pytest.raises(InputError, match="bins = 0"):
        metric([[0.5, 0.5]], [0], bins=0)
    with pytest.raises(InputError, match="do not sum to 1"):
        metric([[0.5, 0.6]], [0])
    p = np.full((4, 2), 0.5)
    p[1] = np.nan
    assert np.isnan(metric(p, np.array([0, 1, 0, 1]))).all()


# PIT


def test_pit_of_draws_is_their_distribution_function():
    rng = np.random.default_rng(0)
    draws, y = rng.normal(size=(3, 50, 4, 2)), rng.normal(size=(4, 2))
    expected = [
        [stats.percentileofscore(draws[:, :, i, j].ravel(), y[i, j]) / 100 for j in range(2)]
        for i in range(4)
    ]
    np.testing.assert_allclose(metrics.pit(draws, y), expected)
    np.testing.assert_array_equal(metrics.pit(draws, y), metrics.pit(draws, y, seed=1))


def test_pit_jumps_at_ties():
    draws, y = np.array([[0.0], [1.0], [1.0], [2.0]]), np.array([1.0])
    assert metrics.pit(draws, y) == pytest.approx(0.25 + 0.5 / 2)
    many = metrics.pit(np.repeat(draws, 10_000, axis=1), np.repeat(y, 10_000), seed=0)
    # Uniform on [0.25, 0.75]; a p-value this small has probability 1e-4.
    assert stats.kstest(many, stats.uniform(0.25, 0.5).cdf).pvalue > 1e-4


def test_randomised_pit_of_counts_is_uniform_and_its_middle_is_not():
    rng = np.random.default_rng(0)
    draws, y = rng.poisson(1.5, size=(4000, 3000)), rng.poisson(1.5, size=3000)
    assert stats.kstest(metrics.pit(draws, y, seed=0), "uniform").pvalue > 1e-3
    assert stats.kstest(metrics.pit(draws, y), "uniform").pvalue < 1e-10
    wrong = rng.poisson(2.5, size=draws.shape)
    assert stats.kstest(metrics.pit(wrong, y, seed=0), "uniform").pvalue < 1e-10


UNIT = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1))


@given(UNIT)
def test_ks_distance_is_scipys(pit):
    assert metrics.pit_ks_distance(pit) == pytest.approx(stats.kstest(pit, "uniform").statistic)


@given(UNIT)
def test_calibration_error_is_the_mean_distance_over_levels(pit):
    levels = (np.arange(20_000) + 0.5) / 20_000
    below = np.searchsorted(np.sort(pit), levels, side="right") / len(pit)
    found = metrics.pit_calibration_error(pit)
    assert found == pytest.approx(np.mean(np.abs(below - levels)), abs=1e-4)
    assert 0 <= found <= 0.5


def test_calibration_error_of_what_is_known():
    n = 100
    even = (np.arange(n) + 0.5) / n
    assert metrics.pit_calibration_error(even) == pytest.approx(1 / (4 * n))
    assert metrics.pit_calibration_error(np.zeros((5, 2))) == 0.5
    assert metrics.pit_calibration_error([0.5]) == pytest.approx(0.25)
    assert metrics.pit_ks_distance(even) == pytest.approx(1 / (2 * n))


def test_pit_is_checked_and_nan_shows():
    with pytest.raises(InputError, match="draws has shape"):
        metrics.pit(np.ones((5, 3)), np.ones(2))
    for distance in (metrics.pit_ks_distance, metrics.pit_calibration_error):
        with pytest.raises(InputError, match="outside"):
            distance([0.5, 1.5])
        with pytest.raises(InputError, match="pit has no rows"):
            distance([])
        assert np.isnan(distance([0.1, np.nan, 0.5]))
    draws = np.array([[0.0, np.nan, 0.0], [1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(metrics.pit(draws, [0.5, 0.5, np.nan]), [0.5, np.nan, np.nan])
