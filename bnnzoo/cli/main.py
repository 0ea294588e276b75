"""The commands put together, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bnnzoo.cli import catalogue, doctor, fitting, predicting, reporting
from bnnzoo.errors import BnnzooError, UnknownNameError, hint

TRACEBACK = "BNNZOO_TRACEBACK"
"""Environment variable that, when set, shows where an error came from."""


class Group(TyperGroup):
    """Commands in the order they are used, and a hint where there is no such command."""

    def list_commands(self, ctx: Any) -> list[str]:
        """As registered."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; raises ``UnknownNameError`` with the nearest one."""
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing:
            raise UnknownNameError("command", cmd_name, self.commands)
        return found


app = typer.Typer(
    cls=Group,
    name="bnnzoo",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command, function in {
    "list": catalogue.list_entries,
    "describe": catalogue.describe,
    "fit": fitting.fit,
    "resume": fitting.resume,
    "predict": predicting.predict,
    "report": reporting.report,
    "runs": reporting.runs,
    "doctor": doctor.doctor,
}.items():
    app.command(command)(function)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"bnnzoo {version('bnnzoo')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """A zoo of Bayesian neural networks: choose, fit, compare.

    Start with `bnnzoo list priors`, then `bnnzoo fit --dataset diabetes --prior student-t`.
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: without the program's name; those of the process if not given.

    Returns:
        The exit code: 0; 2 for bad input, after one line on stderr; 130 when interrupted; 1 for
        an error nobody foresaw.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # Not standalone: typer would draw boxes around errors and print tracebacks of its own.
        result = typer.main.get_command(app).main(given, prog_name="bnnzoo", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except BnnzooError as error:
        return _fail(str(error), error.exit_code)
    except typer.Abort:
        return _fail("interrupted", 130)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own, under whatever name it has it
            return _fail(usage_line(error), 2)
        first = (str(error).strip() or "no message").splitlines()[0]
        return _fail(
            f"unexpected {type(error).__name__}: {first} (set {TRACEBACK}=1 to see where)", 1
        )


def _fail(line: str, code: int) -> int:
    if os.environ.get(TRACEBACK) and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print("bnnzoo:", " ".join(line.split()), file=sys.stderr)
    return code


def usage_line(error: Any) -> str:
    """What is wrong with the way a command was called, in one line."""
    ctx = getattr(error, "ctx", None)
    path = getattr(ctx, "command_path", "bnnzoo")
    kind, message = type(error).__name__, error.format_message().strip().rstrip(".")
    if kind == "NoSuchOption":
        known = [o for p in ctx.command.get_params(ctx) for o in (*p.opts, *p.secondary_opts)]
        known = [o for o in known if o.startswith("--")]
        return f"unknown option {error.option_name} of {path}{hint(error.option_name, known, 6)}"
    if kind == "MissingParameter" and error.param is not None:
        return f"{path} needs {error.param.human_readable_name.upper()}; see {path} --help"
    return f"{message[:1].lower()}{message[1:]}; see {path} --help"
