"""What a study is: a grid of cells, how one is run, and what it says of published claims."""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.options import Options
from bnnzoo.reports.claims import Claim, NotMeasuredError
from bnnzoo.reports.study_charts import Chart

__all__ = ["SCALES", "Cell", "Results", "Study", "StudyOptions", "Table"]

SCALES = ("smoke", "small", "paper")
"""That it runs, in a minute; an honest small answer, in less than 45 on two cores; as published."""


class StudyOptions(Options):
    """Options of every study."""

    scale: Literal["smoke", "small", "paper"] = Field("small", description="Its size.")


@dataclass(frozen=True)
class Cell:
    """One piece of work of a study, run whole or not at all.

    Attributes:
        name: unique within the study; the name of its file.
        settings: plain data that says all of what is run, seeds included.
    """

    name: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.,=_-]*", self.name):
            raise InputError(f"cell name {self.name!r}: letters, digits and . , = _ - are taken")
        json.dumps(dict(self.settings))


class Results:
    """What the finished cells of a study measured.

    Args:
        cells: those of the study, in order.
        measured: of the finished ones, by name.
    """

    def __init__(self, cells: Sequence[Cell], measured: Mapping[str, Mapping[str, Any]]) -> None:
        self.cells, self.measured = list(cells), measured

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Settings and measurements of every finished cell."""
        for cell in self.cells:
            if cell.name in self.measured:
                yield {**cell.settings, **self.measured[cell.name]}

    def where(self, **settings: Any) -> list[dict[str, Any]]:
        """Finished cells of these settings, in the study's order.

        Args:
            settings: names and values that must be equal.

        Raises:
            NotMeasuredError: a cell of these settings is missing, or there are none in the grid.
        """
        wanted = [c for c in self.cells if all(c.settings.get(k) == v for k, v in settings.items())]
        said = ", ".join(f"{k} = {v}" for k, v in settings.items()) or "any settings"
        if not wanted:
            raise NotMeasuredError(f"no cell of this scale has {said}")
        missing = [c.name for c in wanted if c.name not in self.measured]
        if missing:
            raise NotMeasuredError(f"{len(missing)} cells with {said} are missing: {missing[0]}")
        return [{**c.settings, **self.measured[c.name]} for c in wanted]


@dataclass(frozen=True)
class Table:
    """A table of a study's page.

    Attributes:
        title: what it shows.
        columns: heads.
        rows: a cell a column, as text or numbers.
        caption: what to look for.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Study(abc.ABC):
    """A published study, to be run again.

    Attributes:
        scale: ``smoke``, ``small`` or ``paper``.
        question: what it asks, in a sentence.
        protocol: what is done, in a few sentences.
        differences: what differs from the papers, and why.
    """

    scale: str
    question: ClassVar[str]
    protocol: ClassVar[str]
    differences: ClassVar[Sequence[str]] = ()

    @abc.abstractmethod
    def cells(self) -> list[Cell]:
        """The grid at this scale; cells that share compiled programs stand beside each other."""

    @abc.abstractmethod
    def run(self, **settings: Any) -> dict[str, Any]:
        """Do one cell.

        Args:
            settings: of the cell.

        Returns:
            What was measured, as plain data. Equal settings give equal measurements.
        """

    @abc.abstractmethod
    def claims(self) -> list[Claim]:
        """Claims that are tested, none chosen after the fact."""

    def cautions(self, results: Results) -> list[str]:
        """What a reader has to know before believing the verdicts, a sentence each."""
        return []

    def charts(self, results: Results) -> list[Chart]:
        """Figures of the page, of what is there."""
        return []

    def tables(self, results: Results) -> list[Table]:
        """Tables of the page, of what is there."""
        return []
