"""What commands print with: text for people at the terminal's width, JSON for scripts."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDEST = 100
"""Columns used of a wider terminal: longer lines are hard to read."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def console(widest: int = WIDEST) -> Console:
    """Where a command's text goes: stdout, in colour on a terminal, 80 columns in a file."""
    from rich.console import Console

    width = min(shutil.get_terminal_size((80, 24)).columns, widest)
    return Console(width=width, highlight=False, markup=False, emoji=False)


def table(*columns: str, numbers: Sequence[str] = (), wraps: str, gap: int = 2) -> Table:
    """An open table, without lines.

    Args:
        columns: headers; the first column is coloured.
        numbers: those set to the right.
        wraps: the one whose cells may go on in the next line.
        gap: blanks between columns.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for k, name in enumerate(columns):
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            overflow="fold",
            no_wrap=name != wraps,
            style="cyan" if k == 0 else "",
        )
    return made


def facts(rows: Sequence[tuple[str, str]], style: str = "") -> Table:
    """A list of what is what, indented, long values below themselves."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(style=style, overflow="fold")
    for name, value in rows:
        made.add_row(f"  {name}", Text(value))
    return made


def print_json(data: Any) -> None:
    """Plain data as JSON on stdout; what is not a finite number becomes null."""
    sys.stdout.write(json.dumps(_plain(data), indent=2, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def counted(count: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def seconds(value: float | None) -> str:
    """A duration: ``0.8 s``, ``12 s``, ``4 min 05 s``."""
    if value is None or not math.isfinite(value):
        return "-"
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    whole = round(value)
    return f"{whole // 60} min {whole % 60:02d} s"
