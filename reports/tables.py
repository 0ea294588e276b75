"""Tables as CSV that a page carries inside itself: nothing is fetched, nothing is run."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins so would be read as a formula by a spreadsheet."""

FIGURES = 6
"""Significant figures of a number in a table."""


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV; empty cells for what is missing or not a number.

    Args:
        heads: names of the columns.
        rows: cells of each row.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(head) for head in heads])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def csv_address(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The same as an address that holds its content.

    Args:
        heads: names of the columns.
        rows: cells of each row.
    """
    return "data:text/csv;charset=utf-8," + quote(csv_text(heads, rows), safe=",.-_ :/;()")


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{FIGURES}g}"
    if isinstance(value, str):
        # a label comes from the data: it stays text in a spreadsheet
        return f"'{value}" if value.startswith(FORMULA) else value
    return str(value)
