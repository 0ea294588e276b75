"""The wheel holds every module and template of the four folders, and works wherever it is put."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = {
    "bnnzoo": "bnnzoo",
    "models": "bnnzoo/models",
    "inference": "bnnzoo/inference",
    "reports": "bnnzoo/reports",
}
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.py[cod]", ".*")


def copy_sources(to: Path) -> Path:
    """What a build reads, apart from the checkout so that building leaves nothing there."""
    to.mkdir()
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, to / folder, ignore=NOT_SHIPPED)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, to)
    return to


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    return copy_sources(tmp_path_factory.mktemp("packaging") / "checkout")


@pytest.fixture(scope="module")
def wheel(sources) -> Path:
    """The wheel built from the source distribution, which thus has to be complete too."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (sources / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A site-packages folder with the wheel alone."""
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def where_is(modules: list[str], cwd: Path, site: Path) -> list[Path]:
    """The files that a Python started in ``cwd``, with ``site`` installed, finds the modules in."""
    code = "import sys, importlib.util as u; [print(u.find_spec(m).origin) for m in sys.argv[1:]]"
    done = subprocess.run(
        [sys.executable, "-c", code, *modules],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


ONE_OF_EACH = ["bnnzoo", "bnnzoo.errors", "bnnzoo.models", "bnnzoo.models.priors.gaussian"]
ONE_OF_EACH += ["bnnzoo.inference", "bnnzoo.reports"]


def test_wheel_holds_the_tree_and_nothing_else(wheel, sources):
    expected = {
        f"{package}/{path.relative_to(sources / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (sources / folder).rglob("*")
        if path.is_file()
    }
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert expected - shipped == set(), "in the tree, not in the wheel: an __init__.py or DATA?"
    assert shipped - expected == set(), "in the wheel, not in the tree"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_wheel_works_from_another_folder(installed, tmp_path):
    found = where_is(ONE_OF_EACH, tmp_path, installed)
    assert all(path.is_relative_to(installed) for path in found)


def test_repository_root_shadows_an_installed_wheel_whole(installed, sources):
    """Python started in the root finds ./bnnzoo first, and must find its wings there as well."""
    found = where_is(ONE_OF_EACH, sources, installed)
    assert all(path.is_relative_to(sources) for path in found)


def test_constraints_pin_every_requirement_by_name_and_version_alone():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert all(re.fullmatch(r"[\w.]+", pin) for pin in pins.values())
    pins = {name.lower().replace("_", "-"): pin for name, pin in pins.items()}
    assert "bnnzoo" not in pins
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *extras["dev"], *extras["docs"]]:
        needed = Requirement(text)
        assert needed.specifier.contains(pins[needed.name]), text


def test_gpu_extra_has_a_name_that_jax_knows():
    (needed,) = map(Requirement, PROJECT["optional-dependencies"]["gpu"])
    assert needed.extras <= set(metadata(needed.name).get_all("Provides-Extra"))


def test_version_is_the_same_everywhere():
    assert version("bnnzoo") == PROJECT["version"], "installed before pyproject.toml changed"
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()
