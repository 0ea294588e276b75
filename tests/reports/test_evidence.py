"""Evidences on the page: kinds apart, differences with their errors, other data set apart."""

import json
import math
from types import SimpleNamespace

import pytest

from bnnzoo.errors import InputError
from bnnzoo.inference import Evidence
from bnnzoo.inference.evidence import KINDS as KNOWN
from bnnzoo.inference.selection import Candidate, Selection
from bnnzoo.reports import write_report
from bnnzoo.reports.evidence import KINDS, NOT_EVIDENCE, evidence_panel, factor
from bnnzoo.reports.evidence_chart import GLYPHS, evidence_chart

HASH = "ab" * 32


def evidence(value=-100.0, error=0.0, kind="exact", method="exact", *, std=1.0, **changes):
    """An evidence of a model whose prior has this width."""
    record = {
        "label": "mlp, gaussian",
        "spec": {"data": {"name": "set"}, "network": {"name": "mlp"}, "prior": {"std": std}},
        "external": "",
        "data": {"name": "set", "hash": HASH, "task": "regression", "rows": 50}
        | {"test_rows": 0, "features": 2},
        "options": {},
        "seed": 0,
        "dtype": "float64",
        "created": "2026-01-01T00:00:00Z",
        "device": "cpu",
        "versions": {"bnnzoo": "0.1.0"},
    }
    record |= changes.pop("record", {})
    made = {"gradients": 10, "seconds": 1.0, "record": record} | changes
    return Evidence(value, error, kind, method, **made)


def test_the_kinds_are_those_of_the_estimators():
    assert set(KINDS) == set(KNOWN)
    assert set(GLYPHS) == set(KINDS) - set(NOT_EVIDENCE)


def test_differences_are_to_the_best_of_the_same_kind_and_carry_both_errors():
    items = [
        evidence(-104.0, 0.4, "consistent", "smc", std=2.0),
        evidence(-100.0, 0.3, "consistent", "smc", std=1.0),
        evidence(-90.0, 0.0, "lower-bound", "elbo", std=1.0),
        evidence(-95.0, 0.0, "lower-bound", "elbo", std=2.0),
    ]
    panel = evidence_panel(items, "set")
    consistent, bounds = panel["groups"]
    assert [g["kind"] for g in panel["groups"]] == ["consistent", "lower-bound"]
    best, second = consistent["entries"]
    assert best["difference"] is None and factor(best) == "1 : 1"
    assert second["difference"] == pytest.approx(-4.0)
    assert second["difference_se"] == pytest.approx(0.5)
    assert second["distinct"]
    assert factor(second) == "1 : 55"  # exp(4) = 54.6
    assert bounds["entries"][1]["difference"] == pytest.approx(-5.0)
    assert "speak for" in panel["sentences"][0]
    assert "how far each bound is from its evidence is not known" in panel["sentences"][1]


def test_what_is_not_told_apart_is_said():
    items = [evidence(-100.0 - k, 0.6, "consistent", "smc", std=1.0 + k) for k in (0, 1, 5)]
    (sentence,) = evidence_panel(items, "set")["sentences"]
    assert "no model can be called the most probable" in sentence and "1.0 ± 0.8" in sentence


def test_values_are_in_the_targets_own_units():
    items = [evidence(-100.0, log_jacobian=-20.0), evidence(-110.0, std=2.0)]
    (group,) = evidence_panel(items, "set")["groups"]
    assert [e["value"] for e in group["entries"]] == [-110.0, -120.0]
    assert group["entries"][1]["modelled_value"] == -100.0


def test_two_methods_on_one_model_are_a_check():
    honest = evidence(-100.0, 0.1, "unbiased", "smc")
    (check,) = evidence_panel([honest, evidence(-100.2)], "set")["checks"]
    assert check["agree"] and check["difference"] == pytest.approx(-0.2)  # the closed form first
    (check,) = evidence_panel([honest, evidence(-101.0)], "set")["checks"]
    assert not check["agree"]
    assert evidence_panel([honest, evidence(-101.0, std=2.0)], "set")["checks"] == []
    bound = evidence(-101.0, 0.0, "lower-bound", "elbo")
    assert evidence_panel([honest, bound], "set")["checks"] == []


def test_models_of_one_name_are_named_by_what_differs():
    panel = evidence_panel([evidence(), evidence(-101.0, std=2.0)], "set")
    names = [e["name"] for e in panel["groups"][0]["entries"]]
    assert names == ["mlp, gaussian, std 1.0", "mlp, gaussian, std 2.0"]


def test_warnings_and_what_was_fitted_to_the_targets_are_shown():
    fitted = evidence(data_dependent=("scaling of the targets",))
    (note,) = evidence_panel([fitted], "set")["notes"]
    assert note["level"] == "note" and "scaling of the targets" in note["text"]
    mixed = [fitted, evidence(-101.0, std=2.0, warnings=("few survived",))]
    notes = evidence_panel(mixed, "set")["notes"]
    assert [n["level"] for n in notes] == ["warn", "warn"]
    assert "few survived" in notes[0]["text"] and notes[1]["text"].startswith(
        "The number of evidence 1 is"
    )


def selection():
    good = [evidence(-100.0, 0.2, "consistent", "smc"), evidence(-101.0, 0.2, "consistent", "smc")]
    named = [
        Candidate("narrow", None, good[0], 0.73, (0.6, 0.8), 0.0, False),
        Candidate("wide", None, good[1], 0.27, (0.2, 0.4), 1.0, True),
        Candidate("odd", None, None, math.nan, (math.nan,) * 2, math.inf, True, "not <finite>"),
    ]
    return Selection(tuple(named), ("1 could not be estimated",), 3.0, dict(good[0].record))


def test_a_selection_is_shown_whole():
    panel = evidence_panel([selection()], "set")
    (one,) = panel["selections"]
    assert [c["name"] for c in one["candidates"]] == ["narrow", "wide", "odd"]
    assert [c["entry"] for c in one["candidates"]] == [1, 2, None]
    assert any("odd failed: not <finite>" in n["text"] for n in panel["notes"])


def test_the_chart_leaves_out_what_is_no_evidence_and_marks_bounds():
    items = [
        evidence(),
        evidence(-90.0, 0.0, "upper-bound", "ais"),
        evidence(-20.0, 1.0, "predictive"),
    ]
    chart = evidence_chart(evidence_panel(items, "set"))
    assert [g["kind"] for g in chart["groups"]] == ["exact", "upper-bound"]
    assert 'class="reach' not in chart["groups"][0]["rows"][0]["strip"]
    assert 'class="reach' in chart["groups"][1]["rows"][0]["strip"]
    assert evidence_chart(evidence_panel([evidence(kind="predictive")], "set")) is None


@pytest.mark.parametrize(
    "values", [[math.inf], [-math.inf, -1.0], [-1.0, -1.0, -1e6], [0.0], [-5.0, math.nan]]
)
def test_odd_values_make_a_page(tmp_path, values):
    items = [evidence(v, 0.1, std=float(k)) for k, v in enumerate(values)]
    path = write_report(items, tmp_path / "r.html")
    json.loads(path.with_suffix(".json").read_text(), parse_constant=pytest.fail)


def test_evidences_stand_beside_runs_of_the_same_data_and_apart_from_others(fakes, tmp_path):
    run = fakes.fake_run()
    same = evidence(record={"data": dict(run.manifest["data"])})
    path = write_report([evidence(-7.0), selection(), run, same], tmp_path / "r.html")
    first, second = json.loads(path.with_suffix(".json").read_text())["blocks"]
    assert len(first["runs"]) == 1 and len(first["evidence"]["groups"]) == 1
    assert second["runs"] == []
    assert [len(g["entries"]) for g in second["evidence"]["groups"]] == [1, 2]
    assert "Set apart" in second["cautions"][0]["text"]
    page, text = path.read_text(), path.with_suffix(".md").read_text()
    for said in ("Set apart", "not &lt;finite&gt;", "Selection 1 among 3 models"):
        assert said in page
        assert said in text
    assert "1 run and 4 evidences on 2 data sets" in page


def test_a_report_may_be_of_evidences_alone(tmp_path):
    path = write_report([evidence()], tmp_path / "r.html")
    assert "Set apart" not in path.read_text()
    (block,) = json.loads(path.with_suffix(".json").read_text())["blocks"]
    assert block["verdict"]["sentence"] == (
        "On set, mlp, gaussian has an exact log evidence of −100.00 nats (exact), "
        "the only one of its kind."
    )


@pytest.mark.parametrize("item", ["runs/a", 3, SimpleNamespace(tree=1)])
def test_something_else_is_refused(tmp_path, item):
    with pytest.raises(InputError, match="takes runs, evidences and selections, not"):
        write_report([item], tmp_path / "r.html")


def test_an_evidence_without_a_record_is_refused(tmp_path):
    bare = Evidence(-1.0, 0.0, "exact", "exact", 0, 0.0)
    with pytest.raises(InputError, match="without a record of its data"):
        write_report([bare], tmp_path / "r.html")
