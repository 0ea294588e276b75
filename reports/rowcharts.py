"""Charts with one row a run: the difference to the best run, and convergence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from bnnzoo.reports.diagnostics import ESS_LOW, RHAT_BAD, RHAT_GOOD
from bnnzoo.reports.formatting import NOTHING, Number, interval
from bnnzoo.reports.svg import Scale, Strip, axis, linear, logarithmic, marker, ticks

Row = Mapping[str, Any]

OFF_SCALE = 6.0
"""Differences beyond this many times the median one are drawn as arrows at the edge."""


def forest(rows: Sequence[Row], digits: int) -> dict[str, Any] | None:
    """Difference of every run to the best with 1 and 2 standard errors, best first.

    Args:
        rows: facts of the runs with ``versus_best``.
        digits: after the point.

    Returns:
        ``rows`` (``run``, ``strip``, ``text``), ``axis`` and ``alt``, or None where fewer than
        two runs have scores.
    """
    compared = [r for r in rows if math.isfinite(r["versus_best"]["difference"])]
    if len(compared) < 2:
        return None
    lo, hi = _forest_domain(compared)
    x = linear(lo, hi, 1.0, 99.0)
    marks = ticks(lo, hi, 4)
    made = []
    for row in rows:
        difference, error = row["versus_best"]["difference"], row["versus_best"]["se"]
        strip = Strip()
        _grid(strip, x, marks)
        strip.rule(x(0.0), "zero")
        if math.isnan(difference):
            text = "no score"
        else:
            text = "best" if row is rows[0] else interval(difference, error, digits, signed=True)
            _forest_mark(strip, x, row, difference, error, lo)
        made.append({"run": row, "strip": strip.markup(), "text": text})
    return {
        "rows": made,
        "axis": axis(x, marks),
        "clipped": any(r["versus_best"]["difference"] < lo for r in rows),
        "alt": f"Difference in mean log density to run {rows[0]['number']} for {len(rows)} runs, "
        "with bars of one and two standard errors; the numbers stand beside it.",
    }


def _forest_domain(rows: Sequence[Row]) -> tuple[float, float]:
    """Limits that show most runs well, and all of them where none is far off."""
    pairs = [(r["versus_best"]["difference"], _known(r["versus_best"]["se"])) for r in rows[1:]]
    sizes = sorted(abs(d) for d, _ in pairs)
    limit = -max(OFF_SCALE * sizes[len(sizes) // 2], 4 * max(e for _, e in pairs[:1]))
    if min(d for d, _ in pairs) < 1.3 * limit:
        pairs = [(d, e) for d, e in pairs if d >= limit]
        lo = limit
    else:
        lo = min(d - 2 * e for d, e in pairs)
    hi = max([0.0, *(d + 2 * e for d, e in pairs)])
    pad = 0.03 * (hi - lo) or 0.01
    return lo - pad, hi + pad


def _forest_mark(
    strip: Strip, x: Scale, row: Row, difference: Number, error: Number, lo: Number
) -> None:
    if difference < lo:
        strip.text(0.5, "◂", "arrow", "start")
        return
    error = _known(error)
    if error > 0:
        strip.bar(x(difference - 2 * error), x(difference + 2 * error), "whisker thin")
        strip.bar(x(difference - error), x(difference + error), "whisker")
    strip.at(x(difference), marker(row["glyph"]["hue"], row["glyph"]["fill"]))


def convergence(rows: Sequence[Row]) -> dict[str, Any]:
    """R-hat and effective draws of function values and of the log-likelihood, a row a run."""
    known = [v for r in rows for v in _values(r, "rhat")]
    top = max([0.1, *(v - 1 for v in known if math.isfinite(v))])
    top = 10.0 ** math.ceil(math.log10(top) - 1e-9) if top < 1 else max(top, 1.0)
    x = _shifted(logarithmic(1e-3, top, 1.0, 99.0))
    rhat_ticks = [v for v in (1.001, 1.01, 1.1, 2.0, 11.0) if v - 1 <= top * 1.001]
    sizes = [v for r in rows for v in _values(r, "ess") if v > 0]
    low = 10.0 ** math.floor(math.log10(min([ESS_LOW / 4, *sizes])))
    high = max([ESS_LOW * 10.0, *sizes]) * 1.05
    e = logarithmic(low, high, 1.0, 99.0)
    ess_ticks = [10.0**k for k in range(0, 8) if low * 0.999 <= 10.0**k <= high]
    made = [
        {
            "run": row,
            "rhat": _convergence_strip(row, "rhat", x, rhat_ticks, (RHAT_GOOD, RHAT_BAD)),
            "ess": _convergence_strip(row, "ess", e, ess_ticks, (ESS_LOW,)),
        }
        for row in rows
    ]
    return {
        "rows": made,
        "rhat_axis": axis(x, rhat_ticks, [f"{v:g}" for v in rhat_ticks]),
        "ess_axis": axis(e, ess_ticks, [f"{v:,.0f}" for v in ess_ticks]),
        "alt": f"R-hat and effective draws of function values for {len(rows)} runs, with the "
        f"levels {RHAT_GOOD}, {RHAT_BAD} and {ESS_LOW}; the table that follows has the numbers.",
    }


def _convergence_strip(
    row: Row, what: str, x: Scale, marks: Sequence[Number], limits: Sequence[Number]
) -> Markup:
    strip = Strip()
    _grid(strip, x, marks)
    for k, limit in enumerate(limits):
        strip.rule(x(limit), "limit" if k == len(limits) - 1 else "limit faint")
    points = [v for v in row["convergence"]["function"][what] if not math.isnan(v)]
    bad = row["convergence"]["converged"] is False if what == "rhat" else False
    for value in points:
        low = what == "ess" and value < ESS_LOW
        strip.dot(x(value), 2.7, "point warn" if bad or low else "point")
    total = row["convergence"]["log_likelihood"][what]
    if total is not None and not math.isnan(total):
        strip.at(x(total), Markup('<path class="whole" d="M0-6L4.4 0L0 6L-4.4 0Z"/>'))
    if not points:
        one = row["convergence"]["chains"] == 1 and what == "rhat"
        strip.text(2.0, "one chain: not defined" if one else NOTHING, "tick", "start")
    return strip.markup()


def _shifted(scale: Scale) -> Scale:
    """A scale of R-hat - 1, so that 1.001, 1.01 and 1.1 are equally far apart."""
    return lambda value: scale(value - 1 if math.isfinite(value) else 1e9)


def _values(row: Row, what: str) -> list[float]:
    values = [*row["convergence"]["function"][what], row["convergence"]["log_likelihood"][what]]
    return [v for v in values if v is not None and math.isfinite(v)]


def _grid(strip: Strip, x: Scale, marks: Sequence[Number]) -> None:
    for mark in marks:
        strip.rule(x(mark))


def _known(error: Number | None) -> float:
    return 0.0 if error is None or not math.isfinite(error) else error
