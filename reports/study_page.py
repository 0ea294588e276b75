"""A study's page: verdicts first, then figures and tables, protocol, and where it was run."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bnnzoo import registry
from bnnzoo.reports.claims import VERDICTS, NotMeasuredError, check
from bnnzoo.reports.formatting import counted, digits_for, listed, number
from bnnzoo.reports.rendering import environment
from bnnzoo.reports.study import Results, Table
from bnnzoo.reports.study_charts import draw, standalone, to_csv
from bnnzoo.store import write_bytes

if TYPE_CHECKING:
    from bnnzoo.reports.study_runner import StudyRun

__all__ = ["collect_study", "publish", "write_page"]

LARGEST = 300_000
"""Bytes of a published figure."""


def collect_study(run: StudyRun) -> dict[str, Any]:
    """Everything a study's page says, as plain data but for its charts.

    Args:
        run: of the study, finished or not.
    """
    study, results = run.study, run.results
    card = registry.describe("studies", run.name)
    claims = [check(claim, results) for claim in study.claims()]
    return {
        "name": run.name,
        "scale": study.scale,
        "title": card.summary.rstrip("."),
        "question": study.question,
        "protocol": study.protocol,
        "differences": list(study.differences),
        "references": list(card.references),
        "claims": claims,
        "sentence": _sentence(claims),
        "cautions": _cautions(run),
        "done": len(results.measured),
        "cells": len(results.cells),
        "seconds": sum(float(m["seconds"]) for m in results.measured.values()),
        "command": f"bnnzoo study {run.name} --scale {study.scale}",
        "manifest": dict(run.manifest),
        "charts": _of_what_is_there(study.charts, results),
        "tables": _of_what_is_there(study.tables, results),
    }


def _of_what_is_there[T](make: Callable[[Results], list[T]], results: Results) -> list[T]:
    """Charts or tables; none where one of them waits for cells that are not finished."""
    try:
        return make(results)
    except NotMeasuredError:
        return []


def write_page(run: StudyRun, reloads: bool = False) -> None:
    """Write ``index.html``, ``index.md`` and ``claims.json`` into the study's folder.

    Args:
        run: of the study.
        reloads: whether an open page looks for a newer one by itself.
    """
    told = collect_study(run)
    write_bytes(run.folder / "claims.json", _claims_json(told).encode())
    write_bytes(run.folder / "index.md", to_markdown(told, figures=False).encode())
    write_bytes(run.page, to_html(told, reloads).encode())


def publish(run: StudyRun, folder: str | Path) -> list[Path]:
    """Write the results that go into the repository: Markdown, claims, figures and their data.

    Args:
        run: of a finished study.
        folder: to write into; a folder of the study's name is made.

    Returns:
        The files.
    """
    told = collect_study(run)
    target = Path(folder) / run.name
    target.mkdir(parents=True, exist_ok=True)
    files = {"README.md": to_markdown(told, figures=True), "claims.json": _claims_json(told)}
    for chart in told["charts"]:
        files[f"{chart.name}.svg"] = standalone(chart)
        files[f"{chart.name}.csv"] = to_csv(chart)
    for name, text in files.items():
        assert len(text) < LARGEST, f"{name} has {len(text)} bytes"
        write_bytes(target / name, text.encode())
    return [target / name for name in files]


def to_html(told: Mapping[str, Any], reloads: bool = False) -> str:
    """The page, with figures inside it and their data as links; nothing is fetched."""
    figures = [
        {
            "chart": chart,
            "drawing": draw(chart),
            "csv": "data:text/csv;charset=utf-8," + quote(to_csv(chart)),
        }
        for chart in told["charts"]
    ]
    template = environment().get_template("study.html")
    return template.render(
        study=told, figures=figures, texts=texts, measured=measured_text, reloads=reloads
    )


def to_markdown(told: Mapping[str, Any], figures: bool) -> str:
    """The same content as text and tables; ``figures`` lie beside it, or are left out."""
    template = environment().get_template("study.md")
    return template.render(study=told, figures=figures, texts=texts, measured=measured_text)


def measured_text(claim: Mapping[str, Any]) -> str:
    """A claim's measurement with its interval: ``0.12 [0.08, 0.16]``."""
    if claim["verdict"] == "not run":
        return "–"
    value, low, high = claim["value"], claim["low"], claim["high"]
    digits = digits_for([(high - low) / 4], least=0) if high > low else 3
    if low == high:
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def texts(table: Table) -> list[list[str]]:
    """The cells of a table, rows of texts; the numbers of a column have one precision."""
    columns = [column_texts(column) for column in zip(*table.rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def column_texts(values: Sequence[Any]) -> list[str]:
    """A column's cells: settings as they are, measurements to three figures of a typical one."""
    sizes = [abs(v) for v in values if isinstance(v, float) and math.isfinite(v) and v]
    settings = all(float(f"{size:.3g}") == size for size in sizes)
    typical = statistics.median(sizes) if sizes else 1.0
    digits = min(max(2 - math.floor(math.log10(typical)), 0), 6)

    def text(value: Any) -> str:
        if value is None:
            return "–"
        if not isinstance(value, float):
            return str(value)
        return f"{value:.3g}".replace("-", "−") if settings else number(value, digits)

    return [text(value) for value in values]


def _sentence(claims: list[dict[str, Any]]) -> str:
    """How many claims came out how."""
    counts = Counter(claim["verdict"] for claim in claims)
    parts = [f"{counts[v]} {v}" for v in VERDICTS if counts[v]]
    return f"Of {counted(len(claims), 'claim')}, {listed(parts)}."


def _cautions(run: StudyRun) -> list[str]:
    """What the verdicts are worth, first by the scale."""
    said = run.study.cautions(run.results)
    if run.study.scale == "smoke":
        said = ["Scale smoke shows that the study runs; its verdicts are not to be quoted.", *said]
    return said


def _claims_json(told: Mapping[str, Any]) -> str:
    keys = ("name", "scale", "command", "sentence", "cautions", "claims", "manifest")
    chosen = {key: told[key] for key in keys}
    return json.dumps(chosen, indent=1, ensure_ascii=False) + "\n"
