"""The commands put together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bnnzoo.cache import keep_programs
from bnnzoo.cli import (
    catalogue,
    doctor,
    evidence,
    fitting,
    listing,
    matching,
    predicting,
    reporting,
    selecting,
    studying,
    tuning,
)
from bnnzoo.cli.errors import guarded, told_as_notes
from bnnzoo.cli.options import written
from bnnzoo.errors import UnknownNameError, written_as


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
COMMANDS: dict[str, Callable[..., None]] = {
    "list": catalogue.list_entries,
    "describe": catalogue.describe,
    "fit": fitting.fit,
    "resume": fitting.resume,
    "drop-chains": fitting.drop_chains,
    "predict": predicting.predict,
    "evidence": evidence.evidence,
    "select": selecting.select,
    "tune": tuning.tune,
    "match-prior": matching.match_prior,
    "report": reporting.report,
    "runs": listing.runs,
    "study": studying.study,
    "doctor": doctor.doctor,
}
for name, function in COMMANDS.items():
    app.command(name)(function)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"bnnzoo {version('bnnzoo')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool | None,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = None,
) -> None:
    """A zoo of Bayesian neural networks: choose, fit, compare.

    Start with `bnnzoo list priors`, then `bnnzoo fit --dataset diabetes --prior student-t`.
    """
    keep_programs()  # before anything imports JAX


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: without the program's name; those of the process if not given.

    Returns:
        The exit code; see :func:`bnnzoo.cli.errors.guarded`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    command = typer.main.get_command(app)
    # Not standalone: typer would draw boxes around errors and print tracebacks of its own.
    with written_as(written), told_as_notes():
        return guarded(lambda: command.main(given, prog_name="bnnzoo", standalone_mode=False))
