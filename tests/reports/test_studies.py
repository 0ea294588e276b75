"""Every registered study: its grid, its claims, a page of nothing; `make validate` runs each."""

from __future__ import annotations

import json

import pytest

from bnnzoo import registry
from bnnzoo.reports.claims import check
from bnnzoo.reports.study import SCALES, Results
from bnnzoo.reports.study_runner import load_study, make_study, run_study

NAMES = registry.list_names("studies")


@pytest.mark.parametrize("name", NAMES)
def test_the_grid_and_the_claims_of_a_study(name):
    counts = []
    for scale in SCALES:
        study = make_study(name, scale)
        cells = study.cells()
        assert cells and len({c.name for c in cells}) == len(cells)
        for cell in cells:
            assert json.loads(json.dumps(dict(cell.settings))) == dict(cell.settings)
        counts.append(len(cells))
        claims = study.claims()
        assert len({c.name for c in claims}) == len(claims)
        for claim in claims:
            assert claim.text.endswith(".") and any(v.isdigit() for v in claim.source)
        nothing = Results(cells, {})
        told = [check(claim, nothing) for claim in claims]
        assert {t["verdict"] for t in told} == {"not run"} and all(t["cause"] for t in told)
        study.charts(nothing)
        study.tables(nothing)
    assert counts == sorted(counts)
    assert study.question.endswith("?") and study.protocol and study.differences
    assert registry.describe("studies", name).references


@pytest.mark.validate
@pytest.mark.parametrize("name", NAMES)
def test_a_study_runs_and_repeats_itself(name, tmp_path):
    found = run_study(name, "smoke", tmp_path / "a", progress=False)
    told = [check(claim, found.results) for claim in found.study.claims()]
    causes = [t["cause"] for t in told if t["verdict"] == "not run"]
    assert all("this scale" in cause for cause in causes)  # of what smoke leaves out, nothing else
    assert len(causes) < len(told) / 2 + 1
    for path in sorted((tmp_path / "a" / "cells").glob("*.json"))[::3]:
        path.unlink()
    again = run_study(name, "smoke", tmp_path / "a", progress=False)
    kept = [{k: v for k, v in r.items() if k != "seconds"} for r in found.results]
    assert kept == [{k: v for k, v in r.items() if k != "seconds"} for r in again.results]
    assert load_study(tmp_path / "a").verdicts == found.verdicts
