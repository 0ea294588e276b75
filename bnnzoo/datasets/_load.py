"""A data set by registered name or by path."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnnzoo import registry
from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._file import SUFFIXES, TEXT, CsvOptions, TableOptions, load_table
from bnnzoo.errors import InputError
from bnnzoo.options import Options, parse_options


def load_dataset(name: str | os.PathLike[str], **options: Any) -> Dataset:
    """A registered data set, or a table from a CSV or Parquet file.

    A table's text columns become one feature of 0 and 1 a category. It is split before anything is
    fitted to it; the test rows of a classification are taken from each class in proportion to its
    rows, and every class keeps a training row.

    Args:
        name: a name that ``list_names("datasets")`` gives, or a path that ends in ``.csv``,
            ``.parquet`` or ``.pq``.
        **options: of that data set (its card lists them). A table takes ``target`` (a column name
            or several; default the last column), ``task`` (default: inferred), ``test_size``,
            ``seed``, ``scale``, ``missing`` (``"refuse"``, or ``"impute"`` to fill features in),
            ``categorical`` (columns to take as categories whatever they hold) and ``drop`` (columns
            to leave out); a CSV file also ``separator`` and ``decimal``.

    Returns:
        The data set, split and checked; its ``warnings`` say what was inferred.

    Raises:
        UnknownNameError: no such data set, or no such column.
        InputError: a file that is missing or of another kind.
        OptionError: an option the data set does not have, or a value that is not allowed.
        DataError: a table that cannot be modelled as it stands.
    """
    text = os.fspath(name)
    suffix = Path(text).suffix.lower()
    parsed: Options
    if suffix in SUFFIXES:
        cls = CsvOptions if suffix in TEXT else TableOptions
        parsed = table = parse_options(cls, options, "data", f"{text!r}")
        data = load_table(Path(text), table)
    elif os.path.exists(text) and text not in registry.list_names("datasets"):
        raise InputError(f"cannot read {text!r}: of files, only {', '.join(SUFFIXES)} are read")
    else:
        entry = registry.get("datasets", text)
        parsed = entry.parse(options, "data")
        data = entry.factory(parsed)
    return replace(data, source=parsed.model_dump(mode="json", exclude_none=True))
