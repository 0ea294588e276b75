"""How the columns of a table become features; kept with a data set, so that new rows do alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bnnzoo.datasets._table import Kind, Table, column_of, number_text
from bnnzoo.errors import DataError, listed, setting

_LISTED = 8  # lines of one sort before the rest is only counted


@dataclass(frozen=True)
class ColumnEncoding:
    """How one column becomes features.

    Attributes:
        name: of the column.
        kind: ``"number"`` and ``"boolean"`` make one feature, ``"text"`` one a category.
        categories: of text, sorted.
        fill: what stands in for a missing value: median of the training rows, or the most
            frequent value of booleans and text; None where missing values are refused.
        indicator: whether a further feature, ``name is missing``, is 1 where the value is missing;
            the features of its categories are then all 0.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    fill: float | str | None = None
    indicator: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features it becomes."""
        values = (f"{self.name}={category}" for category in self.categories)
        own = tuple(values) if self.kind == "text" else (self.name,)
        return (*own, f"{self.name} is missing") if self.indicator else own

    def encode(self, table: Table) -> np.ndarray:
        """The column of a table as ``(row, feature)`` float64.

        Raises:
            DataError: no such column, a category or a value that is not known, or a missing value
                where none was to be filled in.
        """
        missing = column_of(table, self.name).missing
        if self.fill is None and missing.any():
            place = table.place(int(np.argmax(missing)), self.name)
            raise DataError(f"{place} is missing, and missing values are not filled in")
        own = self._text(table, missing) if self.kind == "text" else self._number(table, missing)
        return np.column_stack([own, missing]).astype(np.float64) if self.indicator else own

    def _number(self, table: Table, missing: np.ndarray) -> np.ndarray:
        read = table.booleans if self.kind == "boolean" else table.numbers
        fill = np.nan if self.fill is None else float(self.fill)
        return np.where(missing, fill, read(self.name))[:, None]

    def _text(self, table: Table, missing: np.ndarray) -> np.ndarray:
        made = np.zeros((table.rows, len(self.categories)))
        number = {category: k for k, category in enumerate(self.categories)}
        for row, value in enumerate(table.texts(self.name)):
            if value is None:
                if self.indicator:
                    continue
                value = self.fill
            if value not in number:
                raise DataError(
                    f"{table.place(row, self.name)} is {value!r}, a category unknown to the data"
                    f" set, which has {listed(self.categories)}"
                )
            made[row, number[value]] = 1.0
        return made


@dataclass(frozen=True)
class TableEncoding:
    """How a table becomes the inputs of a data set.

    Attributes:
        columns: those that become features, in order.
        passed_over: columns of the table that are none: targets, and those left out.
    """

    columns: tuple[ColumnEncoding, ...]
    passed_over: tuple[str, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that become features."""
        return tuple(column.name for column in self.columns)

    def encode(self, table: Table) -> np.ndarray:
        """The rows of a table as ``(row, feature)`` float64; columns that are none are passed over.

        Raises:
            DataError: as :meth:`ColumnEncoding.encode`.
        """
        for name in self.names:
            column_of(table, name)  # all of them, before the first value is looked at
        return np.concatenate([column.encode(table) for column in self.columns], axis=1)

    def unknown(self, table: Table) -> list[str]:
        """Columns of a table that the data set was not made of."""
        return [name for name in table.cells if name not in {*self.names, *self.passed_over}]

    def to_plain(self) -> dict[str, Any]:
        """Plain data; :meth:`from_plain` takes it back."""
        columns = [asdict(c) | {"categories": list(c.categories)} for c in self.columns]
        return {"columns": columns, "passed_over": list(self.passed_over)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> TableEncoding:
        """From what :meth:`to_plain` gave; anything else raises ``KeyError`` or ``TypeError``."""
        columns = [
            ColumnEncoding(**{**column, "categories": tuple(column["categories"])})
            for column in plain["columns"]
        ]
        return cls(tuple(columns), tuple(plain["passed_over"]))


def fit_encoding(
    table: Table,
    kinds: Mapping[str, Kind],
    train: np.ndarray,
    impute: bool,
    passed_over: Sequence[str] = (),
) -> tuple[TableEncoding, list[str]]:
    """The encoding of some columns, with what fills missing values fitted on training rows alone.

    Args:
        table: holds training and test rows.
        kinds: what each feature column is taken as.
        train: numbers of the training rows.
        impute: fill missing values in; otherwise they are refused.
        passed_over: columns that are no features.

    Returns:
        The encoding, and lines that say what was done.

    Raises:
        DataError: a missing value that is not to be filled in, a column without a value in the
            training rows, or two features of one name.
    """
    columns, texts, absent, filled = [], [], [], []
    for name, kind in kinds.items():
        missing = table.cells[name].missing
        if missing.any() and not impute:
            place = table.place(int(np.argmax(missing)), name)
            remedy = setting("data", "missing", "impute")
            raise DataError(f"{place} is missing; {remedy} fills such values in")
        if missing[train].all():
            raise DataError(f"{table.name}: column {name!r} has no value in any training row")
        column = _fit_column(table, name, kind, train, impute)
        columns.append(column)
        if kind == "text":
            count = len(column.categories)
            columns_are = "1 column" if count == 1 else f"{count} columns"
            texts.append(f"column {name!r} holds text: {columns_are} of 0 and 1")
            seen = set(table.texts(name)[train])
            absent += [f"{c!r} of column {name!r}" for c in column.categories if c not in seen]
        if missing.any():
            filled.append(_filled(column, missing, train))
    encoding = TableEncoding(tuple(columns), tuple(passed_over))
    twice = [name for name, count in Counter(encoding.feature_names).items() if count > 1]
    if twice:
        raise DataError(f"{table.name}: two columns would make a feature {twice[0]!r}; rename one")
    said = [f"category {category} has no training row" for category in absent]
    return encoding, [
        *_listed(texts, "text columns"),
        *_listed(said, "categories without a training row"),
        *_listed(filled, "columns with missing values"),
    ]


def _fit_column(
    table: Table, name: str, kind: Kind, train: np.ndarray, impute: bool
) -> ColumnEncoding:
    indicator = bool(table.cells[name].missing[train].any())
    if kind == "text":
        texts = table.texts(name)
        categories = sorted({text for text in texts if text is not None})
        count = Counter(texts[train])
        most = max(categories, key=lambda category: count[category])  # the first of equals
        return ColumnEncoding(name, kind, tuple(categories), most if impute else None, indicator)
    read = table.booleans if kind == "boolean" else table.numbers
    values = read(name)  # of all rows: what is wrong in a test row is refused as well
    present = values[train][~np.isnan(values[train])]
    middle = float(np.median(present) if kind == "number" else present.mean() > 0.5)
    return ColumnEncoding(name, kind, fill=middle if impute else None, indicator=indicator)


def _filled(column: ColumnEncoding, missing: np.ndarray, train: np.ndarray) -> str:
    here = int(missing[train].sum())
    held_out = int(missing.sum()) - here
    test = f" and {held_out} of {len(missing) - len(train)} test rows" if held_out else ""
    what = "the median" if column.kind == "number" else "the most frequent value"
    value = number_text(column.fill) if isinstance(column.fill, float) else repr(column.fill)
    how = f"filled in with {what}, {value}"
    if column.indicator:
        flag = f"feature {column.features[-1]!r}"
        how = f"a category of their own, {flag}" if column.kind == "text" else f"{how}, and {flag}"
    return f"column {column.name!r} is missing in {here} of {len(train)} training rows{test}: {how}"


def _listed(lines: list[str], what: str) -> list[str]:
    more = [f"and {len(lines) - _LISTED} more {what}"] if len(lines) > _LISTED else []
    return lines[:_LISTED] + more
