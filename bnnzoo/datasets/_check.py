"""Turning what a user passes into checked arrays, or into one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnnzoo.errors import DataError, setting

COUNTED = "(rows count from 0)"


def as_floats(values: Any, what: str, names: Sequence[str] = ()) -> np.ndarray:
    """A float64 copy of numbers that are all finite.

    Args:
        values: anything NumPy can read, of numbers or booleans.
        what: its name, for the message.
        names: names of the columns, for the message.

    Returns:
        A new array of the same shape.

    Raises:
        DataError: text, missing or infinite values, named by row and column.
    """
    array = as_array(values, what)
    if array.dtype.kind == "O":
        array = _floats_of_objects(array, what, names)
    elif array.dtype.kind in "US":
        if isinstance(values, (list, tuple)) and array.size:  # NumPy has made text of all
            _floats_of_objects(np.asarray(values, object), what, names)
        index = (0,) * array.ndim
        found = f" ({array[index].item()!r} in {_where(index, names)})" if array.size else ""
        raise DataError(f"{what} holds text{found}; numbers are needed {COUNTED}")
    elif array.dtype.kind not in "biuf":
        raise DataError(f"{what} holds {array.dtype} values; real numbers are needed")
    floats = np.array(array, dtype=np.float64)
    bad = ~np.isfinite(floats)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(f"{what} is {floats[index]} in {_where(index, names)} {COUNTED}")
    return floats


def as_inputs(
    values: Any, what: str, names: Sequence[str] = (), in_shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Inputs as ``(row, *in_shape)`` float64; a single column may come as ``(row,)``.

    Raises:
        DataError: no rows, no features, another number of features, or values that
            :func:`as_floats` refuses.
    """
    x = as_floats(values, what, names)
    if x.ndim == 0:
        raise DataError(f"{what} has no rows: an array of shape (row, feature) is needed")
    if x.ndim == 1:
        x = x[:, None]
    if x.shape[0] == 0:
        raise DataError(f"{what} has no rows")
    if x.size == 0:
        raise DataError(f"{what} has no features: its shape is {x.shape}")
    if in_shape is not None and x.shape[1:] != in_shape:
        got, expected = _features(x.shape[1:]), _features(in_shape)
        raise DataError(f"{what} has {got}; the data set has {expected}")
    return x


def as_targets(values: Any, what: str, names: Sequence[str] = ()) -> np.ndarray:
    """Regression targets as ``(row,)`` or ``(row, outputs)`` float64; raises ``DataError``."""
    y = as_floats(values, what, names)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2) or y.size == 0:
        raise DataError(f"{what} has shape {y.shape}; (row,) or (row, output) is needed")
    return y


def as_labels(values: Any, what: str) -> np.ndarray:
    """Class labels as ``(row,)`` of integers, booleans or text.

    Raises:
        DataError: missing labels, text among numbers, fractions, or anything but one column.
    """
    # Of a list NumPy would make one type, and so text of a missing label.
    y = as_array(values, what, object if isinstance(values, (list, tuple)) else None)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.size == 0:
        raise DataError(
            f"{what} has shape {y.shape}; one label a row is needed"
            + (" (one-hot rows: pass y.argmax(1))" if y.ndim == 2 else "")
        )
    if y.dtype.kind == "O":
        for row, label in enumerate(y):
            if not isinstance(label, (str, bool, int, float, np.generic)) or label != label:
                raise DataError(f"{what} is {label!r} in row {row} {COUNTED}; a label is needed")
            if isinstance(label, str) != isinstance(y[0], str):
                kinds = ("text", "a number") if isinstance(label, str) else ("a number", "text")
                raise DataError(
                    f"{what} is {label!r} in row {row} {COUNTED}, {kinds[0]}, and {y[0]!r} in row"
                    f" 0, {kinds[1]}; labels are all of one kind"
                )
        y = np.array(y.tolist())  # the common type of what it holds
    elif y.dtype.kind == "U" and (missing := y == "nan").any():
        row = int(np.argmax(missing))
        raise DataError(
            f"{what} is 'nan' in row {row} {COUNTED}, as NumPy writes a missing label among text;"
            " leave such rows out, or give a class of that name another"
        )
    if y.dtype.kind == "f":
        bad = ~np.isfinite(y) | (y != np.round(y))
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{what} is {y[row]} in row {row} {COUNTED}; labels are whole numbers or text"
                f" ({setting('data', 'task', 'regression')} takes fractions)"
            )
        y = y.astype(np.int64)
    if y.dtype.kind not in "biuU":
        raise DataError(
            f"{what} holds {y.dtype} values; labels are whole numbers, booleans or text"
        )
    return y


def as_array(values: Any, what: str, dtype: type | None = None) -> np.ndarray:
    """Whatever NumPy makes of it; raises ``DataError`` for ragged rows and masked values."""
    if np.ma.is_masked(values):
        raise DataError(f"{what} has masked values; fill or drop them first")
    try:
        return np.asarray(values, dtype)
    except (ValueError, TypeError):
        raise DataError(f"{what} is not a table: its rows differ in length") from None


def _floats_of_objects(array: np.ndarray, what: str, names: Sequence[str]) -> np.ndarray:
    floats = np.empty(array.shape)
    for index, value in np.ndenumerate(array):
        try:
            if isinstance(value, (str, bytes)):  # float("12") would take text for a number
                raise TypeError
            floats[index] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{what} is {value!r} in {_where(index, names)} {COUNTED}; a number is needed"
            ) from None
    return floats


def _where(index: tuple[int, ...], names: Sequence[str]) -> str:
    if not index:
        return "its only value"
    row, *rest = index
    if not rest:
        return f"row {row}" + (f", column {names[0]!r}" if len(names) == 1 else "")
    if len(rest) == 1:
        column = names[rest[0]] if rest[0] < len(names) else rest[0]
        return f"row {row}, column {column!r}"
    return f"row {row}, position {tuple(rest)}"


def _features(in_shape: tuple[int, ...]) -> str:
    if len(in_shape) > 1:
        return f"rows of shape {in_shape}"
    return "1 feature" if in_shape == (1,) else f"{in_shape[0]} features"
