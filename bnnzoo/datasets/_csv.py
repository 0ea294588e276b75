"""Tables from CSV files: what is inferred is said, what is ambiguous is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset, Task
from bnnzoo.datasets._split import SplitOptions, split_dataset
from bnnzoo.errors import DataError, InputError, UnknownNameError, hint

if TYPE_CHECKING:
    import pandas as pd

_MOST_CATEGORIES = 50  # a text column with more different values is a name or a note
_MOST_CLASSES = 10  # whole numbers with more different values are a quantity


class CsvOptions(SplitOptions):
    """Options of a CSV file."""

    target: str | None = Field(None, description="Column to predict; default the last one.")
    task: Task | None = Field(None, description="Default: inferred from the target column.")


def load_csv(path: Path, options: CsvOptions) -> Dataset:
    """The table at ``path`` as a data set; see :func:`bnnzoo.datasets.load_dataset`."""
    frame = _read(path)
    _refuse_missing(path, frame)
    if frame.shape[1] < 2:
        raise DataError(f"{path} has one column, {frame.columns[0]!r}; are commas its separators?")
    said = []
    target = options.target
    if target is None:
        target = str(frame.columns[-1])
        said.append(f"no target given: predicting the last column, {target!r}")
    if target not in frame.columns:
        raise UnknownNameError(f"column of {path}", target, frame.columns)
    y = frame.pop(target)
    task = options.task or _infer_task(y)
    if options.task is None:
        classes = f" with {y.nunique()} classes" if task == "classification" else ""
        said.append(f"no task given: {task}{classes}, from column {target!r}")
    if _is_text(y) and (task == "regression" or options.task is None):
        _refuse_unusable_text(path, y, regression=task == "regression")
    x, names, encoded = _one_hot(path, frame)
    return split_dataset(
        x,
        y.to_numpy(),
        options,
        task=task,
        name=str(path),
        feature_names=names,
        target_names=(target,),
        warnings=said + encoded,
    )


def load_inputs(path: str | os.PathLike[str], dataset: Dataset) -> np.ndarray:
    """Rows to predict from a CSV file with the columns a data set was made of.

    Args:
        path: the file; columns that are not features are passed over.
        dataset: the data set of the run; one-hot features are named ``column=value``.

    Returns:
        ``(row, feature)`` float64, features in the data set's order.

    Raises:
        InputError: the file is missing.
        DataError: a feature without a column, a category the data set does not have, or a value
            that is missing or not a number.
    """
    path = Path(path)
    frame = _read(path)
    # One-hot features by the column they came from; a column may itself be named "a=b".
    encoded: dict[str, list[str]] = {}
    for name in dataset.feature_names:
        column, _, value = (name, "", "") if name in frame.columns else name.partition("=")
        if column not in frame.columns:
            raise DataError(f"{path} has no column {column!r}{hint(column, frame.columns)}")
        if column != name:
            encoded.setdefault(column, []).append(value)
        elif _is_text(frame[column]):
            _refuse_unusable_text(path, frame[column], regression=True)
    used = [name for name in dataset.feature_names if name in frame.columns]
    _refuse_missing(path, frame[used + list(encoded)])
    for column, known in encoded.items():
        values = frame[column].astype(str)
        unknown = ~values.isin(known).to_numpy()
        if unknown.any():
            row = int(np.argmax(unknown))
            value = values.iloc[row]
            raise DataError(f"{_place(path, row, column)} is {value!r}{hint(value, known)}")
        for value in known:
            frame[f"{column}={value}"] = values == value
    return dataset.check_inputs(frame[list(dataset.feature_names)], str(path))


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd  # slow to import: only where a file is read

    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            frame = pd.read_csv(file, skipinitialspace=True, low_memory=False)
    except FileNotFoundError:
        others = (p.name for p in path.parent.glob("*.csv")) if path.parent.is_dir() else ()
        raise InputError(f"no such file: {path}{hint(path.name, others)}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text") from None
    except pd.errors.ParserError as error:
        reason = str(error).replace("Error tokenizing data. C error: ", "").strip()
        raise DataError(f"{path} is not a table of comma-separated values: {reason}") from None
    frame.columns = frame.columns.map(str)
    if frame.empty:
        raise DataError(f"{path} has a header and no rows")
    return frame


def _refuse_missing(path: Path, frame: pd.DataFrame) -> None:
    for column in frame.columns:
        values = frame[column]
        missing = values.isna().to_numpy()
        if missing.any():
            raise DataError(f"{_place(path, int(np.argmax(missing)), column)} is missing")
        if values.dtype.kind == "f" and not np.isfinite(values.to_numpy()).all():
            row = int(np.argmin(np.isfinite(values.to_numpy())))
            raise DataError(f"{_place(path, row, column)} is {values.iloc[row]}")


def _infer_task(y: pd.Series) -> Task:
    if _is_text(y) or y.dtype.kind == "b":
        return "classification"
    few = max(2, min(_MOST_CLASSES, len(y) // 5))
    whole = y.dtype.kind in "iu"
    return "classification" if whole and y.nunique() <= few else "regression"


def _one_hot(path: Path, frame: pd.DataFrame) -> tuple[np.ndarray, list[str], list[str]]:
    """Numbers as they are, text as one column of 0 and 1 a category: values, names, warnings."""
    columns, names, said = [], [], []
    for column in frame.columns:
        values = frame[column]
        if not _is_text(values):
            columns.append(values.to_numpy(np.float64))
            names.append(column)
            continue
        _refuse_unusable_text(path, values, regression=False)
        text = values.astype(str)
        categories = sorted(text.unique())
        columns += [(text == category).to_numpy(np.float64) for category in categories]
        names += [f"{column}={category}" for category in categories]
        said.append(f"column {column!r} holds text: {len(categories)} columns of 0 and 1")
    return np.stack(columns, axis=1), names, said


def _is_text(values: pd.Series) -> bool:
    return values.dtype.kind not in "biuf"


def _refuse_unusable_text(path: Path, values: pd.Series, regression: bool) -> None:
    """A typing error among numbers, text for a regression, or a column of names."""
    import pandas as pd

    column = str(values.name)
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = numbers.isna().to_numpy()
    if regression or wrong.mean() < 0.5:
        row = int(np.argmax(wrong))
        raise DataError(f"{_place(path, row, column)} is {values.iloc[row]!r}; a number is needed")
    count = values.nunique()
    if count > _MOST_CATEGORIES or count == len(values) > 2:
        raise DataError(
            f"{path}: column {column!r} holds {count} different texts in {len(values)} rows;"
            " drop it or encode it"
        )


def _place(path: Path, row: int, column: str) -> str:
    return f"{path}: data row {row + 1}, column {column!r}"
