"""The public names, and what a spec turns into."""

import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import bnnzoo as bz
from bnnzoo.api import plan
from bnnzoo.errors import BnnzooError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["describe", "load_dataset", "make_dataset", "make_model", "load_model", "Posterior", "fit"]
NAMES += ["load_run", "resume", "write_report", "register", "Run", "Dataset", "errors"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_design(name):
    assert name in bz.__all__
    assert name in dir(bz)
    assert getattr(bz, name) is getattr(bz, name)


def test_every_public_name_resolves():
    for name in bz.__all__:
        assert getattr(bz, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'fti'"):
        bz.fti  # noqa: B018


def test_list_is_there_and_not_exported():
    heavy = bz.list("priors", family="heavy-tailed")
    assert {"laplace", "student-t"} < set(heavy) and "gaussian" not in heavy
    assert "list" not in bz.__all__
    assert "list" in dir(bz)
    scope: dict = {}
    exec("from bnnzoo import *", scope)
    assert "list" not in scope
    assert scope["fit"] is bz.fit


def test_describe():
    card = bz.describe("priors", "student-t")
    assert card.name == "student-t"
    assert [p.name for p in card.parameters][:2] == ["df", "std"]  # its own first
    assert card.parameters[0].default == 5.0


def test_version_and_modules():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert bz.__version__ == project["version"]
    for name in ("models", "inference", "reports", "datasets", "registry", "metrics"):
        assert isinstance(getattr(bz, name), types.ModuleType)


def test_import_takes_little_time():
    code = "import time; t = time.process_time(); import bnnzoo; print(time.process_time() - t)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 0.3


# -- specs -------------------------------------------------------------------------------------

TREE = {
    "data": {"name": "gap", "n": 20},
    "network": {"widths": [3]},
    "inference": {"backend": "hmc", "chains": 1, "draws": 5, "warmup": 5},
}


def test_plan_fills_in_what_is_left_out():
    planned = plan({"data": {"name": "gap"}, "inference": {"backend": "mean-field-vi"}})
    assert planned.spec.inference.warmup == 5000  # the backend's own
    assert planned.spec.prior.name == "gaussian"
    assert planned.spec.likelihood.name == "gaussian"
    assert plan({"data": {"name": "iris"}}).spec.likelihood.name == "categorical"
    assert plan({"data": {"name": "gap"}}).spec.inference.warmup == 1000


@pytest.mark.parametrize(
    ("values", "likelihood", "task"),
    [
        ("0123456789", "poisson", "regression"),  # ten values: by themselves classes
        ([f"{k}" for k in range(40)], "categorical", "classification"),
        ("aabc1bb2cc", "categorical", "classification"),  # text and numbers: no telling
        ("0123456789", "categorical", "classification"),
    ],
)
def test_a_likelihood_that_is_named_decides_the_task_of_a_table(tmp_path, values, likelihood, task):
    file = tmp_path / "t.csv"
    file.write_text("a,y\n" + "".join(f"{i},{values[i % len(values)]}\n" for i in range(80)))
    tree = {"data": {"name": str(file)}, "likelihood": {"name": likelihood}}
    planned = plan(tree)
    assert planned.data.task == task
    said = f"no task given: {task}"
    assert [line.startswith(said) for line in planned.data.warnings].count(True) == 1
    assert plan(planned.spec).data.hash == planned.data.hash  # as run.toml has it
    if likelihood == "poisson":
        with pytest.raises(BnnzooError, match="'poisson' is for regression"):
            plan({**tree, "data": {"name": str(file), "task": "classification"}})


def test_folder_is_a_function_of_what_is_run(tmp_path):
    folder = plan(TREE).folder(tmp_path)
    assert folder.parent == tmp_path
    assert folder.name.startswith("gap-gaussian-hmc-")
    assert plan(TREE).folder(tmp_path) == folder
    seeded = {**TREE, "inference": {**TREE["inference"], "seed": 1}}
    assert plan(seeded).folder(tmp_path) != folder
    spelled = {**TREE, "prior": {"name": "gaussian"}, "data": {**TREE["data"], "noise": 0.1}}
    assert plan(spelled).folder(tmp_path) == folder  # defaults may be given
    assert plan({**TREE, "data": {"name": "gap", "n": 22}}).folder(tmp_path) != folder


def test_fit_spec_from_a_file(tiny, tmp_path):
    file, out = tmp_path / "spec.toml", tmp_path / "run"
    file.write_text((tiny.folder / "run.toml").read_text())
    planned = plan(file)
    assert planned.state(tiny.folder) == "complete"
    assert planned.state(out) == ""
    run = bz.fit_spec(file, out=out, progress=False)
    assert run.tree["posterior"].sizes["draw"] == 20
    assert planned.state(out) == "complete"
    other = {**planned.spec.to_tree(), "prior": {"name": "laplace"}}
    assert plan(other).state(out) == ""
    again = bz.fit_spec(planned.spec, out=out, progress=False)
    assert again.manifest == run.manifest


def test_handwritten_model_in_a_plan():
    def model(x, y=None):
        """Never run."""

    planned = plan({"data": {"name": "gap"}}, model)
    assert planned.model.handwritten
    assert planned.folder().name.startswith("gap-model-nuts-")
    with pytest.raises(BnnzooError, match="has its own prior"):
        plan({"data": {"name": "gap"}, "prior": {"name": "laplace"}}, model)
    with pytest.raises(BnnzooError, match=r"unknown option model\.width"):
        plan({"data": {"name": "gap"}, "model": {"width": 3}}, model)


def test_a_model_that_is_none_is_refused():
    with pytest.raises(BnnzooError, match="model = 'mlp': one from make_model or load_model"):
        bz.fit("mlp", bz.load_dataset("gap", n=18))
