"""Figures and tables of the study ``functional-prior``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnnzoo.reports.study import Results, Table
from bnnzoo.reports.study_charts import Chart, Series

EDGE = 6.0
"""Inputs of the line lie between -6 and 6."""

PLACES = np.linspace(-EDGE, EDGE, 16)
"""Where functions of priors are compared."""

SHOWN = np.linspace(-EDGE, EDGE, 100)
"""New points of the line, where posteriors are compared."""

PRIORS = {
    "fixed": "fixed N(0, 1)",
    "moments": "matched by moments (GPi-G)",
    "gpi-g": "GPi-G",
    "gpi-h": "GPi-H",
    "gpi-nf": "GPi-NF",
}
"""Of the line; those but the first two are matched by the Wasserstein distance."""

KINDS = {
    "fixed": "fixed N(0, 1)",
    "matched": "GPi-G",
    "cold": "fixed N(0, 1), T = 0.1",
    "ensemble": "ensemble of ten modes",
}
"""What tables are fitted with."""

PUBLISHED = {"fixed": (3.132, 2.567), "matched": (2.797, 2.470)}
"""RMSE and NLL on Boston, means over ten splits (figures of the study's notebook)."""

LINE_KEYS = ("off", "distance", "apart", "density", "rhat")
TABLE_KEYS = ("rmse", "nll", "nll_mixture", "off", "rhat")


def charts(results: Results, process: Sequence[float]) -> list[Chart]:
    """Covariances of priors, and posteriors of the first data set.

    Args:
        results: of the study.
        process: covariance of the process at the distances of :data:`PLACES` from its first.
    """
    line = [r for r in results if r["part"] == "line"]
    lags = PLACES - PLACES[0]
    kept = [p for p in PRIORS if p != "moments" and any(r["prior"] == p for r in line)]
    if not kept:
        return []
    series = [Series("the process", list(lags), list(process))]
    for prior in kept:
        own = np.array([r["covariance"] for r in line if r["prior"] == prior])
        series.append(Series(PRIORS[prior], list(lags), [float(v) for v in own.mean(0)]))
    made = [
        Chart(
            "covariance",
            "Covariance of function values by distance",
            "The matched priors should follow the process's line. Means over pairs of points "
            "so far apart, 4,000 functions and all data sets.",
            "distance of two inputs",
            "covariance",
            series,
            zero=True,
        )
    ]
    first = [r for r in line if r.get("seed") == 0 and "mean" in r]
    if first:
        chosen = slice(None, None, 4)
        bands = [("the process's own", first[0]["exact_mean"], first[0]["exact_std"])]
        bands += [(PRIORS[r["prior"]], r["mean"], r["std"]) for r in first]
        made.append(
            Chart(
                "posterior",
                "Posteriors of the first data set",
                "Predictive mean with two standard deviations, noise included, at every fourth "
                "of the new points. Where rows are far the process's bars open; a posterior "
                "under a good prior does as it does.",
                "x",
                "y",
                [
                    Series(
                        label,
                        [float(v) for v in SHOWN[chosen]],
                        mean[chosen],
                        [m - 2 * s for m, s in zip(mean[chosen], std[chosen], strict=True)],
                        [m + 2 * s for m, s in zip(mean[chosen], std[chosen], strict=True)],
                    )
                    for label, mean, std in bands
                ],
            )
        )
    return made


def tables(results: Results, names: Sequence[str]) -> list[Table]:
    """Priors of the line, then every table beside its published figures.

    Args:
        results: of the study.
        names: of the tables.
    """
    done = list(results)
    rows: list[tuple[object, ...]] = []
    for prior, name in PRIORS.items():
        own = [r for r in done if r["part"] == "line" and r["prior"] == prior]
        if own:
            rows.append((name, len(own), *(_mean(own, key) for key in LINE_KEYS)))
    floor = [r["floor"] for r in done if r["part"] == "line"]
    nearest = f"{np.mean(floor):.2f}" if floor else "what chance leaves"
    made = [
        Table(
            "The line",
            ("prior", "sets", "off-ness of the covariance", "distance to the process",
             "posterior's distance", "log density", "worst R-hat"),
            rows,
            f"Two sets of functions of the process itself are {nearest} apart, as far as any "
            "prior can come; the off-ness of its own draws is about 0.07. Log densities in "
            "nats a new point.",
        )
    ]  # fmt: skip
    for table in names:
        rows = []
        for kind, name in KINDS.items():
            own = [r for r in done if r.get("table") == table and r["kind"] == kind]
            if own:
                published = PUBLISHED.get(kind, (None, None)) if table == "uci/boston" else ()
                rows.append((name, len(own), *(_mean(own, k) for k in TABLE_KEYS), *published))
        beside = ("published RMSE", "published NLL") if table == "uci/boston" else ()
        made.append(
            Table(
                f"Table {table}",
                ("fitted with", "splits", "RMSE", "NLL", "NLL of the mixture", "off-ness",
                 "worst R-hat", *beside),
                rows,
                "In original units. NLL is that of a normal of the predictive mean and "
                "variance, as published; off-ness is of the prior's covariance.",
            )
        )  # fmt: skip
    return made


def _mean(cells: list[dict[str, Any]], key: str) -> float | None:
    found = [r[key] for r in cells if r.get(key) is not None]
    return float(np.mean(found)) if found else None
