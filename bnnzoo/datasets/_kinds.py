"""What each column of a table is taken as: numbers, booleans or text."""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np

from bnnzoo.datasets._read_frame import DATES
from bnnzoo.datasets._table import (
    Kind,
    Table,
    column_of,
    has_decimal_comma,
    is_boolean,
    needed,
)
from bnnzoo.errors import DataError, setting

MOST_CATEGORIES = 50
"""A text column with more different values is a name or a note."""

_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?"  # 2020-01-31, with or without a time
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( .*)?"  # 31.1.2020
    r"|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
)


def infer_kind(table: Table, column: str, categorical: Collection[str] = ()) -> Kind:
    """What a feature column is taken as.

    Args:
        table: holds the column.
        column: its name.
        categorical: columns to take as text whatever they hold.

    Raises:
        DataError: a column without a value, of numbers and text together, of numbers written as
            text where the source tells them apart, of dates, or of too many different texts.
    """
    cells = column_of(table, column)
    if cells.missing.all():
        raise DataError(f"{table.name}: column {column!r} has no value in any row; leave it out")
    if column in categorical or cells.cell == "category":
        return "text"
    if cells.numeric:
        return "boolean" if cells.cell == "boolean" else "number"
    kind = kind_of_texts(
        table, column, f"{setting('data', 'categorical', [column])} takes the column as text"
    )
    if kind == "text":
        _refuse_names(table, column)
    return kind


def kind_of_texts(table: Table, column: str, remedy: str) -> Kind:
    """What a column is that the source holds as text; raises as :func:`infer_kind`.

    Args:
        table: holds the column.
        column: its name.
        remedy: how to have a column of numbers and text taken as it is, for the message.
    """
    cells = table.cells[column]
    present = np.flatnonzero(~cells.missing)
    texts = [str(cells.values[row]) for row in present]
    numbers = ~np.isnan(cells.numbers[present])
    if numbers.all() and cells.cell == "written":
        return "number"
    if numbers.all():
        row = int(present[0])
        raise DataError(
            f"{table.place(row, column)} is {texts[0]!r}, a number written as text;"
            f" convert the column, or {remedy}"
        )
    if cells.cell == "written" and all(map(is_boolean, texts)):
        return "boolean"
    dates = [bool(_DATE.fullmatch(text)) for text in texts]
    if 2 * sum(dates) > len(texts):
        k = dates.index(True)
        place = table.place(int(present[k]), column)
        raise DataError(f"{place} is {texts[k]!r}, a date or time; give it {DATES}")
    commas = np.array([has_decimal_comma(text) for text in texts])
    if numbers.any() or commas.all():
        mostly = 2 * (numbers | commas).sum() > len(texts)
        k = int(np.argmax(~numbers if mostly else numbers))
        wrong = needed(texts[k], cells.decimal) if mostly else "a number among text"
        place = table.place(int(present[k]), column)
        raise DataError(f"{place} is {texts[k]!r}; {wrong}; {remedy}")
    return "text"


def _refuse_names(table: Table, column: str) -> None:
    values = [value for value in table.cells[column].values if value is not None]
    count = len(set(values))
    if count > MOST_CATEGORIES or count == len(values) > 2:
        raise DataError(
            f"{table.name}: column {column!r} holds {count} different texts in {len(values)} rows;"
            f" leave it out ({setting('data', 'drop', [column])}), or take it as {count} columns of"
            f" 0 and 1 ({setting('data', 'categorical', [column])})"
        )
