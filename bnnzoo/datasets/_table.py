"""A table as it was read: named columns of cells, and where each row stands in its source."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from bnnzoo.errors import DataError, hint, setting

Cell = Literal["written", "text", "category", "number", "boolean"]
"""What a source says of a column: ``written`` is a text file, where numbers are text too."""

Kind = Literal["number", "boolean", "text"]
"""What a column is taken as."""

EXACT = 2**53
"""Below this size every whole number is a float64."""

_BOOLEANS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, eq=False)
class Cells:
    """One column.

    Attributes:
        cell: what the source says of it.
        values: ``(row,)``; numbers and booleans are float64 with NaN where missing, everything
            else is an object array of str, None where missing.
        whole: the numbers are whole by their type.
        decimal: what stands between whole part and fraction of a written number.
    """

    cell: Cell
    values: np.ndarray
    whole: bool = False
    decimal: str = "."

    @property
    def numeric(self) -> bool:
        """Whether the source has numbers or booleans here, and not text."""
        return self.cell in ("number", "boolean")

    @cached_property
    def missing(self) -> np.ndarray:
        """``(row,)``: which cells are empty."""
        if self.numeric:
            return np.isnan(self.values)
        return np.array([value is None for value in self.values], bool)

    @cached_property
    def numbers(self) -> np.ndarray:
        """``(row,)`` float64, infinity included; NaN where missing or no number."""
        if self.numeric:
            return self.values
        parsed = (None if t is None else parse_number(t, self.decimal) for t in self.values)
        return np.array([np.nan if number is None else number for number in parsed])


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one length.

    Attributes:
        name: what to call it in messages.
        cells: columns by name, in order.
        rows: number of rows.
        where: says where a row stands, such as ``t.csv: line 3``.
        said: what was inferred in reading it.
    """

    name: str
    cells: Mapping[str, Cells]
    rows: int
    where: Callable[[int], str]
    said: tuple[str, ...] = ()

    def place(self, row: int, column: str) -> str:
        """Where a cell is, for messages."""
        return f"{self.where(row)}, column {column!r}"

    def numbers(self, column: str) -> np.ndarray:
        """A column as float64 ``(row,)``, NaN where missing.

        Raises:
            DataError: text that is no number, infinity, or a whole number that float64 rounds.
        """
        cells = self.cells[column]
        values = cells.numbers
        wrong = np.flatnonzero(np.isnan(values) & ~cells.missing)
        if len(wrong):
            text = cells.values[wrong[0]]
            raise DataError(
                f"{self.place(int(wrong[0]), column)} is {text!r}; {needed(text, cells.decimal)}"
            )
        for row in np.flatnonzero(np.abs(values) >= EXACT).tolist():
            written, value = cells.values[row], values[row].item()  # no NumPy: it rounds integers
            if math.isinf(value):
                raise DataError(f"{self.place(row, column)} is {value}")
            if not cells.numeric and is_whole(written) and int(written) != value:
                refuse_inexact(self.place(row, column), written)
        return values

    def booleans(self, column: str) -> np.ndarray:
        """A column of true and false as 1 and 0, NaN where missing; raises ``DataError``."""
        cells = self.cells[column]
        made = np.full(self.rows, np.nan)
        for row in np.flatnonzero(~cells.missing):
            value = cells.values[row]
            known = value if cells.numeric else _BOOLEANS.get(value.lower())
            if known not in (0.0, 1.0):
                shown = f"{value:g}" if cells.numeric else repr(value)
                raise DataError(
                    f"{self.place(int(row), column)} is {shown}; true or false is needed"
                )
            made[row] = known
        return made

    def texts(self, column: str) -> np.ndarray:
        """A column as an object array of str, None where missing; numbers as they are written."""
        cells = self.cells[column]
        if not cells.numeric:
            return cells.values
        write = _boolean_text if cells.cell == "boolean" else number_text
        made = [None if np.isnan(value) else write(value) for value in cells.values.tolist()]
        return np.array(made, object)


def parse_number(text: str, decimal: str = ".") -> float | None:
    """The number a text writes, infinity included, or None."""
    if "_" in text or (decimal != "." and "." in text):  # Python would read 1_000
        return None
    try:
        value = float(text.replace(decimal, "."))
    except ValueError:
        return None
    return None if math.isnan(value) else value


def is_whole(text: str) -> bool:
    """Whether a text writes a whole number without a decimal point or exponent."""
    return text.removeprefix("-").removeprefix("+").isdecimal()


def is_boolean(text: str) -> bool:
    """Whether a text says true or false."""
    return text.lower() in _BOOLEANS


def number_text(value: float) -> str:
    """A number as a table would write it: 3.0 as ``3``."""
    return str(int(value)) if value.is_integer() else repr(value)


def _boolean_text(value: float) -> str:
    return str(bool(value))


def has_decimal_comma(text: str) -> bool:
    """Whether a text writes a number with a decimal comma."""
    return "," in text and parse_number(text, ",") is not None


def needed(text: str, decimal: str = ".") -> str:
    """What to say of a text that is no number."""
    commas = setting("data", "decimal", ",")
    if decimal == "," and parse_number(text) is not None:
        return f"a number is needed ({commas} is set, for new rows as well)"
    remedy = f" (with decimal commas: {commas})" if has_decimal_comma(text) else ""
    return f"a number is needed{remedy}"


def refuse_inexact(place: str, value: object) -> None:
    """Raise for a whole number that float64 would round."""
    raise DataError(
        f"{place} is {value}, which float64 cannot hold exactly: leave the column out with drop,"
        " or take it as text with categorical"
    )


def unique_names(names: Sequence[str], what: str) -> list[str]:
    """Names of columns without outer blanks; raises ``DataError`` for an empty or repeated one."""
    stripped = [name.strip() for name in names]
    first: dict[str, int] = {}
    for number, name in enumerate(stripped, 1):
        if not name:
            raise DataError(
                f"{what}: column {number} has no name (pandas writes its index so: to_csv with"
                " index=False leaves it out)"
            )
        if name in first:
            raise DataError(f"{what}: columns {first[name]} and {number} are both named {name!r}")
        first[name] = number
    return stripped


def column_of(table: Table, column: str) -> Cells:
    """A column by name; raises ``DataError`` with the nearest one where there is none."""
    if column not in table.cells:
        raise DataError(f"{table.name} has no column {column!r}{hint(column, table.cells)}")
    return table.cells[column]
