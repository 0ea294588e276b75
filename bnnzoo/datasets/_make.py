"""From arrays to a data set: what every loader ends in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from bnnzoo.datasets._check import COUNTED, as_array, as_inputs, as_labels, as_targets
from bnnzoo.datasets._dataset import SCALES, TASKS, Dataset, Scale, Task, column_names
from bnnzoo.datasets._encoding import TableEncoding
from bnnzoo.datasets._frame import encode_frames
from bnnzoo.datasets._read_frame import is_frame
from bnnzoo.datasets._scaling import constant_columns
from bnnzoo.datasets._where import Where
from bnnzoo.errors import DataError, OptionError, hint, setting

_RARE = 0.2  # of an equal share: a class with less is warned of
_FARTHEST = 1e3  # spans of all other values, at which one value is taken for a mistake
_LARGEST = 1e150  # of a target: errors of twice the size, squared, can be summed over 1e7 rows
_COUNTED = f" {COUNTED}"
_LISTED = 8  # constant features named in a warning before it only counts the rest


def make_dataset(
    x: Any,
    y: Any,
    x_test: Any = None,
    y_test: Any = None,
    task: str | None = None,
    scale: str = "auto",
    name: str = "arrays",
    *,
    feature_names: Sequence[str] | None = None,
    target_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    missing: str = "refuse",
    categorical: Collection[str] = (),
    warnings: Iterable[str] = (),
    truth: Mapping[str, np.ndarray] | None = None,
    places: tuple[Where, Where] | None = None,
) -> Dataset:
    """A data set from arrays or data frames, checked, in original units.

    Args:
        x: ``(row, *in_shape)`` inputs, or ``(row,)`` for one feature. Text columns of a pandas data
            frame become one feature of 0 and 1 a category, as those of a file do.
        y: ``(row,)`` or ``(row, outputs)`` numbers, or ``(row,)`` class labels (whole numbers,
            booleans or text), which are numbered 0, 1, ... in sorted order.
        x_test: test inputs as x, or None.
        y_test: test targets as y; given exactly where ``x_test`` is.
        task: ``"regression"``, ``"classification"``, or None: fractions are regression, anything
            else is classification.
        scale: ``"auto"`` (zoo models see standardised data, hand-written ones the data as they
            are), ``"standard"``, ``"pooled"`` (one mean and standard deviation for all inputs, such
            as pixels in a row) or ``"none"``.
        name: what to call it.
        feature_names: one a feature; default the columns of a data frame, else ``x0``, ``x1``...
        target_names: one an output.
        missing: ``"refuse"``, or ``"impute"`` to fill missing features of a data frame in: with the
            median or most frequent value of the training rows, and an indicator.
        categorical: columns of a data frame to take as categories whatever they hold.
        class_names: every class in the order of its number; y then holds these numbers or names.
        warnings: lines of the loader, to be said to the user.
        truth: arrays that generated the data.
        places: where training and test rows stand in a file, for messages; None: by their numbers.

    Returns:
        The data set. The inputs are copied, never changed.

    Raises:
        DataError: no rows or one, no features, rows or features that do not match, missing or
            infinite values, targets whose squares overflow, one class only.
        OptionError: an unknown task or scale, or an option of data frames for arrays.
    """
    if task is not None:
        _one_of("task", task, TASKS)
    _one_of("scale", scale, SCALES)
    _one_of("missing", missing, ("refuse", "impute"))
    if (x_test is None) != (y_test is None):
        given, absent = ("y_test", "x_test") if x_test is None else ("x_test", "y_test")
        raise DataError(f"{given} is given without {absent}")
    said = list(warnings)
    encoding: TableEncoding | None = None
    if is_frame(x) and not feature_names:
        x, x_test, encoding, lines = encode_frames(x, x_test, missing == "impute", categorical)
        feature_names = encoding.feature_names
        said += lines
    elif missing != "refuse" or categorical:
        raise OptionError("missing and categorical are for x as a data frame with its own names")
    columns = tuple(str(column) for column in feature_names or column_names(x))
    made_x = as_inputs(x, "x", columns)
    if len(made_x) == 1:
        raise DataError("x has a single row; at least 2 are needed")
    in_shape = made_x.shape[1:]
    features = _feature_names(columns, in_shape)
    made_x_test = None if x_test is None else as_inputs(x_test, "x_test", features, in_shape)

    if task is None:
        task, why = _infer_task(y)
        said += why
    if task == "classification":
        made_y, made_y_test, classes = _classes(y, y_test, class_names)
        said += _absent_classes(made_y, classes) + _unbalanced(made_y, classes)
        targets = _target_names(target_names, y, 1)
    else:
        if class_names:
            raise DataError("class_names are given for a regression")
        targets = tuple(str(t) for t in target_names or ())
        made_y = as_targets(y, "y", targets)
        made_y_test = None if y_test is None else as_targets(y_test, "y_test", targets)
        if made_y_test is not None and made_y_test.shape[1:] != made_y.shape[1:]:
            raise DataError(f"y_test has shape {made_y_test.shape}; y has shape {made_y.shape}")
        classes = ()
        targets = _target_names(target_names, y, made_y.size // len(made_y))
    _refuse_unequal_rows("", made_x, made_y)
    if made_x_test is not None and made_y_test is not None:
        _refuse_unequal_rows("_test", made_x_test, made_y_test)
    where = places[0] if places else Where("training row", range(len(made_x)), _COUNTED)
    said += _constants(made_x, features, "feature")
    said += _flattened(made_x, features, "feature", where)
    if task == "regression":
        _refuse_overflow(made_y, targets, where)
        if made_y_test is not None:
            rows = range(len(made_y_test))
            _refuse_overflow(
                made_y_test, targets, places[1] if places else Where("test row", rows, _COUNTED)
            )
        wide = made_y.reshape(len(made_y), -1)
        said += _constants(wide, targets, "target") + _flattened(wide, targets, "target", where)
    return Dataset(
        name=name,
        x=made_x,
        y=made_y,
        x_test=made_x_test,
        y_test=made_y_test,
        task=cast("Task", task),
        feature_names=features,
        target_names=targets,
        class_names=classes,
        scale=cast("Scale", scale),
        warnings=tuple(said),
        truth=truth,
        encoding=encoding,
        places=places,
    )


def _one_of(what: str, given: object, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise OptionError(f"unknown {what} {given!r}{hint(str(given), allowed)}")


def _feature_names(columns: tuple[str, ...], in_shape: tuple[int, ...]) -> tuple[str, ...]:
    if columns and len(columns) != int(np.prod(in_shape)):
        raise DataError(f"{len(columns)} feature names for {int(np.prod(in_shape))} features")
    if columns or len(in_shape) > 1:
        return columns
    return tuple(f"x{i}" for i in range(in_shape[0]))


def _target_names(given: Sequence[str] | None, y: Any, outputs: int) -> tuple[str, ...]:
    series = getattr(y, "name", None)  # a pandas column knows its name
    own = column_names(y) or ([series] if isinstance(series, str) else [])
    names = tuple(str(n) for n in given or own)
    if not names:
        return ("y",) if outputs == 1 else tuple(f"y{i}" for i in range(outputs))
    if len(names) != outputs:
        raise DataError(f"{len(names)} target names for {outputs} targets")
    return names


def _infer_task(y: Any) -> tuple[str, list[str]]:
    kind = (values := as_array(y, "y")).dtype.kind
    if kind == "O":
        kind = np.array(values.tolist()).dtype.kind
    if kind in "iu":
        said = f"y holds whole numbers, taken as {len(np.unique(values))} classes"
        numbers = setting("data", "task", "regression")
        return "classification", [f"{said}; {numbers} takes them as numbers"]
    return ("regression" if kind == "f" else "classification"), []


def _classes(
    y: Any, y_test: Any, class_names: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Class numbers of training and test rows, and the names of the classes."""
    train = as_labels(y, "y")
    test = None if y_test is None else as_labels(y_test, "y_test")
    everything = train
    if test is not None:
        if (train.dtype.kind == "U") != (test.dtype.kind == "U"):
            raise DataError("y_test holds labels of another type than y: text and numbers")
        everything = np.concatenate([train, test])
    if class_names is None:
        labels = np.unique(everything)
        names = tuple(str(label) for label in labels)
    else:
        names = tuple(str(n) for n in class_names)
        if len(set(names)) < len(names):
            raise DataError("class_names holds a name twice")
        labels = np.array(names) if train.dtype.kind == "U" else np.arange(len(names))
        unknown = everything[~np.isin(everything, labels)]
        if len(unknown):
            raise DataError(
                f"label {unknown[0].item()!r} is not among the {len(names)} class_names"
            )
    if len(np.unique(train)) < 2:
        raise DataError(f"y holds one class only, {train[0].item()!r}; at least 2 are needed")
    order = np.argsort(labels)  # searchsorted wants them sorted; class_names need not be

    def number(given: np.ndarray) -> np.ndarray:
        return order[np.searchsorted(labels, given, sorter=order)].astype(np.int64)

    return number(train), None if test is None else number(test), names


def _absent_classes(y: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    present = set(y.tolist())
    return [f"class {c!r} has no training row" for k, c in enumerate(classes) if k not in present]


def _unbalanced(y: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    count = np.bincount(y, minlength=len(classes))
    rarest = int(np.argmin(np.where(count > 0, count, len(y))))
    if count[rarest] * len(classes) >= _RARE * len(y):
        return []
    share = f"{count[rarest]} of {len(y)} training rows"
    return [
        f"classes are unbalanced: {classes[rarest]!r} has {share}, less than a fifth of an equal"
        " share"
    ]


def _refuse_unequal_rows(which: str, x: np.ndarray, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise DataError(f"x{which} has {len(x)} rows and y{which} has {len(y)}; they must match")


def _refuse_overflow(y: np.ndarray, names: tuple[str, ...], where: Where) -> None:
    """Refuse targets whose errors cannot be squared and summed, which every score does."""
    wide = y.reshape(len(y), -1)
    large = np.argwhere(np.abs(wide) > _LARGEST)
    if len(large):
        row, column = large[0].tolist()
        raise DataError(
            f"target {names[column]!r} is {wide[row, column]:g} in {where(row)}: its square "
            f"overflows; give targets below {_LARGEST:g}, in another unit"
        )


def _constants(values: np.ndarray, names: tuple[str, ...], what: str) -> list[str]:
    positions = np.argwhere(constant_columns(values))
    if not len(positions):
        return []
    flat = np.flatnonzero(constant_columns(values))
    named = [repr(names[i]) for i in flat] if names else [str(tuple(p.tolist())) for p in positions]
    if len(named) == 1:
        return [f"{what} {named[0]} is constant in the training rows"]
    more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    listed = ", ".join(named[:_LISTED])
    return [f"{len(named)} {what}s are constant in the training rows: {listed}{more}"]


def _flattened(values: np.ndarray, names: tuple[str, ...], what: str, where: Where) -> list[str]:
    """Columns in which one value is so far out that scaled ones would be alike but for it."""
    said = []
    for column, name in enumerate(names if len(values) >= 10 and values.ndim == 2 else ()):
        one = values[:, column]
        far = int(np.argmax(np.abs(one - np.median(one))))
        rest = np.ptp(np.delete(one, far))
        if 0 < rest * _FARTHEST < abs(one[far] - np.median(one)):
            said.append(
                f"{what} {name!r} is {one[far]:g} in {where(far)}, where all others "
                f"span {rest:.3g}: scaled by it they are alike; is it a mistake?"
            )
    return said
