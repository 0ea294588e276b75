"""Metrics against scikit-learn, SciPy, closed forms and naive loops."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special, stats

from bnnzoo import metrics
from bnnzoo.errors import InputError, OptionError

CLASSIFICATION = [metrics.accuracy, metrics.nll, metrics.brier, metrics.ece]


def predictions(rows=200, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), rows), rng.integers(0, classes, rows)


def naive_ece(p, y, bins):
    """Eq. 2 and 3 of Guo et al., bin by bin."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [
            (max(row), int(np.argmax(row)) == label)
            for row, label in zip(p, y, strict=True)
            if (m - 1) / bins < max(row) <= m / bins
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            hits = sum(h for _, h in inside) / len(inside)
            total += len(inside) / len(y) * abs(hits - confidence)
    return total


# Regression


@pytest.mark.parametrize("shape", [(50,), (50, 3)])
def test_rmse_is_scikit_learns(shape):
    mean, y = np.random.default_rng(0).normal(size=(2, *shape))
    expected = np.sqrt(sk.mean_squared_error(y.ravel(), mean.ravel()))
    assert metrics.rmse(mean, y) == pytest.approx(expected)


def test_a_column_against_a_row_is_refused_not_broadcast():
    with pytest.raises(InputError, match=r"mean has shape \(3, 1\) and y has shape \(3,\)"):
        metrics.rmse(np.ones((3, 1)), np.ones(3))


@given(
    arrays(np.float64, (3, 4), elements=st.floats(-800, 800) | st.just(-np.inf)),
    st.sampled_from([0, 1, (0, 1)]),
)
def test_log_mean_exp_is_scipys(values, axis):
    count = values.size if axis == (0, 1) else values.shape[axis]
    expected = special.logsumexp(values, axis=axis) - math.log(count)
    np.testing.assert_allclose(metrics.log_mean_exp(values, axis), expected, rtol=1e-12, atol=1e-12)


def test_log_mean_exp_neither_overflows_nor_hides_nan():
    assert metrics.log_mean_exp([1e4, 1e4], 0) == 1e4
    assert metrics.log_mean_exp([-np.inf, -np.inf], 0) == -np.inf
    assert metrics.log_mean_exp([-np.inf, 0.0], 0) == pytest.approx(-math.log(2))
    assert np.isnan(metrics.log_mean_exp([np.nan, 0.0], 0))
    with pytest.raises(InputError, match="nothing to average"):
        metrics.log_mean_exp(np.empty((0, 3)), 0)


def test_mixture_nll_of_two_normals():
    y, means = np.array([0.3, -1.0, 2.0]), np.array([[0.0], [1.0]])
    log_density = metrics.log_mean_exp(stats.norm.logpdf(y, means, 0.7), 0)
    density = (stats.norm.pdf(y, 0, 0.7) + stats.norm.pdf(y, 1, 0.7)) / 2
    assert metrics.mixture_nll(log_density) == pytest.approx(-np.mean(np.log(density)))


@pytest.mark.parametrize("level", [0.0, 0.5, 0.9, 1.0])
def test_coverage_by_pit_is_coverage_by_interval(level):
    y = stats.t(4).rvs(500, random_state=np.random.default_rng(0))
    predictive = stats.norm(0, 1)
    lower, upper = predictive.interval(level)
    by_pit = metrics.coverage(predictive.cdf(y), level)
    by_ends = metrics.interval_coverage(np.full(500, lower), np.full(500, upper), y)
    assert by_pit == by_ends == np.mean((lower <= y) & (y <= upper))


def test_coverage_counts_what_is_in_the_middle():
    pit = (np.arange(100) + 0.5) / 100
    assert metrics.coverage(pit, 0.9) == 0.9
    assert metrics.coverage([0.0, 1.0, 0.5, 0.5], 0.9) == 0.5
    with pytest.raises(InputError, match="level = 90"):
        metrics.coverage(pit, 90.0)
    with pytest.raises(InputError, match="outside"):
        metrics.coverage([-0.1, 0.5], 0.9)


def test_intervals_with_their_ends_exchanged_are_refused():
    with pytest.raises(InputError, match="above its upper end"):
        metrics.interval_coverage([0.0, 2.0], [1.0, 1.0], [0.5, 0.5])


# Classification


@pytest.mark.parametrize("classes", [2, 4])
def test_accuracy_nll_and_brier_are_scikit_learns(classes):
    p, y = predictions(classes=classes)
    labels = range(classes)
    assert metrics.accuracy(p, y) == sk.accuracy_score(y, p.argmax(axis=1))
    assert metrics.nll(p, y) == pytest.approx(sk.log_loss(y, p, labels=labels))
    expected = sk.brier_score_loss(y, p, labels=labels, scale_by_half=False)
    assert metrics.brier(p, y) == pytest.approx(expected)


def test_brier_is_twice_scikit_learns_binary_score():
    p, y = predictions(classes=2)
    assert metrics.brier(p, y) == pytest.approx(2 * sk.brier_score_loss(y, p[:, 1]))


def test_brier_of_certainty():
    assert metrics.brier([[1.0, 0.0]], [0]) == 0
    assert metrics.brier([[1.0, 0.0]], [1]) == 2


def test_nll_of_a_certain_mistake_is_infinite():
    assert metrics.nll([[1.0, 0.0], [0.5, 0.5]], [1, 0]) == np.inf


@given(
    st.integers(2, 5),
    st.integers(1, 20),
    st.lists(st.tuples(st.lists(st.integers(0, 20), min_size=5, max_size=5), st.integers(0, 4))),
)
def test_ece_is_the_naive_sum(classes, bins, rows):
    # Whole counts give probabilities that fall on the edges of bins.
    rows = [(counts[:classes], label % classes) for counts, label in rows if sum(counts[:classes])]
    assume(rows)
    p = np.array([np.array(counts) / sum(counts) for counts, _ in rows])
    y = np.array([label for _, label in rows])
    assert metrics.ece(p, y, bins) == pytest.approx(naive_ece(p, y, bins), abs=1e-12)


def test_ece_bins_are_closed_on_the_right():
    # 0.6 and 0.61 share the bin (0.6, 0.8] only if its lower edge belongs to it: it does not.
    p = np.array([[0.6, 0.4], [0.61, 0.39]])
    assert metrics.ece(p, [0, 1], bins=5) == pytest.approx((0.4 + 0.61) / 2)
    assert metrics.ece(p, [0, 1], bins=1) == pytest.approx(abs(0.5 - 0.605))


def test_ece_of_calibrated_predictions_is_small_and_of_certain_mistakes_is_one():
    rng = np.random.default_rng(0)
    p, _ = predictions(rows=20_000, classes=3)
    y = (rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    assert metrics.ece(p, y) < 0.02
    assert metrics.ece([[1.0, 0.0]] * 3, [1, 1, 1]) == 1


@pytest.mark.parametrize("metric", CLASSIFICATION)
@pytest.mark.parametrize(
    ("p", "y", "words"),
    [
        ([[0.5, 0.5]], [0, 1], "probabilities has shape"),
        ([0.5, 0.5], [0, 1], "probabilities has shape"),
        ([[0.5, 0.6]], [0], "do not sum to 1"),
        ([[1.5, -0.5]], [0], "negative"),
        ([[0.5, 0.5]], [2], "class numbers 0 to 1"),
        ([[0.5, 0.5]], [-1], "class numbers 0 to 1"),
        ([[0.5, 0.5]], [0.0], "class numbers 0 to 1"),
        (np.empty((0, 2)), [], "probabilities has no rows"),
    ],
)
def test_what_does_not_fit_is_refused(metric, p, y, words):
    with pytest.raises(InputError, match=words):
        metric(p, y)


def test_ece_needs_a_bin():
    with pytest.raises(InputError, match="bins = 0"):
        metrics.ece([[0.5, 0.5]], [0], bins=0)


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.nll, metrics.brier])
def test_rows_average_to_the_score_and_are_what_a_paired_comparison_needs(metric):
    (p, y), (q, _) = predictions(), predictions(seed=1)
    each = metric(p, y, per_row=True)
    assert each.shape == y.shape
    assert each.mean() == pytest.approx(metric(p, y))
    assert each[7] == pytest.approx(metric(p[7:8], y[7:8]))
    mean, _ = metrics.paired_difference(each, metric(q, y, per_row=True))
    assert mean == pytest.approx(metric(p, y) - metric(q, y))
    p[3] = np.nan
    np.testing.assert_array_equal(np.isnan(metric(p, y, per_row=True)), np.arange(len(y)) == 3)


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(sum))
def test_proper_scores_expect_the_truth_to_score_best(counts):
    truth, classes = np.array(counts) / sum(counts), np.arange(3)
    other = np.random.default_rng(sum(counts)).dirichlet(np.ones(3))
    for metric in (metrics.nll, metrics.brier):
        of_truth, of_other = (
            metric(np.tile(p, (3, 1)), classes, per_row=True) for p in (truth, other)
        )
        possible = truth > 0  # elsewhere the log score of the truth is infinite, and never paid
        assert of_truth[possible] @ truth[possible] <= of_other[possible] @ truth[possible] + 1e-12


def test_nll_of_certainty_is_zero_not_minus_zero():
    assert str(metrics.nll([[1.0, 0.0]], [0])) == "0.0"


def test_single_precision_probabilities_are_accepted():
    p, y = predictions(classes=10)
    assert metrics.nll(p.astype(np.float32), y) == pytest.approx(metrics.nll(p, y), rel=1e-5)


def test_nan_is_never_averaged_over():
    p, y = predictions(rows=5)
    p[2] = np.nan
    for metric in CLASSIFICATION:
        assert np.isnan(metric(p, y)), metric.__name__
    values, ones = np.array([0.5, np.nan]), np.ones(2)
    assert np.isnan(metrics.rmse(values, ones))
    assert np.isnan(metrics.mixture_nll(values))
    assert np.isnan(metrics.coverage(values, 0.9))
    assert np.isnan(metrics.interval_coverage(values, ones, ones))
    assert np.isnan(metrics.paired_difference(values, ones)[0])


# Differences


def test_paired_difference_is_the_paired_t_statistic():
    a, b = np.random.default_rng(0).normal(size=(2, 40))
    mean, error = metrics.paired_difference(a, b)
    assert mean == pytest.approx(np.mean(a) - np.mean(b))
    assert mean / error == pytest.approx(stats.ttest_rel(a, b).statistic)


def test_paired_difference_of_one_row_has_no_error():
    mean, error = metrics.paired_difference([3.0], [1.0])
    assert mean == 2
    assert np.isnan(error)
    with pytest.raises(InputError, match="one score a row"):
        metrics.paired_difference(np.ones((2, 2)), np.ones((2, 2)))


def test_crossed_difference_is_the_two_way_layout_by_hand():
    a, b = np.random.default_rng(1).normal(size=(2, 3, 4))
    a += np.arange(3)[:, None]
    d = a - b
    found = metrics.crossed_difference(a, b, level=0.9)
    splits = 4 * d.mean(1).var(ddof=1)
    rows = 3 * d.mean(0).var(ddof=1)
    rest = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    rest = (rest**2).sum() / 6
    total = splits + rows - rest
    assert total > max(splits, rows)  # else the larger alone is taken
    df = total**2 / (splits**2 / 2 + rows**2 / 3 + rest**2 / 6)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.error == pytest.approx(np.sqrt(total / 12))
    assert found.df == pytest.approx(max(df, 2))
    half = found.error * stats.t.ppf(0.95, found.df)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))


@pytest.mark.parametrize(
    ("training", "row", "rest"), [(1, 1, 1), (0, 1, 1), (0.1, 1, 3), (0, 0, 1)]
)
def test_crossed_intervals_cover(training, row, rest):
    """95 % intervals of five training sets and 100 rows: 1000 simulations.

    Satterthwaite's degrees of freedom are an approximation: 92.5 % is asked for. A rate of 95 %
    falls below by chance less than once in 1000; seeds are fixed.
    """
    random, hits = np.random.default_rng(2), 0
    for _ in range(1000):
        d = training * random.normal(size=(5, 1)) + row * random.normal(size=(1, 100))
        d = d + rest * random.normal(size=(5, 100))
        found = metrics.crossed_difference(d, np.zeros_like(d))
        hits += found.low <= 0 <= found.high
    assert hits > 0.925 * 1000


def test_crossed_difference_refuses_what_is_not_crossed():
    ones = np.ones((3, 4))
    same = metrics.crossed_difference(ones, ones)
    assert same[:4] == (0, 0, 0, 0)
    assert np.isnan(metrics.crossed_difference(ones * np.nan, ones).error)
    with pytest.raises(InputError, match=r"a has shape \(1, 4\)"):
        metrics.crossed_difference(ones[:1], ones[:1])
    with pytest.raises(InputError, match="b has shape"):
        metrics.crossed_difference(ones, ones[:2])
    with pytest.raises(OptionError, match="level"):
        metrics.crossed_difference(ones, ones, level=95.0)
