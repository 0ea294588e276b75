"""What each figure of a page draws, as rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bnnzoo.reports.evidence import NOT_EVIDENCE
from bnnzoo.reports.tables import csv_address

Rows = Iterator[Sequence[Any]]
Row = Mapping[str, Any]

RUN = ("run", "label")
"""The forest's table names the runs; the longer ones have their numbers alone."""


def figure_addresses(block: Mapping[str, Any], drawn: Sequence[Row]) -> dict[str, str]:
    """Addresses of the data of every figure on a data set, by the figure's name.

    Args:
        block: its part of the report.
        drawn: the runs that have small plots of their own.
    """
    made = {}
    for name, (heads, rows) in _TABLES.items():
        given = drawn if name in ("calibration", "selective", "foreign", "trace") else block["runs"]
        of = {"pictures": "picture", "foreign": "foreign"}.get(name)
        if of is None or any(row[of] for row in block["runs"]):
            made[name] = csv_address(heads, rows(block, given))
    for panel in block["temperature"]:
        made[panel["axis"]] = csv_address(_TEMPERATURE, _temperature(panel))
    return made


def _forest(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for row in runs:
        gap = row["versus_best"]
        yield (row["number"], row["label"], gap["difference"], gap["se"])


def _evidence(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for group in block["evidence"]["groups"] if block["evidence"] else ():
        for e in group["entries"] if group["kind"] not in NOT_EVIDENCE else ():
            yield (e["number"], e["name"], e["method"], e["kind"], e["value"], e["se"])


def _convergence(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for row in runs:
        function, total = row["convergence"]["function"], row["convergence"]["log_likelihood"]
        who = (row["number"],)
        for k, (rhat, ess) in enumerate(zip(function["rhat"], function["ess"], strict=True)):
            yield (*who, f"function at point {k}", rhat, ess)
        yield (*who, "log-likelihood", total["rhat"], total["ess"])


def _calibration(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for row in runs:
        c = row["calibration"]
        for plot, part, names in _CALIBRATION[c["kind"]] if c else ():
            values = c[part] if part else c
            for cells in zip(*(values[n] for n in names), strict=True):
                yield (row["number"], plot, *cells, *[None] * (5 - len(cells)))


_RELIABILITY = ("stated", "observed", "low", "high", "count")
_CALIBRATION: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "pit": (
        ("pit", "", ("at", "excess", "low", "high")),
        ("coverage", "", ("levels", "coverage", "coverage_low", "coverage_high")),
    ),
    "reliability": (
        ("predicted class", "top", _RELIABILITY),
        ("all classes", "all", _RELIABILITY),
    ),
}
"""Plots of a kind of calibration: name, part of it, and columns."""


def _selective(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for row in runs:
        s = row["selective"]
        for cells in zip(s["share"], s["risk"], s["ideal"], strict=True) if s else ():
            yield (row["number"], *cells)


def _foreign(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for row in runs:
        f = row["foreign"]
        for cells in zip(f["false_alarms"], f["found"], strict=True) if f else ():
            yield (row["number"], *cells)


def _pictures(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for row in runs:
        p, who = row["picture"], (row["number"], row["label"])
        if p and p["kind"] == "line":
            for x, mean, *bands in zip(p["x"], p["mean"], *p["quantiles"], strict=True):
                yield (*who, x, None, mean, *bands, None, None)
        elif p and p["kind"] == "surface":
            for j, x1 in enumerate(p["x1"]):
                cells = zip(p["x0"], p["winner"][j], p["certainty"][j], strict=True)
                for x0, winner, certainty in cells:
                    yield (*who, x0, x1, *[None] * 5, winner, certainty)
        elif p:
            for image in (*p["most"], *p["least"]):
                names = (image["predicted"], image["certainty"])
                yield (*who, image["row"], *[None] * 6, *names)


def _trace(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for row in runs:
        elbo = row["convergence"]["elbo"]
        for restart, trace in enumerate(elbo["trace"] if elbo else ()):
            for step, value in zip(elbo["at"], trace, strict=True):
                yield (row["number"], restart, step, value)


_TEMPERATURE = (
    *RUN,
    *("temperature", "log_density", "se", "difference", "difference_se", "chain_error"),
)


def _temperature(panel: Mapping[str, Any]) -> Rows:
    names = ("temperature", "log_density", "se", "difference", "difference_se", "chain_error")
    for series in panel["series"]:
        for point in series["points"]:
            yield (point["run"], series["label"], *(point[n] for n in names))


_TABLES: dict[str, tuple[Sequence[str], Callable[[Mapping[str, Any], Sequence[Row]], Rows]]] = {
    "forest": ((*RUN, "difference", "se"), _forest),
    "evidence": (("evidence", "model", "method", "kind", "log_evidence", "se"), _evidence),
    "convergence": (("run", "of", "rhat", "ess"), _convergence),
    "calibration": (("run", "plot", "across", "up", "low", "high", "count"), _calibration),
    "selective": (("run", "share", "risk", "ideal"), _selective),
    "foreign": (("run", "false_alarms", "found"), _foreign),
    "pictures": (
        ("run", "x0", "x1", "mean", "q05", "q25", "q75", "q95", "class", "probability"),
        _pictures,
    ),
    "trace": (("run", "restart", "step", "elbo"), _trace),
}
