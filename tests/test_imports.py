"""Imports run one way: foundations <- models <- inference <- reports <- entrance.

And what a user waits for at every start, `import bnnzoo` and the command line, loads nothing heavy.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ["foundations", "models", "inference", "reports", "entrance"]
FOLDERS = {"bnnzoo": "bnnzoo", "models": "bnnzoo.models"}
FOLDERS |= {"inference": "bnnzoo.inference", "reports": "bnnzoo.reports"}
ENTRANCE = {"__init__", "__main__", "api", "demo", "sklearn"}  # and whatever starts with cli
HEAVY = ["jax", "numpyro", "flax", "blackjax", "optax", "sklearn", "pandas", "matplotlib"]
HEAVY += ["arviz", "arviz_base", "arviz_plots", "arviz_stats"]
LIGHT = ["bnnzoo", "bnnzoo.cli", "bnnzoo.errors", "bnnzoo.options", "bnnzoo.registry"]
LIGHT += ["bnnzoo.specs"]


def module_name(path: Path) -> str:
    """`models/priors/gaussian.py` is `bnnzoo.models.priors.gaussian`; a package is its folder."""
    folder, *inner = path.relative_to(ROOT).with_suffix("").parts
    parts = [FOLDERS[folder], *inner]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The room of a module; the package itself is entrance."""
    first = [*module.split("."), "__init__"][1]
    if first in ROOMS:
        return first
    return "entrance" if first in ENTRANCE or first.startswith("cli") else "foundations"


def is_module(name: str) -> bool:
    """Whether `from bnnzoo import name` gives a module, rather than a public name as `fit`."""
    at = ROOT / "bnnzoo" / name
    return name in ROOMS or at.is_dir() or at.with_suffix(".py").is_file()


def imported(source: str, module: str, is_package: bool) -> list[tuple[int, str]]:
    """Line and name of everything of bnnzoo that a module imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parents = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            if base == "bnnzoo":
                names = [f"bnnzoo.{a.name}" if is_module(a.name) else base for a in node.names]
            else:
                names = [base]
        else:
            continue
        found += [(node.lineno, name) for name in names if name.split(".")[0] == "bnnzoo"]
    return found


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """Imports of a module from a room above its own."""
    own = room(module)
    return [
        f"{module} line {line}: {own} import {name}, which is {room(name)}"
        for line, name in imported(source, module, is_package)
        if ROOMS.index(room(name)) > ROOMS.index(own)
    ]


def modules() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_imports_run_one_way():
    assert len(modules()) > 20
    found = []
    for path in modules():
        found += violations(path.read_text(), module_name(path), path.name == "__init__.py")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bnnzoo.registry", "import bnnzoo.models.prior"),
        ("bnnzoo.registry", "from bnnzoo import models"),
        ("bnnzoo.registry", "from . import inference"),
        ("bnnzoo.registry", "from bnnzoo import fit"),
        ("bnnzoo.specs", "def late():\n    from bnnzoo.reports.page import write"),
        ("bnnzoo.datasets.csv", "from ..models.prior import Prior"),
        ("bnnzoo.models.priors.gaussian", "from bnnzoo.inference import loop"),
        ("bnnzoo.models.priors.gaussian", "from ...inference import loop"),
        ("bnnzoo.inference.loop", "import bnnzoo.reports"),
        ("bnnzoo.inference.loop", "import numpy, bnnzoo.api"),
        ("bnnzoo.reports.page", "from bnnzoo.cli import main"),
        ("bnnzoo.reports.page", "from bnnzoo.demo import runs"),
    ],
)
def test_checker_finds_a_planted_violation(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bnnzoo.registry", "from bnnzoo.errors import InputError\nimport numpy"),
        ("bnnzoo.models.prior", "from bnnzoo import errors\nfrom .parameters import Parameter"),
        ("bnnzoo.reports.page", "from bnnzoo.inference.run import Run\nimport bnnzoo.models"),
        ("bnnzoo.api", "from bnnzoo.reports import write_report\nfrom bnnzoo.cli import main"),
        ("bnnzoo", "from bnnzoo.api import fit"),
    ],
)
def test_checker_allows_what_runs_down(module, source):
    assert violations(source, module) == []


def test_relative_imports_of_a_package_start_at_itself():
    assert imported("from . import a", "bnnzoo.models", is_package=True) == [(1, "bnnzoo.models")]
    assert imported("from .. import reports", "bnnzoo.models", is_package=True) == [
        (1, "bnnzoo.reports")
    ]


@pytest.mark.parametrize("module", LIGHT)
def test_start_up_loads_nothing_heavy(module):
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
