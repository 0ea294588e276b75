"""The list of runs: chosen, sorted, from two files each, and what is no run named as such."""

import json
import sys

import pytest

from bnnzoo.cli import main

BACKENDS, PRIORS = ("nuts", "hmc"), ("gaussian", "laplace", "student-t")
opened: list[str] = []
watching: list[str] = []


def _watch(event, arguments):
    if watching and event == "open" and str(arguments[0]).startswith(watching[0]):
        opened.append(str(arguments[0]))


sys.addaudithook(_watch)  # cannot be taken away again: it does nothing outside the one test


def make_run(folder, k, **changes):
    """A small run folder: number k of a grid of backends, priors and temperatures."""
    (folder / "draws.zarr").mkdir(parents=True)
    (folder / "draws.zarr" / "zarr.json").write_text("{}")
    temperature = (1.0, 0.1)[k % 5 == 0]
    manifest = {"format": 1, "state": "complete", "label": f"run {k}", "flags": []}
    manifest |= {"data": {"task": "regression"}, "metrics": {"nll": (k * 7919 % 1000) / 100}}
    manifest |= {"created": "2026-01-01T00:00:00Z", "wall_seconds": 1.0, **changes}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "run.toml").write_text(
        f'[data]\nname = "diabetes"\n[network]\nname = "mlp"\nwidths = [{10 + k % 2}]\n'
        f'[prior]\nname = "{PRIORS[k % 3]}"\nstd = {1.0 + k % 2}\n'
        f'[inference]\nbackend = "{BACKENDS[k % 2]}"\nposterior_temperature = {temperature}\n'
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for k in range(60):
        make_run(folder / f"r{k:02d}", k)
    return folder


@pytest.fixture
def listed(many, capsys):
    """The records that a command gives."""

    def command(*arguments):
        capsys.readouterr()
        assert main(["runs", str(many), "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    return command


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        (["backend=nuts"], lambda k: k % 2 == 0),
        (["backend!=nuts"], lambda k: k % 2 == 1),
        (["T=0.1"], lambda k: k % 5 == 0),
        (["posterior_temperature=1"], lambda k: k % 5 != 0),
        (["prior=laplace", "nll<5"], lambda k: k % 3 == 1 and k * 7919 % 1000 < 500),
        (["nll >= 5", "prior.std=2"], lambda k: k * 7919 % 1000 >= 500 and k % 2 == 1),
        (["network.widths=[11]"], lambda k: k % 2 == 1),
        (["run=r07"], lambda k: k == 7),
        (["backend<5"], lambda k: False),
        (["L=1"], lambda k: False),  # not recorded: only != holds
        (["L!=1"], lambda k: True),
    ],
)
def test_conditions_choose(listed, conditions, kept):
    found = listed(*(a for c in conditions for a in ("--where", c)))
    assert [r["label"] for r in found] == [f"run {k}" for k in range(60) if kept(k)]


def test_sorting(listed):
    scores = [r["metrics"]["nll"] for r in listed("--sort", "nll")]
    assert scores == sorted(scores) and len(scores) == 60
    assert [r["metrics"]["nll"] for r in listed("--sort", "nll", "--reverse")] == scores[::-1]
    priors = [r["prior"] for r in listed("--sort", "prior")]
    assert priors == sorted(priors)


def test_a_missing_score_stays_last_either_way(tmp_path, capsys):
    for k, nll in enumerate((2.0, None, float("nan"), 1.0)):
        make_run(tmp_path / f"r{k}", k, metrics={} if nll is None else {"nll": nll})
    for more, first in ((["--reverse"], ["run 0", "run 3"]), ([], ["run 3", "run 0"])):
        assert main(["runs", str(tmp_path), "--json", "--sort", "nll", *more]) == 0
        labels = [r["label"] for r in json.loads(capsys.readouterr().out)]
        assert labels[:2] == first and set(labels[2:]) == {"run 1", "run 2"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sort", "nlll"), "unknown name 'nlll'; did you mean 'nll'?"),
        (("--where", "backnd=nuts"), "unknown name 'backnd'; did you mean 'backend'?"),
        (("--where", "prior.sd=1"), "unknown name 'prior.sd'; did you mean 'prior.std'?"),
        (("--where", "Q=1"), "unknown name 'Q'; choices: L, T, "),
        (("--where", "backend"), "--where backend: write NAME=VALUE"),
    ],
)
def test_a_name_that_no_run_has_is_refused(many, capsys, arguments, said):
    assert main(["runs", str(many), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_what_is_left_is_counted(many, capsys):
    assert main(["runs", str(many), "--where", "run=r07"]) == 0
    assert "1 run of 60" in capsys.readouterr().out
    assert main(["runs", str(many), "--where", "nll>99"]) == 0
    assert "None of 60 runs" in capsys.readouterr().out


def test_unfinished_foreign_and_older_folders_are_shown_by_name(tmp_path, capsys):
    make_run(tmp_path / "whole", 0)
    make_run(tmp_path / "going", 1, state="running", metrics={})
    make_run(tmp_path / "older", 2, format=0)
    make_run(tmp_path / "newer", 2, format=2)
    make_run(tmp_path / "spoiled", 3)
    (tmp_path / "spoiled" / "run.toml").write_text("[data\n")
    for name, text in {"list": "[1]", "app": '{"name": "app", "icons": []}', "cut": '{"fo'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    make_run(tmp_path / "shape", 4, data=[1])
    assert main(["runs", str(tmp_path), "--json"]) == 0
    found = {r["run"].rpartition("/")[2]: r for r in json.loads(capsys.readouterr().out)}
    assert {name: r["state"] for name, r in found.items()} == {
        **{"whole": "complete", "going": "running", "older": "other version"},
        **{"newer": "other version", "spoiled": "unreadable", "list": "foreign"},
        **{"app": "foreign", "cut": "unreadable", "shape": "foreign"},
    }
    assert "has format 0; this version reads format 1" in found["older"]["problem"]
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for said in ("unfinished", "other version", "foreign", "older", "app"):
        assert said in out


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.validate)])
def test_a_run_takes_two_small_reads(tmp_path, capsys, count):
    for k in range(count):
        make_run(tmp_path / f"{k:04d}", k)
    opened.clear()
    watching.append(str(tmp_path))
    try:
        assert main(["runs", str(tmp_path), "--where", "T=1", "--sort", "nll"]) == 0
    finally:
        watching.clear()
    assert f"{count * 4 // 5} runs of {count:,}" in capsys.readouterr().out
    files = [path for path in opened if path.endswith((".json", ".toml"))]
    assert len(files) == 2 * count == len(set(files))
    assert not any("draws.zarr" in path for path in opened)
