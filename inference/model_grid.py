"""Candidates for selection: every combination of some options of a model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.models.model import Model, build_model
from bnnzoo.specs import MODEL_PARTS, spec_from_tree

SHAPE = ("network.width", "network.depth")
"""Axes that together make ``network.widths``: units of a hidden layer, and their number."""


def model_grid(
    axes: Mapping[str, Any], base: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Model]:
    """Every combination of some options.

    Args:
        axes: values by place, such as ``{"network.activation": ["tanh", "relu"],
            "prior.std": [0.5, 2.0], "prior.name": ["gaussian", "laplace"]}``; ``network.width`` and
            ``network.depth`` stand for equal hidden layers.
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
        made[name] = build_model(spec_from_tree(_tree(base or {}, chosen)))
    return made


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
    if any(place in chosen for place in SHAPE):
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
