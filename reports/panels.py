"""Small plots side by side: calibration, temperatures, and the trace of an optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from bnnzoo.reports.formatting import Number, significant
from bnnzoo.reports.svg import (
    Plot,
    Scale,
    linear,
    logarithmic,
    marker,
    path,
    spread,
    steps,
    tick_text,
    ticks,
)

Row = Mapping[str, Any]

CARD_WIDTH, CARD_HEIGHT = 180, 156
LEFT, RIGHT, TOP, BOTTOM = 34, 6, 20, 30


def pit_reach(rows: Sequence[Row]) -> float:
    """The largest excess of any ECDF or band, so that all panels share one scale."""
    drawn = [r["calibration"] for r in rows if r["calibration"]]
    values = [abs(v) for c in drawn for name in ("excess", "low", "high") for v in c[name]]
    return max(0.05, *values) * 1.05 if values else 0.1


def pit_plot(row: Row, reach: Number) -> Markup:
    """ECDF of PIT values minus uniform, with its simultaneous band."""
    c = row["calibration"]
    where = "leaves" if c["outside"] else "stays inside"
    plot = Plot(
        CARD_WIDTH,
        CARD_HEIGHT,
        f"Run {row['number']}: the PIT ECDF minus uniform {where} its 95 % band.",
    )
    x = linear(0, 1, LEFT, CARD_WIDTH - RIGHT)
    y = linear(-reach, reach, CARD_HEIGHT - BOTTOM, TOP)
    band = [(x(a), y(v)) for a, v in zip(c["at"], c["high"], strict=True)]
    band += [(x(a), y(v)) for a, v in zip(c["at"][::-1], c["low"][::-1], strict=True)]
    plot.path(path(band) + "Z", "band")
    frame(plot, x, y, [0.0, 0.5, 1.0], _symmetric(reach), "PIT value", "ECDF − uniform")
    plot.line(x(0), y(0), x(1), y(0), "zero")
    points = [(x(a), y(v)) for a, v in zip(c["at"], c["excess"], strict=True)]
    plot.path(steps(points), "curve warn" if c["outside"] else "curve")
    return plot.markup()


def coverage_plot(row: Row) -> Markup:
    """Observed against nominal coverage of central intervals."""
    c = row["calibration"]
    plot = Plot(
        CARD_WIDTH,
        CARD_HEIGHT,
        f"Run {row['number']}: observed against nominal coverage of central intervals.",
    )
    x = linear(0, 1, LEFT, CARD_WIDTH - RIGHT)
    y = linear(0, 1, CARD_HEIGHT - BOTTOM, TOP)
    levels = c["levels"]
    band = [(x(a), y(v)) for a, v in zip(levels, c["coverage_high"], strict=True)]
    band += [(x(a), y(v)) for a, v in zip(levels[::-1], c["coverage_low"][::-1], strict=True)]
    plot.path(path(band) + "Z", "band")
    frame(plot, x, y, [0.0, 0.5, 1.0], [0.0, 0.5, 1.0], "nominal coverage", "observed coverage")
    plot.line(x(0), y(0), x(1), y(1), "zero")
    plot.path(path([(x(a), y(v)) for a, v in zip(levels, c["coverage"], strict=True)]), "curve")
    return plot.markup()


def reliability_plot(row: Row, of: str = "top") -> Markup:
    """Frequency against stated probability with its consistency band, over the counts of rows."""
    c = row["calibration"]
    part = c[of]
    height, counts, gap = 196, 24, 14
    where = "stays inside" if not part["outside"] else f"leaves in {part['outside']} bins"
    what = "predicted class" if of == "top" else "all classes"
    plot = Plot(
        CARD_WIDTH, height, f"Run {row['number']}: reliability of the {what} {where} its 95 % band."
    )
    least = 0.5 if c["classes"] == 2 and of == "top" else 0.0
    x = linear(least, 1, LEFT, CARD_WIDTH - RIGHT)
    y = linear(0, 1, height - BOTTOM - counts - gap, TOP)
    marks = [0.5, 0.75, 1.0] if least else [0.0, 0.5, 1.0]
    frame(plot, x, y, [], [0.0, 0.5, 1.0], "", "accuracy" if of == "top" else "frequency")
    floor, most = height - BOTTOM, max(part["count"])
    for k, left in enumerate(part["edges"]):
        a, b = x(max(left, least)), x(left + 1 / c["bins"])
        top, bottom = y(part["high"][k]), y(part["low"][k])
        plot.rect(a, top, max(b - a, 1), max(bottom - top, 0.5), "band")
        tall = max(counts * part["count"][k] / most, 1.0)
        plot.rect(a + 0.5, floor - tall, max(b - a - 1, 1), tall, "count")
    plot.line(x(least), y(least), x(1), y(1), "zero")
    for k, stated in enumerate(part["stated"]):
        inside = part["low"][k] - 1e-12 <= part["observed"][k] <= part["high"][k] + 1e-12
        plot.dot(x(stated), y(part["observed"][k]), 3, "bead" if inside else "bead warn")
    plot.line(LEFT, floor, CARD_WIDTH - RIGHT, floor, "axis")
    _bottom(plot, x, marks, floor, "confidence" if of == "top" else "stated probability")
    plot.text(LEFT - 4, floor - counts + 8, f"{most:,}", "tick", "end")
    return plot.markup()


def selective_plot(row: Row) -> Markup:
    """Error of the rows a run is surest of, against the share that is kept."""
    s = row["selective"]
    plot = Plot(
        CARD_WIDTH,
        CARD_HEIGHT,
        f"Run {row['number']}: {s['measure']} {significant(s['overall'])} of all rows, "
        f"{significant(s['half'])} of the surest half.",
    )
    top = max([*s["risk"], s["overall"]]) * 1.08 or 1.0
    x = linear(0, 1, LEFT, CARD_WIDTH - RIGHT)
    y = linear(0, top, CARD_HEIGHT - BOTTOM, TOP)
    frame(plot, x, y, [0.0, 0.5, 1.0], ticks(0, top, 3)[1:], "share kept", s["measure"])
    plot.line(x(0), y(s["overall"]), x(1), y(s["overall"]), "zero")
    for name, cls in (("ideal", "curve faint"), ("risk", "curve")):
        points = [(x(a), y(v)) for a, v in zip(s["share"], s[name], strict=True)]
        plot.path(path(points), cls)
    return plot.markup()


def foreign_plot(row: Row) -> Markup:
    """Foreign rows that are found, against own rows that are taken for foreign."""
    f = row["foreign"]
    plot = Plot(
        CARD_WIDTH,
        CARD_HEIGHT,
        f"Run {row['number']}: AUROC {f['auroc']:.3f} of its {f['score']} as a detector of "
        "foreign rows.",
    )
    x = linear(0, 1, LEFT, CARD_WIDTH - RIGHT)
    y = linear(0, 1, CARD_HEIGHT - BOTTOM, TOP)
    frame(plot, x, y, [0.0, 0.5, 1.0], [0.0, 0.5, 1.0], "false alarms", "foreign rows found")
    plot.line(x(0), y(0), x(1), y(1), "zero")
    points = [(x(a), y(v)) for a, v in zip(f["false_alarms"], f["found"], strict=True)]
    plot.path(path(points), "curve")
    return plot.markup()


def trace_plot(row: Row) -> Markup:
    """The optimiser's trace, one line a restart, without its first steep rise."""
    elbo = row["convergence"]["elbo"]
    begin = len(elbo["at"]) // 10
    late = [v for trace in elbo["trace"] for v in trace[begin:] if math.isfinite(v)]
    top, lo = max(late, default=1.0), min(late, default=0.0)
    plot = Plot(CARD_WIDTH, CARD_HEIGHT, f"Run {row['number']}: ELBO by step of the optimiser.")
    x = linear(0, elbo["steps"], LEFT + 10, CARD_WIDTH - RIGHT)
    y = linear(lo, top + 0.05 * ((top - lo) or 1), CARD_HEIGHT - BOTTOM, TOP)
    marks = ticks(lo, top, 3)
    frame(plot, x, y, [], marks, "", "ELBO", left=LEFT + 10)
    plot.line(LEFT + 10, y(lo), CARD_WIDTH - RIGHT, y(lo), "axis")
    _bottom(plot, x, [0, elbo["steps"]], y(lo), "step", ["0", f"{elbo['steps']:,}"])
    for trace in elbo["trace"]:
        pairs = list(zip(elbo["at"], trace, strict=True))[begin:]
        points = [(x(a), y(v)) for a, v in pairs if math.isfinite(v)]
        if points:
            plot.path(path(points), "curve fine")
    return plot.markup()


def temperature_plots(panel: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One plot a backend (and model): log density against temperature, a line a prior."""
    facets: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for series in panel["series"]:
        facets.setdefault((series["model"], series["backend"]), []).append(series)
    points = [p for s in panel["series"] for p in s["points"] if math.isfinite(p["log_density"])]
    temperatures = sorted({p["temperature"] for p in points})
    lo = min((p["log_density"] - (p["se"] or 0) for p in points), default=0.0)
    hi = max((p["log_density"] + (p["se"] or 0) for p in points), default=1.0)
    pad = 0.06 * (hi - lo) or 0.1
    several = len({model for model, _ in facets}) > 1
    return [
        {
            "title": f"{model}, {backend}" if several else backend,
            "plot": _temperature_plot(
                panel["axis"], several_series, temperatures, lo - pad, hi + pad
            ),
        }
        for (model, backend), several_series in facets.items()
    ]


def _temperature_plot(
    axis: str,
    series: Sequence[Mapping[str, Any]],
    temperatures: Sequence[Number],
    lo: Number,
    hi: Number,
) -> Markup:
    width, height, left, right = 380, 250, 46, 92
    name = axis.replace("_", " ")
    plot = Plot(width, height, f"Mean log density against {name}, one line for each prior.")
    x = logarithmic(temperatures[0], temperatures[-1], left + 20, width - right - 14)
    y = linear(lo, hi, height - 40, TOP + 2)
    frame(plot, x, y, [], ticks(lo, hi, 5), "", "log density", left=left, right=right)
    plot.line(left, height - 40, width - right, height - 40, "axis")
    shown = temperatures if len(temperatures) <= 6 else temperatures[:: -(-len(temperatures) // 6)]
    _bottom(plot, x, shown, height - 40, name, [f"{t:g}" for t in shown])
    ends = []
    for k, one in enumerate(series):
        hue = one["glyph"]["hue"]
        shift = (k - (len(series) - 1) / 2) * 7  # side by side, or their bars hide each other
        places = [
            (x(p["temperature"]) + shift, p)
            for p in one["points"]
            if math.isfinite(p["log_density"])
        ]
        if not places:
            continue
        plot.path(path([(px, y(p["log_density"])) for px, p in places]), f"link h{hue}")
        for px, p in places:
            se = p["se"] or 0.0
            plot.line(px, y(p["log_density"] - se), px, y(p["log_density"] + se), f"whisker h{hue}")
            plot.at(px, y(p["log_density"]), marker(hue, one["glyph"]["fill"]))
        ends.append((places[-1][0], y(places[-1][1]["log_density"]), hue, _end_label(one)))
    heights = spread([e[1] for e in ends], 14, 14, height - 44)
    for (px, py, hue, label), ly in zip(ends, heights, strict=True):
        plot.path(path([(px + 7, py), (width - right + 2, ly)]), f"leader h{hue}")
        plot.text(width - right + 5, ly + 3.5, label, "label", "start")
    return plot.markup()


def _end_label(series: Mapping[str, Any]) -> str:
    """What tells a line from the others of its panel: the prior, and a temperature held fixed."""
    _, _, fixed = str(series["label"]).partition("=")
    prior = str(series["prior"] or series["model"])
    text = f"{prior}, {series['label'].split(', ')[-1]}" if fixed else prior
    return text if len(text) <= 16 else text[:15] + "…"


def frame(
    plot: Plot,
    x: Scale,
    y: Scale,
    x_marks: Sequence[Number],
    y_marks: Sequence[Number],
    x_title: str,
    y_title: str,
    left: int = LEFT,
    right: int = RIGHT,
) -> None:
    """Grid, labels and title of the y axis, and the x axis where it has marks.

    Args:
        plot: to draw on.
        x: scale across.
        y: scale up.
        x_marks: ticks across; none for an axis that is drawn by itself.
        y_marks: ticks up.
        x_title: below the axis.
        y_title: above the axis.
        left: room for the labels of the y axis.
        right: room on the other side.
    """
    plot.text(left - 30, 9, y_title, "tick", "start")
    for mark in y_marks:
        plot.line(left, y(mark), plot.width - right, y(mark), "grid")
        plot.text(left - 4, y(mark) + 3.5, _short(mark, y_marks), "tick", "end")
    if x_marks:
        floor = plot.height - BOTTOM
        plot.line(left, floor, plot.width - right, floor, "axis")
        _bottom(plot, x, x_marks, floor, x_title)


def _bottom(
    plot: Plot,
    x: Scale,
    marks: Sequence[Number],
    floor: Number,
    title: str,
    texts: Sequence[str] | None = None,
) -> None:
    for k, mark in enumerate(marks):
        place = x(mark)
        plot.line(place, floor, place, floor + 3, "axis")
        anchor = "end" if place > plot.width - RIGHT - 6 else "middle"
        plot.text(place, floor + 14, texts[k] if texts else tick_text(mark, marks), "tick", anchor)
    if title:
        plot.text((x(marks[0]) + x(marks[-1])) / 2, floor + 27, title, "tick")


def _short(value: Number, values: Sequence[Number]) -> str:
    """A tick of at most six characters."""
    text = tick_text(value, values)
    return text if len(text) <= 7 else significant(value, 3)


def _symmetric(reach: Number) -> list[float]:
    """Ticks at zero and at one round value either side."""
    step = next(s for s in (0.5, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01) if s <= reach or s == 0.01)
    return [-step, 0.0, step]
