"""Entropies, detection of foreign rows and distances of predictions, against SciPy and sklearn."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from bnnzoo import metrics
from bnnzoo.errors import InputError

# Few values, so that many scores tie; infinities are scores too.
SCORES = arrays(
    np.float64, st.integers(1, 30), elements=st.integers(-3, 3) | st.sampled_from([-np.inf, np.inf])
)
DETECTORS = [metrics.auroc, metrics.aupr, metrics.fpr_at_tpr]


def distributions(shape, seed=0):
    """Dirichlet draws, some of them with classes of probability 0 and 1."""
    p = np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])
    p[0] = np.eye(shape[-1])[0]
    return p


def labelled(inside, outside):
    """Ranks for the scores, which scikit-learn wants finite, and 1 for foreign rows."""
    ranks = stats.rankdata(np.concatenate([inside, outside]), method="dense")
    return np.repeat([0, 1], [len(inside), len(outside)]), ranks


# Entropies


def test_predictive_entropy_is_scipys():
    p = distributions((30, 5))
    np.testing.assert_allclose(metrics.predictive_entropy(p), stats.entropy(p, axis=1), atol=1e-15)


def test_entropy_of_certainty_is_zero_and_of_ignorance_the_log_of_the_classes():
    found = metrics.predictive_entropy([[0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(found, [0, np.log(3)])
    assert not np.signbit(found[0])
    np.testing.assert_array_equal(metrics.predictive_entropy([[1.0]]), [0])


def test_total_uncertainty_is_the_sum_of_its_parts():
    p = distributions((20, 7, 4))
    total = metrics.predictive_entropy(p.mean(axis=0))
    parts = metrics.mutual_information(p) + metrics.expected_entropy(p)
    np.testing.assert_allclose(parts, total)


def test_mutual_information_is_the_mean_divergence_from_the_mixture():
    p = distributions((20, 7, 4))
    expected = stats.entropy(p, np.broadcast_to(p.mean(axis=0), p.shape), axis=2).mean(axis=0)
    np.testing.assert_allclose(metrics.mutual_information(p), expected)
    np.testing.assert_array_equal(
        metrics.mutual_information(p[::-1]).round(12), metrics.mutual_information(p).round(12)
    )


def test_draws_that_agree_share_no_information_and_draws_that_exclude_each_other_share_all():
    p = np.repeat(distributions((1, 50, 3), seed=1), 7, axis=0)
    found = metrics.mutual_information(p.astype(np.float32))
    assert (found >= 0).all() and (found < 1e-6).all()
    apart = np.eye(3)[:, None, :]
    np.testing.assert_allclose(metrics.mutual_information(apart), [np.log(3)])


@pytest.mark.parametrize("part", [metrics.expected_entropy, metrics.mutual_information])
def test_parts_need_draws(part):
    with pytest.raises(InputError, match=r"\(draw, row, class\) is needed"):
        part(np.full((4, 2), 0.5))
    with pytest.raises(InputError, match="do not sum to 1"):
        part(np.full((3, 4, 2), 0.6))
    holed = np.full((3, 4, 2), 0.5)
    holed[1, 2] = np.nan
    np.testing.assert_array_equal(np.isnan(part(holed)), [False, False, True, False])


def test_predictive_entropy_refuses_draws_and_shows_nan():
    with pytest.raises(InputError, match=r"\(row, class\) is needed"):
        metrics.predictive_entropy(np.full((3, 4, 2), 0.5))
    np.testing.assert_array_equal(
        np.isnan(metrics.predictive_entropy([[0.5, 0.5], [np.nan, 1.0]])), [False, True]
    )


# Detection


@given(SCORES, SCORES)
def test_auroc_is_scikit_learns(inside, outside):
    expected = sk.roc_auc_score(*labelled(inside, outside))
    assert metrics.auroc(inside, outside) == pytest.approx(expected)
    assert metrics.auroc(-outside, -inside) == pytest.approx(expected)


@given(SCORES, SCORES)
def test_aupr_is_scikit_learns_average_precision(inside, outside):
    foreign, ranks = labelled(inside, outside)
    for positive, label, score in (("outside", foreign, ranks), ("inside", 1 - foreign, -ranks)):
        expected = sk.average_precision_score(label, score)
        assert metrics.aupr(inside, outside, positive) == pytest.approx(expected)


@given(SCORES, SCORES, st.floats(0.01, 1))
def test_fpr_at_tpr_is_the_lowest_point_of_the_curve_there(inside, outside, tpr):
    foreign, ranks = labelled(inside, outside)
    for positive, label, score in (("outside", foreign, ranks), ("inside", 1 - foreign, -ranks)):
        false, true, _ = sk.roc_curve(label, score, drop_intermediate=False)
        expected = false[true >= tpr - 1e-9].min()
        assert metrics.fpr_at_tpr(inside, outside, tpr, positive) == pytest.approx(expected)


def test_detection_of_what_is_apart():
    inside, outside = np.arange(100.0), np.arange(100.0) + 100
    assert metrics.auroc(inside, outside) == 1
    assert metrics.aupr(inside, outside) == 1
    assert metrics.fpr_at_tpr(inside, outside) == 0
    assert metrics.auroc(outside, inside) == 0
    assert metrics.fpr_at_tpr(outside, inside) == 1
    assert metrics.auroc([1.0], [1.0]) == 0.5


def test_the_positive_side_matters():
    inside, outside = [0.0, 1.0, 2.0, 9.0], [5.0, 6.0]
    assert metrics.fpr_at_tpr(inside, outside, 1.0) == 1 / 4  # 9 raises an alarm
    assert metrics.fpr_at_tpr(inside, outside, 1.0, positive="inside") == 1  # letting 9 in lets all
    assert metrics.fpr_at_tpr(inside, outside, 0.75, positive="inside") == 0


def test_share_of_rows_is_not_rounded_up_past_itself():
    # 0.07 * 100 is 7.000000000000001: the seventh row is enough.
    outside, inside = np.arange(100.0), np.array([92.5])
    assert metrics.fpr_at_tpr(inside, outside, 0.07) == 0


def test_detectors_refuse_what_does_not_fit_and_show_nan():
    for detector in DETECTORS:
        with pytest.raises(InputError, match="outside has no rows"):
            detector([1.0], [])
        with pytest.raises(InputError, match=r"inside has shape \(2, 2\)"):
            detector(np.ones((2, 2)), [1.0])
        assert np.isnan(detector([1.0, np.nan], [2.0]))
        assert np.isnan(detector([1.0], [np.nan, 2.0]))
    for detector in (metrics.aupr, metrics.fpr_at_tpr):
        with pytest.raises(InputError, match="'outsid'; did you mean 'outside'"):
            detector([1.0], [1.0], positive="outsid")
    for tpr in (0.0, 95.0, float("nan")):
        with pytest.raises(InputError, match="tpr = "):
            metrics.fpr_at_tpr([1.0], [1.0], tpr)


# Two models


def test_agreement_and_total_variation_by_hand():
    a = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    b = np.array([[0.6, 0.2, 0.2], [0.5, 0.4, 0.1], [1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(metrics.agreement(a, b, per_row=True), [1, 0, 0])
    np.testing.assert_allclose(metrics.total_variation(a, b, per_row=True), [0.3, 0.3, 1.0])
    assert metrics.agreement(a, b) == pytest.approx(1 / 3)
    assert metrics.total_variation(a, b) == pytest.approx(1.6 / 3)


def test_total_variation_is_the_largest_difference_of_an_event():
    a, b = distributions((6, 4)), distributions((6, 4), seed=1)
    events = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1)  # all 16 sets of classes
    expected = np.abs((a - b) @ events).max(axis=1)
    np.testing.assert_allclose(metrics.total_variation(a, b, per_row=True), expected)


def test_predictions_that_cannot_be_compared_are_refused():
    half = np.full((3, 2), 0.5)
    for distance in (metrics.agreement, metrics.total_variation):
        with pytest.raises(InputError, match=r"a has shape \(3, 2\) and b has shape \(2, 2\)"):
            distance(half, half[:2])
        with pytest.raises(InputError, match="b has rows that are negative"):
            distance(half, half + 0.1)
        with pytest.raises(InputError, match=r"\(row, class\) is needed"):
            distance(half[0], half[0])
        holed = np.array([[0.5, 0.5], [np.nan, 1.0], [0.5, 0.5]])
        np.testing.assert_array_equal(
            np.isnan(distance(half, holed, per_row=True)), [False, True, False]
        )
        assert np.isnan(distance(holed, half))
