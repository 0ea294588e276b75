"""What a run is, as data: a tree that TOML files hold, ``--set`` changes and ``run.toml`` keeps."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field

from bnnzoo.errors import InputError, OptionError, hint, hint_file
from bnnzoo.options import Count, Options, Positive, parse_options

__all__ = [
    "MODEL_PARTS",
    "SECTIONS",
    "Component",
    "InferenceSpec",
    "RunSpec",
    "fitted_before",
    "override",
    "read_tree",
    "read_value",
    "spec_from_toml",
    "spec_from_tree",
]

MODEL_PARTS = ("network", "prior", "likelihood", "augmentation")
"""Sections that together make a zoo model."""

SECTIONS = ("data", "model", *MODEL_PARTS, "inference")
"""Sections of a spec, in the order in which ``run.toml`` has them."""


class Component(Options):
    """A named entry and its options; in TOML the options stand beside the name."""

    name: str | None = Field(None, description="Name in the registry.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the entry.")


class InferenceSpec(Options):
    """Backend, size and temperatures of a run."""

    backend: str = Field("nuts", description="Name of the inference backend.")
    chains: Count = Field(
        4, description="Independent chains (or restarts, for an optimiser); default the backend's."
    )
    draws: Count = Field(1000, description="Draws kept a chain; default the backend's.")
    warmup: Annotated[int, Field(ge=0)] = Field(
        1000,
        description="Steps of adaptation (or optimisation) before the first kept draw; default the "
        "backend's.",
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of every random number.")
    posterior_temperature: Positive = Field(
        1.0, description="T: the whole log posterior is divided by it."
    )
    likelihood_temperature: Positive = Field(
        1.0, description="L: the log-likelihood alone is divided by it."
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="Precision of the run.")
    devices: Count | None = Field(
        None,
        description="Devices that the chains are spread over; one if not given, and all of them "
        "where several processes make the run.",
    )
    data_shards: Count | None = Field(
        None,
        description="Devices of each chain that its training rows are split over; divides devices.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the backend.")


class RunSpec(Options):
    """Everything needed to repeat a run.

    ``data`` is a name with the arguments of ``load_dataset``; a model that is not from the
    registry has ``model.name`` set to its function's name and ``model.options.source`` to a hash.
    """

    data: Component = Field(default_factory=Component, description="The data set.")
    model: Component = Field(
        default_factory=Component, description="A named or hand-written model."
    )
    network: Component = Field(default_factory=Component, description="The network.")
    prior: Component = Field(default_factory=Component, description="The prior.")
    likelihood: Component = Field(default_factory=Component, description="The likelihood.")
    augmentation: Component = Field(
        default_factory=Component, description="Transformed copies of the inputs; none if absent."
    )
    inference: InferenceSpec = Field(default_factory=InferenceSpec, description="The inference.")

    def to_tree(self) -> dict[str, dict[str, Any]]:
        """Plain nested data, options flattened beside the names, empty sections left out."""
        tree = {}
        for section in SECTIONS:
            part = getattr(self, section)
            flat = {k: v for k, v in part.model_dump(exclude={"options"}).items() if v is not None}
            flat |= _plain(part.options)
            if flat:
                tree[section] = flat
        return tree

    def to_toml(self) -> str:
        """The tree as TOML text; :func:`spec_from_toml` reads it back unchanged."""
        return tomli_w.dumps(self.to_tree())


def spec_from_tree(tree: Mapping[str, Any]) -> RunSpec:
    """A spec from nested data as a TOML file holds it.

    Args:
        tree: options by section; those of an entry stand beside its name.

    Raises:
        OptionError: a section or field that does not exist, or a value that is not allowed.
    """
    parts: dict[str, Any] = {}
    for section, content in tree.items():
        if section not in SECTIONS:
            raise OptionError(f"unknown section [{section}]{_section_hint(section)}")
        if not isinstance(content, Mapping):
            raise OptionError(f"{section} = {content!r}: a section, [{section}], is expected")
        cls = InferenceSpec if section == "inference" else Component
        fields = {k: v for k, v in content.items() if k in cls.model_fields and k != "options"}
        options = {k: v for k, v in content.items() if k not in fields}
        parts[section] = parse_options(cls, {**fields, "options": options}, section)
    return RunSpec(**parts)


def spec_from_toml(text: str, source: str = "the configuration") -> RunSpec:
    """A spec from TOML text.

    Args:
        text: what a TOML file holds.
        source: what to call it in the error raised when it does not parse.

    Raises:
        InputError: text that is not TOML, or what :func:`spec_from_tree` refuses.
    """
    try:
        return spec_from_tree(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source} is not valid TOML: {error}") from None


def read_tree(path: str | Path) -> dict[str, Any]:
    """The nested data of a TOML file.

    Args:
        path: the file.

    Raises:
        InputError: it is missing, unreadable or not TOML.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        others = (p.name for p in path.parent.glob("*.toml")) if path.parent.is_dir() else ()
        raise InputError(f"cannot read {path}: no such file{hint_file(path, others)}") from None
    except (OSError, UnicodeDecodeError) as error:
        known = (error.strerror or "").lower() if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"cannot read {path}: {known}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None


def override(tree: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The tree with ``section.option=value`` assignments applied, in order.

    Values are read as TOML (``5``, ``[50, 50]``, ``true``, ``"text"``); what does not parse as
    TOML is taken as text, so ``network.activation=tanh`` needs no quotes.

    Args:
        tree: nested data as :func:`spec_from_tree` takes them; left as they are.
        assignments: such as ``prior.df=5``.

    Raises:
        OptionError: an assignment without ``=`` or without a section.
    """
    made = deepcopy(dict(tree))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        section, dot, option = path.strip().partition(".")
        if not (equals and dot and option):
            raise OptionError(f"cannot read {assignment!r}: write section.option=value")
        if section not in SECTIONS:
            raise OptionError(f"unknown section in {assignment!r}{_section_hint(section)}")
        target = made
        *parents, last = (section, *_keys(option, assignment))
        for key in parents:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise OptionError(f"cannot set {assignment!r}: {key} = {target!r} has no options")
        target[last] = read_value(text.strip())
    return made


def _section_hint(section: str) -> str:
    """The nearest section: of ``--backend`` and ``--dataset`` it is not the one spelt alike."""
    meant = {"backend": "inference", "dataset": "data"}.get(section)
    choices = f" (choices: {', '.join(SECTIONS)})"
    return f"; did you mean {meant!r}?{choices}" if meant else hint(section, SECTIONS)


def _keys(path: str, assignment: str) -> list[str]:
    """Keys of a dotted TOML path: ``rules."layers.0.*".std`` has three."""
    try:
        node = tomllib.loads(f"{path} = 0")
    except tomllib.TOMLDecodeError:
        raise OptionError(f"cannot read {assignment!r}: {path!r} is not an option's name") from None
    keys = []
    while isinstance(node, dict):
        key, node = next(iter(node.items()))
        keys.append(key)
    return keys


def read_value(text: str) -> Any:
    """A value as ``--set`` takes it: TOML, or else the text itself.

    Args:
        text: such as ``5``, ``[50, 50]`` or ``tanh``.
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _plain(value: Any) -> Any:
    """Tuples as lists, numpy scalars as numbers, None left out: what TOML can hold."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value  # NumPy scalars and arrays


def fitted_before(prior: Component) -> str:
    """What the numbers of a prior, or of one of its rules, were fitted to before, in words.

    Args:
        prior: of a spec.

    Returns:
        Empty of a prior that was just given.
    """
    rules = prior.options.get("rules") or {}
    for options in (prior.options, *(rule for rule in rules.values() if isinstance(rule, Mapping))):
        words = options.get("fitted_to")
        if words or options.get("fitted_to_targets"):
            return str(words or options.get("matched_to") or "to targets")
    return ""
