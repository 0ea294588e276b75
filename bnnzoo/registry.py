"""The registry: every network, prior, likelihood, backend, dataset... by name, each with a card.

An entry is one file in the folder of its kind that calls :func:`register`; the folder is
imported when the kind is first asked for, so adding an entry edits nothing else.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bnnzoo.errors import BnnzooError, InputError, UnknownNameError, hint
from bnnzoo.options import NoOptions, Options, parse_options

__all__ = [
    "FACTS",
    "KINDS",
    "Card",
    "Entry",
    "Parameter",
    "describe",
    "get",
    "list_names",
    "register",
    "unregister",
]

KINDS: dict[str, tuple[str, ...]] = {
    "networks": ("bnnzoo.models.networks",),
    "priors": ("bnnzoo.models.priors",),
    "likelihoods": ("bnnzoo.models.likelihoods",),
    "augmentations": ("bnnzoo.models.augmentations",),
    "processes": ("bnnzoo.models.processes",),
    "models": ("bnnzoo.models.zoo",),
    "backends": ("bnnzoo.inference.backends",),
    "estimators": ("bnnzoo.inference.estimators",),
    "tuners": ("bnnzoo.inference.tuners",),
    "datasets": ("bnnzoo.datasets", "bnnzoo.models.simulated"),
    "studies": ("bnnzoo.reports.studies",),
}
"""The kinds that exist, and the packages whose files hold the entries of each.

Packages are searched in order, and no further than the name is found: those that load JAX last."""

FACTS: dict[str, tuple[str, ...]] = {
    "backends": ("exact for", "bias", "a draw costs", "memory", "choose it"),
    "estimators": ("number", "standard error", "wrong when", "choose it"),
}
"""What the entries of a kind are compared by, which heads the columns of its table in the docs."""

Tag = str | bool | tuple[str, ...]


def singular(kind: str) -> str:
    """One of a kind: ``prior``, ``process``.

    Args:
        kind: one of :data:`KINDS`.
    """
    if kind.endswith("ies"):
        return kind.removesuffix("ies") + "y"
    return kind.removesuffix("es") if kind.endswith("sses") else kind.removesuffix("s")


@dataclass(frozen=True)
class Parameter:
    """One option of an entry, as its card shows it.

    Attributes:
        name: what it is set by.
        type: its type in words, such as ``whole number``.
        default: its default value, or the text ``required``.
        description: what it does.
    """

    name: str
    type: str
    default: Any
    description: str


@dataclass(frozen=True)
class Card:
    """What a user needs to know of an entry before choosing it.

    Attributes:
        kind: one of :data:`KINDS`.
        name: the name it is selected by.
        summary: one line.
        parameters: its options, with defaults.
        references: papers, with the equation where there is one.
        tags: facts to select by; see :func:`list_names`.
        notes: what to watch out for, in full sentences.
        facts: what entries of its kind are compared by, a few words each; see :data:`FACTS`.
    """

    kind: str
    name: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    references: tuple[str, ...] = ()
    tags: Mapping[str, Tag] = field(default_factory=dict)
    notes: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The card as plain data, for JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "summary": self.summary,
            "parameters": [vars(p) for p in self.parameters],
            "references": list(self.references),
            "tags": {k: list(v) if isinstance(v, tuple) else v for k, v in self.tags.items()},
            "notes": self.notes,
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class Entry:
    """A registered factory, its options and its card.

    Attributes:
        card: what a user is shown.
        factory: gives the object for validated options.
        options: pydantic model that validates them.
    """

    card: Card
    factory: Callable[..., Any]
    options: type[Options]

    def parse(self, given: Mapping[str, Any], where: str | None = None) -> Options:
        """Validate options for this entry.

        Args:
            given: names and values as the user wrote them.
            where: section they belong to, for messages; the singular of the kind if not given.

        Returns:
            The options, frozen, with defaults.

        Raises:
            OptionError: an option that does not exist or a value that is not allowed.
        """
        one = singular(self.card.kind)
        owner = f"{one} {self.card.name!r}"
        return parse_options(self.options, given, where or one, owner)

    def build(self, given: Mapping[str, Any], where: str | None = None) -> Any:
        """Validate options and call the factory with them.

        Args:
            given: names and values as the user wrote them.
            where: section they belong to, for messages; the singular of the kind if not given.

        Returns:
            What the factory makes: a prior, a network, a data set.

        Raises:
            OptionError: as :meth:`parse`.
        """
        return self.factory(self.parse(given, where))


_entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
_discovered: set[str] = set()
_lock = threading.Lock()
_discovery = threading.RLock()  # another one: it is held while entries are imported and register

F = TypeVar("F", bound=Callable[..., Any])


def register(
    kind: str,
    name: str,
    *,
    summary: str,
    options: type[Options] = NoOptions,
    references: Iterable[str] = (),
    tags: Mapping[str, Tag] | None = None,
    notes: str = "",
    facts: Mapping[str, str] | None = None,
) -> Callable[[F], F]:
    """Decorator: make ``factory(options)`` available under ``name``.

    Args:
        kind: one of :data:`KINDS`.
        name: lower case with dashes; must be new.
        summary: one line for lists.
        options: pydantic model of the options; its field descriptions fill the card.
        references: sources.
        tags: facts to select by.
        notes: cautions, in full sentences.
        facts: a few words under each heading of :data:`FACTS` for this kind.

    Raises:
        UnknownNameError: no such kind.
        BnnzooError: the name is taken, or a fact is under no heading of its kind.
    """
    _known_kind(kind)
    facts = dict(facts or {})
    if unknown := [heading for heading in facts if heading not in FACTS.get(kind, ())]:
        raise BnnzooError(
            f"{kind} are not compared by {unknown[0]!r}{hint('', FACTS.get(kind, ()))}"
        )

    def decorate(factory: F) -> F:
        with _lock:
            if name in _entries[kind]:
                raise BnnzooError(f"{singular(kind)} {name!r} is registered twice")
            parameters = _parameters(options)
            facts_in_order = {h: facts[h] for h in FACTS.get(kind, ()) if h in facts}
            card = Card(
                kind,
                name,
                summary,
                parameters,
                tuple(references),
                dict(tags or {}),
                notes,
                facts_in_order,
            )
            _entries[kind][name] = Entry(card, factory, options)
        return factory

    return decorate


def unregister(kind: str, name: str) -> None:
    """Forget an entry: for tests and notebooks that define the same name again.

    Args:
        kind: one of :data:`KINDS`.
        name: the entry's name; one that is not registered is passed over.

    Raises:
        UnknownNameError: no such kind.
    """
    _entries[_known_kind(kind)].pop(name, None)


def get(kind: str, name: str) -> Entry:
    """The entry of a name.

    Args:
        kind: one of :data:`KINDS`.
        name: the entry's name.

    Raises:
        UnknownNameError: no such kind or name, with the nearest one.
    """
    for package in KINDS[_known_kind(kind)]:
        _discover(package)
        if isinstance(name, str) and name in _entries[kind]:
            return _entries[kind][name]
    raise UnknownNameError(singular(kind), name, _entries[kind])


def list_names(kind: str, **tags: Tag) -> list[str]:
    """Names of a kind, sorted; keep those whose card carries every given tag.

    Args:
        kind: one of :data:`KINDS`.
        **tags: ``family="heavy-tailed"`` matches a card whose tag ``family`` equals that value
            or, where the tag is a tuple, contains it; ``exact=False`` also matches its absence.

    Raises:
        UnknownNameError: no such kind.
        InputError: a tag that no card of the kind carries, or a text that none has for it.
    """
    for package in KINDS[_known_kind(kind)]:
        _discover(package)
    cards = [entry.card for entry in _entries[kind].values()]
    known = {tag for card in cards for tag in card.tags}
    for tag, wanted in tags.items():
        if tag not in known:
            raise UnknownNameError(f"tag of {kind}", tag, known)
        if isinstance(wanted, str) and not any(_has(card, tag, wanted) for card in cards):
            given = [card.tags.get(tag) for card in cards]
            flat = [v for value in given for v in (value if isinstance(value, tuple) else (value,))]
            raise UnknownNameError(
                f"{tag} of {kind}", wanted, {v for v in flat if isinstance(v, str)}
            )
    return sorted(c.name for c in cards if all(_has(c, t, v) for t, v in tags.items()))


def describe(kind: str, name: str) -> Card:
    """The card of an entry: its options, references, tags and notes.

    Args:
        kind: one of :data:`KINDS`.
        name: the entry's name.

    Raises:
        UnknownNameError: no such kind or name, with the nearest one.
    """
    return get(kind, name).card


def _has(card: Card, tag: str, wanted: Tag) -> bool:
    value = card.tags.get(tag, False)
    return wanted in value if isinstance(value, tuple) else value == wanted


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise UnknownNameError("kind", kind, KINDS)
    return kind


def _discover(name: str) -> None:
    with _discovery:
        if name in _discovered:
            return
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{name}.{module.name}")
        _discovered.add(name)


def _parameters(options: type[Options]) -> tuple[Parameter, ...]:
    properties = options.model_json_schema()["properties"] if options.model_fields else {}
    made = []
    # An entry's own options first, then those it shares with others.
    names = [n for cls in options.__mro__ for n in vars(cls).get("__annotations__", ())]
    for name in dict.fromkeys(n for n in names if n in options.model_fields):
        info = options.model_fields[name]
        if not info.description:
            raise InputError(f"option {name!r} of {options.__name__} has no description")
        default = "required" if info.is_required() else info.get_default(call_default_factory=True)
        type_name = _type_name(properties.get(name, {}))
        made.append(Parameter(name, type_name, default, info.description))
    return tuple(made)


def _type_name(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_name(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    named = {"number": "number", "integer": "whole number", "string": "text", "null": "none"}
    return named.get(schema.get("type", ""), schema.get("type", "any"))
