"""``bnnzoo report``: what was run, compared on a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bnnzoo.cli.console import Json, console, counted, print_json
from bnnzoo.cli.listing import find_runs


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, folders that hold runs, and files that evidence --out or select "
            "--out wrote.",
            metavar="RUN|FILE...",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page to write; default report.html.", metavar="FILE"),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.", metavar="TEXT")] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="html, md or json: write that alone; default a page with the others beside it.",
            metavar="NAME",
        ),
    ] = None,
    ood: Annotated[
        str | None,
        typer.Option(
            help="Another data set with the same inputs, whose rows a run should be unsure of.",
            metavar="DATASET",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare runs and evidences on one page, Markdown and JSON."""
    from bnnzoo.reports.writing import check_target, write

    target = check_target(out or Path(f"report.{format or 'html'}"), format)
    files = [path for path in paths if path.suffix == ".json" and not path.is_dir()]
    folders = [path for path in paths if path not in files]
    chosen, skipped = _chosen(folders) if folders else ([], [])
    from bnnzoo.datasets import load_dataset
    from bnnzoo.inference import load_evidence, load_run
    from bnnzoo.reports.report import collect

    kept = [load_evidence(path) for path in files]
    other = None if ood is None else load_dataset(ood)
    made = collect([*(load_run(path) for path in chosen), *kept], title, other)
    written = write(made, target, format)
    sentences = [block["verdict"]["sentence"] for block in made["blocks"]]
    if as_json:
        said = {"files": written, "runs": chosen, "evidences": files, "skipped": skipped}
        print_json({**said, "verdicts": sentences})
        return
    shown = console()
    for sentence in sentences:
        shown.print(sentence, style="bold")
    for path in skipped:
        shown.print(f"Left out {path}: not finished", style="yellow")
    parts = [(len(chosen), "run"), (len(files), "file")]
    what = ", ".join(counted(n, noun) for n, noun in parts if n)
    beside = f", and beside it {written[1].name} and {written[2].name}" if written[1:] else ""
    shown.print(f"Wrote {written[0]} ({what}){beside}")


def verdicts(page: Path) -> list[str]:
    """The sentences a written report begins with, one a data set."""
    import json

    made = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    return [block["verdict"]["sentence"] for block in made["blocks"]]


def _chosen(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Runs to compare, and unfinished ones that were found in a folder and are left out."""
    from bnnzoo.errors import RunError
    from bnnzoo.store import read_manifest

    chosen: dict[Path, None] = {}
    skipped = []
    for path in paths:
        inside = find_runs(path) if path.is_dir() else []
        if not inside or inside == [path]:
            read_manifest(path)  # says what is wrong with it
            chosen[path] = None
            continue
        for run in inside:
            if read_manifest(run).get("state") == "running":
                skipped.append(run)
            else:
                chosen[run] = None
    if not chosen:
        raise RunError(f"no finished run under {paths[0]}: bnnzoo runs {paths[0]}")
    return list(chosen), skipped
