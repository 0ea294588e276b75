"""The reference pages in Sphinx: what must be on them, and what their references point to."""

from __future__ import annotations

import inspect
import re
from typing import Any

import reference
from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

logger = logging.getLogger(__name__)

_ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
_SEVERAL = re.compile(r"( +)(\w+(?:, \w+)+): (.*)")


def check(app: Sphinx) -> None:
    """Warn, and with ``-W`` fail, for every public name without a page or a full docstring."""
    for line in reference.complaints(reference.public_objects()):
        logger.warning(line)


def skip_member(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool:
    """Leave out what JAX and pydantic call, and fields that "Attributes" already lists."""
    listed = type(obj).__name__ == "_tuplegetter"
    return bool(skip or listed or name in {*reference.PROTOCOL, "model_config"})


def prepare(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Write a docstring so that napoleon reads what we mean; runs before it does.

    "A few words: model, prior" on a property would be read as a type and its description, and
    "x, y: rows" as a type and a name.
    """
    if what in ("property", "attribute"):
        lines[:0] = ["..", ""]  # an empty comment: napoleon looks at the first line alone
    for at in range(len(lines) - 1, -1, -1):
        several = _SEVERAL.fullmatch(lines[at])
        if several:
            indent, names, text = several.groups()
            lines[at : at + 1] = [f"{indent}{one}: {text}" for one in names.split(", ")]


def add_fields(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """List the options of a pydantic model, which describes them outside its docstring."""
    if not (inspect.isclass(obj) and issubclass(obj, BaseModel)):
        return
    for field, info in obj.model_fields.items():
        value = f"``{info.get_default(call_default_factory=True)!r}``"
        default = "required" if info.is_required() else f"default {value}"
        lines.append(f":ivar {field}: {info.description} ({default})")
    lines.append("")


def name_aliases(app: Sphinx, domain: str, objtype: str, content: Any) -> None:
    """Write a type alias inside another type by its name; Sphinx writes its own wrapper there."""
    for types in app.env.current_document.autodoc_annotations.values():
        for name, text in types.items():
            types[name] = _ALIAS.sub(r"\1", text)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Point a name to where it is documented: docstrings use the short or the private one.

    ``Prediction`` and ``bnnzoo.inference.prediction.Prediction`` are both ``bnnzoo.Prediction``.
    """
    if node.get("refdomain") != "py":
        return None
    owner, _, member = node["reftarget"].rpartition(".")
    public = _public_names()
    for target in (public.get(node["reftarget"]), f"{public.get(owner)}.{member}"):
        found = env.domains.python_domain.objects.get(target or "")
        if found:
            at = (node["refdoc"], found.docname, found.node_id)
            return make_refnode(app.builder, *at, content)
    return None


def _public_names() -> dict[str, str]:
    """Public full name by short name and by the name of the module that defines it."""
    names: dict[str, str] = {}
    for public, value in reference.public_objects().items():
        short = public.rpartition(".")[2]
        names.setdefault(short, public)
        names[f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"] = public
    return names


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the above."""
    app.connect("builder-inited", check)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", prepare, priority=400)
    app.connect("autodoc-process-docstring", add_fields)
    app.connect("object-description-transform", name_aliases, priority=400)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
