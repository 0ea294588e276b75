"""The target columns of a table: which, of what task, and as numbers or labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnnzoo.datasets._dataset import Task
from bnnzoo.datasets._kinds import kind_of_texts
from bnnzoo.datasets._table import EXACT, Kind, Table, is_whole
from bnnzoo.errors import DataError, UnknownNameError, setting

_MOST_CLASSES = 10  # whole numbers with more different values are a quantity


def choose_targets(table: Table, given: str | Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Names of the target columns, and lines that say what was inferred.

    Args:
        table: the table.
        given: a column, several, several in one text with commas between, or None for the last.

    Raises:
        UnknownNameError: no such column.
        DataError: a column twice.
    """
    if given is None:
        last = list(table.cells)[-1]
        return [last], [f"no target given: predicting the last column, {last!r}"]
    names = [given] if isinstance(given, str) else list(given)
    if isinstance(given, str) and given not in table.cells and "," in given:
        names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in table.cells:
            raise UnknownNameError(f"column of {table.name}", name, table.cells)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{table.name}: target names column {twice[0]!r} more than once")
    return names, []


def read_targets(
    table: Table, names: Sequence[str], task: str | None
) -> tuple[Task, np.ndarray, list[str]]:
    """Task, targets ``(row,)`` or ``(row, output)``, and lines that say what was inferred.

    Labels are int64 where all are written as whole numbers, else text. Several targets are a
    regression; one is a classification where it holds text, booleans, or whole numbers with few
    different values.

    Raises:
        DataError: a target that is missing, no number in a regression, or no label; one class.
    """
    for name in names:
        missing = table.cells[name].missing
        if missing.any():
            place = table.place(int(np.argmax(missing)), name)
            raise DataError(f"{place} is missing; every row needs its target: leave such rows out")
    if len(names) > 1:
        if task == "classification":
            raise DataError(
                f"{table.name}: a classification has one target; {len(names)} are given:"
                f" {', '.join(names)}"
            )
        y = np.stack([table.numbers(name) for name in names], axis=1)
        said = [] if task else [f"no task given: regression, of {len(names)} targets"]
        return "regression", y, said
    (name,) = names
    if task == "regression":
        return "regression", table.numbers(name), []
    if task == "classification":
        return "classification", _labels(table, name), []
    if _is_classes(table, name):
        labels = _labels(table, name)
        classes = f"classification with {len(np.unique(labels))} classes"
        return "classification", labels, [f"no task given: {classes}, from column {name!r}"]
    said = [f"no task given: regression, from column {name!r}"]
    return "regression", table.numbers(name), said


def _is_classes(table: Table, name: str) -> bool:
    cells = table.cells[name]
    kind: Kind | str = cells.cell if cells.numeric or cells.cell == "category" else ""
    if not kind:
        remedy = f"{setting('data', 'task', 'classification')} takes the column as labels"
        kind = kind_of_texts(table, name, remedy)
    if kind != "number":
        count = len(set(table.texts(name)))
        if count == table.rows > 2:
            raise DataError(
                f"{table.name}: column {name!r} holds {count} different texts in {table.rows} rows;"
                " a class needs rows of its own"
            )
        return True
    whole = cells.whole or (not cells.numeric and all(map(is_whole, cells.values)))
    few = max(2, min(_MOST_CLASSES, table.rows // 5))
    return whole and len(np.unique(table.numbers(name))) <= few


def _labels(table: Table, name: str) -> np.ndarray:
    """Whole numbers as int64, anything else as text."""
    cells = table.cells[name]
    texts = table.texts(name)
    try:
        numbers = table.numbers(name) if cells.cell in ("number", "written") else None
    except DataError:
        if cells.numeric:
            raise
        numbers = None  # text among them: labels all the same
    if numbers is not None and np.abs(numbers).max() < EXACT:
        broken = numbers != np.round(numbers)
        if broken.any():
            place = table.place(int(np.argmax(broken)), name)
            raise DataError(
                f"{place} is {texts[np.argmax(broken)]}; labels are whole numbers or text"
                f" ({setting('data', 'task', 'regression')} takes fractions)"
            )
        labels = numbers.astype(np.int64)
    else:
        labels = np.array(texts.tolist(), str)
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"{table.name}: column {name!r} holds one class only, {texts[0]!r}; at least 2 are"
            " needed"
        )
    return labels
