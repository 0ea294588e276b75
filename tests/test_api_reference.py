"""The reference is whole: every public name is documented, in full, on one page.

`make docs` fails on the same complaints and builds the pages.
"""

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import Field

from bnnzoo import registry
from bnnzoo.options import Options

DOCS = Path(__file__).resolve().parents[1] / "docs"

spec = importlib.util.spec_from_file_location("reference", DOCS / "_ext" / "reference.py")
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)

PUBLIC = reference.public_objects()


def test_every_public_name_is_documented_on_one_page():
    assert len(PUBLIC) > 80
    assert {"bnnzoo.fit", "bnnzoo.metrics.crps", "bnnzoo.models.Prior"} <= set(PUBLIC)
    assert not reference.complaints(PUBLIC)


def test_every_kind_of_entry_has_its_page_of_the_catalogue():
    pages = {page.stem: page.read_text() for page in (DOCS / "catalogue").glob("*.md")}
    assert set(pages) == set(registry.KINDS)
    assert all(f"```{{catalogue}} {kind}\n" in text for kind, text in pages.items())


def test_every_page_of_the_reference_and_the_catalogue_is_in_the_contents():
    contents = (DOCS / "index.md").read_text().splitlines()
    for page in [*(DOCS / "api").glob("*.md"), *(DOCS / "catalogue").glob("*.md")]:
        assert f"{page.parent.name}/{page.stem}" in contents


# The checker, on objects made up to be found wanting


def silent(x):
    return x


def wordy(x):
    """A summary that goes on
    in the next line.

    Args:
        x: a number.
    """
    return x


def partial(x, y, *rest, **more):
    """Take several things.

    Args:
        x: a number, with a word: behind it.
        *rest: others.
    """


def whole(x, y):
    """Take two things.

    Args:
        x: a number.
        y: another, described
            in two lines.

    Returns:
        z: their sum.
    """


class Bare:
    """Something with a method and a property that say nothing."""

    def __init__(self, size):
        self.size = size

    def grow(self):
        pass

    @property
    def area(self):
        return self.size**2

    @classmethod
    def of(cls, other):
        """From another one."""

    def _hidden(self):
        pass


class Brief:
    """Something whose methods are short."""

    def add(self, other):
        """The sum with ``other``."""

    def distribution(self, info):
        """See :meth:`Prior.distribution`."""


def brief(other):
    """The sum with ``other``."""


class Pair(NamedTuple):
    """Two numbers.

    Attributes:
        left: the first.
    """

    left: float
    right: float


class Base:
    """Something to inherit from."""

    def grow(self):
        """Become larger."""


class Heir(Base):
    """Says nothing new of what it inherits."""

    def grow(self):
        pass


class Chosen(Options):
    """Options with and without a description."""

    told: int = Field(1, description="Said.")
    untold: int = 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (silent, ["it: no docstring", "it: 'x' is not under Args"]),
        (wordy, ["it: its docstring does not start with one line of summary"]),
        (partial, ["it: 'y' is not under Args", "it: 'more' is not under Args"]),
        (whole, []),
        (
            Bare,
            [
                "it: 'size' is not under Args or Attributes",
                "it.grow: no docstring",
                "it.area: no docstring",
                "it.of: 'other' is not under Args",
            ],
        ),
        (Brief, []),
        (brief, ["it: 'other' is not under Args"]),
        (Pair, ["it: 'right' is not under Args or Attributes"]),
        (Heir, []),
        (Chosen, ["it: 'untold' is not under Args or Attributes"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_checker_finds_what_is_undocumented(value, expected):
    assert reference.problems("it", value) == expected


def test_the_checker_finds_constants_without_a_text(tmp_path, monkeypatch):
    (tmp_path / "constants_of_a_test.py").write_text(
        'TOLD = 1\n"""Said."""\nUNTOLD = 2\nLAST = 3\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert reference.problems("constants_of_a_test.TOLD", 1) == []
    for name in ("constants_of_a_test.UNTOLD", "constants_of_a_test.LAST"):
        assert reference.problems(name, 2) == [f"{name}: no docstring below it"]


def test_the_checker_finds_names_that_pages_lack_repeat_or_made_up(tmp_path):
    (tmp_path / "one.md").write_text(".. autofunction:: a.whole\n.. autoclass:: a.Gone\n")
    (tmp_path / "two.md").write_text("   text\n.. autofunction:: a.whole\n")
    found = reference.complaints({"a.whole": whole, "a.other": whole}, tmp_path)
    assert found == [
        f"a.other: on no page of {tmp_path.name}",
        "a.Gone: on one.md, but not public",
        "a.whole: shown more than once",
    ]


def test_a_name_has_one_home_and_modules_have_none():
    names = [name.rpartition(".")[2] for name in PUBLIC]
    assert "bnnzoo.inference.fit" not in PUBLIC and "bnnzoo.errors" not in PUBLIC
    assert not any(inspect.ismodule(value) for value in PUBLIC.values())
    assert isinstance(PUBLIC["bnnzoo.registry.KINDS"], Mapping)
    assert len(set(names)) == len(names), "pages and links go by the last part of a name"
