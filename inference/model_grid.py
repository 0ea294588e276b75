"""Candidates for selection: every combination of some options of a model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.models.model import Model, build_model
from bnnzoo.specs import MODEL_PARTS, spec_from_tree

SHAPE = ("network.width", "network.depth")
"""Axes that together make ``network.widths``: units of a hidden layer, and their number."""

DEFAULTS = {"network": "mlp", "prior": "gaussian", "likelihood": "gaussian"}
"""Parts of a model that names none."""


def model_grid(
    axes: Mapping[str, Any], base: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Model]:
    """Every combination of some options.

    Args:
        axes: values by place, such as ``{"network.activation": ["tanh", "relu"],
            "prior.std": [0.5, 2.0], "prior.name": ["gaussian", "laplace"]}``; ``network.width`` and
            ``network.depth`` stand for equal hidden layers where a network lists its layers.
        base: what all have in common, as sections of a TOML file: ``{"network": {"name": "mlp"},
            "likelihood": {"name": "categorical"}}``.

    Returns:
        Models by what makes them differ, in the order of the axes, the last one fastest.

    Raises:
        OptionError: a place that is none, an axis without values, or a value that is not allowed.
        InputError: no axis.
    """
    if not axes:
        raise InputError("a grid needs an axis, such as network.width = [10, 50]")
    values = [_values(place, given) for place, given in axes.items()]
    made: dict[str, Model] = {}
    for combination in itertools.product(*values):
        chosen = dict(zip(axes, combination, strict=True))
        name = ", ".join(f"{_short(place, axes)} {_text(v)}" for place, v in chosen.items())
        tree = _tree(base or {}, chosen)
        for place, given in axes.items():
            _check_option(place, list(given), tree)
        made[name] = build_model(spec_from_tree(tree))
    return made


def _entry(section: str, tree: Mapping[str, Any]) -> registry.Entry | None:
    """What a section names; None for nothing, and for what building the model will refuse."""
    name = tree.get(section, {}).get("name", DEFAULTS.get(section))
    kind = f"{section}s"
    return registry.get(kind, name) if name in registry.list_names(kind) else None


def _has_widths(tree: Mapping[str, Any]) -> bool:
    """Whether the network lists its hidden layers; others may have a width of their own."""
    entry = _entry("network", tree)
    return entry is not None and "widths" in entry.options.model_fields


def _check_option(place: str, given: list[Any], tree: Mapping[str, Any]) -> None:
    """Raise where an axis is no option of its part, or where its values should be lists."""
    section, _, option = place.partition(".")
    entry = _entry(section, tree)
    if option == "name" or entry is None:
        return
    known = set(entry.options.model_fields)
    if section == "network" and _has_widths(tree):
        known |= {shape.partition(".")[2] for shape in SHAPE}
    if option not in known:
        owner = f"{section} {entry.card.name!r}"
        raise OptionError(f"unknown option grid.{place} of {owner}{hint(option, known)}")
    if any(isinstance(value, list | tuple) for value in given):
        return
    if _fits(entry, option, given) and not _fits(entry, option, given[0]):
        lists = [[value] for value in given]
        equal = f", and network.width={given} varies equal layers" if "widths" in place else ""
        raise OptionError(
            f"grid.{place} = {given}: each value should be a list, as {place}={lists}{equal}"
        )


def _fits(entry: registry.Entry, option: str, value: Any) -> bool:
    try:
        entry.parse({option: value})
    except OptionError:
        return False
    return True


def _values(place: str, given: Any) -> list[Any]:
    section, dot, option = place.partition(".")
    if not dot or not option or section not in MODEL_PARTS:
        places = [f"{part}.{word}" for part in MODEL_PARTS for word in ("name", "OPTION")]
        raise OptionError(f"grid.{place}: no part of a model{hint(place, [*places, *SHAPE])}")
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or not given:
        raise OptionError(f"grid.{place} = {given!r}: a list of values is needed")
    return list(given)


def _tree(
    base: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    tree = {section: dict(deepcopy(part)) for section, part in base.items()}
    for place, value in chosen.items():
        if place not in SHAPE:
            section, _, option = place.partition(".")
            tree.setdefault(section, {})[option] = value
    shape = [place for place in SHAPE if place in chosen]
    if shape and not _has_widths(tree):
        tree.setdefault("network", {}).update({p.partition(".")[2]: chosen[p] for p in shape})
    elif shape:
        network = tree.setdefault("network", {})
        common = network.get("widths", [50])
        width = chosen.get("network.width", common[0] if common else 50)
        depth = chosen.get("network.depth", len(common) or 1)
        for place, value in (("width", width), ("depth", depth)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f"grid.network.{place} = {value!r}: a whole number above zero")
        network["widths"] = [width] * depth
    return tree


def _short(place: str, axes: Mapping[str, Any]) -> str:
    """An axis' option alone where no other axis has one of that name; a part for its name."""
    section, _, option = place.partition(".")
    if option == "name":
        return section
    alone = sum(other.partition(".")[2] == option for other in axes) == 1
    return option if alone else place


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
