"""Errors of the zoo: each says what was given, what is allowed and the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

__all__ = [
    "BnnzooError",
    "CorruptRunError",
    "DataError",
    "DataWarning",
    "InputError",
    "OptionError",
    "ProcessLostError",
    "RunError",
    "RunExistsError",
    "StorageError",
    "TemperatureError",
    "UnknownNameError",
    "brief",
    "hint",
    "hint_file",
    "listed",
    "nearest",
    "setting",
    "written_as",
]


class BnnzooError(Exception):
    """Base of every error raised on purpose; its text is one clear line.

    The command line prints the text and exits with ``exit_code``.
    """

    exit_code = 2


class InputError(BnnzooError, ValueError):
    """An argument, option, file or data set that cannot be used as given."""


class UnknownNameError(InputError):
    """A name that is not registered, with the nearest one that is.

    Args:
        what: the kind of thing, such as ``"prior"``.
        given: the name that was asked for.
        known: the names there are.
    """

    def __init__(self, what: str, given: object, known: Iterable[str]) -> None:
        super().__init__(f"unknown {what} {given!r}{hint(str(given), known)}")


class OptionError(InputError):
    """An option that does not exist or has a value that is not allowed."""


class DataError(InputError):
    """Rows, columns or labels that cannot be modelled as they stand."""


class TemperatureError(InputError):
    """A tempered target that does not exist: improper, or with no known normaliser."""


class RunError(BnnzooError):
    """A run that cannot be made, resumed or read."""


class RunExistsError(RunError):
    """An output folder that already holds something else."""


class CorruptRunError(RunError):
    """A run folder whose files do not agree with its manifest."""


class ProcessLostError(RunError):
    """A run of several processes of which one is gone."""


class StorageError(RunError, OSError):
    """A folder that cannot be written: no space, or no permission."""


class DataWarning(UserWarning):
    """What a user should know of a data set that can be modelled, such as a constant column."""


def brief(value: object) -> str:
    """What was given, on one line and not too long: whatever it is, an error stays one line.

    Args:
        value: anything; arrays, frames and data sets write themselves over many lines.
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + "..."


_LONGEST = 80
"""Characters of a value that is shown."""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.55) -> str | None:
    """The known name closest to ``name``, or None where nothing is close.

    Dashes in front do not count: all options of a command share them.

    Args:
        name: what was given.
        known: the valid names.
        cutoff: similarity that is close, from 0 to 1.

    Returns:
        The best match by ``difflib``'s similarity, ignoring case, or None.
    """
    by_lower = {k.lower().lstrip("-"): k for k in known}
    given = name.lower().lstrip("-")
    found = difflib.get_close_matches(given, by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def hint(name: str, known: Iterable[str], limit: int = 12) -> str:
    """The tail of an error line: the nearest valid choice, then the choices there are.

    Args:
        name: what was given.
        known: the valid names.
        limit: how many choices to list at most.

    Returns:
        Text to put behind the name: ``"; did you mean 'laplace'? (choices: gaussian, laplace)"``.
    """
    choices = sorted(known)
    best = nearest(name, choices)
    meant = f"; did you mean {best!r}?" if best else ""
    if not choices:
        return meant
    there = listed(choices, limit)
    return f"{meant} (choices: {there})" if meant else f"; choices: {there}"


def listed(choices: Sequence[str], limit: int = 12) -> str:
    """The first of several choices: ``gaussian, laplace, and 3 more``.

    Alone it is for values of data, where a value that is spelt alike is another value.

    Args:
        choices: in the order in which they are to stand.
        limit: how many to list at most.
    """
    more = len(choices) - limit
    return ", ".join(choices[:limit]) + (f", and {more} more" if more > 0 else "")


def hint_file(path: Path, beside: Iterable[str]) -> str:
    """The tail of an error line on a file that is not there: one whose name is nearly the same.

    Endings do not count, which all files of a kind share; and what else a folder holds is not a
    choice, so that nothing is listed.

    Args:
        path: what was given.
        beside: names of files in its folder.

    Returns:
        ``"; did you mean 'table.csv'?"``, or nothing.
    """
    stems = {Path(name).stem: name for name in beside}
    best = nearest(path.stem, stems, cutoff=_SAME_FILE)
    return f"; did you mean {stems[best]!r}?" if best else ""


_SAME_FILE = 0.66
"""Similarity of two files' names that may be a slip: ``t`` and ``tt`` have two thirds."""


def _in_python(section: str, option: str, value: Any) -> str:
    return f"{option}={value!r}"


_writer: ContextVar[Callable[[str, str, Any], str]] = ContextVar("writer", default=_in_python)


def setting(section: str, option: str, value: Any) -> str:
    """An option and its value, for a message, as who reads it would write them.

    Args:
        section: of a run's file, such as ``data``.
        option: its name.
        value: what to set it to.

    Returns:
        ``missing='impute'`` in Python, ``--set data.missing=impute`` on the command line.
    """
    return _writer.get()(section, option, value)


@contextmanager
def written_as(writer: Callable[[str, str, Any], str]) -> Iterator[None]:
    """Within it, :func:`setting` writes options another way.

    Args:
        writer: gives the text of a section, an option and a value.
    """
    token = _writer.set(writer)
    try:
        yield
    finally:
        _writer.reset(token)
