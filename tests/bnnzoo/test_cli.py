"""The command line from the outside: help, a round trip, JSON, and how errors end."""

import csv
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bnnzoo
from bnnzoo.api import plan
from bnnzoo.cli import doctor, main
from bnnzoo.cli.fitting import _fitted
from bnnzoo.cli.main import app
from bnnzoo.cli.options import split_section, written, written_in
from bnnzoo.cli.selecting import _show
from bnnzoo.errors import OptionError, setting, written_as
from bnnzoo.inference import Selection

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    "list",
    "describe",
    "fit",
    "resume",
    "drop-chains",
    "predict",
    "evidence",
    "select",
    "tune",
    "match-prior",
    "report",
    "runs",
    "study",
    "doctor",
]
HEAVY = ["jax", "numpyro", "flax", "pandas", "matplotlib", "sklearn", "arviz_stats", "numpy"]


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Run a command in an empty folder; gives what it printed."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object, code: int = 0) -> str:
        capfd.readouterr()
        assert main([str(a) for a in arguments]) == code
        out, err = capfd.readouterr()
        assert err == ""
        return out

    return command


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


# -- help --------------------------------------------------------------------------------------


def test_commands_are_those_of_the_design():
    assert [command.name for command in app.registered_commands] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, run):
    out = run(command, "--help")
    assert out.startswith(f"Usage: bnnzoo {command}")
    assert max(len(line) for line in out.splitlines()) <= 80


def test_no_command_is_help(run):
    out = run()
    assert out == run("--help")
    for command in COMMANDS:
        assert f"\n  {command} " in out
    assert "..." not in out.partition("Commands:")[2]  # no description is cut
    assert run("--version") == f"bnnzoo {bnnzoo.__version__}\n"


def test_help_imports_nothing_heavy():
    """Every help, from cold, so that it takes half a second (``benchmarks/startup.py``)."""
    code = (
        "import contextlib, io, sys\n"
        "from bnnzoo.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    for command in {COMMANDS}:\n"
        "        assert main([command, '--help']) == 0\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


def test_runs_are_listed_without_jax(tiny):
    code = (
        "import sys\nfrom bnnzoo.cli import main\n"
        f"main(['runs', {str(tiny.folder.parent)!r}])\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert python(code).stdout.splitlines()[-1] in ("[]", "['numpy']")


# -- what there is -----------------------------------------------------------------------------


def test_data_sets_are_listed_and_described_without_jax():
    """One of them is drawn from models, and only drawing needs them."""
    code = (
        "import sys\nfrom bnnzoo.cli import main\n"
        "assert main(['list', 'datasets']) == main(['describe', 'datasets', 'bnn-draw']) == 0\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    result = python(code)
    assert "uci/boston" in result.stdout and "prior_options" in result.stdout
    assert result.stdout.splitlines()[-1] in ("[]", "['numpy']"), result.stdout + result.stderr


def test_list(run):
    assert "priors" in run("list")
    out = run("list", "priors")
    assert "student-t" in out
    assert out == run("list", "prior")
    heavy = run("list", "priors", "--tag", "family=heavy-tailed")
    assert "student-t" in heavy
    assert "laplace" in heavy and " gaussian " not in heavy
    assert "nuts" in run("list", "backends", "--tag", "exact=true")
    both = ("--tag", "family=variational", "--tag", "exact=true")
    assert run("list", "backends", *both).startswith("No backends with family=variational and")
    cards = json.loads(run("list", "priors", "--json"))
    assert {"gaussian", "laplace", "student-t"} <= {card["name"] for card in cards}
    assert {"kind", "about"} == set(json.loads(run("list", "--json"))[0])


def test_describe(run):
    out = run("describe", "priors", "student-t")
    for text in ("df", "default 5", "Degrees of freedom", "Notes", "References", "heavy-tailed"):
        assert text in out
    assert "--prior student-t --set prior.df=5" in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    card = json.loads(run("describe", "prior", "student-t", "--json"))
    assert card["parameters"][0]["name"] == "df"


@pytest.mark.validate
def test_every_card_can_be_shown(run):
    for kind in json.loads(run("list", "--json")):
        for card in json.loads(run("list", kind["kind"], "--json")):
            assert card["summary"] in " ".join(run("describe", kind["kind"], card["name"]).split())


def test_doctor(run, monkeypatch):
    assert "All is well." in run("doctor")
    checks = json.loads(run("doctor", "--json"))
    assert checks["ok"]
    assert {"python", "packages", "devices", "precision"} <= {c["name"] for c in checks["checks"]}
    monkeypatch.setitem(doctor.CHECKS, "temporary", lambda: (False, "nowhere to write"))
    assert "nowhere to write" in run("doctor", code=1)


# -- a round trip ------------------------------------------------------------------------------


def test_fit_says_what_it_did(tiny):
    said = " ".join(tiny.stdout.split())
    for text in ("36 training rows", "mlp 3 tanh", "1 chain of 20 draws", "NLL", "RMSE", "Done in"):
        assert text in said
    assert f"Wrote {tiny.folder}" in tiny.stdout.replace("\n", "")


def test_fit_and_resume_as_json(tiny, run):
    made = json.loads(run(*tiny.arguments, "--json"))
    assert made["reused"] is True
    assert made["state"] == "complete"
    assert made["run"] == str(tiny.folder)
    assert set(made["metrics"]) == {"nll", "rmse", "crps", "coverage_50", "coverage_90"}
    assert made["spec"]["network"]["widths"] == [3]
    assert any("constant" in note for note in made["notes"])
    again = json.loads(run("resume", tiny.folder, "--json"))
    assert again["metrics"] == made["metrics"]
    assert "already finished" in run("resume", tiny.folder)


def test_runs(tiny, run):
    out = run("runs", tiny.folder.parent)
    for text in ("table.csv", "gaussian", "hmc", "NLL", "1 run"):
        assert text in out
    (record,) = json.loads(run("runs", tiny.folder.parent, "--json"))
    assert record["run"] == str(tiny.folder)
    assert record["backend"] == "hmc"
    assert record["posterior_temperature"] == 1.0
    Path("empty").mkdir()
    assert run("runs", "empty") == "No runs under empty\n"


def test_predict(tiny, run):
    rows = "b,a,c,y\n1,2,7,\n-1,0.5,7,\n"  # another order, and the target besides
    Path("new.csv").write_text(rows)
    printed = run("predict", tiny.folder, "new.csv")
    assert "Wrote pages/out.csv: 2 rows" in run(
        "predict", tiny.folder, "new.csv", "-o", "pages/out.csv"
    )
    assert Path("pages/out.csv").read_text() == printed
    table = [{k: float(v) for k, v in r.items()} for r in csv.DictReader(printed.splitlines())]
    names = ["mean", "std", "aleatoric", "epistemic", "q05", "q50", "q95"]
    assert list(table[0]) == names
    assert all(row["q05"] < row["q50"] < row["q95"] and row["std"] > 0 for row in table)
    assert table[0]["mean"] > table[1]["mean"]  # y is a + b/10
    made = json.loads(run("predict", tiny.folder, "new.csv", "--json"))
    assert made["rows"] == 2
    assert made["predictions"][0]["mean"] == pytest.approx(table[0]["mean"], rel=1e-4)
    made = json.loads(run("predict", tiny.folder, "new.csv", "-o", "out.csv", "--json"))
    assert made["out"] == "out.csv"
    assert "predictions" not in made


def test_report(tiny, run):
    out = run("report", tiny.folder, "-o", "pages/report.html", "--title", "One run")
    assert "Wrote pages/report.html (1 run), and beside it report.md and report.json" in " ".join(
        out.split()
    )
    assert "is the only run" in " ".join(out.split())
    assert "One run" in Path("pages/report.html").read_text()
    made = json.loads(run("report", tiny.folder.parent, "-o", "report.html", "--json"))
    assert made["runs"] == [str(tiny.folder)]
    assert all(Path(file).is_file() for file in made["files"])


def hashes_of_draws(folder: Path) -> dict[str, object]:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return {name: found for name, found in files.items() if "/posterior/" in name}


def test_run_that_is_stopped_goes_on_to_the_same_draws(tiny, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*tiny.arguments, "--out", "run", "--max-time", "1e-9"]) == 2
    assert "go on with bnnzoo resume run" in capfd.readouterr().err
    assert main(["runs", "run"]) == 0
    assert "unfinished" in capfd.readouterr().out
    assert main(["report", "run"]) == 2
    assert "not finished: bnnzoo resume run" in capfd.readouterr().err
    assert main([*tiny.arguments, "--out", "run"]) == 0
    assert "unfinished: going on with it" in capfd.readouterr().out
    assert hashes_of_draws(Path("run")) == hashes_of_draws(tiny.folder)


def test_out_is_chosen_where_none_is_given(tiny, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    at = tiny.arguments.index("--out")
    arguments = [*tiny.arguments[:at], *tiny.arguments[at + 2 :]]
    assert main(arguments) == 0
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("table-gaussian-hmc-")
    assert f"Wrote {folder}" in capfd.readouterr().out
    assert main(arguments) == 0
    assert "already finished" in capfd.readouterr().out


def test_flags_override_the_file_and_set_overrides_both(tiny, run):
    Path("a.toml").write_text(
        "[data]\nname = 'none'\n[network]\nwidths = [7]\n[inference]\nchains = 3\nseed = 4\n"
    )
    seed = ["--set", "inference.seed=0"]
    made = json.loads(run(*tiny.arguments, "--config", "a.toml", *seed, "--json"))
    assert made["reused"] is True  # the name and the chains are flags, widths and the seed are set
    config = ["--config", tiny.folder / "run.toml"]
    made = json.loads(run("fit", *config, "--out", tiny.folder, "--json"))
    assert made["reused"] is True  # run.toml says everything


def test_handwritten_model(tiny, run, capfd):
    Path("mine.py").write_text(
        "import numpyro\nimport numpyro.distributions as dist\n"
        "def line(x, y=None):\n"
        "    w = numpyro.sample('w', dist.Normal(0, 1).expand((x.shape[1],)).to_event(1))\n"
        "    with numpyro.plate('data', x.shape[0]):\n"
        "        numpyro.sample('y', dist.Normal(x @ w, 1.0), obs=y)\n"
    )
    at = tiny.arguments.index("--set")
    arguments = [*tiny.arguments[:at], "--no-progress", "--out", "own", "--model", "mine.py:line"]
    assert "line (hand-written)" in run(*arguments)
    Path("new.csv").write_text("a,b,c\n1,2,7\n")
    assert run("predict", "own", "new.csv", "--model", "mine.py:line").startswith("mean,std")
    assert main(["predict", "own", "new.csv"]) == 2
    assert "give it again with --model FILE.py:line" in capfd.readouterr().err
    assert "own" in run("report", "own", "-o", "own.html")


# -- how it ends -------------------------------------------------------------------------------


def broken(error: BaseException):
    def fit(*_: object, **__: object) -> None:
        raise error

    return fit


def test_interrupt_says_how_to_go_on(tiny, capfd, monkeypatch):
    monkeypatch.setattr("bnnzoo.inference.fit", broken(KeyboardInterrupt()))
    assert main(tiny.arguments) == 130
    assert capfd.readouterr().err == (
        f"bnnzoo: interrupted; go on with: bnnzoo resume {tiny.folder}\n"
    )


def test_unforeseen_error_is_one_line(tiny, capfd, monkeypatch):
    monkeypatch.setattr("bnnzoo.inference.fit", broken(RuntimeError("it broke\nbadly")))
    assert main(tiny.arguments) == 1
    err = capfd.readouterr().err
    assert err.startswith("bnnzoo: unexpected RuntimeError: it broke (set BNNZOO_TRACEBACK=1")
    assert err.count("\n") == 1
    monkeypatch.setenv("BNNZOO_TRACEBACK", "1")
    assert main(tiny.arguments) == 1
    assert "Traceback" in capfd.readouterr().err


def test_module_and_pipe_that_closes_early():
    """``python -m bnnzoo list | head -1`` ends without a traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bnnzoo", "describe", "datasets", "gap"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    process.stdout.close()
    assert process.wait() in (0, 1)
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def test_evidence_and_selection(run):
    common = ("--dataset", "gap", "--set", "data.n=30", "--set", "network.widths=[]")
    fixed = ("--set", "likelihood.noise=fixed", "--set", "likelihood.noise_std=0.3")
    said = json.loads(run("evidence", *common, *fixed, "--method", "exact", "--json"))
    assert said["kind"] == "exact"
    assert "log evidence" in run("evidence", *common, *fixed, "--method", "exact")
    grid = ("--grid", "prior.std=[0.01,1]", "--grid", "prior.name=gaussian")
    found = json.loads(run("select", *common, *fixed, *grid, "--method", "exact", "--json"))
    assert [c["name"] for c in found["candidates"]] == [
        "std 1, prior gaussian",
        "std 0.01, prior gaussian",
    ]
    first = found["candidates"][0]["evidence"]["value"]
    assert first == pytest.approx(said["value"])
    assert "std 0.01" in run("select", *common, *fixed, *grid, "--method", "exact")
    said = run("evidence", *common, *fixed, "--method", "exact", "-o", "kept/e.json")
    assert "Wrote kept/e.json" in said
    kept = ("select", *common, *fixed, *grid, "--method", "exact", "--out", "s.json", "--json")
    assert json.loads(run(*kept))["out"] == "s.json"
    made = json.loads(run("report", "kept/e.json", "s.json", "--json"))
    assert made["evidences"] == ["kept/e.json", "s.json"]
    assert "speak for std 1, prior gaussian" in made["verdicts"][0]
    assert "Wrote report.md (1 file)" in run("report", "kept/e.json", "--format", "md")
    assert "Wrote deep/r.json (1 file)" in run(
        "report", "kept/e.json", "--format", "json", "-o", "deep/r.json"
    )


def test_tune_writes_a_model_that_fit_takes(run):
    flags = ("--dataset", "gap", "--set", "data.n=30", "--set", "network.widths=[]")
    said = run("tune", *flags, "--method", "exact", "--groups", "input")
    assert "Wrote tuned.toml" in said
    assert "width layers.0.kernel" in said
    again = ("--dataset", "gap", "--set", "data.n=30", "--config", "tuned.toml")
    assert "prior" in run("evidence", *again, "--method", "exact")
    tree = tomllib.loads(Path("tuned.toml").read_text()) | {"data": {"name": "gap"}}
    (note,) = _fitted(plan(tree).spec)
    assert "fitted beforehand (exact on the targets of gap)" in note


def test_what_is_noticed_of_a_table_is_one_line(tmp_path, capfd):
    table = tmp_path / "constant.csv"
    table.write_text("a,b,y\n" + "".join(f"{k % 7},{k % 5},5.5\n" for k in range(30)))
    assert main(["evidence", "--dataset", str(table), "--no-progress"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert "bnnzoo: note: target 'y' is constant in the training rows" in lines
    assert all(line.startswith("bnnzoo: ") for line in lines)
    assert "learned noise shrinks to nothing on it" in lines[-1]


def test_select_reads_a_grid_from_a_file(run, tmp_path, capfd):
    (tmp_path / "grid.toml").write_text(
        '[data]\nname = "gap"\nn = 30\n[network]\nwidths = []\n[grid]\nprior.std = [0.1, 1]\n'
        '[likelihood]\nnoise = "fixed"\nnoise_std = 0.3\n[estimator]\nover = "weights"\n'
    )
    config = ("--config", tmp_path / "grid.toml")
    found = json.loads(run("select", *config, "--method", "exact", "--json"))
    assert {c["name"] for c in found["candidates"]} == {"std 0.1", "std 1"}
    # As if one had gone wrong: marked in the table, with its reason below.
    found["candidates"][1]["evidence"]["warnings"] = ["no mode"]
    name = found["candidates"][1]["name"]
    _show(Selection.from_dict(found), "gap")
    said = capfd.readouterr().out.splitlines()
    marked = [line for line in said if " ! " in line and not line.startswith("!")]
    assert [line.startswith(name) for line in marked] == [True]
    assert f"! {name}: no mode." in said


def test_an_option_that_nothing_reads_is_refused():
    with pytest.raises(OptionError, match=r"so that inference\.dtype is not read"):
        split_section(["data.split=1", "inference.dtype=float64"], "estimator")
    assert split_section(["estimator.steps=3", "data.split=1"], "estimator") == (
        {"steps": 3},
        ["data.split=1"],
    )


def test_advice_on_an_estimate_names_the_section_that_has_the_option():
    with written_as(written), written_in("estimator"):
        assert setting("inference", "curvature", "ggn") == "--set estimator.curvature=ggn"
        assert setting("inference", "dtype", "float64") == "--dtype float64"
        assert setting("data", "missing", "impute") == "--set data.missing=impute"
    assert setting("inference", "curvature", "ggn") == "curvature='ggn'"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evidence", "--dataset", "gap", "--method", "smk"), "did you mean 'smc'"),
        (("select", "--dataset", "gap"), "a grid needs an axis"),
        (("evidence", "--dataset", "gap", "-o", "kept.toml"), "give a name such as kept.json"),
        (("report", "kept.json", "--format", "mdd"), "did you mean 'md'"),
        (("report", "kept.json"), "cannot read kept.json: no such file"),
        (("select", "--dataset", "gap", "--grid", "prior.std"), "write SECTION.OPTION"),
        (("select", "--dataset", "gap", "--grid", "prior.stdd=[1,2]"), "did you mean 'std'"),
        (("tune", "--dataset", "gap", "--prior", "laplace"), "no Gaussian of fixed width"),
        (
            ("match-prior", "--dataset", "gap", "--prior", "laplace"),
            "of bnnzoo match-prior; choices",
        ),
    ],
)
def test_evidence_and_selection_refuse(capfd, arguments, said):
    assert main(list(arguments)) == 2
    assert said in capfd.readouterr().err
