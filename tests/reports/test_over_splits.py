"""Verdicts over splits: their intervals are those of a Student-t, and only splits are pooled."""

import numpy as np
import pytest
from scipy import stats

from bnnzoo.errors import InputError
from bnnzoo.reports import write_report
from bnnzoo.reports.cold_posterior import verdict_over_splits
from bnnzoo.reports.over_splits import split_panels

GRID = (0.1, 0.3, 1.0)


def by_split(fakes, splits=3, temperatures=(1.0, 0.1), **more):
    return [
        [fakes.fake_run(T=T, split=s, worse=0.0 if T < 1 else 1.5, **more) for T in temperatures]
        for s in range(splits)
    ]


@pytest.mark.parametrize("overlap", [0.0, 1 / 9])
def test_the_interval_of_the_gain_is_the_corrected_t_interval(overlap):
    """2,000 draws: a 2.5 % tail of a Student-t of 4 degrees of freedom is known to about 5 %."""
    means = np.random.default_rng(0).normal([0.3, 0.1, 0.0], 0.05, (5, 3))
    said = verdict_over_splits("log density", GRID, means, overlap=overlap)
    gains = means[:, 0] - means[:, 2]
    reach = stats.t(4).ppf(0.975) * gains.std(ddof=1) * (1 / 5 + overlap) ** 0.5
    assert said.best == 0.1 and said.gain == pytest.approx(gains.mean())
    assert said.gain_low == pytest.approx(gains.mean() - reach, abs=0.15 * reach)
    assert said.gain_high == pytest.approx(gains.mean() + reach, abs=0.15 * reach)
    assert said.verdict == "cold" and "on this dataset" in said.sentence


def test_what_splits_share_is_a_verdict_and_what_they_do_not_is_none():
    apart = np.array([[0.5, 0, 0], [-0.4, 0, 0], [0.6, 0, 0], [-0.5, 0, 0]])
    said = verdict_over_splits("log density", GRID, apart, overlap=0.1)
    assert said.verdict == "undecided" and "the splits do not decide" in said.sentence
    alike = 0.001 * np.random.default_rng(0).normal(size=(5, 3))
    assert verdict_over_splits("log density", GRID, alike, overlap=0.1).verdict == "none"
    worse = alike - [0.3, 0.2, 0.0]
    assert verdict_over_splits("log density", GRID, worse, overlap=0.1).verdict == "warm"


@pytest.mark.validate
def test_false_alarms_over_independent_splits_are_as_many_as_said():
    """400 sets of 5 independent splits that share no effect: cold or warm in 5 %, by chance 40."""
    rng = np.random.default_rng(1)
    alarms = sum(
        verdict_over_splits("accuracy", GRID, rng.normal(0, 0.1, (5, 3)), overlap=0.0).verdict
        in ("cold", "warm")
        for _ in range(400)
    )
    assert alarms <= 40  # of a binomial of 400 at 5 %: more once in 10,000


def test_runs_on_several_splits_are_pooled_on_the_page(fakes, tmp_path):
    groups = by_split(fakes)
    (panel,) = split_panels(groups)
    (series,) = panel["series"]
    assert (panel["name"], panel["axis"]) == ("diabetes", "posterior_temperature")
    assert (series["splits"], series["temperatures"]) == (3, [0.1, 1.0])
    scores = np.array(
        [
            [run.tree["test_scores"]["log_density"].values.mean() for run in runs[::-1]]
            for runs in groups
        ]
    )
    wanted = verdict_over_splits("log density", (0.1, 1.0), scores, overlap=45 / 397)
    found = series["verdicts"][0]
    assert found["gain_low"] == pytest.approx(wanted.gain_low)
    assert (found["metric"], found["verdict"], found["best"]) == ("log density", "cold", 0.1)
    page = write_report([run for runs in groups for run in runs], tmp_path / "r.html")
    said = "Over 3 splits of diabetes, posterior temperature, by log density: of 1 series 1 cold."
    assert said in page.read_text(encoding="utf-8")
    assert said in page.with_suffix(".md").read_text(encoding="utf-8")


def test_seeds_of_a_split_are_averaged_and_temperatures_that_one_lacks_left_out(fakes):
    first, second = by_split(fakes, splits=2, temperatures=(1.0, 0.3, 0.1))
    first += [fakes.fake_run(T=0.1, seed=5)]
    (panel,) = split_panels([first, second[:1] + second[2:]])
    (series,) = panel["series"]
    assert series["temperatures"] == [0.1, 1.0]
    density = [r.tree["test_scores"]["log_density"].values.mean() for r in (*first, *second)]
    gains = np.mean(density[2:4]) - density[0], density[6] - density[4]
    assert series["verdicts"][0]["gain"] == pytest.approx(np.mean(gains))


def test_other_tables_other_settings_and_single_splits_are_not_pooled(fakes, tmp_path):
    one, two = by_split(fakes, splits=2)
    assert split_panels([one]) == []
    other = [fakes.fake_run(T=T, name="other", split=1) for T in (1.0, 0.1)]
    assert split_panels([one, other]) == []
    wide = [fakes.fake_run(T=T, split=1, prior_options={"std": 2.0}) for T in (1.0, 0.1)]
    assert split_panels([one, wide]) == []
    assert split_panels([one[:1], two[:1]]) == []
    for run in (*one, *two):  # arrays of a user: of one name, and nobody knows what they are
        run.spec.data.options.clear()
    assert split_panels([one, two]) == []
    page = write_report(one, tmp_path / "r.html")
    assert 'id="splits"' not in page.read_text(encoding="utf-8")


def test_what_cannot_be_pooled_is_refused():
    with pytest.raises(InputError, match=r"means of shape \(1, 3\) for 3 temperatures"):
        verdict_over_splits("accuracy", GRID, np.zeros((1, 3)), overlap=0.1)
    with pytest.raises(InputError, match="a run at temperature 1"):
        verdict_over_splits("accuracy", (0.1, 0.3), np.zeros((2, 2)), overlap=0.1)
