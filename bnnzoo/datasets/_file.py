"""A user's own table: from a CSV or Parquet file to a data set, and from new rows to inputs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from bnnzoo.datasets._dataset import Dataset, Task
from bnnzoo.datasets._encoding import ColumnEncoding, TableEncoding, fit_encoding
from bnnzoo.datasets._kinds import infer_kind
from bnnzoo.datasets._make import make_dataset
from bnnzoo.datasets._read_csv import read_csv
from bnnzoo.datasets._read_frame import read_parquet
from bnnzoo.datasets._split import SplitOptions, split_classes, split_rows
from bnnzoo.datasets._table import Table
from bnnzoo.datasets._target import choose_targets, read_targets
from bnnzoo.datasets._where import Where
from bnnzoo.errors import DataError, DataWarning, InputError, UnknownNameError

TEXT = (".csv", ".tsv")
SUFFIXES = (*TEXT, ".parquet", ".pq")
"""Of files that are read as tables."""


class TableOptions(SplitOptions):
    """Options of every table in a file."""

    target: str | tuple[str, ...] | None = Field(
        None, description="Column to predict, or several; default the last one."
    )
    task: Task | None = Field(None, description="Default: inferred from the target column.")
    missing: Literal["refuse", "impute"] = Field(
        "refuse",
        description="'impute' fills missing features in by median or most frequent value.",
    )
    categorical: tuple[str, ...] = Field(
        (), description="Columns to take as categories whatever they hold, such as postcodes."
    )
    drop: tuple[str, ...] = Field((), description="Columns to leave out.")

    @field_validator("target", mode="before")
    @classmethod
    def _target(cls, value: Any) -> Any:
        if value in ("", [], ()):
            raise ValueError("should name a column")
        return value if isinstance(value, str) or value is None else _names(value)

    @field_validator("categorical", "drop", mode="before")
    @classmethod
    def _columns(cls, value: Any) -> Any:
        return _names((value,) if isinstance(value, str) else value)


def _names(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return value
    raise ValueError("should be the name of a column, or a list of names")


class CsvOptions(TableOptions):
    """Options of a CSV file."""

    separator: str | None = Field(
        None,
        description="Between cells; default what the header has: commas, semicolons, tabs or bars.",
    )
    decimal: Literal[".", ","] = Field(".", description="Decimal point or comma.")

    @field_validator("separator")
    @classmethod
    def _separator(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError("should be one character, such as ';'")
        return value


def load_table(path: Path, options: TableOptions) -> Dataset:
    """The table at ``path`` as a data set; see :func:`bnnzoo.datasets.load_dataset`."""
    if isinstance(options, CsvOptions):
        table = read_csv(path, options.separator, options.decimal)
    else:
        table = read_parquet(path)
    if len(table.cells) < 2:
        (only,) = table.cells
        remedy = "; separator says what stands between the cells" if " " in only else ""
        raise DataError(
            f"{path} has one column, {only!r}; a target and a feature are needed{remedy}"
        )
    targets, said = choose_targets(table, options.target)
    for column in options.drop:
        _refuse_unknown(table, column, list(table.cells))
        if column in targets:
            raise DataError(f"{path}: column {column!r} is the target and cannot be left out")
    passed_over = [*targets, *options.drop]
    features = [name for name in table.cells if name not in passed_over]
    if not features:
        raise DataError(f"{path} has no feature columns besides {', '.join(passed_over)}")
    for column in options.categorical:
        _refuse_unknown(table, column, features)
    task, y, inferred = read_targets(table, targets, options.task)
    kinds = {name: infer_kind(table, name, options.categorical) for name in features}
    if task == "classification":
        train, test = split_classes(y, options.test_size, options.seed)
    else:
        train, test = split_rows(table.rows, options.test_size, options.seed)
    if not len(test):
        train = np.arange(table.rows)
    assert isinstance(table.where, Where)  # what files are read into; only frames are joined
    impute = options.missing == "impute"
    encoding, encoded = fit_encoding(table, kinds, train, impute, passed_over)
    x = encoding.encode(table)
    made = make_dataset(
        x[train],
        y[train],
        x[test] if len(test) else None,
        y[test] if len(test) else None,
        task,
        options.scale,
        str(path),
        feature_names=encoding.feature_names,
        target_names=targets,
        warnings=[*table.said, *said, *inferred, *encoded],
        places=(table.where.of(train), table.where.of(test)),
    )
    return replace(made, encoding=encoding)


def load_inputs(path: str | os.PathLike[str], dataset: Dataset) -> np.ndarray:
    """Rows to predict from a CSV or Parquet file with the columns a data set was made of.

    Args:
        path: the file. The target may be among its columns; others that the data set was not made
            of are passed over with a ``DataWarning``.
        dataset: the data set of the run; its encoding of columns holds for the new rows.

    Returns:
        ``(row, feature)`` float64, features in the data set's order.

    Raises:
        InputError: the file is missing or of another kind.
        DataError: a feature without a column, a category the data set does not have, a value that
            is not a number, or one that is missing where the data set filled none in.
    """
    x, said = read_inputs(path, dataset)
    for line in said:
        warnings.warn(line, DataWarning, stacklevel=2)
    return x


def read_inputs(path: str | os.PathLike[str], dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    """As :func:`load_inputs`, with the lines to say to the user."""
    path = Path(path)
    encoding = dataset.encoding
    if encoding is None:
        if len(dataset.feature_names) != len(dataset.x[0]):
            raise InputError(
                f"{path}: rows of {dataset.name!r} have shape {dataset.in_shape}; no table holds"
                " them"
            )
        columns = tuple(ColumnEncoding(name, "number") for name in dataset.feature_names)
        encoding = TableEncoding(columns)
    suffix = path.suffix.lower()
    if suffix in TEXT:
        source = dataset.source
        table = read_csv(path, source.get("separator"), source.get("decimal", "."))
    elif suffix in SUFFIXES:
        table = read_parquet(path)
    else:
        raise InputError(f"cannot read {path}: of files, only {', '.join(SUFFIXES)} are read")
    x = dataset.check_inputs(encoding.encode(table), str(path))
    others = [name for name in encoding.unknown(table) if name not in dataset.target_names]
    said = f"{path}: passed over, as no feature of {dataset.name!r}: {', '.join(map(repr, others))}"
    return x, [said] if others else []


def _refuse_unknown(table: Table, column: str, known: Sequence[str]) -> None:
    if column not in known:
        raise UnknownNameError(f"column of {table.name}", column, known)
