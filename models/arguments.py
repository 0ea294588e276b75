"""What every entrance asks of its arguments: a data set, and a model that is not one."""

from __future__ import annotations

import os
from typing import Any

from bnnzoo.datasets import Dataset
from bnnzoo.errors import InputError, brief


def check_data(data: Any, model: Any = None) -> None:
    """Raise where ``data`` is no data set, before anything is asked of it.

    Args:
        data: what was given for one.
        model: what was given for a model, to see whether the two are swapped.

    Raises:
        InputError: one line that says how to make a data set of what was given.
    """
    if isinstance(data, Dataset):
        return
    if isinstance(model, Dataset):
        raise InputError("model and data are swapped: the model comes first, then the data set")
    name, shape = type(data).__name__, getattr(data, "shape", None)
    given, remedy = brief(data), "load_dataset(NAME) or make_dataset(X, y) gives one"
    if isinstance(data, str | os.PathLike):
        remedy = f"load_dataset({os.fspath(data)!r}) gives one"
    elif shape is not None:
        given = f"{name} of shape {tuple(shape)}"
        remedy = "make_dataset(X, y) gives one of inputs and targets"
    raise InputError(f"data = {given}: a data set is needed; {remedy}")
