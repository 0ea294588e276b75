"""The UCI tables of the literature, with the splits that its numbers are quoted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from bnnzoo.datasets._dataset import Dataset, Scale
from bnnzoo.datasets._make import make_dataset
from bnnzoo.datasets._remote import fetch
from bnnzoo.datasets._uci_tables import TABLES, Table
from bnnzoo.errors import DataError
from bnnzoo.options import Options
from bnnzoo.registry import register


class UciOptions(Options):
    """Options of the tables with 20 splits."""

    splits: ClassVar[int] = 20

    split: int | Literal["all"] = Field(
        0, description="Number of the standard split, 0 to 19; 'all': train on every row, no test."
    )
    scale: Scale = Field("auto", description="'standard', 'none', or 'auto': for zoo models only.")

    @field_validator("split", mode="before")
    @classmethod
    def _known_split(cls, value: Any) -> Any:
        """None means 'all', which a TOML file can hold."""
        if value is None or value == "all":
            return "all"
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < cls.splits:
            return value
        raise ValueError(f"should be a whole number from 0 to {cls.splits - 1}, or 'all'")


class ProteinOptions(UciOptions):
    """Options of ``uci/protein``, which has 5 splits."""

    splits: ClassVar[int] = 5

    split: int | Literal["all"] = Field(
        0, description="Number of the standard split, 0 to 4; 'all': train on every row, no test."
    )


def standard_split(rows: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of one of the random splits on which this literature reports.

    They come from one stream of NumPy's old generator, seeded with 1: a permutation a split, of
    which the first floor(0.9 n + 0.5) rows train.

    Args:
        rows: n, the number of rows of the table.
        split: 0 for the first split.

    Returns:
        Training and test row numbers, in the order of the permutation.

    Source: Hernandez-Lobato & Adams (2015), Probabilistic backpropagation, sec. 5.1; the index
    files of Gal & Ghahramani (2016), Dropout as a Bayesian approximation.
    """
    stream = np.random.RandomState(1)
    for _ in range(split + 1):
        order = stream.permutation(rows)
    train = int(0.9 * rows + 0.5)
    return order[:train], order[train:]


def _load(table: Table, options: UciOptions) -> Dataset:
    x, y = _read(fetch(table.file), table)
    described: dict[str, Any] = {"feature_names": table.columns[:-1], "scale": options.scale}
    described["target_names"] = table.columns[-1:]
    described |= {"name": f"uci/{table.name}", "task": _task(table)}
    if table.classes:
        described["class_names"] = table.classes
    if options.split == "all":
        return make_dataset(x, y, **described)
    train, test = standard_split(table.rows, options.split)
    return make_dataset(x[train], y[train], x[test], y[test], **described)


def _read(place: Path, table: Table) -> tuple[np.ndarray, np.ndarray]:
    width = len(table.columns)
    try:
        values = np.loadtxt(place, ndmin=2)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{place} is not a table of numbers: {reason}") from None
    if values.shape != (table.rows, width + table.unused):
        rows, columns = values.shape
        raise DataError(
            f"{place} has {rows} rows and {columns} columns;"
            f" {table.rows} and {width + table.unused} are expected"
        )
    return values[:, : width - 1], values[:, width - 1]


def _task(table: Table) -> str:
    return "classification" if table.classes else "regression"


def _register(table: Table) -> None:
    """The entry of one table."""
    splits = (
        f"Its {table.splits} splits are those of the literature."
        if table.published
        else "Its 20 splits follow the protocol of the other UCI tables, but are ours: no published"
        " number rests on them."
    )
    notes = (table.notes, f"Columns: {', '.join(table.columns)}.", table.units, splits)

    @register(
        "datasets",
        f"uci/{table.name}",
        summary=table.summary,
        options=UciOptions if table.splits == 20 else ProteinOptions,
        references=(table.reference,),
        tags={"task": _task(table), "source": "uci", "download": True},
        notes=" ".join(note for note in notes if note),
    )
    def load(options: UciOptions) -> Dataset:
        # Looked up again: tests put small tables in the place of the real ones.
        return _load(TABLES[table.name], options)


for _table in TABLES.values():
    _register(_table)
