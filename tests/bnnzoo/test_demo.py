"""The demo in a tiny size: it ends, writes its page, and goes on where it was stopped."""

import json

import pytest

from bnnzoo.demo import Grid, main, run_demo

TINY = Grid(
    datasets={"diabetes": {"widths": [3]}},
    priors=("gaussian",),
    backends={"hmc": {"chains": 2, "warmup": 20, "draws": 20}},  # a second compiles for seconds
)


def test_grid_is_that_of_the_issue():
    grid = Grid()
    assert grid.size == 24
    assert len(grid.priors) >= 3
    assert len(grid.backends) >= 2
    assert len(grid.temperatures) >= 2
    assert list(grid.datasets) == ["diabetes", "breast-cancer"]
    assert len({name for dataset in grid.datasets for name, _ in grid.trees(dataset)}) == 24


def test_demo(tmp_path, capfd):
    page = run_demo(tmp_path / "page" / "report.html", tmp_path / "runs", TINY)
    out, err = capfd.readouterr()
    assert err == ""
    assert page.is_file()
    rows = [line.split()[:3] for line in out.splitlines() if line.startswith("  gaussian")]
    assert rows == [["gaussian", "hmc", "1"], ["gaussian", "hmc", "0.5"]]
    assert "kept" not in out
    assert str(page) in out
    assert "On diabetes, " in out
    assert max(len(line) for line in out.splitlines()[:-1]) <= 80
    report = json.loads(page.with_suffix(".json").read_text())
    assert report["run_count"] == 2
    assert page.with_suffix(".md").is_file()

    run_demo(page, tmp_path / "runs", TINY)
    assert capfd.readouterr().out.count("kept") == 2


def test_errors_are_one_line(tmp_path, capfd, monkeypatch):
    (tmp_path / "file").write_text("")
    assert main(["--runs", str(tmp_path / "file"), "--out", str(tmp_path / "report.html")]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("bnnzoo: cannot write")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bnnzoo.demo.run_demo", interrupted)
    assert main([]) == 130
    assert "the same command goes on" in capfd.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "--runs" in capsys.readouterr().out
