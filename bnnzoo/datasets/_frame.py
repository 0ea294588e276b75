"""Inputs given as data frames: encoded as the tables in files are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from bnnzoo.datasets._encoding import TableEncoding, fit_encoding
from bnnzoo.datasets._kinds import infer_kind
from bnnzoo.datasets._read_frame import is_frame, table_of_frame
from bnnzoo.datasets._table import Cells, Table, column_of
from bnnzoo.errors import DataError, UnknownNameError, hint


def encode_frames(
    x: Any, x_test: Any, impute: bool, categorical: Collection[str]
) -> tuple[np.ndarray, Any, TableEncoding, list[str]]:
    """Features of a data frame, and of a second one of test rows.

    Args:
        x: data frame of training rows.
        x_test: of test rows, with the same columns in any order; anything that is no data frame is
            given back as it is.
        impute: fill missing values in; otherwise they are refused.
        categorical: columns to take as categories whatever they hold.

    Returns:
        Features of x, those of x_test, the encoding, and lines that say what was done.

    Raises:
        DataError: as :func:`bnnzoo.datasets._kinds.infer_kind` and
            :func:`bnnzoo.datasets._encoding.fit_encoding`.
        UnknownNameError: a categorical column that is none.
    """
    table = table_of_frame(x, "x")
    rows = table.rows
    for column in categorical:
        if column not in table.cells:
            raise UnknownNameError("column of x", column, table.cells)
    if is_frame(x_test):
        table = _joined(table, table_of_frame(x_test, "x_test"))
    kinds = {name: infer_kind(table, name, categorical) for name in table.cells}
    encoding, said = fit_encoding(table, kinds, np.arange(rows), impute)
    encoded = encoding.encode(table)
    return encoded[:rows], encoded[rows:] if is_frame(x_test) else x_test, encoding, said


def encode_new_frame(frame: Any, encoding: TableEncoding, what: str) -> np.ndarray:
    """Features of a data frame of new rows; its columns may stand in any order.

    Raises:
        DataError: a column too few or too many, or a value that the encoding does not take.
    """
    table = table_of_frame(frame, what)
    made = encoding.encode(table)
    for name in encoding.unknown(table):
        raise DataError(
            f"{what} has column {name!r}, which the data set was not made of"
            f"{hint(name, encoding.names)}"
        )
    return made


def _joined(table: Table, test: Table) -> Table:
    cells = {name: _concatenated(name, table, test) for name in table.cells}
    for name in test.cells:
        column_of(table, name)  # refuses one that x does not have

    def where(row: int) -> str:
        return table.where(row) if row < table.rows else test.where(row - table.rows)

    return Table("x and x_test", cells, table.rows + test.rows, where)


def _concatenated(name: str, table: Table, test: Table) -> Cells:
    first, second = table.cells[name], column_of(test, name)
    if second.missing.all() and second.cell != first.cell:  # then its type says nothing
        nothing = np.nan if first.numeric else None
        second = Cells(first.cell, np.full(test.rows, nothing, first.values.dtype), first.whole)
    if first.cell != second.cell and (first.numeric or second.numeric):
        raise DataError(f"x_test: column {name!r} holds {second.cell}, and in x {first.cell}")
    values = np.concatenate([first.values, second.values])
    cell = "category" if "category" in (first.cell, second.cell) else first.cell
    return Cells(cell, values, first.whole and second.whole)
