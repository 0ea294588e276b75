"""Small SVG drawings that take the page's colours: scales, ticks, markers and a plotting frame.

Colours are CSS classes, so that one drawing serves the light theme, the dark one and paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from bnnzoo.reports.formatting import Number

MARKERS = (
    "M-4.4 0a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0-8.8 0Z",  # circle
    "M-3.9-3.9H3.9V3.9H-3.9Z",  # square
    "M0-5L4.7 3.6H-4.7Z",  # triangle
    "M0-5.4L5.4 0L0 5.4L-5.4 0Z",  # diamond
    "M0 5L4.7-3.6H-4.7Z",  # triangle, point down
    "M-2.6-4.4H2.6L5.1 0L2.6 4.4H-2.6L-5.1 0Z",  # hexagon
)
FILLS = ("solid", "hollow", "ringed")

Scale = Callable[[Number], float]


def linear(lo: Number, hi: Number, a: Number, b: Number) -> Scale:
    """A map of ``[lo, hi]`` onto ``[a, b]``, kept within it."""
    span = (hi - lo) or 1.0

    def scale(value: Number) -> float:
        return a + (b - a) * min(max((value - lo) / span, 0.0), 1.0)

    return scale


def logarithmic(lo: Number, hi: Number, a: Number, b: Number) -> Scale:
    """The same on the logarithm of positive values."""
    inner = linear(math.log(lo), math.log(hi), a, b)
    return lambda value: inner(math.log(max(value, lo)))


def ticks(lo: Number, hi: Number, count: int = 5) -> list[float]:
    """Round numbers within ``[lo, hi]``, about ``count`` of them."""
    if not (math.isfinite(lo) and math.isfinite(hi)) or hi <= lo:
        return [lo]
    raw = (hi - lo) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(lo / step - 1e-9)
    values = [k * step for k in range(first, math.floor(hi / step + 1e-9) + 1)]
    return [0.0 if abs(v) < step / 1e6 else round(v, 12) for v in values]


def tick_text(value: Number, values: Sequence[Number]) -> str:
    """A tick's text with the digits that tell the ticks apart, and a true minus sign."""
    digits = 0
    while digits < 9 and any(abs(round(v, digits) - v) > 1e-9 * (1 + abs(v)) for v in values):
        digits += 1
    return f"{value:,.{digits}f}".replace("-", "−")


def marker(hue: int, fill: int) -> Markup:
    """A run's marker about the origin."""
    shape = MARKERS[hue % len(MARKERS)]
    inner = Markup('<circle class="pip" r="1.6"/>') if fill == 2 else Markup("")
    return Markup('<path class="mark h{} {}" d="{}"/>{}').format(
        hue % len(MARKERS), FILLS[fill % len(FILLS)], Markup(shape), inner
    )


def key(hue: int, fill: int) -> Markup:
    """A run's marker as a small picture to stand beside its name."""
    return Markup('<svg class="key" viewBox="-7 -7 14 14" aria-hidden="true">{}</svg>').format(
        marker(hue, fill)
    )


def spread(wanted: Sequence[Number], gap: Number, lo: Number, hi: Number) -> list[float]:
    """Positions at least ``gap`` apart, near those wanted, within ``[lo, hi]`` if they fit."""
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    placed = [wanted[k] for k in order]
    for _ in range(200):
        moved = False
        for a in range(len(placed) - 1):
            lack = gap - (placed[a + 1] - placed[a])
            if lack > 1e-6:
                placed[a] -= lack / 2
                placed[a + 1] += lack / 2
                moved = True
        if placed:
            shift = max(lo - placed[0], 0.0) or min(hi - placed[-1], 0.0)
            placed = [p + shift for p in placed]
        if not moved:
            break
    back = [0.0] * len(wanted)
    for position, k in zip(placed, order, strict=True):
        back[k] = position
    return back


def path(points: Sequence[tuple[Number, Number]]) -> str:
    """SVG path data through points, to a tenth of a pixel."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def steps(points: Sequence[tuple[Number, Number]]) -> str:
    """Path data of a staircase that changes at each point."""
    made = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    made += [f"H{x:.1f}V{y:.1f}" for x, y in points[1:]]
    return "".join(made)


class Plot:
    """A plotting frame: add marks in pixels, then take ``markup``."""

    def __init__(self, width: int, height: int, alt: str) -> None:
        self.width, self.height, self.alt = width, height, alt
        self.parts: list[Markup] = []

    def line(self, x1: Number, y1: Number, x2: Number, y2: Number, cls: str) -> None:
        self.parts.append(
            Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
                cls, x1, y1, x2, y2
            )
        )

    def path(self, data: str, cls: str) -> None:
        self.parts.append(Markup('<path class="{}" d="{}"/>').format(cls, data))

    def rect(self, x: Number, y: Number, width: Number, height: Number, cls: str) -> None:
        self.parts.append(
            Markup(
                '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
            ).format(cls, x, y, width, height)
        )

    def dot(self, x: Number, y: Number, r: Number, cls: str) -> None:
        self.parts.append(
            Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(cls, x, y, r)
        )

    def text(
        self, x: Number, y: Number, text: str, cls: str = "tick", anchor: str = "middle"
    ) -> None:
        self.parts.append(
            Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
                cls, x, y, anchor, text
            )
        )

    def at(self, x: Number, y: Number, what: Markup) -> None:
        self.parts.append(
            Markup('<g transform="translate({:.1f} {:.1f})">{}</g>').format(x, y, what)
        )

    def markup(self) -> Markup:
        """The drawing, with its alternative text."""
        return Markup(
            '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        ).format(self.width, self.height, self.alt, Markup("").join(self.parts))


class Strip:
    """One row of a chart that is as wide as its place: x in per cent, nothing is stretched."""

    def __init__(self, height: int = 26) -> None:
        self.height = height
        self.parts: list[Markup] = []

    def rule(self, x: Number, cls: str = "grid") -> None:
        """A vertical line over the whole height, so that rows join into a grid."""
        self.parts.append(
            Markup('<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="0" y2="100%"/>').format(
                cls, x, x
            )
        )

    def bar(self, x1: Number, x2: Number, cls: str) -> None:
        self.parts.append(
            Markup('<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="50%" y2="50%"/>').format(
                cls, x1, x2
            )
        )

    def dot(self, x: Number, r: Number, cls: str) -> None:
        self.parts.append(
            Markup('<circle class="{}" cx="{:.2f}%" cy="50%" r="{}"/>').format(cls, x, r)
        )

    def at(self, x: Number, what: Markup) -> None:
        self.parts.append(Markup('<svg x="{:.2f}%" y="50%" class="over">{}</svg>').format(x, what))

    def text(self, x: Number, text: str, cls: str = "tick", anchor: str = "middle") -> None:
        self.parts.append(
            Markup(
                '<text class="{}" x="{:.2f}%" y="50%" dy=".35em" text-anchor="{}">{}</text>'
            ).format(cls, x, anchor, escape(text))
        )

    def markup(self) -> Markup:
        return Markup('<svg class="strip" height="{}" aria-hidden="true">{}</svg>').format(
            self.height, Markup("").join(self.parts)
        )


def axis(x: Scale, marks: Sequence[Number], texts: Sequence[str] | None = None) -> Markup:
    """The tick labels of a chart as a row of their own."""
    strip = Strip(height=18)
    for k, mark in enumerate(marks):
        place = x(mark)
        anchor = "start" if place < 6 else "end" if place > 94 else "middle"
        strip.text(place, texts[k] if texts else tick_text(mark, marks), "tick", anchor)
    return strip.markup()
