"""What no file of the repository may hold, and what every one must."""

import ast
import importlib
import os
import re
import subprocess
from pathlib import Path

import jax.numpy as jnp
import pytest

from bnnzoo.models import planar

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["bnnzoo", "models", "inference", "reports"]
LONGEST = 450
NOT_OURS = {".git", ".venv", ".typecheck", "build", "_build", "dist", "runs", "__pycache__"}
NOT_OURS |= {".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}

# Put together here so that this file does not hold them itself.
FORBIDDEN = {
    f"{Path.home()}/": "the home folder of a machine",
    "/" + "work/": "a folder of a machine",
    "pypi.org/" + "simple": "the address of a registry",
    "files." + "pythonhosted": "the address of a registry",
}
LOCKS = {"package-lock.json", "npm-shrinkwrap.json", "pylock.toml"}  # and whatever ends in .lock


def repository_files() -> list[Path]:
    """What git tracks or would add; in a copy without git, everything but builds and caches."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        files = [ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = []
        for folder, inner, names in ROOT.walk():
            inner[:] = [name for name in inner if name not in NOT_OURS]  # prunes the walk
            files += [folder / name for name in names]
    return sorted(path for path in files if path.is_file())


def forbidden_in(content: bytes) -> list[str]:
    return [f"{text} ({what})" for text, what in FORBIDDEN.items() if text.encode() in content]


def undocumented(source: str) -> list[str]:
    """Public functions and classes at the top of a module that have no docstring."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [
        f"{node.name}, line {node.lineno}"
        for node in ast.parse(source).body
        if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_file_names_a_machine_or_a_registry():
    files = repository_files()
    assert len(files) > 40
    found = {relative(p): bad for p in files if (bad := forbidden_in(p.read_bytes()))}
    assert not found


def test_no_lock_files():
    locks = [p for p in repository_files() if p.suffix == ".lock" or p.name in LOCKS]
    assert not [relative(p) for p in locks]


def test_python_files_are_short():
    lengths = {
        relative(p): len(p.read_text().splitlines())
        for p in repository_files()
        if p.suffix == ".py"
    }
    assert not {name: n for name, n in lengths.items() if n > LONGEST}


def test_public_names_have_docstrings():
    found = {}
    for path in repository_files():
        if path.suffix == ".py" and relative(path).split("/")[0] in PACKAGES:
            found[relative(path)] = undocumented(path.read_text())
    assert found
    assert not {name: missing for name, missing in found.items() if missing}


def test_checkers_find_what_is_planted():
    for text in FORBIDDEN:
        assert forbidden_in(f"see {text}x".encode())
    assert not forbidden_in(b"see docs/design.md")
    assert undocumented("def f(): pass\nclass C: pass\ndef _g(): pass\ndef h():\n    'Yes.'") == [
        "f, line 1",
        "C, line 2",
    ]


def test_named_axes_are_checked_in_tests():
    """The import hook of conftest.py reaches every module that names axes."""
    naming = [
        path.relative_to(ROOT).with_suffix("")
        for package in ("models", "inference", "reports")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"^(from|import) jaxtyping", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert naming
    for name in naming:
        loader = importlib.import_module(".".join(("bnnzoo", *name.parts))).__spec__.loader
        assert type(loader).__module__.startswith("jaxtyping"), name
    with pytest.raises(Exception, match=r"(?i)type-check"):
        planar.invertible(jnp.ones((2, 3)), jnp.ones((2, 4)))
