import numpy as np
import pytest
from scipy.special import logsumexp

from bnnzoo import metrics
from bnnzoo.reports import comparison


def test_metrics_of_regression_equal_a_naive_recomputation(fakes):
    run = fakes.fake_run()
    table = comparison.metric_table(comparison.read_scores(run), "regression")
    scored = run.tree["test_scores"]
    y, mean = run.tree["predictions_constant_data"]["y"].values, scored["mean"].values
    density, pit, n = scored["log_density"].values, scored["pit"].values, len(y)
    assert table["nll"]["value"] == pytest.approx(-sum(density) / n)
    assert table["nll"]["se"] == pytest.approx(np.std(density, ddof=1) / n**0.5)
    squared = (mean - y) ** 2
    assert table["rmse"]["value"] == pytest.approx(np.mean(squared) ** 0.5)
    delta = np.std(squared, ddof=1) / n**0.5 / (2 * np.mean(squared) ** 0.5)
    assert table["rmse"]["se"] == pytest.approx(delta)
    inside = [0.05 <= p <= 0.95 for p in pit]
    assert table["coverage_90"]["value"] == pytest.approx(sum(inside) / n)
    assert table["coverage_90"]["se"] == pytest.approx(np.std(inside, ddof=1) / n**0.5)
    assert 0.2 < table["coverage_50"]["value"] < 0.7


def test_metrics_of_classification_equal_a_naive_recomputation(fakes):
    run = fakes.fake_run(task="classification")
    table = comparison.metric_table(comparison.read_scores(run), "classification")
    p = run.tree["test_scores"]["probabilities"].values
    y = run.tree["predictions_constant_data"]["y"].values
    right = [row.argmax() == label for row, label in zip(p, y, strict=True)]
    assert table["accuracy"]["value"] == pytest.approx(np.mean(right))
    brier = [
        sum((row[k] - (k == label)) ** 2 for k in range(2)) for row, label in zip(p, y, strict=True)
    ]
    assert table["brier"]["value"] == pytest.approx(np.mean(brier))
    assert table["brier"]["se"] == pytest.approx(np.std(brier, ddof=1) / len(y) ** 0.5)
    assert table["ece"] == {"value": pytest.approx(metrics.ece(p, y)), "se": None}
    assert table["nll"]["value"] == pytest.approx(metrics.nll(p, y))


def test_pairwise_equals_a_naive_double_loop():
    rng = np.random.default_rng(1)
    densities = [rng.normal(size=50) + k for k in range(4)]
    made = comparison.pairwise(densities)
    for i, a in enumerate(densities):
        for j, b in enumerate(densities):
            gap = a - b
            assert made["difference"][i][j] == pytest.approx(gap.mean(), abs=1e-12)
            assert made["standard_error"][i][j] == pytest.approx(np.std(gap, ddof=1) / 50**0.5)


def test_runs_without_scores_come_last_and_are_not_compared():
    densities = [None, np.array([-1.0, -2.0]), np.array([np.nan, 0.0]), np.array([-1.0, -1.0])]
    assert comparison.rank(densities)[:2] == [3, 1]
    made = comparison.pairwise(densities)
    assert np.isnan(made["difference"][0][1]) and np.isnan(made["difference"][2][1])


def test_a_density_of_zero_is_infinitely_worse():
    densities = [np.array([-np.inf, -1.0]), np.array([-3.0, -3.0])]
    assert comparison.rank(densities) == [1, 0]
    assert comparison.pairwise(densities)["difference"][0][1] == -np.inf


def test_one_row_has_a_difference_and_no_error():
    difference, error = comparison.paired(np.array([1.0]), np.array([0.5]))
    assert difference == 0.5 and np.isnan(error)


@pytest.mark.parametrize(
    ("difference", "error", "expected"),
    [(0.4, 0.2, 2.0), (0.0, 0.0, 0.0), (-0.1, 0.0, -np.inf), (0.1, 0.0, np.inf)],
)
def test_in_errors(difference, error, expected):
    assert comparison.in_errors(difference, error) == pytest.approx(expected)


def test_without_test_rows_the_training_rows_are_scored_and_named(fakes):
    run = fakes.fake_run(test_rows=0, draws=10)
    scores = comparison.read_scores(run)
    draws = run.tree["log_likelihood"]["y"].values.reshape(40, -1)
    assert scores.rows == "training"
    np.testing.assert_allclose(scores.log_density, logsumexp(draws, 0) - np.log(40))
