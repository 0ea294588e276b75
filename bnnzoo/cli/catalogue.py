"""``bnnzoo list`` and ``bnnzoo describe``: what the zoo has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnnzoo.cli.console import Json, console, print_json, table
from bnnzoo.registry import singular

if TYPE_CHECKING:
    from rich.console import Console

    from bnnzoo.registry import Card

ABOUT = {
    "networks": "functions from inputs to outputs",
    "priors": "distributions of the weights",
    "likelihoods": "distributions of the target given the network's outputs",
    "augmentations": "transformed copies of the inputs, and the likelihood they imply",
    "processes": "Gaussian processes over functions, to match a prior to",
    "models": "network, prior and likelihood together, as a study published them",
    "backends": "ways to draw from a posterior, or to approximate it",
    "estimators": "ways to the evidence of a model",
    "tuners": "ways to choose hyper-parameters by the training rows",
    "datasets": "data that come with the zoo; any CSV or Parquet file goes as well",
    "studies": "published work to run again, with a verdict on each claim",
}

_FLAGS = {"networks": "network", "priors": "prior", "likelihoods": "likelihood"}
_FLAGS |= {
    "augmentations": "augmentation",
    "models": "model",
    "backends": "backend",
    "estimators": "method",
    "tuners": "method",
    "datasets": "dataset",
}
_SECTIONS = {
    "backends": "inference",
    "datasets": "data",
}
_COMMANDS = {
    "processes": "match-prior",
    "estimators": "evidence",
    "tuners": "tune",
    "studies": "study",
}


def list_entries(
    kind: Annotated[str | None, typer.Argument(help=", ".join(ABOUT))] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Only entries with this tag, as in family=heavy-tailed. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what the zoo has of a kind; without a kind, the kinds."""
    from bnnzoo import registry
    from bnnzoo.errors import InputError

    if kind is None:
        if tag:
            raise InputError("--tag needs a kind: bnnzoo list KIND --tag NAME=VALUE")
        _list_kinds(as_json)
        return
    kind = _plural(kind)
    names = registry.list_names(kind, **_tags(tag or []))
    cards = [registry.describe(kind, name) for name in names]
    if as_json:
        print_json([card.to_dict() for card in cards])
        return
    out = console()
    if not cards:
        out.print(f"No {kind} with {' and '.join(tag or [])}.")
        return
    shown = table("name", "what it is", wraps="what it is")
    for card in cards:
        shown.add_row(card.name, card.summary)
    out.print(shown)
    out.print(f"\nMore of one: bnnzoo describe {kind} {cards[0].name}", style="dim")


def describe(
    kind: Annotated[str, typer.Argument(help="A kind that `bnnzoo list` names, such as priors.")],
    name: Annotated[str, typer.Argument(help="A name that `bnnzoo list KIND` gives.")],
    as_json: Json = False,
) -> None:
    """Show the card of an entry: its options, notes and references."""
    from bnnzoo import registry

    card = registry.describe(_plural(kind), name)
    if as_json:
        print_json(card.to_dict())
        return
    show_card(console(), card)


def show_card(out: Console, card: Card) -> None:
    """Print a card."""
    from rich.padding import Padding
    from rich.text import Text

    title = Text(card.name, style="bold cyan").append(f"  {singular(card.kind)}", style="dim")
    out.print(title)
    out.print(card.summary)
    section = _SECTIONS.get(card.kind, singular(card.kind))
    if card.parameters:
        out.print("\nOptions", style="bold")
        for p in card.parameters:
            line = Text("  ").append(p.name, style="cyan").append(f"  {p.type}", style="dim")
            default = "required" if p.default == "required" else f"default {_shown(p.default)}"
            out.print(line.append(f", {default}", style="dim"))
            out.print(Padding(Text(p.description), (0, 0, 0, 6)))
    if card.facts:
        out.print("\nFacts", style="bold")
        for heading, fact in card.facts.items():
            line = Text("  ").append(heading, style="dim").append(f"  {fact}")
            out.print(Padding(line, (0, 0, 0, 0)))
    if card.notes:
        out.print("\nNotes", style="bold")
        out.print(Padding(Text(card.notes), (0, 0, 0, 2)))
    if card.references:
        out.print("\nReferences", style="bold")
        for reference in card.references:
            out.print(Padding(Text(reference), (0, 0, 0, 2)))
    if card.tags:
        out.print("\nTags", style="bold")
        for key, value in card.tags.items():
            out.print(f"  {key} = {_shown(value)}")
    out.print("\nUse", style="bold")
    if card.kind == "studies":
        out.print(f"  bnnzoo study {card.name} --scale smoke")
        return
    command = _COMMANDS.get(card.kind, "fit")
    use = f"bnnzoo {command} --{_FLAGS.get(card.kind, section)} {card.name}"
    if card.kind != "datasets":
        use = use.replace(command, f"{command} --dataset {_example(card)}", 1)
    if card.kind == "augmentations":
        use += " --likelihood categorical --set data.scale=pooled --set augmentation.shape=[8,8]"
    elif card.parameters:
        first = card.parameters[0]
        use += f" --set {section}.{first.name}={_assigned(first.default)}"
    out.print(Padding(Text(use), (0, 0, 0, 2)))


def _example(card: Card) -> str:
    """A bundled data set that the entry can be tried on."""
    if card.kind == "augmentations":
        return "digits"
    if card.tags.get("target") == "two classes":
        return "breast-cancer"
    return "iris" if card.tags.get("task") == "classification" else "diabetes"


def _list_kinds(as_json: bool) -> None:
    from bnnzoo import registry

    if as_json:
        print_json([{"kind": kind, "about": ABOUT.get(kind, "")} for kind in registry.KINDS])
        return
    out, shown = console(), table("kind", "what it is", wraps="what it is")
    for kind in registry.KINDS:
        shown.add_row(kind, ABOUT.get(kind, ""))
    out.print(shown)
    out.print("\nNames of one: bnnzoo list priors", style="dim")


def _plural(kind: str) -> str:
    """A kind may be given in the singular."""
    from bnnzoo import registry

    return next((known for known in registry.KINDS if registry.singular(known) == kind), kind)


def _tags(given: Sequence[str]) -> dict[str, Any]:
    from bnnzoo.errors import InputError

    made: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name == "kind":
            raise InputError(f"cannot read --tag {text!r}: write name=value")
        made[name] = {"true": True, "false": False}.get(value.lower(), value)
    return made


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"  # as --tag and --set take it
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) if value and isinstance(value[0], str) else str([*value])
    return "none" if value is None or value == {} else str(value)


def _assigned(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if value is None or isinstance(value, dict) or value == "required":
        return "..."
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(map(str, value)) + "]"
    return _shown(value)
