"""A data set by registered name or by path."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnnzoo import registry
from bnnzoo.datasets._csv import CsvOptions, load_csv
from bnnzoo.datasets._dataset import Dataset
from bnnzoo.errors import InputError
from bnnzoo.options import Options, parse_options


def load_dataset(name: str | os.PathLike[str], **options: Any) -> Dataset:
    """A registered data set, or a table from a CSV file.

    Args:
        name: a name that ``list_names("datasets")`` gives, or a path that ends in ``.csv``.
        **options: of that data set (its card lists them); a CSV file takes ``target`` (column
            name; default the last column), ``task``, ``test_size``, ``seed`` and ``scale``.

    Returns:
        The data set, split and checked; its ``warnings`` say what was inferred.

    Raises:
        UnknownNameError: no such data set, or no such column.
        InputError: a file that is missing or is not a CSV file.
        OptionError: an option the data set does not have, or a value that is not allowed.
        DataError: a table that cannot be modelled as it stands.
    """
    text = os.fspath(name)
    parsed: Options
    if text.lower().endswith(".csv"):
        parsed = csv = parse_options(CsvOptions, options, "data", f"{text!r}")
        data = load_csv(Path(text), csv)
    elif text not in registry.list_names("datasets") and os.path.exists(text):
        raise InputError(f"cannot read {text!r}: of files, only .csv is read")
    else:
        entry = registry.get("datasets", text)
        parsed = entry.parse(options, "data")
        data = entry.factory(parsed)
    return replace(data, source=parsed.model_dump(mode="json", exclude_none=True))
