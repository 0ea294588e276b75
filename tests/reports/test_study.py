"""The runner of studies: resumes, refuses, loses nothing; and the page it writes."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bnnzoo as bz
from bnnzoo.errors import InputError, OptionError, RunError, UnknownNameError
from bnnzoo.reports.study import Cell, Results
from bnnzoo.reports.study_charts import standalone, to_csv
from bnnzoo.reports.study_page import column_texts, publish
from bnnzoo.reports.study_runner import code_hash, load_study, make_study, run_study

sys.path.insert(0, str(Path(__file__).parent))
from _toy_study import registered

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def toy():
    with registered():
        yield


def run(folder, scale="smoke", **options):
    return run_study("toy", scale, folder, progress=False, **options)


def contents(folder, *names):
    found = {p.name: p.read_text() for p in sorted((folder / "cells").iterdir())}
    found = {k: {**json.loads(v), "seconds": 0} for k, v in found.items()}
    return found, json.loads((folder / "claims.json").read_text())["claims"]


def test_a_study_is_run_and_judged(tmp_path):
    found = run(tmp_path / "s")
    assert found.verdicts == {"warm": "reproduced", "hot": "not run"}
    assert "4 of 4 cells" in repr(found)
    claims = json.loads((tmp_path / "s" / "claims.json").read_text())
    warm, hot = claims["claims"]
    assert warm["low"] < 0.9 < warm["high"] and warm["covers"] == "seeds"
    assert hot["cause"] == "no cell of this scale has T = 10.0"
    assert claims["sentence"] == "Of 2 claims, 1 reproduced and 1 not run."
    again = load_study(tmp_path / "s")
    assert again.verdicts == found.verdicts and list(again.results) == list(found.results)


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(log))
    run(tmp_path / "s")
    (tmp_path / "s" / "cells" / "T1-0.json").unlink()
    run(tmp_path / "s")
    assert log.read_text().split() == ["0.1-0", "0.1-1", "1-0", "1-1", "1-0"]


def test_a_failed_cell_is_named_and_the_rest_is_kept(tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    trap.write_text("raise")
    monkeypatch.setenv("TOY_TRAP", str(trap))
    with pytest.raises(RunError, match=r"cell T1-1 failed: ValueError: the trap; .* goes on"):
        run(tmp_path / "s")
    assert len(list((tmp_path / "s" / "cells").glob("*.json"))) == 3
    early = load_study(tmp_path / "s")
    assert early.verdicts["warm"] == "not run"
    trap.unlink()
    assert run(tmp_path / "s").verdicts["warm"] == "reproduced"


SCRIPT = """
import sys, time
sys.path.insert(0, {here!r})
import _toy_study
from bnnzoo.reports.study_runner import run_study
plain = _toy_study.Toy.run
def slow(self, **settings):
    time.sleep(0.15)
    return plain(self, **settings)
_toy_study.Toy.run = slow
with _toy_study.registered():
    run_study("toy", "paper", sys.argv[1], progress=False)
"""


def test_a_watched_study_has_a_page_before_it_is_finished(tmp_path, monkeypatch):
    (tmp_path / "trap").write_text("raise")
    monkeypatch.setenv("TOY_TRAP", str(tmp_path / "trap"))
    monkeypatch.setattr("bnnzoo.reports.study_runner.WATCH_SECONDS", -1.0)
    with pytest.raises(RunError):
        run(tmp_path / "s", watch=True)
    page = (tmp_path / "s" / "index.html").read_text()
    assert "3 of 4 cells done" in page and "location.reload()" in page
    assert "1 cells with T = 1.0 are missing: T1-1" in page
    (tmp_path / "trap").unlink()
    found = run(tmp_path / "s", watch=True)
    assert "4 of 4 cells done" in found.page.read_text()
    assert "location.reload()" not in found.page.read_text()


@pytest.mark.validate
def test_killed_anywhere_it_goes_on_to_the_same_results(tmp_path):
    run(tmp_path / "whole", "paper")
    script, folder = SCRIPT.format(here=HERE), tmp_path / "killed"
    for least in (1, 7):
        process = subprocess.Popen([sys.executable, "-P", "-c", script, str(folder)])
        deadline = time.monotonic() + 120
        while len(list(folder.glob("cells/*.json"))) < least and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "index.html").exists()
    run(folder, "paper")
    assert contents(folder) == contents(tmp_path / "whole")


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    folder = tmp_path / "s"
    script = SCRIPT.format(here=HERE)
    process = subprocess.Popen([sys.executable, "-P", "-c", script, str(folder)])
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("cells/*.json")) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(InputError, match="another process is at work in"):
            run(folder, "paper")
    finally:
        process.kill()
        process.wait()
    assert run(folder, "paper").verdicts["warm"] == "reproduced"  # the lock went with it


def test_a_folder_of_something_else_is_refused(tmp_path):
    run(tmp_path / "s")
    with pytest.raises(InputError, match="holds the study toy at scale smoke: give another"):
        run(tmp_path / "s", "small")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("!")
    with pytest.raises(InputError, match="exists and holds no study"):
        run(tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    manifest = tmp_path / "s" / "study.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told | {"code": "another"}))
    with pytest.raises(InputError, match="another version of the study toy"):
        run(tmp_path / "s")
    manifest.write_text(json.dumps(told | {"format": 99}))
    with pytest.raises(InputError, match="format 99, this version of bnnzoo reads 1"):
        load_study(tmp_path / "s")
    manifest.write_text("{")
    with pytest.raises(InputError, match=r"study.json is damaged"):
        load_study(tmp_path / "s")
    with pytest.raises(InputError, match="holds no study"):
        load_study(tmp_path / "nowhere")


def test_cells_of_other_settings_are_refused(tmp_path):
    run(tmp_path / "s")
    path = tmp_path / "s" / "cells" / "T1-0.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"settings": {"T": 2.0, "seed": 0}}))
    with pytest.raises(InputError, match=r"T1-0.json has other settings"):
        load_study(tmp_path / "s")
    path.write_text("half a fi")
    with pytest.raises(InputError, match=r"T1-0.json is damaged: delete it"):
        run(tmp_path / "s")


def test_names_that_do_not_exist(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'toy'"):
        run_study("toyy", "smoke", tmp_path / "s")
    with pytest.raises(OptionError, match="scale = 'tiny'"):
        run_study("toy", "tiny", tmp_path / "s")
    with pytest.raises(OptionError, match="workers = 0"):
        run(tmp_path / "s", workers=0)
    assert not (tmp_path / "s").exists()
    with pytest.raises(InputError, match="letters, digits"):
        Cell("../up", {})


# -- workers ---------------------------------------------------------------------------------------


@pytest.mark.validate
def test_a_worker_killed_in_the_middle_of_a_cell_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))
    trap = tmp_path / "trap"
    trap.write_text("die")
    monkeypatch.setenv("TOY_TRAP", str(trap))
    run(tmp_path / "pool", workers=2)
    assert not trap.exists(), "no worker died"
    monkeypatch.delenv("TOY_TRAP")
    run(tmp_path / "alone")
    assert contents(tmp_path / "pool") == contents(tmp_path / "alone")


def test_a_scheduler_that_does_not_answer_is_named_with_a_way_on(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("bnnzoo.reports.study_workers.TIMEOUT", 1)
    with pytest.raises(InputError, match=r"answers at tcp://127.0.0.1:9: .*; --workers runs cells"):
        run(tmp_path / "s", scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / "s").exists()


# -- the page --------------------------------------------------------------------------------------


def test_the_page_escapes_fetches_nothing_and_links_its_data(tmp_path):
    page = run(tmp_path / "s").page.read_text()
    assert "Is &lt;b&gt;T&lt;/b&gt; what it says?" in page and "&lt;mean&gt;" in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "data:text/csv" in page and page.count("<figcaption>") == 1
    text = (tmp_path / "s" / "index.md").read_text()
    assert r"Draw numbers \| and look." in text and "**reproduced**" in text


def test_published_results_are_small_files(tmp_path):
    files = publish(run(tmp_path / "s"), tmp_path / "published")
    names = sorted(p.name for p in files)
    assert names == ["README.md", "claims.json", "means.csv", "means.svg"]
    text = (tmp_path / "published" / "toy" / "README.md").read_text()
    assert "](means.svg)" in text and str(tmp_path) not in text
    first = {p.name: p.read_text() for p in files}
    publish(load_study(tmp_path / "s"), tmp_path / "published")
    assert {p.name: p.read_text() for p in files} == first


def test_a_chart_stands_alone_with_its_data(tmp_path):
    from xml.etree import ElementTree

    chart = make_study("toy", "smoke").charts(run(tmp_path / "s").results)[0]
    drawn = ElementTree.fromstring(standalone(chart))
    assert drawn.tag.endswith("svg") and "<mean>" in "".join(drawn.itertext())
    rows = list(csv.reader(io.StringIO(to_csv(chart))))
    assert rows[0] == ["series", "T", "mean", "low", "high"] and len(rows) == 3
    assert float(rows[1][3]) < float(rows[1][2]) < float(rows[1][4])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 0.3, 0.03], ["1", "0.3", "0.03"]),  # settings, as they were given
        ([-0.44012, 0.20733, -2.30712], ["−0.440", "0.207", "−2.307"]),
        ([277.81, 20.493, 8.9151], ["277.8", "20.5", "8.9"]),
        ([-5.636e-5, None, float("nan")], ["−0.000056", "–", "–"]),
        (["plain", 4], ["plain", "4"]),
    ],
)
def test_a_column_of_a_table_has_one_precision(values, said):
    assert column_texts(values) == said


def test_results_say_what_is_missing():
    cells = [Cell("a", {"T": 1}), Cell("b", {"T": 2})]
    found = Results(cells, {"a": {"v": 3}})
    assert found.where(T=1) == [{"T": 1, "v": 3}] and list(found) == [{"T": 1, "v": 3}]
    with pytest.raises(bz.errors.BnnzooError, match="1 cells with T = 2 are missing: b"):
        found.where(T=2)


def test_a_change_in_a_helper_is_another_version(monkeypatch):
    """Helpers of helpers too; what only tells results is left out."""
    module = "bnnzoo.reports.studies.priors_revisited"
    make_study("priors-revisited", "smoke")
    whole, source = code_hash(module), inspect.getsource
    changed = {}
    for part in ("_digits", "_digits_priors", "_priors_page"):
        monkeypatch.setattr(
            inspect, "getsource", lambda m, p=part: source(m) + "#" * m.__name__.endswith("." + p)
        )
        changed[part] = code_hash(module) != whole
    assert changed == {"_digits": True, "_digits_priors": True, "_priors_page": False}
