import numpy as np
import pytest
from scipy import stats

from bnnzoo import metrics
from bnnzoo.reports import calibration, reliability, selective


@pytest.mark.parametrize("n", [12, 45, 500])
def test_the_band_holds_a_whole_uniform_ecdf_19_times_in_20(n):
    """5 standard deviations of a proportion over 4,000 fresh samples, and the discreteness of few
    rows, which only makes the band wider."""
    rng = np.random.default_rng(0)
    low, high = calibration.ecdf_band(n)
    at = calibration._grid(n)
    samples = np.sort(rng.uniform(size=(4000, n)), axis=1)
    ecdf = np.stack([np.searchsorted(s, at, side="right") for s in samples]) / n
    inside = ((ecdf >= low) & (ecdf <= high)).all(1).mean()
    assert 0.95 - 5 * np.sqrt(0.95 * 0.05 / 4000) < inside < 0.985


def test_calibrated_narrow_and_wide_predictions_are_told_apart():
    y = stats.norm.ppf((np.arange(400) + 0.5) / 400)
    calibrated, narrow, wide = (
        calibration.pit_calibration(stats.norm.cdf(y / s)) for s in (1, 0.5, 2)
    )
    assert not calibrated["outside"] and narrow["outside"] and wide["outside"]
    at_90 = calibrated["levels"].index(0.9)
    assert calibrated["coverage"][at_90] == pytest.approx(0.9, abs=0.01)
    assert narrow["coverage"][at_90] < 0.7 and wide["coverage"][at_90] > 0.99
    first = len(narrow["at"]) // 4  # the caption says what the shapes mean
    assert narrow["excess"][first] > 0 > narrow["excess"][-first]
    assert wide["excess"][first] < 0 < wide["excess"][-first]


def classes(rows, seed, sharpness=1.0, count=4):
    """Probabilities and labels drawn from them: calibrated where ``sharpness`` is 1."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.full(count, 0.7), rows)
    y = (rng.uniform(size=(rows, 1)) > truth.cumsum(1)[:, :-1]).sum(1)
    stated = truth**sharpness
    return stated / stated.sum(1, keepdims=True), y


@pytest.mark.parametrize("name", ["top", "all"])
@pytest.mark.parametrize(("rows", "count"), [(40, 3), (500, 4)])
def test_a_calibrated_run_is_inside_its_band_19_times_in_20(name, rows, count):
    """A band from 1,000 resamples has a coverage of 0.95 with standard deviation 0.007, counted
    over 3,000 fresh sets of labels with 0.004: within 5 of both together, 0.04; few rows have few
    values to be at, and the band then holds more."""
    p, _ = classes(rows, 3, count=count)
    made = reliability.reliability(p, p.argmax(1))[name]
    rng = np.random.default_rng(11)
    bins, every = reliability.BINS, np.searchsorted(np.arange(1, 15) / 15, p, side="left")
    labels = (rng.uniform(size=(3000, rows, 1)) > p.cumsum(1)[:, :-1]).sum(-1)
    hits = reliability._hits(labels, every, p.argmax(1), bins)[name]
    used = (np.asarray(made["edges"]) * bins).round().astype(int)
    observed = hits[:, used] / np.asarray(made["count"])
    low, high = np.asarray(made["low"]) - 1e-12, np.asarray(made["high"]) + 1e-12
    inside = ((observed >= low) & (observed <= high)).all(1).mean()
    assert 0.91 < inside < (0.99 if rows < 100 else 0.985)


@pytest.mark.validate
def test_false_alarms_over_whole_data_sets():
    """400 sets of 300 rows, each with probabilities and a band of its own: the band and the limit
    of the ECE each fail 5 % of them; 5 standard deviations of that count, and the band's excess."""
    found = [reliability.reliability(*classes(300, seed)) for seed in range(400)]
    tolerance = 5 * np.sqrt(0.05 * 0.95 / 400)
    for alarms in (
        np.mean([f["top"]["outside"] > 0 for f in found]),
        np.mean([f["all"]["outside"] > 0 for f in found]),
        np.mean([f["ece"] > f["ece_limit"] for f in found]),
    ):
        assert abs(alarms - 0.05) < tolerance


@pytest.mark.parametrize("sharpness", [2.5, 0.4])
def test_an_over_and_an_underconfident_run_leave_it(sharpness):
    made = reliability.reliability(*classes(2000, 1, sharpness))
    assert made["top"]["outside"] >= 3 and made["all"]["outside"] >= 3
    assert made["ece"] > 2 * made["ece_limit"]
    calibrated = reliability.reliability(*classes(2000, 1))
    assert calibrated["top"]["outside"] == 0 and calibrated["ece"] < calibrated["ece_limit"]


def test_reliability_counts_every_row_once_and_gives_the_metrics():
    p, y = classes(200, 2, count=3)
    made = reliability.reliability(p, y)
    assert sum(made["top"]["count"]) == 200 and sum(made["all"]["count"]) == 600
    gaps = np.abs(np.array(made["top"]["stated"]) - made["top"]["observed"])
    assert np.sum(gaps * made["top"]["count"]) / 200 == pytest.approx(metrics.ece(p, y))
    assert made["ece"] == pytest.approx(metrics.ece(p, y))
    assert made["adaptive_ece"] == pytest.approx(metrics.adaptive_ece(p, y))
    assert made["brier"]["score"] == pytest.approx(metrics.brier(p, y))
    assert made["mean_confidence"] == pytest.approx(p.max(1).mean())


def test_the_bins_are_those_of_a_naive_count():
    from sklearn.calibration import calibration_curve

    p, y = classes(400, 5, count=3)
    made = reliability.reliability(p, y)["all"]
    seen, stated = calibration_curve(
        (y[:, None] == np.arange(3)).ravel(), p.ravel(), n_bins=15, strategy="uniform"
    )
    np.testing.assert_allclose(made["observed"], seen)
    np.testing.assert_allclose(made["stated"], stated)


@pytest.mark.parametrize(
    "p", [np.eye(3)[[0, 1, 2, 0]], np.array([[0.5, 0.5]]), np.full((9, 3), 1 / 3)]
)
def test_odd_probabilities_have_a_band(p):
    made = reliability.reliability(p, np.zeros(len(p), int))
    for part in (made["top"], made["all"]):
        assert np.isfinite([part["low"], part["high"], part["observed"]]).all()
    if len(p) == 4:  # certain, and wrong twice in four
        assert made["top"]["observed"] == [0.5] and made["ece"] == pytest.approx(0.5)


def test_a_certain_run_that_is_wrong_often_leaves_its_band():
    p = np.eye(2)[np.zeros(40, int)]
    assert reliability.reliability(p, np.repeat([0, 1], 20))["top"]["outside"] == 1
    assert reliability.reliability(p, np.zeros(40, int))["top"]["outside"] == 0


def test_risk_falls_with_what_is_left_out():
    unsure, loss = np.array([3.0, 1.0, 2.0, 4.0]), np.array([1.0, 0.0, 0.5, 2.5])
    made = selective.risk_coverage(unsure, loss)
    np.testing.assert_allclose(made["share"], [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(made["risk"], [0, 0.25, 0.5, 1.0])
    assert made["risk"] == made["ideal"] and made["half"] == 0.25 and made["overall"] == 1.0
    assert made["area"] == pytest.approx(np.mean([0, 0.25, 0.5, 1.0]))
    worst = selective.risk_coverage(-unsure, loss)
    np.testing.assert_allclose(worst["risk"], [2.5, 1.75, 4 / 3, 1.0])


def test_rows_that_are_equally_sure_have_no_order():
    loss = np.array([1.0, 0.0, 0.0, 1.0])
    made = selective.risk_coverage(np.zeros(4), loss)
    np.testing.assert_allclose(made["risk"], 0.5)  # the mean over orders, whatever the rows' order
    rng = np.random.default_rng(0)
    unsure, loss = rng.integers(0, 3, 12).astype(float), rng.uniform(size=12)
    made = selective.risk_coverage(unsure, loss)["risk"]
    shuffled = []
    for _ in range(4000):
        k = rng.permutation(12)
        order = k[np.argsort(unsure[k], kind="stable")]
        shuffled.append(np.cumsum(loss[order]) / np.arange(1, 13))
    np.testing.assert_allclose(made, np.mean(shuffled, 0), atol=5 * 0.3 / np.sqrt(4000))


def test_selective_prediction_of_runs(fakes):
    from bnnzoo.reports.comparison import read_scores

    for task, measure in (("regression", "RMSE"), ("classification", "error rate")):
        scores = read_scores(fakes.fake_run(task=task))
        made = selective.selective(scores, task)
        assert made["measure"] == measure
        if task == "regression":
            assert made["overall"] == pytest.approx(metrics.rmse(scores.mean, scores.y))
        else:
            y = scores.y.astype(int)
            assert made["overall"] == pytest.approx(1 - metrics.accuracy(scores.probabilities, y))
        assert (
            selective.selective(read_scores(fakes.fake_run(task=task, test_rows=0)), task) is None
        )


def test_nothing_is_said_of_training_rows(fakes):
    from bnnzoo.reports.comparison import read_scores

    assert calibration.calibrate(read_scores(fakes.fake_run(test_rows=0)), "regression") is None
