"""The data set every model, backend and report sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from bnnzoo.datasets._check import as_inputs
from bnnzoo.datasets._encoding import TableEncoding
from bnnzoo.datasets._frame import encode_new_frame
from bnnzoo.datasets._read_frame import is_frame
from bnnzoo.datasets._scaling import Scaling
from bnnzoo.datasets._where import Where
from bnnzoo.errors import CorruptRunError, DataError

Task = Literal["regression", "classification"]
Scale = Literal["auto", "standard", "pooled", "none"]

TASKS = ("regression", "classification")
SCALES = ("auto", "standard", "pooled", "none")
ARRAYS = ("x", "y", "x_test", "y_test")
NAMES = ("feature_names", "target_names", "class_names")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Checked arrays on the host, in original units; made by :func:`make_dataset`.

    Attributes:
        name: what to call it, such as ``diabetes``, a CSV path or ``arrays``.
        x: ``(row, *in_shape)`` float64 training inputs.
        y: regression ``(row,)`` or ``(row, outputs)`` float64; classification ``(row,)`` int64.
        x_test: ``(test_row, *in_shape)``, or None.
        y_test: as y, or None.
        task: ``"regression"`` or ``"classification"``.
        feature_names: one a feature; empty for inputs that are not ``(row, feature)``.
        target_names: one an output.
        class_names: one a class number; empty for regression.
        scale: ``"auto"``, ``"standard"``, ``"pooled"`` or ``"none"``; see :meth:`scaling_for`.
        warnings: lines to say once to the user.
        truth: arrays that generated the data, where they are known; not kept in a run.
        source: the options that :func:`load_dataset` made it with, defaults included; empty for
            arrays. With ``name`` it repeats the data set.
        encoding: how the columns of a table became features; None for arrays.
        places: where training and test rows stand in the file they are from, for messages; None
            for arrays, and of a run that is read again.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    task: Task = "regression"
    feature_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    scale: Scale = "auto"
    warnings: tuple[str, ...] = ()
    truth: Mapping[str, np.ndarray] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    encoding: TableEncoding | None = None
    places: tuple[Where, Where] | None = None

    def __post_init__(self) -> None:
        for name in ARRAYS:
            object.__setattr__(self, name, _read_only(getattr(self, name)))
        if self.truth is not None:
            frozen = {name: _read_only(np.asarray(array)) for name, array in self.truth.items()}
            object.__setattr__(self, "truth", MappingProxyType(frozen))
        object.__setattr__(self, "source", MappingProxyType(dict(self.source)))

    def __repr__(self) -> str:
        names = ("rows", "test_rows", "in_shape", "outputs")
        sizes = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"<Dataset {self.name}: {self.task}, {sizes}>"

    def __reduce__(self) -> tuple[Any, ...]:
        values = [getattr(self, part.name) for part in fields(self)]
        # A mapping proxy does not pickle.
        plain = (dict(v) if isinstance(v, MappingProxyType) else v for v in values)
        return type(self), tuple(plain)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input row."""
        return self.x.shape[1:]

    @property
    def outputs(self) -> int:
        """Targets a row (regression) or classes (classification)."""
        if self.task == "classification":
            return len(self.class_names)
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    @property
    def rows(self) -> int:
        """Number of training rows."""
        return self.x.shape[0]

    @property
    def test_rows(self) -> int:
        """Number of test rows, 0 where there are none."""
        return 0 if self.x_test is None else self.x_test.shape[0]

    def place(self, row: int, test: bool = False) -> str:
        """Where a row stands, for messages: ``t.csv: line 3``, or its number among its rows.

        Args:
            row: its number, counted from 0.
            test: of the test rows.
        """
        if self.places is not None:
            return self.places[test](row)
        return f"row {row} of its {'test' if test else 'training'} rows (counted from 0)"

    @cached_property
    def scaling(self) -> Scaling:
        """Standardisation fitted on the training rows alone, whatever ``scale`` says."""
        y = self.y if self.task == "regression" else None
        return Scaling.fit(self.x, y, pooled=self.scale == "pooled")

    def scaling_for(self, handwritten: bool) -> Scaling:
        """The scaling a model sees.

        Args:
            handwritten: whether the model is the user's own NumPyro model, which ``"auto"``
                leaves in original units.

        Returns:
            :attr:`scaling`, or the identity where the data go in as they are.
        """
        if self.scale == "none" or (self.scale == "auto" and handwritten):
            y_shape = self.y.shape[1:] if self.task == "regression" else ()
            return Scaling.identity(self.in_shape, y_shape)
        return self.scaling

    def check_inputs(self, x: Any, what: str = "x") -> np.ndarray:
        """New input rows as float64, checked against the training inputs.

        Args:
            x: ``(row, *in_shape)``, or ``(row,)`` where there is one feature. A data frame has
                the columns the data set was made of, encoded as those were; for a data set of
                arrays its columns must be the feature names, in order.
            what: its name, for messages.

        Returns:
            A new array ``(row, *in_shape)``.

        Raises:
            DataError: other features than the data set has, or values that are not finite numbers.
        """
        columns = column_names(x)
        if self.encoding is not None and is_frame(x):
            # Features that were encoded before are taken as they are.
            if columns != self.feature_names or columns == self.encoding.names:
                x = encode_new_frame(x, self.encoding, what)
            return as_inputs(x, what, self.feature_names, self.in_shape)
        if columns and self.feature_names and len(columns) == len(self.feature_names):
            for got, expected in zip(columns, self.feature_names, strict=True):
                if got != expected and not isinstance(got, int):
                    raise DataError(f"{what} has column {got!r} where {expected!r} is expected")
        return as_inputs(x, what, self.feature_names, self.in_shape)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over arrays, names of columns and classes, and task; not over name or scale.

        Nor over the encoding: what a fit sees of it is in the arrays and the names of features.
        """
        arrays = {name: getattr(self, name) for name in ARRAYS}
        head = {name: getattr(self, name) for name in ("task", *NAMES)}
        head["shapes"] = {k: None if a is None else a.shape for k, a in arrays.items()}
        digest = hashlib.sha256(json.dumps(head).encode())
        for array in arrays.values():
            if array is not None:
                little_endian = array.dtype.newbyteorder("<")
                digest.update(np.ascontiguousarray(array, dtype=little_endian).tobytes())
        return digest.hexdigest()

    def _encoding_fits(self) -> bool:
        return self.encoding is None or self.encoding.feature_names == self.feature_names

    def metadata(self) -> dict[str, Any]:
        """Everything but the arrays as plain data; :meth:`rebuild` takes it back."""
        kept = {name: list(getattr(self, name)) for name in (*NAMES, "warnings")}
        return {
            "name": self.name,
            "task": self.task,
            "scale": self.scale,
            "in_shape": list(self.in_shape),
            "hash": self.hash,
            "source": dict(self.source),
            "encoding": None if self.encoding is None else self.encoding.to_plain(),
            **kept,
        }

    @classmethod
    def rebuild(
        cls, metadata: Mapping[str, Any], x: Any, y: Any, x_test: Any = None, y_test: Any = None
    ) -> Dataset:
        """The data set that :meth:`metadata` and its arrays came from.

        Args:
            metadata: what :meth:`metadata` gave.
            x: training inputs; the features of a row may have been flattened.
            y: training targets or class numbers.
            x_test: test inputs, or None.
            y_test: test targets, or None.

        Returns:
            A data set with the recorded hash, without :attr:`truth`.

        Raises:
            CorruptRunError: the record is incomplete, or the arrays are not those recorded.
        """

        def inputs(values: Any) -> np.ndarray:
            return np.array(values, np.float64).reshape(-1, *metadata["in_shape"])

        try:
            encoding = metadata.get("encoding")
            kind = np.int64 if metadata["task"] == "classification" else np.float64
            made = cls(
                name=metadata["name"],
                x=inputs(x),
                y=np.array(y, kind),
                x_test=None if x_test is None else inputs(x_test),
                y_test=None if y_test is None else np.array(y_test, kind),
                task=metadata["task"],
                scale=metadata["scale"],
                feature_names=tuple(metadata["feature_names"]),
                target_names=tuple(metadata["target_names"]),
                class_names=tuple(metadata["class_names"]),
                warnings=tuple(metadata["warnings"]),
                source=metadata["source"],
                encoding=TableEncoding.from_plain(encoding) if encoding else None,
            )
            if made.hash != metadata["hash"] or not made._encoding_fits():
                raise CorruptRunError(f"the data of {made.name!r} are not those that were recorded")
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptRunError(f"the recorded data set cannot be rebuilt: {error}") from None
        return made


def column_names(values: Any) -> tuple[Any, ...]:
    """Columns of a data frame, else nothing."""
    columns = getattr(values, "columns", None)
    return () if columns is None else tuple(columns)


def _read_only(array: np.ndarray | None) -> np.ndarray | None:
    if array is None:
        return None
    view = array.view()  # the flag is the view's: the caller's own array stays as it was
    view.setflags(write=False)
    return view
