"""Foreign rows told from a run's own: curves and areas by scikit-learn, errors by repetition."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics as peer

import bnnzoo as bz
from bnnzoo.errors import DataError, InputError
from bnnzoo.reports import write_report
from bnnzoo.reports.foreign import MOST_ROWS, detection, foreign_rows


def scores(rng, own=300, foreign=200, shift=1.0):
    return rng.normal(size=own).round(2), rng.normal(shift, 1.5, foreign).round(2)


def test_areas_and_curve_are_those_of_scikit_learn():
    home, away = scores(np.random.default_rng(0))
    found = detection(home, away)
    truth, score = np.repeat([0, 1], (len(home), len(away))), np.concatenate([home, away])
    assert found["auroc"] == pytest.approx(peer.roc_auc_score(truth, score))
    assert found["aupr"] == pytest.approx(peer.average_precision_score(truth, score))
    alarms, power, _ = peer.roc_curve(truth, score, drop_intermediate=False)
    corners = {(round(a, 9), round(p, 9)) for a, p in zip(alarms, power, strict=True)}
    curve = zip(found["false_alarms"], found["found"], strict=True)
    assert {(round(a, 9), round(p, 9)) for a, p in curve} <= corners
    assert found["detected"] <= power[alarms <= 0.05].max() + 1e-9
    assert (home > np.quantile(home, 0.95, method="higher")).mean() <= 0.05


def test_the_standard_error_is_that_of_repetition():
    """1,000 repetitions know a standard deviation to 2.2 %; 12 % are five of those errors."""
    rng = np.random.default_rng(1)
    made = [detection(*scores(rng, 80, 50)) for _ in range(1000)]
    spread = np.std([one["auroc"] for one in made])
    told = np.sqrt(np.mean([one["auroc_se"] ** 2 for one in made]))
    assert told == pytest.approx(spread, rel=0.12)


def test_a_score_that_says_nothing_has_half():
    home, away = np.ones(40), np.ones(30)
    found = detection(home, away)
    assert (found["auroc"], found["detected"]) == (0.5, 0.0)


@pytest.fixture(scope="module")
def run():
    """A regression on [-1, 1], whose rows elsewhere are foreign."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (60, 1))
    data = bz.make_dataset(x[:40], x[:40, 0], x[40:], x[40:, 0], task="regression", name="inside")
    model = bz.make_model(network_options={"widths": [8]})
    return bz.fit(model, data, "hmc", chains=2, draws=60, warmup=60, progress=False)


def elsewhere(features=1, rows=30):
    x = np.linspace(5, 9, rows * features).reshape(rows, features)
    return bz.make_dataset(x, x[:, 0], task="regression", name="outside")


def test_a_report_says_how_well_foreign_rows_are_found(fakes, tmp_path):
    run = fakes.fake_run()
    run.predict = lambda x: SimpleNamespace(std=np.full(len(x), 1e6))
    page = write_report([run], tmp_path / "r.html", ood=elsewhere())
    (row,) = json.loads(page.with_suffix(".json").read_text())["blocks"][0]["runs"]
    assert row["foreign"]["score"] == "standard deviation"
    assert row["foreign"]["auroc"] == 1.0 and row["foreign"]["foreign"] == 30
    assert "outside: rows of another kind" in page.read_text()
    assert "Rows of outside, found by standard deviation" in page.with_suffix(".md").read_text()
    plain = write_report([fakes.fake_run()], tmp_path / "plain.html")
    assert "another kind" not in plain.read_text()


@pytest.mark.validate
def test_a_network_is_unsure_far_from_its_rows(run, tmp_path):
    page = write_report([run], tmp_path / "r.json", format="json", ood=elsewhere())
    (row,) = json.loads(page.read_text())["blocks"][0]["runs"]
    assert row["foreign"]["auroc"] > 0.9


@pytest.mark.validate
def test_rows_that_are_not_foreign_or_do_not_fit_are_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"inside is what .* was fitted to"):
        write_report([run], tmp_path / "r.html", ood=run.posterior.data)
    with pytest.raises(DataError, match="2 features"):
        write_report([run], tmp_path / "r.html", ood=elsewhere(features=2))
    assert list(tmp_path.iterdir()) == []


def test_many_foreign_rows_are_thinned_evenly():
    chosen = foreign_rows(elsewhere(rows=5 * MOST_ROWS)).x
    assert len(chosen) == MOST_ROWS and chosen[0, 0] == 5 and chosen[-1, 0] == 9
