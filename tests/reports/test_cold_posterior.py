"""Verdicts on temperatures: planted effects are found, and where there is none none is seen."""

from __future__ import annotations

import numpy as np
import pytest

from bnnzoo.errors import InputError
from bnnzoo.inference.temperature_slope import TemperatureSlope
from bnnzoo.reports.cold_posterior import cold_verdict

GRID = (0.1, 0.3, 1.0, 3.0)


def planted(effects, rng, rows=400, noise=0.2):
    """Scores that rows share but for a little noise, plus an effect of each temperature."""
    shared = rng.normal(-1, 1, rows)
    return shared + noise * rng.normal(size=(len(GRID), rows)) + np.array(effects)[:, None]


@pytest.mark.parametrize(
    ("effects", "verdict", "best"),
    [
        ((0.2, 0.1, 0.0, -0.2), "cold", 0.1),
        ((-0.2, -0.1, 0.0, 0.2), "warm", 3.0),
        ((-0.3, -0.2, 0.0, -0.1), "warm", 1.0),
        ((0.0, 0.2, 0.0, 0.0), "cold", 0.3),
    ],
)
def test_planted_effects_are_found(effects, verdict, best):
    for seed in range(5):
        said = cold_verdict("log density", GRID, planted(effects, np.random.default_rng(seed)))
        assert (said.verdict, said.best) == (verdict, best), said
        assert said.low <= best <= said.high and said.sentence.count("on this dataset") == 1


def test_no_effect_is_called_none_where_rows_are_many_and_undecided_where_few():
    rng = np.random.default_rng(0)
    many = cold_verdict("log density", GRID, planted((0, 0, 0, 0), rng, rows=4_000, noise=0.05))
    assert many.verdict == "none" and many.gain_low <= many.gain <= many.gain_high
    few = cold_verdict("log density", GRID, planted((0, 0, 0, 0), rng, rows=30))
    assert few.verdict in ("undecided", "cold", "warm")
    assert few.low < few.high


@pytest.mark.validate
def test_false_alarms_are_as_many_as_said():
    """200 data sets without an effect: cold or warm in at most 5 % and a warm rule beside it.

    *Cold* and one way to *warm* share a simultaneous 95 % bound, half of it on either side; *warm*
    by colder runs being worse has the other half. 200 draws at 5 % exceed 23 once in 10,000.
    """
    rng = np.random.default_rng(1)
    alarms = sum(
        cold_verdict("log density", GRID, planted((0, 0, 0, 0), rng, rows=100)).verdict
        in ("cold", "warm")
        for _ in range(200)
    )
    assert alarms <= 23


def test_the_slope_decides_what_the_grid_does_not():
    rng = np.random.default_rng(2)
    scores = planted((0, 0, 0, 0), rng, rows=50)
    axis = "posterior_temperature"
    for value, verdict in ((-0.5, "cold"), (0.5, "warm"), (0.01, "undecided")):
        slope = TemperatureSlope(axis, 1.0, value, 0.05, 0.02, 50, 4)
        said = cold_verdict("log density", GRID, scores, slope=slope)
        assert said.verdict == verdict and said.slope == value
        assert (said.probability_colder > 0.5) == (value < 0)
    low, high = TemperatureSlope(axis, 1.0, 0.5, 0.03, 0.04, 10**6, 10**6).interval()
    assert (low + high) / 2 == pytest.approx(0.5) and high - low == pytest.approx(0.196, rel=1e-3)


def test_few_chains_have_the_intervals_of_students_t():
    low, high = TemperatureSlope("posterior_temperature", 1.0, 0.0, 0.0, 0.04, 50, 4).interval()
    assert high == -low == pytest.approx(0.04 * 3.182, rel=1e-3)


def test_the_scatter_of_runs_is_in_the_intervals():
    """Three runs a temperature whose means scatter by 0.1: the gain's error is 0.1 sqrt(2 / 3).

    Rows alone would give 0.01. The scatter is estimated with 8 degrees of freedom, so that its
    estimate lies within 0.4 to 1.75 times the truth but once in 1,000.
    """
    rng = np.random.default_rng(3)
    grid = np.repeat(GRID, 3)
    shifts = 0.1 * rng.standard_normal(12)
    scores = rng.normal(-1, 1, 400) + 0.1 * rng.normal(size=(12, 400)) + shifts[:, None]
    said = cold_verdict("log density", grid.tolist(), scores)
    error = (said.gain_high - said.gain_low) / 3.92
    assert 0.4 < error / (0.1 * (2 / 3) ** 0.5) < 1.75
    assert said.best in GRID
    means = {T: scores[grid == T].mean() for T in GRID}
    assert said.gain == pytest.approx(max(means.values()) - means[1.0])
    single = cold_verdict("log density", GRID, scores[::3])
    assert (single.gain_high - single.gain_low) / 3.92 < 0.03


def test_the_error_of_chains_is_in_the_intervals_of_single_runs():
    """The root of two mean squared errors; the scatter of several runs has it already."""
    rng = np.random.default_rng(5)
    scores = planted((0, 0, 0, 0), rng, noise=0.02)
    errors = (0.3, 0.1, None, 0.2)
    said = cold_verdict("log density", GRID, scores, errors=errors)
    wanted = (2 * np.mean([0.3**2, 0.1**2, 0.2**2])) ** 0.5
    # 2,000 normal numbers: a 2.5 % tail is known to 3 %, their width to 2.3 %.
    assert (said.gain_high - said.gain_low) / 3.92 == pytest.approx(wanted, rel=0.1)
    assert said.verdict == "undecided" and said.low == 0.1 and said.high == 3.0
    pair = cold_verdict("log density", GRID * 2, np.tile(scores, (2, 1)), errors=errors * 2)
    assert (pair.gain_high - pair.gain_low) / 3.92 < 0.01


@pytest.mark.validate
def test_runs_that_scatter_make_no_effect():
    """200 sets of three runs a temperature, means scattering by 0.1, no effect: as few alarms.

    Normal errors with a scatter of 8 degrees of freedom: 5 % become about 8. 200 draws at 8 %
    exceed 32 once in 10,000.
    """
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(200):
        scores = rng.normal(-1, 1, 100) + 0.1 * rng.normal(size=(12, 100))
        scores += 0.1 * rng.standard_normal((12, 1))
        said = cold_verdict("log density", np.repeat(GRID, 3).tolist(), scores)
        alarms += said.verdict in ("cold", "warm")
    assert alarms <= 32


def test_runs_that_predict_alike_are_none():
    scores = np.tile(np.random.default_rng(0).normal(size=60), (4, 1))
    assert cold_verdict("accuracy", GRID, scores).verdict == "none"


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="a run at temperature 1"):
        cold_verdict("accuracy", (0.1, 0.3), np.zeros((2, 5)))
    with pytest.raises(InputError, match=r"shape \(3, 5\) for 4 temperatures"):
        cold_verdict("accuracy", GRID, np.zeros((3, 5)))
