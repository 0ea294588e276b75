"""Charts of a study's page: lines with intervals, in the page's colours, and their data as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bnnzoo.errors import InputError
from bnnzoo.reports.svg import Plot, Scale, linear, logarithmic, marker, path, tick_text, ticks

__all__ = ["Chart", "Series", "draw", "standalone", "to_csv"]

WIDTH, HEIGHT = 440, 290
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44

STANDALONE = """
svg{background:#fff;font-family:sans-serif;--bg:#fff;--ink:#1a1c20;--muted:#5c616b;--rule:#dededa;
--h0:#0a66a8;--h1:#bf4f00;--h2:#00785a;--h3:#9a4a86;--h4:#866400;--h5:#4b5563}
@media(prefers-color-scheme:dark){svg{background:#14161a;--bg:#14161a;--ink:#e7e8ea;
--muted:#a3a9b3;--rule:#343941;--h0:#62b3f2;--h1:#f78f4b;--h2:#3cc49b;--h3:#dd94c8;--h4:#d9b648;
--h5:#b3bac4}}
.h0{--c:var(--h0)}.h1{--c:var(--h1)}.h2{--c:var(--h2)}.h3{--c:var(--h3)}.h4{--c:var(--h4)}
.h5{--c:var(--h5)}.grid{stroke:var(--rule)}.axis{stroke:var(--muted)}
.zero{stroke:var(--muted);stroke-width:1.2}.link{fill:none;stroke:var(--c);stroke-width:1.6}
.whisker{stroke:var(--c);stroke-width:1.5}.mark{fill:var(--c);stroke:var(--c);stroke-width:1.7}
.mark.hollow,.mark.ringed{fill:var(--bg)}text{font-size:11px;fill:var(--muted)}
text.label{fill:var(--ink);font-size:11.5px}
"""
"""Style of a chart that stands alone in a file."""


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        label: in the legend.
        x: where its points are, increasing.
        y: their values; NaN leaves one out.
        low: of their intervals, or None.
        high: of their intervals, or None.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.y, self.low, self.high) if v is not None]
        if any(len(v) != len(self.x) for v in given) or (self.low is None) != (self.high is None):
            raise InputError(f"series {self.label!r}: x, y, low and high differ in length")


@dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Attributes:
        name: of its files.
        title: what it shows.
        caption: what to look for, and what the intervals cover.
        x: what the horizontal axis is, with unit.
        y: what the vertical axis is, with unit.
        series: at most six lines can be told apart.
        log_x: whether x is on a logarithmic scale.
        zero: draw the line y = 0.
    """

    name: str
    title: str
    caption: str
    x: str
    y: str
    series: Sequence[Series]
    log_x: bool = False
    zero: bool = False


def draw(chart: Chart) -> Markup:
    """The drawing, for a page."""
    plot = Plot(WIDTH, HEIGHT, f"{chart.title}: {chart.y} against {chart.x}.")
    xs = [v for s in chart.series for v in s.x]
    ys = [
        v
        for s in chart.series
        for part in (s.y, s.low or (), s.high or ())
        for v in part
        if math.isfinite(v)
    ]
    if not xs or not ys:
        plot.text(WIDTH / 2, HEIGHT / 2, "nothing to show yet")
        return plot.markup()
    if chart.zero:
        ys.append(0.0)
    slack = 0.06 * ((max(ys) - min(ys)) or 1.0)
    lo, hi = min(ys) - slack, max(ys) + slack
    y = linear(lo, hi, HEIGHT - BOTTOM, TOP)
    x = _horizontal(chart, min(xs), max(xs))
    marks = ticks(lo, hi, 5)
    for value in marks:
        plot.line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid")
        plot.text(LEFT - 6, y(value) + 3.5, tick_text(value, marks), "tick", "end")
    if chart.zero and lo < 0 < hi:
        plot.line(LEFT, y(0), WIDTH - RIGHT, y(0), "zero")
    floor = HEIGHT - BOTTOM
    plot.line(LEFT, floor, WIDTH - RIGHT, floor, "axis")
    for value in _x_ticks(chart, xs):
        plot.line(x(value), floor, x(value), floor + 4, "axis")
        plot.text(x(value), floor + 16, f"{value:g}".replace("-", "−"))
    plot.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, chart.x, "label")
    for k, series in enumerate(chart.series):
        _line(plot, series, k, x, y)
    return plot.markup()


def _line(plot: Plot, series: Series, k: int, x: Scale, y: Scale) -> None:
    group = Plot(0, 0, "")
    shown = [i for i, v in enumerate(series.y) if math.isfinite(v)]
    if series.low is not None and series.high is not None:
        for i in shown:
            if math.isfinite(series.low[i]) and math.isfinite(series.high[i]):
                at = x(series.x[i])
                group.line(at, y(series.low[i]), at, y(series.high[i]), "whisker")
    if len(shown) > 1:
        group.path(path([(x(series.x[i]), y(series.y[i])) for i in shown]), "link")
    for i in shown:
        group.at(x(series.x[i]), y(series.y[i]), marker(k, k // 6))
    inner = Markup("").join(group.parts)
    plot.parts.append(Markup('<g class="h{}">{}</g>').format(k % 6, inner))


def _horizontal(chart: Chart, lo: float, hi: float) -> Scale:
    left, right = LEFT + 10, WIDTH - RIGHT - 10
    if not chart.log_x:
        return linear(lo, hi, left, right) if hi > lo else linear(lo - 1, hi + 1, left, right)
    if lo <= 0:
        raise InputError(f"chart {chart.name}: x on a logarithmic scale must be positive")
    return logarithmic(lo, hi if hi > lo else 2 * lo, left, right)


def _x_ticks(chart: Chart, xs: Sequence[float]) -> list[float]:
    """The points themselves where they are few, round numbers elsewhere."""
    own = sorted(set(xs))
    if len(own) <= 8:
        return own
    if not chart.log_x:
        return ticks(own[0], own[-1], 6)
    powers = range(math.ceil(math.log10(own[0]) - 1e-9), math.floor(math.log10(own[-1]) + 1e-9) + 1)
    return [10.0**k for k in powers]


def standalone(chart: Chart) -> str:
    """The drawing as a file of its own, legend included, for both themes."""
    drawn = str(draw(chart))
    rows = []
    for k, series in enumerate(chart.series):
        at = Plot(0, 0, "")
        at.at(LEFT, HEIGHT + 10 + 17 * k, marker(k, k // 6))
        at.text(LEFT + 12, HEIGHT + 14 + 17 * k, series.label, "label", "start")
        rows.append(Markup("").join(at.parts))
    tall = HEIGHT + 17 * len(chart.series) + 8
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}"'
    if not drawn.startswith(head):
        raise AssertionError("the drawing's head has changed")
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {tall}"' + drawn[
        len(head) :
    ].replace(">", f"><style>{STANDALONE}</style>", 1)
    return drawn[: -len("</svg>")] + str(Markup("").join(rows)) + "</svg>\n"


def to_csv(chart: Chart) -> str:
    """The points behind the drawing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["series", chart.x, chart.y, "low", "high"])
    for series in chart.series:
        for i, (a, b) in enumerate(zip(series.x, series.y, strict=True)):
            low = "" if series.low is None else series.low[i]
            high = "" if series.high is None else series.high[i]
            writer.writerow([series.label, a, b, low, high])
    return out.getvalue()
