"""``bnnzoo runs`` and ``bnnzoo report``: what was run, listed and compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnnzoo.cli.console import Json, console, counted, print_json, table
from bnnzoo.cli.summary import metric

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = {
    "regression": {"nll": "NLL", "rmse": "RMSE", "coverage_90": "90 %"},
    "classification": {"nll": "NLL", "accuracy": "acc.", "ece": "ECE"},
}
"""Metrics in the list of runs, which has to fit 80 columns."""


STATES = {"complete": "done", "running": "unfinished"}


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder to look in, at any depth.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs under a folder, with their scores."""
    from bnnzoo.errors import InputError

    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    found = [_record(path) for path in find_runs(folder)]
    if as_json:
        print_json(found)
        return
    out = console(widest=140)
    if not found:
        out.print(f"No runs under {folder}")
        return
    groups: dict[tuple[Path, str], list[dict[str, Any]]] = {}
    for record in found:
        place = Path(record["run"]).parent
        groups.setdefault((place, record["data"] or "unreadable"), []).append(record)
    for (place, data), members in groups.items():
        out.print(f"{data}, in {place}", style="bold")
        out.print(_table(members))
        for record in members:
            if record["problem"]:
                out.print(record["problem"], style="yellow")
        out.print()
    text = counted(len(found), "run")
    if any(record["flags"] for record in found):
        text += "; under ! the number of flags, which a report puts in words"
    out.print(text, style="dim")
    if any(record["state"] in ("complete", "stopped") for record in found):
        out.print(f"Compare: bnnzoo report {folder} -o report.html", style="dim")


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, folders that hold runs, and files that evidence --out or select "
            "--out wrote.",
            metavar="RUN|FILE...",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write.", metavar="FILE")] = Path(
        "report.html"
    ),
    title: Annotated[str | None, typer.Option(help="Title of the page.", metavar="TEXT")] = None,
    as_json: Json = False,
) -> None:
    """Compare runs and evidences on one page, with Markdown and JSON beside it."""
    files = [path for path in paths if path.suffix == ".json" and not path.is_dir()]
    folders = [path for path in paths if path not in files]
    chosen, skipped = _chosen(folders) if folders else ([], [])
    from bnnzoo.inference import load_evidence, load_run
    from bnnzoo.reports import write_report

    kept = [load_evidence(path) for path in files]
    page = write_report([*(load_run(path) for path in chosen), *kept], out, title=title)
    written = [page, page.with_suffix(".md"), page.with_suffix(".json")]
    sentences = verdicts(page)
    if as_json:
        made = {"files": written, "runs": chosen, "evidences": files, "skipped": skipped}
        print_json({**made, "verdicts": sentences})
        return
    shown = console()
    for sentence in sentences:
        shown.print(sentence, style="bold")
    for path in skipped:
        shown.print(f"Left out {path}: not finished", style="yellow")
    parts = [(len(chosen), "run"), (len(files), "file")]
    what = ", ".join(counted(n, noun) for n, noun in parts if n)
    shown.print(
        f"Wrote {written[0]} ({what}), and beside it {written[1].name} and {written[2].name}"
    )


def verdicts(page: Path) -> list[str]:
    """The sentences a written report begins with, one a data set."""
    import json

    made = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    return [block["verdict"]["sentence"] for block in made["blocks"]]


def find_runs(folder: Path) -> list[Path]:
    """Run folders under ``folder``, itself included, sorted; nothing is looked for inside a run."""
    found = []
    for inner, folders, files in os.walk(folder):
        folders.sort()
        if "manifest.json" in files:
            found.append(Path(inner))
            folders.clear()
    return found


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


def _record(path: Path) -> dict[str, Any]:
    """One run from its manifest and spec alone."""
    import tomllib

    from bnnzoo.errors import BnnzooError
    from bnnzoo.store import read_manifest

    made: dict[str, Any] = dict.fromkeys(
        ("run", "state", "label", "data", "task", "model", "prior", "likelihood", "backend")
    )
    made |= {"posterior_temperature": None, "likelihood_temperature": None, "created": None}
    made |= {"metrics": {}, "flags": [], "wall_seconds": None, "problem": None}
    made["run"] = str(path)
    try:
        manifest = read_manifest(path)
        spec = tomllib.loads((path / "run.toml").read_text(encoding="utf-8"))
    except (BnnzooError, OSError, ValueError) as error:
        return made | {"state": "unreadable", "problem": str(error)}
    data, inference = manifest.get("data", {}), spec.get("inference", {})
    for key in ("state", "label", "created", "wall_seconds"):
        made[key] = manifest.get(key)
    made["metrics"], made["flags"] = manifest.get("metrics", {}), manifest.get("flags", [])
    made["data"], made["task"] = spec.get("data", {}).get("name"), data.get("task")
    for section in ("prior", "likelihood"):
        made[section] = spec.get(section, {}).get("name")
    made["model"] = spec.get("model", {}).get("name") or spec.get("network", {}).get("name")
    for key in ("backend", "posterior_temperature", "likelihood_temperature"):
        made[key] = inference.get(key)
    return made


def _table(records: Sequence[dict[str, Any]]) -> Table:
    """The runs on one data set in one folder."""
    task = next((r["task"] for r in records if r["task"]), "")
    metrics = SHOWN.get(task, {})
    tempered = any(r["likelihood_temperature"] not in (None, 1) for r in records)
    temperatures = ["posterior_temperature", *(["likelihood_temperature"] if tempered else [])]
    flagged = ["!"] if any(r["flags"] for r in records) else []
    states = ["state"] if any(r["state"] != "complete" for r in records) else []
    numbers = ["T", *(["L"] if tempered else []), *metrics.values(), *flagged]
    made = table("run", "prior", "backend", *numbers, *states, numbers=numbers, wraps="run", gap=1)
    for record in records:
        values = [record[name] for name in temperatures]
        made.add_row(
            Path(record["run"]).name,
            record["prior"] or record["model"] or "-",
            record["backend"] or "-",
            *("-" if value is None else f"{value:g}" for value in values),
            *(metric(key, record["metrics"].get(key)) for key in metrics),
            *(str(len(record["flags"]) or "") for _ in flagged),
            *(STATES.get(record["state"], record["state"]) for _ in states),
        )
    return made
