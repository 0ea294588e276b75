"""``bnnzoo study``: published work run again, with a verdict on each of its claims."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bnnzoo.cli import options as o
from bnnzoo.cli.console import console, counted, print_json, table


def study(
    name: Annotated[str, typer.Argument(help="Which one; see bnnzoo list studies.")],
    scale: Annotated[
        str,
        typer.Option(help="smoke (that it runs), small (an honest small answer) or paper."),
    ] = "small",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder; studies/NAME-SCALE if not given."),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that run cells side by side.", metavar="N")
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Run the cells on the workers of a dask scheduler.", metavar="tcp://HOST:PORT"
        ),
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(help="Write Markdown, verdicts and figures there too.", metavar="FOLDER"),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Write the page while cells go on; it reloads itself."),
    ] = False,
    no_progress: o.ProgressFlag = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Run a published study again, and say which claims hold.

    A run that was stopped goes on where it was; cells that are done are not done again.
    """
    from bnnzoo.reports.study_page import publish as write
    from bnnzoo.reports.study_runner import run_study

    progress = not (no_progress or as_json)
    found = run_study(
        name, scale, out, workers=workers, scheduler=scheduler, progress=progress, watch=watch
    )
    files = [found.page, found.folder / "index.md", found.folder / "claims.json"]
    if publish is not None:
        files += write(found, publish)
    told = json.loads((found.folder / "claims.json").read_text(encoding="utf-8"))
    if as_json:
        print_json({"folder": found.folder, "files": files, "claims": told["claims"]})
    else:
        _show(told, files)


def _show(told: Mapping[str, Any], files: list[Path]) -> None:
    out = console()
    made = table("verdict", "claim", "measured", wraps="claim")
    for claim in told["claims"]:
        made.add_row(claim["verdict"], claim["text"], _measured(claim))
    out.print(made)
    out.print(told["sentence"], style="bold")
    for line in told["cautions"]:
        out.print(f"Beware: {line}", style="yellow")
    out.print(f"Wrote {files[0]} and {counted(len(files) - 1, 'file')} more")


def _measured(claim: Mapping[str, Any]) -> str:
    if claim["verdict"] == "not run":
        return "-"
    low, high = claim["low"], claim["high"]
    if low == high:
        return f"{claim['value']:.3g}"
    return f"{claim['value']:.3g} [{low:.3g}, {high:.3g}]"
