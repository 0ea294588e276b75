"""The one place where an error becomes a line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import typer

from bnnzoo.errors import BnnzooError, DataWarning, hint

TRACEBACK = "BNNZOO_TRACEBACK"
"""Environment variable that, when set, shows where an error came from."""


@contextlib.contextmanager
def told_as_notes() -> Iterator[None]:
    """Within it a warning about the data is a line on stderr, without its place in our sources."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, DataWarning):
                print("bnnzoo: note:", " ".join(str(message).split()), file=sys.stderr)
            else:
                others(message, category, *place, **more)

        warnings.showwarning = show
        yield


def guarded(command: Callable[[], Any]) -> int:
    """Run a command to its exit code.

    Args:
        command: what to do; a whole number that it returns is the exit code.

    Returns:
        0; 2 for bad input, after one line on stderr; 130 when interrupted; 1 for an error that
        nobody foresaw.
    """
    try:
        result = command()
        return result if isinstance(result, int) else 0
    except BnnzooError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own, by whatever name its version has it
            return _fail(_usage(error), 2)
        first = (str(error).strip() or "no message").splitlines()[0]
        return _fail(
            f"unexpected {type(error).__name__}: {first} (set {TRACEBACK}=1 to see where)", 1
        )


def _fail(line: str, code: int) -> int:
    if os.environ.get(TRACEBACK):
        traceback.print_exc()
    print("bnnzoo:", " ".join(line.split()), file=sys.stderr)
    return code


def _usage(error: Any) -> str:
    """What is wrong with the way a command was called."""
    ctx = getattr(error, "ctx", None)
    path = getattr(ctx, "command_path", "bnnzoo")
    kind, message = type(error).__name__, error.format_message().strip().rstrip(".")
    if kind == "NoSuchOption" and ctx is not None:
        known = [o for p in ctx.command.get_params(ctx) for o in (*p.opts, *p.secondary_opts)]
        known = [o for o in known if o.startswith("--")]
        return f"unknown option {error.option_name} of {path}{hint(error.option_name, known, 6)}"
    if kind == "MissingParameter" and error.param is not None:
        needed = (error.param.metavar or error.param.name).upper().rstrip(".")
        return f"{path.removeprefix('bnnzoo ')} needs {needed}; see {path} --help"
    return f"{message[:1].lower()}{message[1:]}; see {path} --help"
