import numpy as np
import pytest
from scipy import stats

from bnnzoo import metrics
from bnnzoo.reports import calibration


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


def test_reliability_counts_every_row_once_and_gives_the_calibration_error():
    rng = np.random.default_rng(2)
    p, y = rng.dirichlet(np.ones(3), 200), rng.integers(0, 3, 200)
    made = calibration.reliability(p, y)
    assert sum(made["count"]) == 200
    gaps = np.abs(np.array(made["confidence"]) - made["accuracy"])
    assert np.sum(gaps * made["count"]) / 200 == pytest.approx(metrics.ece(p, y))
    assert made["mean_confidence"] == pytest.approx(p.max(1).mean())


def test_wilson_limits_are_the_published_ones():
    """Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20."""
    low, high = calibration.wilson(np.array([81, 15, 0]), np.array([263, 148, 20]))
    np.testing.assert_allclose(low, [0.2553, 0.0624, 0.0], atol=5e-5)
    np.testing.assert_allclose(high, [0.3662, 0.1605, 0.1611], atol=5e-5)


def test_nothing_is_said_of_training_rows(fakes):
    from bnnzoo.reports.comparison import read_scores

    assert calibration.calibrate(read_scores(fakes.fake_run(test_rows=0)), "regression") is None
