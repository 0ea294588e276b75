"""Bad input through the command line: one clear line, exit code 2, nothing left on the disk."""

import errno
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.cli import main
from bnnzoo.cli.options import make_tree
from bnnzoo.errors import BnnzooError, DataError

FIT = ["fit", "--dataset", "diabetes", "--out", "out"]


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    found = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in found}


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """Run a command that must be refused, in an empty folder; gives the line it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, leaves: bool = False, silent: bool = False) -> str:
        capfd.readouterr()
        before, folders = snapshot(tmp_path), {p for p in tmp_path.rglob("*") if p.is_dir()}
        code = main([str(a) for a in arguments])
        printed = capfd.readouterr()
        lines = printed.err.splitlines()
        assert not (silent and printed.out)
        assert code == 2, lines
        assert len(lines) == 1, lines
        assert lines[0].startswith("bnnzoo: ")
        assert "Traceback" not in lines[0]
        if not leaves:
            assert snapshot(tmp_path) == before
            assert {p for p in tmp_path.rglob("*") if p.is_dir()} == folders
        return lines[0]

    return run


# -- names -------------------------------------------------------------------------------------

NAMES = {
    "prior": ([*FIT, "--prior", "gausian"], "unknown prior 'gausian'", "'gaussian'"),
    "network": ([*FIT, "--network", "mpl"], "unknown network 'mpl'", "'mlp'"),
    "backend": ([*FIT, "--backend", "nut"], "unknown backend 'nut'", "'nuts'"),
    "likelihood": ([*FIT, "--likelihood", "gauss"], "unknown likelihood 'gauss'", "'gaussian'"),
    "dataset": (["fit", "--dataset", "diabete"], "unknown dataset 'diabete'", "'diabetes'"),
    "no dataset": (["fit"], "no data set is given", "diabetes"),
    "model": ([*FIT, "--model", "bo-surogate-mlp"], "'bo-surogate-mlp'", "'bo-surrogate-mlp'"),
    "model and prior": (
        [*FIT, "--model", "bo-surrogate-mlp", "--prior", "laplace"],
        "already fixes the prior",
    ),
    "likelihood of the other task": (
        [*FIT, "--likelihood", "categorical"],
        "is for classification",
        "gaussian",
    ),
    "option": ([*FIT, "--set", "network.wdiths=[3]"], "network.wdiths", "'widths'"),
    "option of inference": ([*FIT, "--set", "inference.drwas=3"], "inference.drwas", "'draws'"),
    "minibatches for an exact backend": (
        [*FIT, "--backend", "nuts", "--set", "inference.batch_size=10"],
        "unknown option inference.batch_size with backend 'nuts'",
        "; it is one of ",
        "mean-field-vi",
    ),
    "elliptical slices of a Laplace prior": (
        [*FIT, "--backend", "elliptical-slice", "--prior", "laplace"],
        "has a Laplace prior",
        "nuts, hmc",
    ),
    "Gibbs without variances": (
        [*FIT, "--backend", "gibbs-hmc"],
        "no inverse-gamma site",
        "nuts, hmc",
        "'hierarchical-gaussian'",
    ),
    "option of data": ([*FIT, "--set", "data.test_sise=0.2"], "data.test_sise", "'test_size'"),
    "section": ([*FIT, "--set", "netwrk.widths=[3]"], "netwrk", "'network'"),
    "assignment": ([*FIT, "--set", "widths=3"], "'widths=3'", "section.option=value"),
    "activation": ([*FIT, "--set", "network.activation=tan"], "'tan'", "'tanh'"),
    "kind": (["list", "prios"], "unknown kind 'prios'", "'priors'"),
    "kind described": (["describe", "prios", "gaussian"], "unknown kind 'prios'", "'priors'"),
    "name described": (["describe", "prior", "studentt"], "'studentt'", "'student-t'"),
    "tag": (["list", "priors", "--tag", "famly=x"], "'famly'", "'family'"),
    "tag without value": (["list", "priors", "--tag", "family"], "'family'", "name=value"),
    "tag without kind": (["list", "--tag", "a=b"], "--tag needs a kind"),
    "flag": ([*FIT, "--prio", "gaussian"], "unknown option --prio", "'--prior'"),
    "command": (["fitt"], "unknown command 'fitt'", "'fit'"),
    "missing argument": (["describe", "priors"], "describe needs NAME"),
    "missing value": (["fit", "--dataset"], "--dataset"),
    "extra argument": (["doctor", "x"], "unexpected extra argument"),
    "model without function": ([*FIT, "--model", "none.py:model"], "no such file: none.py"),
    "run": (["report", "nowhere"], "no run at nowhere"),
    "folder of runs": (["runs", "nowhere"], "no such folder: nowhere"),
    "config": (["fit", "--config", "none.toml"], "cannot read none.toml: no such file"),
    "prior rule": (
        [*FIT, "--prior", "gaussian", "--set", 'prior.rules."layer.0.*".std=2'],
        "'layer.0.*' matches no parameter",
        "layers.0.kernel",
    ),
}


@pytest.mark.parametrize("case", NAMES)
def test_unknown_names_are_told_with_the_nearest(case, refused):
    arguments, *expected = NAMES[case]
    line = refused(*arguments)
    for text in expected:
        assert text in line


# -- numbers -----------------------------------------------------------------------------------

WHERE = {
    "prior.std": "--set prior.std={}",
    "prior.df": "--prior student-t --set prior.df={}",
    "network.widths": "--set network.widths=[{}]",
    "inference.posterior_temperature": "--posterior-temperature {}",
    "inference.likelihood_temperature": "--likelihood-temperature {}",
    "inference.chains": "--chains {}",
    "inference.draws": "--draws {}",
}


@pytest.mark.parametrize("value", ["-1", "0", "nan"])
@pytest.mark.parametrize("option", WHERE)
def test_numbers_out_of_range(option, value, refused):
    line = refused(*FIT, *WHERE[option].format(value).split())
    assert option in line
    assert value in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--chains many", "inference.chains = 'many': should be a whole number"),
        ("--draws 2.5", "inference.draws = 2.5: should be a whole number"),
        ("--dtype float16", "inference.dtype = 'float16'"),
        ("--max-time 0", "--max-time 0"),
        ("--max-time nan", "--max-time nan"),
        ("--set network.widths=3", "network.widths = 3: should be a list, as [3]"),
        ("--prior student-t --set prior.df=2", "prior.df = 2"),
        ("--prior student-t --set prior.df=3 --posterior-temperature 5", "improper"),
    ],
)
def test_values_that_cannot_be(arguments, expected, refused):
    assert expected in refused(*FIT, *arguments.split())


def test_python_refuses_the_same():
    data = bz.make_dataset(np.arange(6.0), np.arange(6.0), task="regression")
    with pytest.raises(BnnzooError, match=r"unknown prior 'gausian'; did you mean 'gaussian'"):
        bz.make_model(prior="gausian")
    with pytest.raises(BnnzooError, match=r"network\.wdiths.*'widths'"):
        bz.make_model(network_options={"wdiths": [3]})
    for std in (-1.0, 0.0, float("nan")):
        with pytest.raises(BnnzooError, match=r"prior\.std"):
            bz.make_model(prior_options={"std": std})
    model = bz.make_model(network_options={"widths": [3]})
    for name in ("chains", "draws"):
        with pytest.raises(BnnzooError, match=rf"inference\.{name} = 0"):
            bz.fit(model, data, **{name: 0})
    for T in (-1.0, 0.0, float("nan")):
        with pytest.raises(BnnzooError, match="posterior_temperature"):
            bz.Posterior(model, data, posterior_temperature=T)
    with pytest.raises(BnnzooError, match=r"unknown backend 'nut'.*'nuts'"):
        bz.fit(model, data, backend="nut")
    rules = {"rules": {"layer.*": {"std": 2.0}}}
    with pytest.raises(BnnzooError, match=r"'layer\.\*' matches no parameter"):
        bz.Posterior(bz.make_model(prior_options=rules), data)
    with pytest.raises(BnnzooError, match="2 features"):
        data.check_inputs(np.zeros((3, 2)))


# -- tables ------------------------------------------------------------------------------------

TABLES = {
    "nan": ("a,y\n1,2.5\nnan,3.5\n3,1.5\n", "line 3, column 'a' is missing"),
    "infinity": ("a,y\n1,2.5\ninf,3.5\n3,1.5\n", "line 3, column 'a' is inf"),
    "nan target": ("a,y\n1,2.5\n2,nan\n3,1.5\n", "line 3, column 'y' is missing"),
    "nan label": ("a,y\n1,no\n2,yes\n3,\n4,no\n", "line 4, column 'y' is missing"),
    "text in numbers": ("a,y\n1,2.5\n2,x\n3,1.5\n4,1.5\n", "'x'"),
    "single row": ("a,y\n1,2.5\n", "1 row"),
    "no row": ("a,y\n", "no rows"),
    "empty": ("", "is empty"),
    "one column": ("y\n1\n2\n", "one column"),
    "duplicate columns": ("a,a,y\n1,2,3\n", "columns 1 and 2 are both named 'a'"),
    "unparseable": ("a,y\n1,2\n3,4,5\n6,7\n", "line 3 has 3 cells; the header has 2"),
    "unclosed quote": ('a,y\n1,2\n"3,4\n', "a quote in line 3 is never closed"),
    "dates": ("a,y\n2020-01-31,2\n2020-02-01,4\n", "'2020-01-31', a date or time"),
    "no target": ("a,z\n1,2\n3,4\n", "unknown column of table.csv 'y'"),
    "one class": ("a,y\n" + "1,no\n" * 20, "one class"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_cannot_be_modelled(case, refused):
    text, expected = TABLES[case]
    Path("table.csv").write_text(text)
    line = refused("fit", "--dataset", "table.csv", "--target", "y", "--out", "out")
    assert expected in line


def test_files_that_are_no_tables(refused):
    assert "no such file: none.csv" in refused("fit", "--dataset", "none.csv")
    Path("data.txt").write_text("a,y\n1,2\n")
    assert "only .csv, .tsv, .parquet, .pq are read" in refused("fit", "--dataset", "data.txt")
    Path("table.parquet").write_text("a,y\n1,2\n")
    assert "table.parquet cannot be read as Parquet" in refused("fit", "--dataset", "table.parquet")
    Path("table.csv").write_text("first,second,y\n1,2,3.5\n2,3,4.5\n")
    line = refused("fit", "--dataset", "table.csv", "--target", "secnd")
    assert "'secnd'" in line
    assert "'second'" in line
    line = refused("fit", "--dataset", "table.csv", "--task", "clasification")
    assert "data.task = 'clasification': should be 'regression' or 'classification'" in line
    line = refused("fit", "--dataset", "table.csv", "--target", "y,first", "--target", "second")
    assert "unknown column of table.csv 'y,first'" in line
    targets = ("--target", "y", "--target", "first", "--task", "classification")
    assert "2 are given: y, first" in refused("fit", "--dataset", "table.csv", *targets)
    assert "'missing'" in refused("fit", "--dataset", "table.csv", "--set", "data.mising=impute")
    assert "unknown option data.task" in refused(*FIT, "--task", "regression")


def test_toml(refused):
    Path("broken.toml").write_text("[prior\nname = 3")
    line = refused("fit", "--config", "broken.toml")
    assert "broken.toml is not valid TOML" in line
    assert "line 1" in line
    Path("section.toml").write_text("[priors]\nname = 'gaussian'\n")
    assert "'prior'" in refused("fit", "--config", "section.toml", "--dataset", "diabetes")
    Path("flat.toml").write_text("prior = 'gaussian'\n")
    assert "section" in refused("fit", "--config", "flat.toml", "--prior", "laplace")


def test_constant_feature_is_allowed_and_warned_of(tiny):
    assert "feature 'c' is constant" in tiny.stdout


def test_model_files(refused):
    Path("broken.py").write_text("import nothing_of_that_name\n")
    line = refused(*FIT, "--model", "broken.py:model")
    assert "cannot import broken.py, line 1: ModuleNotFoundError" in line
    Path("syntax.py").write_text("x = 1\ndef f(:\n")
    assert "cannot import syntax.py, line 2" in refused(*FIT, "--model", "syntax.py:f")
    Path("fine.py").write_text("number = 3\ndef regression(x, y=None):\n    pass\n")
    assert "'regression'" in refused(*FIT, "--model", "fine.py:regresion")
    assert "not a function" in refused(*FIT, "--model", "fine.py:number")
    assert "name the function" in refused(*FIT, "--model", "fine.py")
    assert "did you mean 'fine.py'" in refused(*FIT, "--model", "fin.py:regression")
    assert refused(*FIT, "--model", "own.py:regression") == "bnnzoo: no such file: own.py"
    own = refused(*FIT, "--model", "fine.py:regression", "--prior", "laplace")
    assert "leave [prior] out" in own


ADVICE = {  # what must be typed, and what the same is in Python
    "a,y\n1,0.5\n,1.5\n3,2.5\n": ("--set data.missing=impute", "missing='impute'"),
    "a b,y\n1,0.5\n2,1.5\nx,2.5\n": ("--set 'data.categorical=a b'", r"categorical=\['a b'\]"),
    "a,y\n1,0\n2,1\n3,?\n": ("--task classification", "task='classification'"),
}


@pytest.mark.parametrize("content", ADVICE)
def test_advice_is_what_is_typed_where_it_is_read(content, refused):
    Path("t.csv").write_text(content)
    typed, python = ADVICE[content]
    line = refused("fit", "--dataset", "t.csv", "--out", "out")
    assert f"; {typed} " in line
    assert not re.search(python, line)
    with pytest.raises(DataError, match=f"; {python} "):
        bz.load_dataset("t.csv")
    flag, value = shlex.split(typed)
    place = value if flag == "--set" else f"data.{flag.removeprefix('--')}={value}"
    options = make_tree(None, {}, [place])["data"]
    assert len(bz.load_dataset("t.csv", test_size=0.0, **options).y) == 3  # good advice


# -- predictions -------------------------------------------------------------------------------


def test_rows_to_predict_must_match(tiny, refused):
    Path("few.csv").write_text("a,b\n1,2\n")
    assert "no column 'c'" in refused("predict", tiny.folder, "few.csv", "-o", "out.csv")
    Path("text.csv").write_text("a,b,c\n1,x,7\n")
    assert "'x'" in refused("predict", tiny.folder, "text.csv")
    Path("holes.csv").write_text("a,b,c\n1,,7\n")
    assert "column 'b' is missing" in refused("predict", tiny.folder, "holes.csv")
    Path("empty.csv").write_text("")
    assert "is empty" in refused("predict", tiny.folder, "empty.csv")
    assert "no such file" in refused("predict", tiny.folder, "nowhere.csv")
    Path("rows.csv").write_text("a,b,c\n1,2,7\n")
    assert "is a folder" in refused("predict", tiny.folder, "rows.csv", "-o", ".")
    line = refused("predict", tiny.folder, "rows.csv", "-o", "./rows.csv")
    assert "rows.csv holds the rows to predict; name another file" in line
    line = refused("predict", tiny.folder, "rows.csv", "-o", "out.parquet")
    assert "predictions are CSV: name out.csv in place of out.parquet" in line
    Path("rows.txt").write_text("a,b,c\n1,2,7\n")
    assert "only .csv, .tsv, .parquet, .pq are read" in refused("predict", tiny.folder, "rows.txt")
    Path("none.csv").write_text("a,b,c\n")
    line = refused("predict", tiny.folder, "none.csv", "-o", "new/out.csv")
    assert "none.csv has a header and no rows" in line
    Path("near.csv").write_text("a,b,cc\n1,2,7\n")
    line = refused("predict", tiny.folder, "near.csv")
    assert "near.csv has no column 'c'; did you mean 'cc'" in line
    Path("file").write_text("")
    line = refused("predict", tiny.folder, "rows.csv", "-o", "file/out.csv")
    assert "a part of the path is a file" in line or "a file is in the way" in line


# -- folders -----------------------------------------------------------------------------------


def test_out_that_holds_another_run(tiny, refused):
    line = refused(*tiny.arguments, "--seed", "5", silent=True)
    assert f"{tiny.folder} holds a different run: inference.seed is 0 there and 5 here" in line


def test_fewer_draws_than_a_run_has(tiny, refused):
    before = snapshot(tiny.folder)
    line = refused("resume", tiny.folder, "--draws", "19", silent=True)
    assert "draws = 19" in line and "one of 20 a chain" in line
    assert snapshot(tiny.folder) == before


def test_out_that_holds_this_run_is_reused(tiny, capfd):
    before = snapshot(tiny.folder)
    assert main(tiny.arguments) == 0
    out, err = capfd.readouterr()
    assert "already finished: reusing it" in out
    assert err == ""
    assert snapshot(tiny.folder) == before


def test_out_that_is_no_run(tiny, refused):
    Path("full").mkdir()
    Path("full/precious.txt").write_text("mine")
    line = refused(*tiny.arguments, "--out", "full", silent=True)
    assert "full holds files that are not a run ('precious.txt')" in line
    assert "cannot write full/precious.txt" in refused(
        *tiny.arguments, "--out", "full/precious.txt", silent=True
    )
    line = refused(*tiny.arguments, "--out", "full/precious.txt/run")
    assert "cannot write full/precious.txt/run: a part of the path is a file" in line


def refuse_to_write(monkeypatch, number: int) -> None:
    import bnnzoo.store._files as files

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "sync", fail)
    monkeypatch.setattr("bnnzoo.store._tree.sync", fail)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "permission denied")]
)
def test_disk_that_takes_nothing(tiny, refused, monkeypatch, number, words):
    refuse_to_write(monkeypatch, number)
    line = refused(*tiny.arguments, "--out", "new/run")
    assert "cannot write new/run" in line
    assert words in line
    Path("rows.csv").write_text("a,b,c\n1,2,7\n")
    line = refused("predict", tiny.folder, "rows.csv", "-o", "out.csv")
    assert words in line
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(number, "")))
    assert "cannot write the report" in refused("report", tiny.folder, "-o", "pages/report.html")


def test_disk_that_fills_before_the_draws_are_written(tiny, refused, monkeypatch, capfd):
    """What was drawn is not lost: the run can be gone on with once there is room."""
    with monkeypatch.context() as full:
        refuse = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        full.setattr("bnnzoo.store._tree.sync", lambda *_: (_ for _ in ()).throw(refuse))
        line = refused(*tiny.arguments, "--out", "run", leaves=True)
    assert "cannot write run" in line
    assert "no space left" in line
    assert {p.name for p in Path("run").iterdir()} == {"run.toml", "manifest.json", "checkpoint"}
    assert main(["resume", "run", "--no-progress"]) == 0
    assert not (Path("run") / "checkpoint").exists()
    assert json.loads(Path("run/manifest.json").read_text())["state"] == "complete"


# -- runs that were damaged --------------------------------------------------------------------


@pytest.fixture
def damaged(tiny, tmp_path):
    """A copy of the run to damage, and one of its chunks."""
    copy = tmp_path / "damaged"
    shutil.copytree(tiny.folder, copy)
    return copy, next(iter(sorted((copy / "draws.zarr" / "posterior").rglob("c.*"))))


def test_manifest_that_is_corrupted(damaged, refused):
    folder, _ = damaged
    Path("rows.csv").write_text("a,b,c\n1,2,7\n")
    (folder / "manifest.json").write_text('{"state": "complete"')
    commands = (["report", folder], ["predict", folder, "rows.csv"], ["resume", folder])
    for command in commands:
        line = refused(*command)
        assert f"{folder / 'manifest.json'} is not valid JSON" in line
    (folder / "manifest.json").unlink()
    for command in commands:
        assert "manifest.json is missing" in refused(*command)


@pytest.mark.parametrize("harm", ["missing", "truncated", "changed"])
def test_chunk_that_is_harmed(damaged, refused, harm):
    folder, chunk = damaged
    content = chunk.read_bytes()
    if harm == "missing":
        chunk.unlink()
    else:
        chunk.write_bytes(
            content[:-4] if harm == "truncated" else b"\x00\x01\x02\x03" + content[4:]
        )
    line = refused("report", folder)
    assert str(chunk) in line
    assert harm in line


def test_damaged_run_is_named_in_the_list(damaged, capfd):
    folder, _ = damaged
    (folder / "manifest.json").write_text("{")
    assert main(["runs", str(folder.parent)]) == 0
    out = capfd.readouterr().out
    assert "unreadable" in out
    assert "not valid JSON" in out.replace("\n", " ")
