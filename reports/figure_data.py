"""What each figure of a page draws, as rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bnnzoo.reports.evidence import NOT_EVIDENCE
from bnnzoo.reports.tables import csv_address

Rows = Iterator[Sequence[Any]]
Row = Mapping[str, Any]

RUN = ("run", "label")


def figure_addresses(block: Mapping[str, Any], drawn: Sequence[Row]) -> dict[str, str]:
    """Addresses of the data of every figure on a data set, by the figure's name.

    Args:
        block: its part of the report.
        drawn: the runs that have small plots of their own.
    """
    made = {}
    for name, (heads, rows) in _TABLES.items():
        given = drawn if name in ("calibration", "trace") else block["runs"]
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
        who = (row["number"], row["label"])
        for k, (rhat, ess) in enumerate(zip(function["rhat"], function["ess"], strict=True)):
            yield (*who, f"function at point {k}", rhat, ess)
        yield (*who, "log-likelihood", total["rhat"], total["ess"])


def _calibration(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for row in runs:
        c, who = row["calibration"], (row["number"], row["label"])
        plots: dict[str, tuple[str, ...]] = {}
        if not c:
            continue
        if c["kind"] == "pit":
            plots = {
                "pit": ("at", "excess", "low", "high"),
                "coverage": ("levels", "coverage", "coverage_low", "coverage_high"),
            }
        else:
            plots = {"reliability": ("confidence", "accuracy", "low", "high", "count")}
        for plot, names in plots.items():
            for values in zip(*(c[n] for n in names), strict=True):
                yield (*who, plot, *values, *[None] * (5 - len(values)))


def _trace(block: Mapping[str, Any], runs: Sequence[Row]) -> Rows:
    for row in runs:
        elbo = row["convergence"]["elbo"]
        for restart, trace in enumerate(elbo["trace"] if elbo else ()):
            for step, value in zip(elbo["at"], trace, strict=True):
                yield (row["number"], row["label"], restart, step, value)


_TEMPERATURE = (*RUN, "temperature", "log_density", "se", "difference", "difference_se")


def _temperature(panel: Mapping[str, Any]) -> Rows:
    names = ("temperature", "log_density", "se", "difference", "difference_se")
    for series in panel["series"]:
        for point in series["points"]:
            yield (point["run"], series["label"], *(point[n] for n in names))


_TABLES: dict[str, tuple[Sequence[str], Callable[[Mapping[str, Any], Sequence[Row]], Rows]]] = {
    "forest": ((*RUN, "difference", "se"), _forest),
    "evidence": (("evidence", "model", "method", "kind", "log_evidence", "se"), _evidence),
    "convergence": ((*RUN, "of", "rhat", "ess"), _convergence),
    "calibration": ((*RUN, "plot", "across", "up", "low", "high", "count"), _calibration),
    "trace": ((*RUN, "restart", "step", "elbo"), _trace),
}
