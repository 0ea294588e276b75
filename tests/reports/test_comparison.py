import numpy as np
import pytest
from scipy import stats
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


def test_the_error_of_few_chains_is_the_scatter_of_as_many_others():
    """400 sets of 4 chains of 25 exact draws: the mean squared error estimate over the variance.

    A variance of 400 normal numbers has a relative error of 7 %, a jackknife of 4 chains one of
    80 %, the mean of 400 of them 4 %: the ratio is outside of 1 +- 0.33 once in 20,000 tests.
    """
    rng = np.random.default_rng(0)
    y = rng.normal(0, 1.2, 60)

    def scored(theta):
        logs = stats.norm.logpdf(y, theta[..., None], 1.0)
        of_chains = logsumexp(logs, axis=1) - np.log(theta.shape[1])
        mixture = logsumexp(of_chains, axis=0) - np.log(len(theta))
        return comparison.Scores("test", mixture, of_chains=of_chains)

    found = [scored(0.7 * rng.normal(size=(4, 25))) for _ in range(400)]
    truth = np.var([s.log_density.mean() for s in found])
    estimates = [comparison.chain_error(s) for s in found]
    assert np.mean(np.square(estimates)) / truth == pytest.approx(1, abs=0.33)
    stuck = scored(np.repeat(0.7 * rng.normal(size=(4, 1)), 25, axis=1))
    assert comparison.chain_error(stuck) > 2 * np.mean(estimates)


def test_the_error_of_chains_is_unknown_of_one_and_where_a_density_is_zero():
    of_chains = np.array([[-1.0, -2.0], [-1.0, -np.inf]])
    assert comparison.chain_error(comparison.Scores("test", np.zeros(2))) is None
    assert (
        comparison.chain_error(comparison.Scores("test", np.zeros(2), of_chains=of_chains)) is None
    )
    one = comparison.Scores("test", np.zeros(2), of_chains=of_chains[:1])
    assert comparison.chain_error(one) is None
