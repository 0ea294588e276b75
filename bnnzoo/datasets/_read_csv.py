"""CSV files: read cell by cell, so that whatever is wrong is named by its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from bnnzoo.datasets._table import Cells, Table, parse_number, unique_names
from bnnzoo.datasets._where import Where
from bnnzoo.errors import DataError, InputError, hint_file

MISSING = frozenset(
    ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "None")
)
"""What a missing value may be written as."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""Those looked for in the header where none is given, the first that is found."""


def read_csv(path: Path, separator: str | None = None, decimal: str = ".") -> Table:
    """The table in a CSV file; blanks around cells do not count.

    Args:
        path: UTF-8 text with a header, with or without a byte-order mark.
        separator: between cells; None for what the header has, commas first.
        decimal: between whole part and fraction of a number, ``"."`` or ``","``.

    Returns:
        Columns of text; :data:`MISSING` says what is taken as missing.

    Raises:
        InputError: the file cannot be read.
        DataError: it is no table; the line is named.
    """
    text = _text(path)
    said = []
    if separator is None and path.suffix.lower() == ".tsv":
        separator = "\t"
    if separator is None:
        header = text.lstrip().partition("\n")[0]
        separator = next((s for s in SEPARATORS if s in header), ",")
        if separator != ",":
            said.append(f"{path} has {SEPARATORS[separator]} between its cells")
    lines, records = _records(path, text, separator)
    if not records:
        raise DataError(f"{path} is empty")
    names = unique_names(records[0], str(path))
    if all(parse_number(name, decimal) is not None for name in names):
        raise DataError(
            f"{path}: line {lines[0]} holds numbers; a header with a name a column is needed"
        )
    if len(records) == 1:
        raise DataError(f"{path} has a header and no rows")
    for line, record in zip(lines, records, strict=True):
        if len(record) != len(names):
            cells = "1 cell" if len(record) == 1 else f"{len(record)} cells"
            raise DataError(f"{path}: line {line} has {cells}; the header has {len(names)}")
    columns = {}
    for name, column in zip(names, zip(*records[1:], strict=True), strict=True):
        stripped = (cell.strip() for cell in column)
        made = [None if cell in MISSING else cell for cell in stripped]
        columns[name] = Cells("written", np.array(made, object), decimal=decimal)
    starts = lines[1:]
    return Table(
        name=str(path),
        cells=columns,
        rows=len(starts),
        where=Where(f"{path}: line", starts),
        said=tuple(said),
    )


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises ``InputError`` with the nearest name where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        same = path.parent.glob(f"*{path.suffix}") if path.parent.is_dir() else ()
        raise InputError(f"no such file: {path}{hint_file(path, (p.name for p in same))}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


def _text(path: Path) -> str:
    content = read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not UTF-8 text; save the file as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}: line {line} holds a zero byte; this is no text file")
    return text


def _records(path: Path, text: str, separator: str) -> tuple[list[int], list[list[str]]]:
    """The records that are not blank, and the line each begins in."""
    # newline="": line ends inside quotes are kept, outside any of the three kinds ends a record.
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        skipinitialspace=separator != " ",
        strict=True,
    )
    lines, records, line = [], [], 1
    try:
        for record in reader:
            if any(map(str.strip, record)) or len(record) > 1:
                lines.append(line)
                records.append(record)
            line = reader.line_num + 1
    except csv.Error as error:
        reason = str(error)
        if reason == "unexpected end of data" or "field larger" in reason:
            raise DataError(f"{path}: a quote in line {line} is never closed") from None
        raise DataError(f"{path}: line {reader.line_num} cannot be read: {reason}") from None
    return lines, records
