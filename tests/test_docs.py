"""The Python examples of the README and the docs run as they stand, each page in one namespace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bnnzoo import registry

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONG = (
    "sklearn.md",
    "backends.md",
    "datasets.md",
    "evidence.md",
    "temperatures.md",
    "evidence-failures.md",
    "infinite.md",
    "priors.md",
    "tables.md",
    "extending.md",
)
"""Pages whose examples take long to compile: `make validate` runs them."""

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def test_there_are_examples():
    assert blocks(ROOT / "README.md") and blocks(ROOT / "docs" / "extending.md")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=p.name, marks=pytest.mark.validate if p.name in LONG else ())
        for p in PAGES
        if blocks(p)
    ],
)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {kind: set(registry.list_names(kind)) for kind in registry.KINDS}
    namespace: dict[str, object] = {"__name__": "example"}
    try:
        for number, source in enumerate(blocks(page), 1):
            exec(
                compile(source, f"{page.name}, example {number}", "exec", dont_inherit=True),
                namespace,
            )
    finally:
        for kind, names in before.items():
            for name in set(registry.list_names(kind)) - names:
                registry.unregister(kind, name)


def test_the_notes_on_a_table_are_shown_once(tmp_path, monkeypatch, capsys):
    """By fit, which says them without being asked: the page prints none of them."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "example"}
    exec(compile(blocks(ROOT / "docs" / "tables.md")[0], "tables.md", "exec"), namespace)
    notes = namespace["data"].warnings
    printed = capsys.readouterr().out
    assert notes and not any(note in printed for note in notes)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_resolve(page):
    for target in re.findall(
        r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")
    ):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
