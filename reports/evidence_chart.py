"""A chart of evidences: dots with errors, bounds with arrows, a mark and a name a kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from bnnzoo.reports.evidence import NOT_EVIDENCE
from bnnzoo.reports.formatting import interval
from bnnzoo.reports.svg import Scale, Strip, axis, linear, marker, ticks

GLYPHS = {
    "exact": 0,
    "unbiased": 1,
    "consistent": 2,
    "approximation": 5,
    "lower-bound": 3,
    "upper-bound": 4,
    "approximation-bound": 6,
}
"""Shape and colour of a kind, the same on every page."""

ARROWS = {
    "lower-bound": "M7 0H24M19.5-3.5L24 0L19.5 3.5",
    "upper-bound": "M-7 0H-24M-19.5-3.5L-24 0L-19.5 3.5",
}
"""A bound points to where the evidence is."""

OFF_SCALE = 8.0
"""Values further behind the highest than this many times the median are drawn at the edge."""


def evidence_chart(panel: Mapping[str, Any]) -> dict[str, Any] | None:
    """One row an evidence, grouped by kind; what is no evidence is left to the tables.

    Args:
        panel: from :func:`bnnzoo.reports.evidence.evidence_panel`.

    Returns:
        ``groups`` (``kind``, ``glyph``, ``rows`` of ``entry``, ``strip``, ``text``), ``axis``,
        ``clipped`` and ``alt``; None where no finite evidence is left.
    """
    groups = [one for one in panel["groups"] if one["kind"] not in NOT_EVIDENCE]
    entries = [e for one in groups for e in one["entries"] if math.isfinite(e["value"])]
    if not entries:
        return None
    lo, hi = _domain(entries)
    x = linear(lo, hi, 3.0, 97.0)
    marks = ticks(lo, hi, 4)
    made = []
    for one in groups:
        glyph = GLYPHS.get(one["kind"], 5)
        rows = [
            {
                "entry": e,
                "strip": _strip(e, glyph, x, marks, lo),
                "text": interval(e["value"], e["se"] or None, one["digits"]),
            }
            for e in one["entries"]
        ]
        made.append({"kind": one["kind"], "meaning": one["meaning"], "glyph": glyph, "rows": rows})
    return {
        "groups": made,
        "axis": axis(x, marks),
        "clipped": any(e["value"] < lo for e in entries),
        "bounds": any(e["kind"] in ARROWS for e in entries),
        "alt": f"{len(entries)} log evidences in nats with bars of one and two standard errors, "
        "grouped by kind; the numbers stand beside it.",
    }


def _domain(entries: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Limits that show most values well, and all of them where none is far off."""
    top = max(e["value"] for e in entries)
    behind = sorted(top - e["value"] for e in entries)
    limit = max(OFF_SCALE * behind[len(behind) // 2], 1.0)
    near = (
        [e for e in entries if top - e["value"] <= limit] if behind[-1] > 1.3 * limit else entries
    )
    lo = min(e["value"] - 2 * (e["se"] or 0.0) for e in near)
    hi = max(e["value"] + 2 * (e["se"] or 0.0) for e in near)
    pad = 0.04 * (hi - lo) or 1.0
    return lo - pad, hi + pad


def _strip(
    entry: Mapping[str, Any], glyph: int, x: Scale, marks: Sequence[float], lo: float
) -> Markup:
    strip = Strip()
    for mark in marks:
        strip.rule(x(mark))
    value, error = entry["value"], entry["se"] or 0.0
    if not math.isfinite(value) or value < lo:
        strip.text(0.5, "◂" if value < lo else "not finite", "arrow", "start")
        return strip.markup()
    if error > 0:
        strip.bar(x(value - 2 * error), x(value + 2 * error), f"whisker thin h{glyph}")
        strip.bar(x(value - error), x(value + error), f"whisker h{glyph}")
    arrow = ARROWS.get(entry["kind"])
    if arrow:
        strip.at(x(value), Markup('<path class="reach h{}" d="{}"/>').format(glyph, arrow))
    strip.at(x(value), marker(glyph, 0))
    return strip.markup()
