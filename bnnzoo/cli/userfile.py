"""A model from the user's own file: ``--model my.py:model``."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnnzoo.errors import InputError, RunError, UnknownNameError, hint_file


def load_function(reference: str) -> Callable[..., Any]:
    """The function that ``file.py:function`` names; the file is run, as Python would import it.

    Raises:
        InputError: no such file or function, or a file that cannot be imported.
    """
    file, _, name = reference.rpartition(":") if ":" in reference else (reference, "", "")
    path = Path(file)
    if not path.is_file():
        beside = (p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else ()
        raise InputError(f"no such file: {path}{hint_file(path, beside)}")
    if not name:
        raise InputError(f"{reference}: name the function as well, as in {path.name}:model")
    module = _imported(path)
    found = getattr(module, name, None)
    if found is None:
        functions = (
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
        )
        raise UnknownNameError(f"function of {path}", name, functions)
    if not callable(found):
        raise InputError(f"{reference} is not a function (its type is {type(found).__name__})")
    return found


def require_model(run: Path, given: str | None) -> None:
    """Raise ``RunError`` where a run's model was hand-written and is not given again."""
    try:
        model = tomllib.loads((run / "run.toml").read_text(encoding="utf-8")).get("model", {})
    except (OSError, ValueError):
        return  # reading the run says what is wrong with it
    if given is None and "source" in model:
        raise RunError(
            f"{run}: its model is hand-written: give it again with --model FILE.py:{model['name']}"
        )


def _imported(path: Path) -> Any:
    name = f"bnnzoo_user_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # what stands beside the file can be imported by it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f", line {line}" if line else ""
        text = getattr(error, "msg", None) or str(error)
        raise InputError(f"cannot import {path}{where}: {type(error).__name__}: {text}") from error
    return module
