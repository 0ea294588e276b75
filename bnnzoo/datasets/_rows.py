"""Data sets that come with training and test rows: how many of them to take."""

from __future__ import annotations

from pydantic import Field

from bnnzoo.errors import OptionError
from bnnzoo.options import Count, Options


class RowOptions(Options):
    """Options of data sets that come with training and test rows."""

    train_rows: Count | None = Field(
        None, description="Take the first training rows only; all of them if not given."
    )
    test_rows: Count | None = Field(
        None, description="Take the first test rows only; all of them if not given."
    )


def row_count(which: str, wanted: int | None, there: int) -> int:
    """How many rows to take; raises ``OptionError`` where more are wanted than there are."""
    if wanted is not None and wanted > there:
        raise OptionError(f"data.{which}_rows = {wanted}: there are {there} rows")
    return there if wanted is None else wanted
