import errno
import json
import os
import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bnnzoo.errors import InputError, StorageError
from bnnzoo.reports import write_report
from bnnzoo.reports.runs import short_labels

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags, attributes, ids and text of a page; fails on tags that are closed out of order."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(demo_page):
    return Page(demo_page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(demo_page):
    return json.loads(demo_page.with_suffix(".json").read_text(encoding="utf-8"))


def test_the_three_files_are_written_and_nothing_else(demo_page):
    assert sorted(p.name for p in demo_page.parent.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    assert stat.S_IMODE(demo_page.stat().st_mode) & stat.S_IRUSR


def test_the_page_is_small_and_quick(demo_cost):
    page, seconds = demo_cost
    assert page.stat().st_size < 1_000_000
    assert seconds < 20  # about 3


def test_numbers_in_the_json_equal_a_naive_recomputation(demo_runs, data):
    for block in data["blocks"]:
        runs = {r.label: r for r in demo_runs if r.manifest["data"]["hash"] == block["hash"]}
        assert len(block["runs"]) == len(runs) == 12
        density = {k: r.tree["test_scores"]["log_density"].values for k, r in runs.items()}
        ranked = sorted(density, key=lambda k: -density[k].mean())
        assert [row["label"] for row in block["runs"]] == ranked
        best = density[ranked[0]]
        for i, row in enumerate(block["runs"]):
            own = density[row["label"]]
            assert row["number"] == i + 1
            assert row["log_density"]["value"] == pytest.approx(own.mean())
            assert row["metrics"]["nll"]["value"] == pytest.approx(-own.mean())
            gap = own - best
            assert row["versus_best"]["difference"] == pytest.approx(gap.mean(), abs=1e-12)
            for j, other in enumerate(ranked):
                gap = own - density[other]
                pairs = block["pairs"]
                assert pairs["difference"][i][j] == pytest.approx(gap.mean(), abs=1e-12)
                error = np.std(gap, ddof=1) / len(gap) ** 0.5
                assert pairs["standard_error"][i][j] == pytest.approx(error, abs=1e-12)
        verdict, next_best = block["verdict"], density[ranked[1]]
        assert verdict["difference"] == pytest.approx((best - next_best).mean())
        error = np.std(best - next_best, ddof=1) / len(best) ** 0.5
        assert verdict["errors"] == pytest.approx((best - next_best).mean() / error)


def test_json_is_strict(demo_page):
    def refuse(name):
        raise AssertionError(name)

    json.loads(demo_page.with_suffix(".json").read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_page_says_what_the_data_say(page, data):
    for block in data["blocks"]:
        assert block["verdict"]["sentence"] in page.text
        for caution in block["cautions"]:
            assert caution["text"] in page.text
        for panel in block["temperature"]:
            assert panel["sentence"] in page.text
    for heading in ("Summary", "Predictions", "Convergence", "Calibration", "Temperature"):
        assert page.text.count(heading) >= 2
    assert "Settings and versions" in page.text and "numpyro 0.22.0" in page.text
    assert "posterior_temperature = 0.1" in page.text and "Data hash" in page.text


def test_data_sets_are_never_compared_with_each_other(data):
    diabetes, cancer = data["blocks"]
    assert (diabetes["name"], cancer["name"]) == ("diabetes", "breast-cancer")
    assert len(diabetes["pairs"]["difference"]) == len(cancer["pairs"]["difference"]) == 12


def test_flags_are_shown(page):
    assert "chain 2 did not move for 120 draws" in page.text
    assert "31 transitions diverged" in page.text
    assert "one chain: not defined" in page.text


def test_the_page_fetches_nothing(demo_page, page):
    text = demo_page.read_text(encoding="utf-8")
    for tag, attributes in page.tags:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "srcset", "action", "xlink:href", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    assert "@import" not in text and not re.search(r"url\(\s*['\"]?(?!data:|#)", text)
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", text)
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    assert not re.search(r"fetch|XMLHttp|import\(|WebSocket|eval|innerHTML", script)
    policy = next(a["content"] for t, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_the_page_is_sound_html(page):
    assert len(page.ids) == len(set(page.ids))
    links = [a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")]
    assert set(links) <= set(page.ids) and len(links) > 12
    labelled = [a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a]
    assert set(labelled) <= set(page.ids)
    plots = [a for t, a in page.tags if t == "svg" and a.get("class") == "plot"]
    assert len(plots) > 40 and all(a["aria-label"] for a in plots)
    hidden = [a for t, a in page.tags if t == "svg" and a.get("class") in ("strip", "key")]
    assert hidden and all(a["aria-hidden"] == "true" for a in hidden)
    captions = [t for t, _ in page.tags if t == "figcaption"]
    assert len(captions) == len([t for t, _ in page.tags if t == "figure"]) >= 8


def test_text_from_data_is_escaped(fakes, tmp_path):
    flags = ({"chain": 0, "kind": EVIL, "message": EVIL},)
    runs = [
        fakes.fake_run(label=f"{EVIL}, {k}", name=EVIL, prior_options={EVIL: EVIL}, flags=flags)
        for k in "ab"
    ]
    for run in runs:
        run.manifest["device"] = EVIL
        run.manifest["versions"][EVIL] = EVIL
        run.path = Path(f"runs/{EVIL.replace('/', '')}")
    path = write_report(runs, tmp_path / "report.html", title=EVIL)
    html = path.read_text(encoding="utf-8")
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    assert html.count("<script>") == 1  # the page's own
    assert EVIL in Page(html).text
    markdown = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert json.loads(path.with_suffix(".json").read_text())["title"] == EVIL


def test_markdown_tables_are_well_formed(demo_page):
    lines = demo_page.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    tables = [k for k, line in enumerate(lines) if re.fullmatch(r"\|[:|-]+\|", line)]
    # Two of verdicts on temperatures, and one a kind of evidence.
    assert len(tables) == 2 * 7 + 2 + 5
    for rule in tables:
        width = lines[rule].count("|")
        assert lines[rule - 1].startswith("|") and lines[rule - 2] == ""
        rows = 0
        while lines[rule + 1 + rows].startswith("|"):
            cells = re.sub(r"\\\|", "", lines[rule + 1 + rows])
            assert cells.count("|") == width
            rows += 1
        assert rows >= (1 if lines[rule - 1].startswith("| # |") else 12)
    assert "\n\n\n\n" not in "\n".join(lines)


def test_markdown_says_the_same(demo_page, data):
    text = demo_page.with_suffix(".md").read_text(encoding="utf-8").replace("\\", "")
    for block in data["blocks"]:
        assert block["verdict"]["sentence"] in text
        for caution in block["cautions"]:
            assert caution["text"] in text


def test_two_splits_of_one_name_are_kept_apart(fakes, tmp_path):
    runs = [fakes.fake_run(test_rows=20), fakes.fake_run(test_rows=30)]
    path = write_report(runs, tmp_path / "report.html")
    blocks = json.loads(path.with_suffix(".json").read_text())["blocks"]
    assert len({b["title"] for b in blocks}) == 2
    assert all(re.fullmatch(r"diabetes \([0-9a-f]{8}\)", b["title"]) for b in blocks)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_odd_runs_make_a_page(fakes, tmp_path, task):
    """No test rows, no draws to speak of, missing groups, hand-written models, infinities."""
    bare = fakes.fake_run(task=task, draws=2, label="bare")
    for name in ("posterior", "sample_stats", "function_draws", "log_likelihood"):
        del bare.tree[name]
    bare.manifest = {"data": bare.manifest["data"], "state": "complete"}
    zero = fakes.fake_run(task=task, label="zero")
    density = zero.tree["test_scores"]["log_density"].values.copy()
    density[0] = -np.inf
    fakes.replace(zero, "test_scores", log_density=density)
    own = fakes.fake_run(task=task, label="own", draws=3)
    spec = own.spec.model_dump()
    spec |= {"network": {}, "prior": {}, "model": {"name": "eight_schools"}}
    own.spec = type(own.spec)(**spec)
    stuck = fakes.fake_run(task=task, label="stuck")
    f = stuck.tree["function_draws"]["f"].values
    fakes.replace(stuck, "function_draws", f=f * 0 + np.arange(4.0).reshape(4, 1, 1, 1))
    blank = fakes.fake_run(task=task, test_rows=0)
    path = write_report([bare, zero, own, stuck, blank], tmp_path / "report.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert "eight_schools" in page.text and "nan" not in page.text.lower().split()
    assert "There are no test rows" in page.text
    json.loads(path.with_suffix(".json").read_text())


def test_short_labels_keep_what_differs():
    assert short_labels(["mlp, laplace, T=1", "mlp, gaussian, T=1"]) == ["laplace", "gaussian"]
    assert short_labels(["mlp", "mlp, wide"]) == ["mlp", "mlp, wide"]  # one would be empty
    assert short_labels(["a", "b"]) == ["a", "b"] and short_labels(["a, b"]) == ["a, b"]


def test_no_runs_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least one run"):
        write_report([], tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_one_run_needs_no_list(fakes, tmp_path):
    write_report(fakes.fake_run(), tmp_path / "report.html")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("given", ["runs/a", Path("runs/a"), 3, np.ones((30, 30))])
def test_what_is_no_run_is_one_clear_line(given, tmp_path):
    with pytest.raises(InputError, match="a report takes runs") as caught:
        write_report(given, tmp_path / "report.html")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_or_a_companion_is_refused_as_the_page(fakes, tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        write_report([fakes.fake_run()], tmp_path)
    with pytest.raises(InputError, match=r"report\.html"):
        write_report([fakes.fake_run()], tmp_path / "report.md")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(fakes, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bnnzoo.reports.writing.os.fsync", full)
    with pytest.raises(StorageError, match=r"cannot write the report in .*No space left") as caught:
        write_report([fakes.fake_run()], tmp_path / "new" / "folder" / "report.html")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_page(fakes, tmp_path, monkeypatch):
    path = write_report([fakes.fake_run()], tmp_path / "report.html", title="first")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bnnzoo.reports.writing.os.fsync", full)
    with pytest.raises(StorageError):
        write_report([fakes.fake_run()], path, title="second")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_one_clear_line(fakes, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the report"):
        write_report([fakes.fake_run()], tmp_path / "file" / "report.html")


@pytest.mark.parametrize("name", ["html", "md", "json"])
def test_one_format_alone(fakes, tmp_path, name):
    whole = write_report([fakes.fake_run()], tmp_path / "whole.html")
    path = write_report([fakes.fake_run()], tmp_path / "one" / f"r.{name}", format=name)
    assert [p.name for p in path.parent.iterdir()] == [f"r.{name}"]
    texts = [p.read_text(encoding="utf-8") for p in (path, whole.with_suffix(f".{name}"))]
    dated = [re.sub(r"\d{4}-\d\d-\d\d[T ][\d:]{5,8}", "", text) for text in texts]
    assert dated[0] == dated[1]


@pytest.mark.parametrize(
    ("name", "format", "said"),
    [
        ("r.html", "md", r"is not named as md; give a name such as .*r\.md"),
        ("r.json", "html", r"is not named as html; give a name such as .*r\.html"),
        ("r.html", "markdown", r"format = 'markdown'.*choices: html, json, md"),
        (
            "r.pdf",
            None,
            r"r\.pdf ends in \.pdf, and a report in \.html, \.md, \.json; give .*r\.html",
        ),
        ("run.2", None, r"run\.2 ends in \.2, "),
        ("r.txt", "md", r"r\.txt ends in \.txt, .* give a name such as .*r\.md"),
        ("", "json", r"is a folder; give the page a name, such as .*report\.json"),
    ],
)
def test_a_format_that_does_not_fit_is_refused(fakes, tmp_path, name, format, said):
    with pytest.raises(InputError, match=said):
        write_report([fakes.fake_run()], tmp_path / name, format=format)
    assert list(tmp_path.iterdir()) == []
