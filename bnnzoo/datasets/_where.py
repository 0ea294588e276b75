"""Where a row stands in the file or frame it came from, for messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Where:
    """Says where rows stand: ``t.csv: line 3``.

    Attributes:
        before: text before a row's number, such as ``t.csv: line``.
        numbers: ``(row,)`` what the source counts them by.
        after: text behind it.
    """

    before: str
    numbers: Sequence[int] | np.ndarray
    after: str = ""

    def __call__(self, row: int) -> str:
        """Of one row, counted from 0."""
        return f"{self.before} {self.numbers[row]}{self.after}"

    def of(self, rows: Any) -> Where:
        """The same of some rows, in another order.

        Args:
            rows: their numbers, counted from 0.
        """
        return Where(self.before, np.asarray(self.numbers)[rows], self.after)
