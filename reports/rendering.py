"""A report's data as HTML, Markdown and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from bnnzoo.reports import formatting, panels, picture_plots, rowcharts
from bnnzoo.reports.comparison import CLEAR, METRIC_NAMES, in_errors
from bnnzoo.reports.diagnostics import (
    ESS_LOW,
    OUTPUTS_CHECKED,
    RHAT_BAD,
    RHAT_GOOD,
    WEIGHTS_CHECKED,
)
from bnnzoo.reports.evidence import BOUNDS, NOT_EVIDENCE, factor
from bnnzoo.reports.evidence_chart import evidence_chart
from bnnzoo.reports.figure_data import figure_addresses
from bnnzoo.reports.flags import merge_flags
from bnnzoo.reports.pictures import SEEN
from bnnzoo.reports.svg import key
from bnnzoo.reports.temperature import symbol

DRAWN = 60
"""Runs that have small plots of their own, and rows of the pairwise table: the best so many."""

PERCENT = ("coverage_50", "coverage_90", "accuracy")
"""Metrics that are shown in per cent."""

BETTER = {
    "nll": "lower",
    "rmse": "lower",
    "crps": "lower",
    "coverage_50": "ideal 50 %",
    "coverage_90": "ideal 90 %",
    "accuracy": "higher",
    "brier": "lower",
    "ece": "lower",
}
"""Which way each metric points, for the heads of tables."""


def to_html(report: Mapping[str, Any]) -> str:
    """The page: styles, script and figures inside it, nothing fetched."""
    views = [block_view(block) for block in report["blocks"]]
    return environment().get_template("report.html").render(report=report, views=views)


def to_markdown(report: Mapping[str, Any]) -> str:
    """The same content as text and tables."""
    views = [block_view(block, figures=False) for block in report["blocks"]]
    return environment().get_template("report.md").render(report=report, views=views)


def to_json(report: Mapping[str, Any]) -> str:
    """All numbers, as strict JSON: NaN is null, infinities are ``"inf"`` and ``"-inf"``."""
    return json.dumps(_plain(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def block_view(block: Mapping[str, Any], figures: bool = True) -> dict[str, Any]:
    """What the templates need beyond the data: figures, chosen digits, cells of the matrix."""
    rows = block["runs"]
    view: dict[str, Any] = {
        "block": block,
        "metrics": _metric_columns(rows),
        "matrix": _matrix(block),
        "flags": [(row, flag) for row in rows for flag in merge_flags(row["flags"])],
        "traces": [row for row in rows if row["convergence"]["elbo"]],
        "calibrated": [row for row in rows if row["calibration"]],
        "comparable": block["scored_on"] == "test" and len(rows) > 1,
        "plain_labels": all(_says_nothing_new(row) for row in rows),
        "sections": sections(block),
        "evidence_count": evidence_count(block),
        "pictured": [row for row in rows if row["picture"]],
    }
    if not figures:
        return view
    drawn = rows[:DRAWN]
    kind = view["calibrated"][0]["calibration"]["kind"] if view["calibrated"] else None
    reach = panels.pit_reach(rows) if kind == "pit" else 0.0
    view |= {
        "forest": rowcharts.forest(rows, block["digits"]) if view["comparable"] else None,
        "evidence_chart": evidence_chart(block["evidence"]) if block["evidence"] else None,
        "convergence": rowcharts.convergence(rows),
        "data": figure_addresses(block, drawn),
        "trace_plots": [
            (row, panels.trace_plot(row)) for row in view["traces"] if row["number"] <= DRAWN
        ],
        "calibration": [
            (row, [panels.pit_plot(row, reach), panels.coverage_plot(row)])
            if kind == "pit"
            else (row, _reliability_plots(row))
            for row in view["calibrated"]
            if row["number"] <= DRAWN
        ],
        "calibration_kind": kind,
        "pictures": _pictures(view["pictured"]),
        "selective": [
            (row, panels.selective_plot(row))
            for row in rows
            if row["selective"] and row["number"] <= DRAWN
        ],
        "foreign": [
            (row, panels.foreign_plot(row))
            for row in rows
            if row["foreign"] and row["number"] <= DRAWN
        ],
        "temperature": [
            {**panel, "plots": panels.temperature_plots(panel)} for panel in block["temperature"]
        ],
    }
    return view


def _pictures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Curves, surfaces or images of the runs that have them, all of one kind."""
    if not rows:
        return None
    kind = rows[0]["picture"]["kind"]
    if kind == "images":
        return {"kind": kind, "rows": rows, "plots": []}
    draw = picture_plots.line_plot if kind == "line" else picture_plots.surface_plot
    alike = [row for row in rows if row["picture"]["kind"] == kind]
    return {"kind": kind, "rows": alike, "plots": [(row, draw(row)) for row in alike]}


def _reliability_plots(row: Mapping[str, Any]) -> list[Markup]:
    """Of the predicted class, and of all classes where there are more than two."""
    parts = ("top",) if row["calibration"]["classes"] == 2 else ("top", "all")
    return [panels.reliability_plot(row, of) for of in parts]


RUN_SECTIONS = {
    "metrics": "Predictions",
    "pictures": "Pictures",
    "convergence": "Convergence",
    "calibration": "Calibration",
    "temperature": "Temperature",
    "cost": "Cost",
    "settings": "Settings",
}
"""Sections that a data set with runs has, by anchor."""


def sections(block: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Anchors and names of the sections on a data set."""
    evidence = [("evidence", "Evidence")] if block["evidence"] else []
    if not block["runs"]:
        return evidence
    seen = any(row["picture"] for row in block["runs"])
    own = [(k, v) for k, v in RUN_SECTIONS.items() if k != "pictures" or seen]
    return [("summary", "Summary"), *evidence, *own]


def evidence_count(block: Mapping[str, Any]) -> int:
    """How many evidences there are on a data set."""
    panel = block["evidence"]
    return sum(len(one["entries"]) for one in panel["groups"]) if panel else 0


def what_is_compared(report: Mapping[str, Any]) -> str:
    """The contents of a report in a few words."""
    counts = [(report["run_count"], "run"), (report["evidence_count"], "evidence")]
    what = formatting.listed([formatting.counted(n, noun) for n, noun in counts if n])
    text = f"{what} on {formatting.counted(len(report['blocks']), 'data set')}"
    runs = ", runs" if report["evidence_count"] else ""
    return f"{text}{runs}, compared by mean log density of the test rows" if counts[0][0] else text


def _says_nothing_new(row: Mapping[str, Any]) -> bool:
    """Whether a run's label only repeats what the summary's columns hold."""
    told = {str(row[name]) for name in ("model", "prior", "likelihood", "backend")}
    for axis in ("posterior_temperature", "likelihood_temperature"):
        told.add(f"{symbol(axis)}={row[axis]:g}")
    return all(part.strip() in told for part in row["short"].split(","))


def _metric_columns(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Metrics that some run has, with the digits their errors support."""
    columns = []
    for name, title in METRIC_NAMES.items():
        entries = [row["metrics"][name] for row in rows if name in row["metrics"]]
        if not entries:
            continue
        percent = name in PERCENT
        scale = 100.0 if percent else 1.0
        alike = [n for n in METRIC_NAMES if n[:4] == name[:4]]  # both coverages, to equal digits
        errors = [
            scale * row["metrics"][n]["se"]
            for row in rows
            for n in alike
            if n in row["metrics"] and row["metrics"][n]["se"] is not None
        ]
        digits = digits_of(name, errors)
        columns.append(
            {
                "name": name,
                "title": title,
                "scale": scale,
                "unit": " %" if percent else "",
                "digits": digits,
                "better": BETTER[name],
            }
        )
    return columns


def digits_of(name: str, errors: Sequence[formatting.Number]) -> int:
    """Digits after the point of a metric whose standard errors, as shown, are these."""
    if name == "accuracy":
        return 1
    if name in PERCENT:
        return 1 if errors and sorted(errors)[len(errors) // 2] < 0.5 else 0
    return formatting.digits_for(errors, most=4) if errors else 3


def _matrix(block: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """Cells of the pairwise table with the class of their shade."""
    digits, pairs = block["digits"], block["pairs"]
    cells = []
    for i, line in enumerate(pairs["difference"][:DRAWN]):
        row = []
        for j, difference in enumerate(line[:DRAWN]):
            error = pairs["standard_error"][i][j]
            if i == j:
                row.append({"shade": "same", "difference": "", "error": "", "words": ""})
                continue
            z = in_errors(difference, error) if math.isfinite(difference) else float("nan")
            row.append(
                {
                    "shade": shade(z),
                    "difference": formatting.number(difference, digits, signed=True),
                    "error": formatting.number(error, digits),
                    "words": f"run {i + 1} minus run {j + 1}",
                }
            )
        cells.append(row)
    return cells


def shade(z: formatting.Number) -> str:
    """Class of a cell from its difference in standard errors: none, or three steps either way."""
    if math.isnan(z) or abs(z) < CLEAR:
        return ""
    step = 1 if abs(z) < 3 else 2 if abs(z) < 5 else 3
    return f"{'up' if z > 0 else 'down'}{step}"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Where the templates are, with the filters they use."""
    made = Environment(
        loader=PackageLoader("bnnzoo.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "num": formatting.number,
        "pm": formatting.interval,
        "sig": formatting.significant,
        "secs": formatting.seconds,
        "moment": formatting.moment,
        "counted": formatting.counted,
        "numbered": formatting.numbered,
        "zip_unique": zip_unique,
        "md": markdown_text,
        "setting": setting_text,
        "sortable": sort_value,
    }
    made.globals |= {
        "key": key,
        "metric_text": metric_text,
        "symbol": symbol,
        "DRAWN": DRAWN,
        "SEEN": SEEN,
        "image_address": picture_plots.image_address,
        "what_is_compared": what_is_compared,
        "bayes_factor": factor,
        "BOUNDS": BOUNDS,
        "NOT_EVIDENCE": NOT_EVIDENCE,
        "RHAT_GOOD": RHAT_GOOD,
        "RHAT_BAD": RHAT_BAD,
        "ESS_LOW": ESS_LOW,
        "OUTPUTS_CHECKED": OUTPUTS_CHECKED,
        "WEIGHTS_CHECKED": WEIGHTS_CHECKED,
    }
    return made


def metric_text(row: Mapping[str, Any], column: Mapping[str, Any]) -> str:
    """A metric of a run with its standard error and unit."""
    entry = row["metrics"].get(column["name"])
    if entry is None:
        return formatting.NOTHING
    scale, error = column["scale"], entry["se"]
    scaled = None if error is None else scale * error
    text = formatting.interval(scale * entry["value"], scaled, column["digits"])
    return text + column["unit"]


def markdown_text(text: object) -> Markup:
    """Text that Markdown shows as it is, inside a table too."""
    safe = str(escape(str(text))).replace("&#39;", "'").replace("&#34;", '"')
    for sign in "\\`*_[]|":
        safe = safe.replace(sign, "\\" + sign)
    return Markup(" ".join(safe.split()))


def setting_text(value: Any) -> str:
    """A setting as a reader would write it."""
    if value is None:
        return formatting.NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(setting_text(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {setting_text(v)}" for k, v in value.items()) or formatting.NOTHING
    return str(value)


def zip_unique(first: Iterable[Any], second: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Pairs of two equally long lists, each pair once."""
    return list(dict.fromkeys(zip(first, second, strict=True)))


def sort_value(value: Any) -> Any:
    """What the page's script sorts by; empty, which sorts last, for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and math.isinf(value):
        return math.copysign(1e300, value)
    return value


def _plain(value: Any) -> Any:
    """Plain data that strict JSON can hold."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return ("inf" if value > 0 else "-inf") if math.isinf(value) else value
    if hasattr(value, "item"):
        return _plain(value.item())
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)
