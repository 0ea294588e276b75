"""Data frames and Parquet files: columns whose types are known."""

from __future__ import annotations

import datetime
import io
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnzoo.datasets._read_csv import read_bytes
from bnnzoo.datasets._table import EXACT, Cells, Table, refuse_inexact, unique_names
from bnnzoo.datasets._where import Where
from bnnzoo.errors import BnnzooError, DataError, InputError

if TYPE_CHECKING:
    import pandas as pd

DATES = "as numbers, such as days since a first day; or leave the column out with drop"
"""What to do with a column of dates."""


def is_frame(values: Any) -> bool:
    """Whether something is a pandas data frame; pandas is not imported to find out."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(values, pandas.DataFrame)


def read_parquet(path: Path) -> Table:
    """The table in a Parquet file; a pandas index in it is passed over.

    Raises:
        InputError: the file cannot be read, or pyarrow is not installed.
        DataError: it is no Parquet file, or :func:`table_of_frame` refuses it.
    """
    content = read_bytes(path)
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"cannot read {path}: Parquet needs pyarrow (pip install 'bnnzoo[parquet]')"
        ) from None
    try:
        # A file, not its path: pyarrow makes columns of folders that are named like a=1.
        arrow = parquet.ParquetFile(io.BytesIO(content)).read()
        unique_names(arrow.column_names, str(path))  # pandas could not tell two of a name apart
        return table_of_frame(arrow.to_pandas(integer_object_nulls=True), str(path), first=1)
    except BnnzooError:
        raise
    except Exception as error:  # pyarrow and pandas raise much besides ArrowException
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read as Parquet: {reason}") from None


def table_of_frame(frame: pd.DataFrame, name: str, first: int = 0) -> Table:
    """The table in a data frame.

    Args:
        frame: numbers, booleans, text and categoricals, with or without missing values.
        name: what to call it in messages.
        first: the number messages give to the first row.

    Raises:
        DataError: no rows, no columns, a name twice, or values of another kind, dates among them.
    """
    names = unique_names([str(column) for column in frame.columns], name)
    if not names:
        raise DataError(f"{name} has no columns")
    if not len(frame):
        raise DataError(f"{name} has no rows")
    where = Where(f"{name}: row", range(first, first + len(frame)), "" if first else " (from 0)")
    table = Table(name, {}, len(frame), where)
    columns = {column: _cells(table, column, frame.iloc[:, k]) for k, column in enumerate(names)}
    return Table(name, columns, len(frame), where)


def _cells(table: Table, column: str, series: pd.Series) -> Cells:
    import pandas as pd

    types, dtype = pd.api.types, series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        texts = [None if value is None else _category(value) for value in _objects(series)]
        return Cells("category", np.array(texts, object))
    if types.is_bool_dtype(dtype):
        return Cells("boolean", series.to_numpy(np.float64, na_value=np.nan))
    if types.is_integer_dtype(dtype):
        return _numbers(table, column, _objects(series))
    if types.is_float_dtype(dtype):
        return Cells("number", series.to_numpy(np.float64, na_value=np.nan))
    if types.is_object_dtype(dtype) or types.is_string_dtype(dtype):
        return _of_objects(table, column, _objects(series))
    values = _objects(series)
    present = next((row for row, value in enumerate(values) if value is not None), 0)
    raise _refusal(table, column, present, values[present], str(dtype))


def _objects(series: pd.Series) -> list[Any]:
    """Values as Python objects, None where missing."""
    missing = series.isna().to_numpy()
    return [None if m else v for v, m in zip(series.tolist(), missing, strict=True)]


def _of_objects(table: Table, column: str, values: list[Any]) -> Cells:
    """A column of objects: all text, all booleans or all numbers."""
    found: dict[str, int] = {}
    for row, value in enumerate(values):
        if value is not None:
            found.setdefault(_sort(table, column, row, value), row)
    if len(found) > 1:
        (kind, row), (other, later) = list(found.items())[:2]
        raise DataError(
            f"{table.place(later, column)} is {values[later]!r}, {other}, and {kind},"
            f" {values[row]!r}, stands above it; one kind of value a column is needed"
        )
    kind = next(iter(found), "text")
    if kind == "text":
        return Cells("text", np.array(values, object))
    if kind == "a boolean":
        return Cells("boolean", np.array([np.nan if v is None else float(v) for v in values]))
    return _numbers(table, column, values)


def _sort(table: Table, column: str, row: int, value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, (bool, np.bool_)):
        return "a boolean"
    if isinstance(value, (int, float, Decimal, np.integer, np.floating)):
        return "a number"
    raise _refusal(table, column, row, value, type(value).__name__)


def _numbers(table: Table, column: str, values: list[Any]) -> Cells:
    """Numbers as float64, refused where a whole one would be rounded."""
    made = np.full(len(values), np.nan)
    whole = True
    for row, value in enumerate(values):
        if value is None:
            continue
        integer = isinstance(value, (int, np.integer))
        if integer and abs(int(value)) >= EXACT and int(value) != _as_float(value):
            refuse_inexact(table.place(row, column), value)
        made[row] = _as_float(value)
        whole &= integer
    return Cells("number", made, whole)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _category(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a missing value makes floats of whole numbers
    return str(value)


def _refusal(table: Table, column: str, row: int, value: Any, kind: str) -> DataError:
    place = table.place(row, column)
    times = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
    if isinstance(value, times) or "date" in kind or "time" in kind or "period" in kind:
        return DataError(f"{place} is {str(value)!r}, a date or time; give it {DATES}")
    return DataError(f"{place} holds a {kind}; numbers, text or booleans are needed")
