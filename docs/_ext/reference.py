"""What of bnnzoo is public, and what its docstrings leave unsaid.

Public is what ``__all__`` of :data:`MODULES` says. ``reference_pages.py`` fails the build on
each of :func:`complaints`; ``tests/test_api_reference.py`` asks the same without a build, so this
file imports nothing of Sphinx.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel

MODULES = (
    *("bnnzoo", "bnnzoo.datasets", "bnnzoo.models", "bnnzoo.inference", "bnnzoo.reports"),
    "bnnzoo.models.infinite",
    *("bnnzoo.metrics", "bnnzoo.registry", "bnnzoo.options", "bnnzoo.specs", "bnnzoo.errors"),
)
"""Modules a user imports from. What several have is documented under the first of them."""

PAGES = Path(__file__).resolve().parents[1] / "api"

PROTOCOL = {"tree_flatten", "tree_unflatten"}
"""Methods that JAX calls and nobody else."""

_AUTO = re.compile(r"^\.\. auto(?:function|class|exception|data):: ([\w.]+)$", re.M)
_SECTION = re.compile(r"^(?:Args|Attributes):\n((?:(?: .*)?\n)+)", re.M)
_ENTRY = re.compile(r"^ {4}([\w*]+(?:, [\w*]+)*):", re.M)


def public_objects(modules: Iterable[str] = MODULES) -> dict[str, Any]:
    """Every public object by the full name it is documented under, save modules and the version."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for name in modules:
        module = importlib.import_module(name)
        for attribute in module.__all__:
            value = getattr(module, attribute)
            if inspect.ismodule(value) or attribute == "__version__":
                continue
            if id(value) not in seen:
                seen.add(id(value))
                found[f"{name}.{attribute}"] = value
    return found


def shown(pages: Path = PAGES) -> list[tuple[str, str]]:
    """Page and full name of everything the reference pages show."""
    texts = [(page.name, page.read_text(encoding="utf-8")) for page in sorted(pages.glob("*.md"))]
    return [(page, name) for page, text in texts for name in _AUTO.findall(text)]


def problems(name: str, value: Any) -> list[str]:
    """What is missing from the docstrings of a public object, one line each."""
    if inspect.isclass(value):
        return [*_of_class(name, value)]
    if inspect.isroutine(value):
        return [*_of_routine(name, value, method=False)]
    return [] if _has_text_below(name) else [f"{name}: no docstring below it"]


def _of_class(name: str, cls: type) -> Iterator[str]:
    text = vars(cls).get("__doc__") or ""
    yield from _of_summary(name, text)
    said = described(text) | _fields_with_text(cls)
    for parameter in _constructor_parameters(cls):
        if parameter not in said:
            yield f"{name}: {parameter!r} is not under Args or Attributes"
    for attribute, member in vars(cls).items():
        if attribute.startswith("_") or attribute in PROTOCOL:
            continue
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(function):
            inherited = any(attribute in vars(base) for base in cls.__mro__[1:])
            if function.__doc__ or not inherited:
                yield from _of_routine(f"{name}.{attribute}", function, method=True)
        elif isinstance(member, property) or type(member).__name__ == "cached_property":
            yield from _of_summary(f"{name}.{attribute}", inspect.getdoc(member) or "")


def _of_routine(name: str, function: Any, method: bool) -> Iterator[str]:
    text = inspect.getdoc(function) or ""
    yield from _of_summary(name, text)
    said = described(text)
    if method:
        if text.startswith("See :meth:"):  # it fulfils a contract that is documented there
            return
        said |= set(re.findall(r"``(\w+)``", text))  # short ones say it in their sentence
    for parameter in inspect.signature(function).parameters:
        if parameter not in said | {"self", "cls"}:
            yield f"{name}: {parameter!r} is not under Args"


def _of_summary(name: str, text: str) -> Iterator[str]:
    first, *rest = inspect.cleandoc(text).split("\n")
    if not first:
        yield f"{name}: no docstring"
    elif not first.endswith((".", ":", "?")) or (rest and rest[0]):
        yield f"{name}: its docstring does not start with one line of summary"


def described(text: str) -> set[str]:
    """Names under Args and Attributes of a docstring, without their stars."""
    sections = _SECTION.findall(inspect.cleandoc(text) + "\n")
    entries = [entry for section in sections for entry in _ENTRY.findall(section)]
    return {name.strip().lstrip("*") for entry in entries for name in entry.split(",")}


def _constructor_parameters(cls: type) -> list[str]:
    if issubclass(cls, Enum) or inspect.isabstract(cls):
        return []
    if issubclass(cls, BaseException) and "__init__" not in vars(cls):
        return []
    return list(inspect.signature(cls).parameters)


def _fields_with_text(cls: type) -> set[str]:
    """Fields of a pydantic model that have a description."""
    if not issubclass(cls, BaseModel):
        return set()
    return {name for name, field in cls.model_fields.items() if field.description}


def _has_text_below(name: str) -> bool:
    """Whether the assignment of a constant has a string on the next line."""
    module, _, attribute = name.rpartition(".")
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for node, after in pairwise(body):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == attribute for t in targets):
                return isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    return False


def complaints(public: Mapping[str, Any], pages: Path = PAGES) -> list[str]:
    """Everything that keeps the reference from being whole, one line each.

    Args:
        public: what there is to document, as :func:`public_objects` gives it.
        pages: the folder that documents it.
    """
    seen = shown(pages)
    names = [name for _, name in seen]
    found = [f"{name}: on no page of {pages.name}" for name in public if name not in names]
    found += [f"{name}: on {page}, but not public" for page, name in seen if name not in public]
    found += [f"{name}: shown more than once" for name in set(names) if names.count(name) > 1]
    for name, value in public.items():
        found += problems(name, value)
    return found
