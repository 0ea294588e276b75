"""Every figure says what to look for and carries its data; cost and references are shown."""

import csv
import io
import json
import math
import re
from html import unescape
from urllib.parse import unquote

import pytest

from bnnzoo.reports import write_report
from bnnzoo.reports.cost import cost
from bnnzoo.reports.tables import csv_text


@pytest.fixture(scope="module")
def page(demo_page):
    return demo_page.read_text(encoding="utf-8")


def tables(page):
    """The tables behind the links of a page, by the name they are kept under."""
    links = re.findall(r'<a class="data" download="([^"]+)" href="([^"]+)"', page)
    made = {}
    for name, address in links:
        kind, _, content = unescape(address).partition(",")
        assert kind == "data:text/csv;charset=utf-8"
        made[name] = list(csv.DictReader(io.StringIO(unquote(content))))
    assert len(made) == len(links)
    return made


def test_every_figure_says_what_to_look_for_and_has_its_data(page):
    figures = re.findall(r"<figure>.*?</figure>", page, re.S)
    assert len(figures) >= 10
    for figure in figures:
        caption = re.search(r"<figcaption>(.*?)</figcaption>", figure, re.S).group(1)
        assert "<b>" in caption
        assert caption.count('class="data"') == 1
    assert all(rows for rows in tables(page).values())


def test_the_tables_hold_what_the_figures_draw(page, demo_page):
    block = json.loads(demo_page.with_suffix(".json").read_text())["blocks"][0]
    kept = tables(page)
    for row, run in zip(kept["data-1-forest.csv"], block["runs"], strict=True):
        assert (row["run"], row["label"]) == (str(run["number"]), run["label"])
        assert float(row["difference"]) == pytest.approx(run["versus_best"]["difference"], rel=1e-5)
    numbers = [e for g in block["evidence"]["groups"] for e in g["entries"]]
    shown = {row["evidence"]: row for row in kept["data-1-evidence.csv"]}
    for entry in numbers:
        if entry["kind"] != "predictive":  # no evidence, and not in the figure
            row = shown.pop(str(entry["number"]))
            assert float(row["log_evidence"]) == pytest.approx(entry["value"], rel=1e-5)
            assert (row["kind"], row["method"]) == (entry["kind"], entry["method"])
    assert shown == {}
    first = block["runs"][0]
    own = [r for r in kept["data-1-convergence.csv"] if r["run"] == "1"]
    assert len(own) == len(first["convergence"]["function"]["rhat"]) + 1
    pit = [r for r in kept["data-1-calibration.csv"] if r["run"] == "1" and r["plot"] == "pit"]
    at = [float(r["across"]) for r in pit]
    assert at == pytest.approx(first["calibration"]["at"], rel=1e-5)


def test_text_stays_text():
    label = 'a,"b"\nc'
    text = csv_text(["x", "y"], [["=1+1", -2.5], [label, math.nan], ["-5", None], [True, math.inf]])
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[1:] == [["'=1+1", "-2.5"], [label, ""], ["'-5", ""], ["yes", "inf"]]


def test_odd_labels_do_not_leave_their_link(fakes, tmp_path):
    odd = '="><script>alert(1)</script>#?&%,'
    runs = [fakes.fake_run(label=odd), fakes.fake_run(prior="laplace")]
    page = write_report(runs, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert {row["label"] for row in tables(page)["data-1-forest.csv"]} == {f"'{odd}", runs[1].label}


def test_cost_is_effective_draws_for_what_was_spent(demo_page):
    block = json.loads(demo_page.with_suffix(".json").read_text())["blocks"][0]
    for run in block["runs"]:
        if run["variational"]:
            assert run["cost"]["ess"] is None and run["cost"]["per_second"] is None
            continue
        ess = run["convergence"]["function"]["median_ess"]
        assert run["cost"]["per_second"] == pytest.approx(ess / (2.1 + 2.2))
        assert run["cost"]["per_gradient"] == pytest.approx(ess / 123.456)


def test_a_run_without_seconds_has_no_rate():
    row = {"convergence": {"function": {"median_ess": 50.0}}, "variational": False}
    row |= {"seconds": None, "gradients": 0}
    names = ("compile_seconds", "warmup_seconds", "sampling_seconds", "wall_seconds")
    made = cost(row, dict.fromkeys(names))
    assert made["ess"] == 50.0 and made["per_second"] is None and made["per_gradient"] is None


def test_references_are_those_of_the_cards_and_name_what_was_used(page, demo_page):
    import bnnzoo as bz

    kept = {
        one["reference"]: one["of"]
        for one in json.loads(demo_page.with_suffix(".json").read_text())["citations"]
    }
    used = [("priors", "student-t"), ("backends", "nuts"), ("networks", "mlp")]
    used += [("estimators", "smc"), ("datasets", "diabetes")]
    for kind, name in used:
        for reference in bz.describe(kind, name).references:
            assert any(of.endswith(f" {name}") for of in kept[reference])
    assert "backend sghmc" not in {of for every in kept.values() for of in every}
    assert page.count("<li>") >= len(kept)


@pytest.mark.validate
def test_hundreds_of_runs_stay_under_ten_megabytes(fakes, tmp_path):
    runs = [
        fakes.fake_run(prior=p, T=t, seed=s, draws=20)
        for p in fakes.PRIORS
        for t in (1.0, 0.5, 0.2, 0.1)
        for s in range(25)
    ]
    path = write_report(runs, tmp_path / "r.html")
    assert len(runs) == 300
    assert path.stat().st_size < 10e6
    page = path.read_text(encoding="utf-8")
    assert "Only the best 60 are shown" in page
    assert '<body class="long">' in page  # its sections are drawn when they come near
