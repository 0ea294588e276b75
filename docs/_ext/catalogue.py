"""The registry in the docs, read at every build.

``{catalogue} KIND`` is the cards of a kind; ``{comparison} KIND`` the table of its facts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bnnzoo import registry
from bnnzoo.registry import Card


class Catalogue(SphinxDirective):
    """One section a card: summary, options, notes, references, tags."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The sections, in order of name."""
        (kind,) = self.arguments
        made: list[nodes.Node] = []
        for name in registry.list_names(kind):
            section = nodes.section(ids=[nodes.make_id(f"{kind}-{name}")], names=[name])
            section += nodes.title("", name)
            section += _card(registry.describe(kind, name))
            made.append(section)
        return made


FAMILIES = {
    "mcmc": "Full gradients, or none",
    "smc": "Sequential Monte Carlo",
    "sgmcmc": "Stochastic gradients",
    "variational": "Variational",
    "laplace": "Laplace",
    "ensemble": "Ensembles",
    "optimisation": "Optimisation",
    "dropout": "Dropout",
}
"""Titles of the families that tags name, in the order of the table; others follow."""


class Comparison(SphinxDirective):
    """One row an entry: its name, its facts, the paper it is from; grouped by family."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table."""
        (kind,) = self.arguments
        families: dict[str, list[Card]] = {family: [] for family in FAMILIES}
        for name in registry.list_names(kind):
            card = registry.describe(kind, name)
            families.setdefault(str(card.tags["family"]), []).append(card)
        return [_comparison(families, registry.FACTS[kind])]


def _comparison(families: dict[str, list[Card]], headings: Sequence[str]) -> nodes.table:
    words = ("", *headings, "source")
    body = nodes.tbody()
    for family, cards in families.items():
        if cards:
            title = nodes.paragraph("", "", nodes.strong("", FAMILIES.get(family, family)))
            body += nodes.row("", nodes.entry("", title, morecols=len(words) - 1))
        for card in cards:
            cells = [nodes.paragraph("", "", nodes.literal("", card.name))]
            cells += [_text(card.facts[heading]) for heading in headings]
            authors, closed, _ = card.references[0].partition(")")  # and the year
            cells.append(_text(authors + closed))
            body += nodes.row("", *(nodes.entry("", cell) for cell in cells))
    heads = nodes.row("", *(nodes.entry("", _text(word)) for word in words))
    columns = [nodes.colspec(colwidth=1) for _ in words]
    group = nodes.tgroup("", *columns, nodes.thead("", heads), body, cols=len(words))
    return nodes.table("", group)


def _card(card: Card) -> list[nodes.Node]:
    made: list[nodes.Node] = [_text(card.summary)]
    if card.parameters:
        made.append(_options(card))
    if card.facts:
        items = [
            nodes.list_item("", nodes.paragraph("", "", nodes.strong("", heading), _colon(fact)))
            for heading, fact in card.facts.items()
        ]
        made.append(nodes.bullet_list("", *items))
    if card.notes:
        made.append(_text(card.notes))
    if card.references:
        made.append(_rubric("References"))
        items = [nodes.list_item("", _text(reference)) for reference in card.references]
        made.append(nodes.bullet_list("", *items))
    if card.tags:
        tags = nodes.paragraph()
        for key, value in card.tags.items():
            for one in value if isinstance(value, tuple) else (value,):
                tags += [nodes.literal("", f"{key}={_written(one).strip('"')}"), nodes.Text(" ")]
        made += [_rubric("Tags"), tags]
    return made


def _written(default: Any) -> str:
    """A default as ``--set`` and TOML take it."""
    if default is None or default == "required":
        return default or "none"
    if isinstance(default, float):
        return f"{default:.6g}"
    return json.dumps(default, ensure_ascii=False)


def _text(text: str) -> nodes.paragraph:
    return nodes.paragraph("", text)


def _colon(text: str) -> nodes.Text:
    return nodes.Text(f": {text}")


def _rubric(text: str) -> nodes.rubric:
    return nodes.rubric("", text)


def _options(card: Card) -> nodes.table:
    """Name, type and default in one narrow column, so that telephones have room for the meaning."""
    body = nodes.tbody()
    for p in card.parameters:
        default = [nodes.Text("required")]
        if p.default != "required":
            default = [nodes.Text("default "), nodes.literal("", _written(p.default))]
        name = nodes.paragraph("", "", nodes.strong("", p.name))
        facts = nodes.paragraph("", "", nodes.Text(f"{p.type}, "), *default)
        body += nodes.row("", nodes.entry("", name, facts), nodes.entry("", _text(p.description)))
    heads = [nodes.entry("", _text(word)) for word in ("option", "meaning")]
    columns = [nodes.colspec(colwidth=width) for width in (35, 65)]
    group = nodes.tgroup("", *columns, nodes.thead("", nodes.row("", *heads)), body, cols=2)
    return nodes.table("", group, classes=["colwidths-given"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("catalogue", Catalogue)
    app.add_directive("comparison", Comparison)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
