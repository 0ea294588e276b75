"""What a measurement says of a claim, and intervals that cover what they say."""

import numpy as np
import pytest

from bnnzoo.errors import InputError, OptionError
from bnnzoo.reports.claims import Claim, Measurement, NotMeasuredError, check, judge


def claim(measure=Measurement.exact, **options):
    return Claim("c", "Colder is better.", "Someone (2020)", "nats a row", measure, **options)


@pytest.mark.parametrize(
    ("low", "high", "options", "verdict"),
    [
        (0.01, 0.3, {}, "reproduced"),
        (-0.01, 0.3, {}, "inconclusive"),
        (-0.3, -0.01, {}, "contradicted"),
        (0.01, 0.3, {"direction": "below"}, "contradicted"),
        (-0.3, -0.01, {"direction": "below"}, "reproduced"),
        (0.01, 0.3, {"margin": 0.05}, "inconclusive"),
        (0.06, 0.3, {"margin": 0.05}, "reproduced"),
        (-0.3, -0.01, {"margin": 0.05}, "inconclusive"),
        (-0.3, -0.06, {"margin": 0.05}, "contradicted"),
        (0.6, 0.8, {"threshold": 0.5}, "reproduced"),
        (0.2, 0.4, {"threshold": 0.5}, "contradicted"),
        (-0.1, 0.1, {"direction": "within", "margin": 0.2}, "reproduced"),
        (-0.1, 0.3, {"direction": "within", "margin": 0.2}, "inconclusive"),
        (0.21, 0.3, {"direction": "within", "margin": 0.2}, "contradicted"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low, high, options, verdict):
    measured = Measurement((low + high) / 2, low, high, "seeds")
    assert judge(claim(**options), measured) == verdict


def test_what_is_claimed_is_written():
    assert claim(margin=0.05).says == "more than 0.05"
    assert claim(margin=0.05, direction="below", threshold=1.0).says == "less than 0.95"
    assert claim(direction="within", margin=0.2).says == "within 0.2 of 0"


def test_a_statistic_that_cannot_be_computed_is_not_run_with_its_cause():
    def missing(results):
        raise NotMeasuredError("3 cells with T = 0.1 are missing: a-1")

    told = check(claim(missing), None)
    assert told["verdict"] == "not run" and "missing" in told["cause"] and "value" not in told


def test_a_claim_that_says_nothing_is_refused():
    with pytest.raises(OptionError, match="above, below, within"):
        claim(direction="over")
    with pytest.raises(OptionError, match="margin"):
        claim(direction="within")
    with pytest.raises(InputError, match="low <= value <= high"):
        Measurement(1.0, 2.0, 3.0, "seeds")
    with pytest.raises(NotMeasuredError, match="two repeats"):
        Measurement.mean_of([1.0], "seeds")
    with pytest.raises(NotMeasuredError, match="not finite"):
        Measurement.mean_of([1.0, np.nan], "seeds")
    with pytest.raises(NotMeasuredError, match="no repeats"):
        Measurement.share_of([], "seeds")


def test_intervals_of_means_cover_in_95_of_100():
    """2,000 means of 5: the share covered is 0.95 within five standard errors of 0.0049."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 5))
    found = [Measurement.mean_of(v, "seeds") for v in values]
    assert abs(np.mean([m.low <= 0 <= m.high for m in found]) - 0.95) < 5 * 0.0049


def test_intervals_over_overlapping_splits_cover():
    """Means over 20 splits 90/10 of one sample of 100, and what other samples would give.

    Scores of a constant predictor: the mean of the rows trained on, less the mean of the others.
    With independent repeats' variance the interval would be far too narrow.
    """
    rng = np.random.default_rng(1)
    plain, corrected = 0, 0
    for _ in range(400):
        rows = rng.normal(size=100)
        tests = [rng.permutation(100)[:10] for _ in range(20)]
        scores = np.array([rows[t].mean() for t in tests])
        m, c = (Measurement.mean_of(scores, "splits", overlap=o) for o in (0.0, 10 / 90))
        plain += m.low <= 0 <= m.high
        corrected += c.low <= 0 <= c.high
    # Binomial of 400 at 0.95 falls below 0.90 less than once in 10,000.
    assert plain / 400 < 0.9 < corrected / 400


def test_wilson_covers_and_stays_within_0_and_1():
    rng = np.random.default_rng(2)
    for p in (0.05, 0.5, 0.9):
        hits = rng.random((2000, 40)) < p
        found = [Measurement.share_of(list(h), "seeds") for h in hits]
        covered = np.mean([m.low <= p <= m.high for m in found])
        assert 0.92 < covered < 0.98  # Wilson's own coverage at n = 40 lies in 0.93 to 0.97
        assert all(m.low >= -1e-12 and m.high <= 1 + 1e-12 for m in found)
