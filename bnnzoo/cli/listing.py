"""``bnnzoo runs``: the runs under a folder, chosen and sorted, from two small files of each."""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
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

NAMES = {"T": "posterior_temperature", "L": "likelihood_temperature"}
"""Short names that --where and --sort take as well."""

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder to look in, at any depth.")] = Path("runs"),
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Only runs of which this holds, as backend=nuts, nll<0.5, T!=1 or "
            "prior.std=2. Repeatable: all have to hold.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="Sort each data set by this, as nll or backend.", metavar="NAME"),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="From the highest down.")] = False,
    as_json: Json = False,
) -> None:
    """List the runs under a folder, with their scores."""
    from bnnzoo.errors import InputError

    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    every = [_record(path) for path in find_runs(folder)]
    found = _chosen(every, where or [])
    if sort is not None:
        found = _sorted(found, _known(sort, every), reverse)
    if as_json:
        print_json([{k: v for k, v in r.items() if k != "settings"} for r in found])
        return
    _show(found, len(every), folder)


def find_runs(folder: Path) -> list[Path]:
    """Run folders under ``folder``, itself included, sorted; nothing is looked for inside a run."""
    found = []
    for inner, folders, files in os.walk(folder):
        folders.sort()
        if "manifest.json" in files:
            found.append(Path(inner))
            folders.clear()
    return found


def _show(found: Sequence[dict[str, Any]], every: int, folder: Path) -> None:
    out = console(widest=140)
    if not every:
        out.print(f"No runs under {folder}")
        return
    if not found:
        out.print(f"None of {counted(every, 'run')} under {folder}")
        return
    groups: dict[tuple[Path, str], list[dict[str, Any]]] = {}
    for record in found:
        place = Path(record["run"]).parent
        groups.setdefault((place, record["data"] or "not readable"), []).append(record)
    for (place, data), members in groups.items():
        out.print(f"{data}, in {place}", style="bold")
        out.print(_table(members))
        for record in members:
            if record["problem"]:
                out.print(record["problem"], style="yellow")
        out.print()
    text = counted(len(found), "run") + (f" of {every:,}" if len(found) < every else "")
    if any(record["flags"] for record in found):
        text += "; under ! the number of flags, which a report puts in words"
    out.print(text, style="dim")
    if any(record["state"] in ("complete", "stopped") for record in found):
        out.print(f"Compare: bnnzoo report {folder} -o report.html", style="dim")


def _chosen(records: Sequence[dict[str, Any]], where: Sequence[str]) -> list[dict[str, Any]]:
    """Runs of which every condition holds."""
    from bnnzoo.errors import OptionError
    from bnnzoo.specs import read_value

    left = list(records)
    for text in where:
        parts = re.fullmatch(r"\s*([^=!<>]+?)\s*(!=|<=|>=|=|<|>)\s*(.+?)\s*", text)
        if parts is None:
            raise OptionError(f"--where {text}: write NAME=VALUE, or one of {', '.join(OPERATORS)}")
        name, sign, value = parts.groups()
        name = _known(name, records)
        wanted = read_value(value)
        left = [r for r in left if _holds(OPERATORS[sign], _value(r, name), wanted)]
    return left


def _holds(compare: Callable[[Any, Any], bool], value: Any, wanted: Any) -> bool:
    """Whether a comparison holds; of what is missing only ``!=`` does."""
    if value is None:
        return compare is operator.ne
    try:
        return bool(compare(value, wanted))
    except TypeError:  # a text beside a number: neither is below the other
        return False


def _known(name: str, records: Sequence[Mapping[str, Any]]) -> str:
    """The name of something that some run has; raises ``UnknownNameError``."""
    from bnnzoo.errors import UnknownNameError

    name = NAMES.get(name, name)
    names = {key for record in records for key in (*FIELDS, *record["metrics"])}
    settings = {key for record in records for key in record["settings"]}
    if records and name not in names | settings:
        choices = {*NAMES, *names} if "." not in name else settings
        raise UnknownNameError("name", name, choices)
    return name


def _value(record: Mapping[str, Any], name: str) -> Any:
    """What a run has under a name; None for nothing, and for what is not a number."""
    if name == "run":
        return Path(record["run"]).name
    places = (record["metrics"], record["settings"], record)
    value = next((place[name] for place in places if name in place), None)
    return None if isinstance(value, float) and value != value else value


def _sorted(records: Sequence[dict[str, Any]], name: str, reverse: bool) -> list[dict[str, Any]]:
    """In order of a value, numbers before text; what is missing stays last."""
    have = [r for r in records if _value(r, name) is not None]
    numbers = [r for r in have if isinstance(_value(r, name), (int, float))]
    texts = [r for r in have if not isinstance(_value(r, name), (int, float))]
    numbers.sort(key=lambda r: _value(r, name), reverse=reverse)
    texts.sort(key=lambda r: str(_value(r, name)), reverse=reverse)
    return [*numbers, *texts, *(r for r in records if _value(r, name) is None)]


FIELDS = (
    *("run", "state", "label", "data", "task", "model", "prior", "likelihood", "backend"),
    *("posterior_temperature", "likelihood_temperature", "created", "wall_seconds"),
)
"""What is known of every run, beside its metrics and settings."""


def _record(path: Path) -> dict[str, Any]:
    """One run from its manifest and spec alone."""
    from bnnzoo.errors import BnnzooError

    made: dict[str, Any] = dict.fromkeys(FIELDS)
    made |= {"metrics": {}, "flags": [], "problem": None, "settings": {}, "run": str(path)}
    try:
        return made | _read(path)
    except (BnnzooError, OSError, ValueError) as error:
        return made | {"state": _what_else(path), "problem": str(error)}
    except (AttributeError, TypeError):  # JSON or TOML of another shape
        return made | {"state": "foreign", "problem": f"{path} holds no run"}


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    from bnnzoo.store import read_manifest

    manifest = read_manifest(path)
    spec = tomllib.loads((path / "run.toml").read_text(encoding="utf-8"))
    inference = spec.get("inference", {})
    made = {key: manifest.get(key) for key in ("state", "label", "created", "wall_seconds")}
    made |= {"metrics": dict(manifest.get("metrics", {})), "flags": manifest.get("flags", [])}
    made["data"] = spec.get("data", {}).get("name")
    made["task"] = manifest.get("data", {}).get("task")
    for section in ("prior", "likelihood"):
        made[section] = spec.get(section, {}).get("name")
    made["model"] = spec.get("model", {}).get("name") or spec.get("network", {}).get("name")
    for key in ("backend", "posterior_temperature", "likelihood_temperature"):
        made[key] = inference.get(key)
    made["settings"] = {
        f"{section}.{option}": value
        for section, part in spec.items()
        for option, value in part.items()
    }
    return made


def _what_else(path: Path) -> str:
    """What a folder is that cannot be read as a run of this version."""
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return "unreadable"
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        return "foreign"
    from bnnzoo.store import FORMAT

    return "unreadable" if manifest["format"] == FORMAT else "other version"


def _table(records: Sequence[dict[str, Any]]) -> Table:
    """The runs on one data set in one folder."""
    task = next((r["task"] for r in records if r["task"]), "")
    metrics = SHOWN.get(task, {})
    tempered = any(r["likelihood_temperature"] not in (None, 1) for r in records)
    temperatures = ["posterior_temperature", *(["likelihood_temperature"] if tempered else [])]
    flagged = ["!"] if any(r["flags"] for r in records) else []
    several = ["model"] if len({r["model"] for r in records}) > 1 else []
    states = ["state"] if any(r["state"] != "complete" for r in records) else []
    numbers = ["T", *(["L"] if tempered else []), *metrics.values(), *flagged]
    names = ("run", *several, "prior", "backend")
    made = table(*names, *numbers, *states, numbers=numbers, wraps="run", gap=1)
    for record in records:
        values = [record[name] for name in temperatures]
        made.add_row(
            Path(record["run"]).name,
            *(record["model"] or "-" for _ in several),
            record["prior"] or record["model"] or "-",
            record["backend"] or "-",
            *("-" if value is None else f"{value:g}" for value in values),
            *(metric(key, record["metrics"].get(key)) for key in metrics),
            *(str(len(record["flags"]) or "") for _ in flagged),
            *(STATES.get(record["state"], record["state"]) for _ in states),
        )
    return made
