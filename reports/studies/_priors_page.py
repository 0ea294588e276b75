"""Figures and tables of the study ``priors-revisited``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bnnzoo.reports.studies._digits import gain, interval, mean_gain
from bnnzoo.reports.study import Results, Table
from bnnzoo.reports.study_charts import Chart, Series

NETWORKS = {"mlp": "dense", "cnn": "convolutional", "cnn-shuffled": "convolutional, shuffled"}

COLD = 0.1
"""The temperature that is compared with 1."""

NAMES = {
    "gaussian": "Gaussian",
    "laplace-variance": "Laplace, the Gaussian's variance",
    "student-t-variance": "Student-t(3), the Gaussian's variance",
    "laplace-scale": "Laplace, the Gaussian's number as scale",
    "student-t-scale": "Student-t(3), the Gaussian's number as scale",
    "gaussian-x2": "Gaussian of twice the variance",
    "gaussian-x3": "Gaussian of three times the variance",
}

PUBLISHED = {
    "layers.0.kernel": "2.17",
    "layers.1.kernel": "6.29",
    "layers.2.kernel": "11.8",
    "dense.0.kernel": "1.43",
}
"""Tail indices of networks trained on MNIST by Fortuin et al., from the figures of their code."""


def charts(results: Results) -> list[Chart]:
    """Log-likelihood of dense priors by variance, and correlation of filters by distance."""
    done = list(results)
    made = []
    families = {"Gaussian": ("gaussian", "gaussian-x2", "gaussian-x3"),
                "Laplace": ("laplace-variance", "laplace-scale"),
                "Student-t(3)": ("student-t-variance", "student-t-scale")}  # fmt: skip
    variances = {"Gaussian": (1, 2, 3), "Laplace": (1, 2), "Student-t(3)": (1, 3)}
    base = [r for r in done if _is(r, "mlp", "gaussian")]
    lines = []
    for label, priors in families.items():
        cells = [[r for r in done if _is(r, "mlp", p)] for p in priors]
        kept = [(v, _over(c, base)) for v, c in zip(variances[label], cells, strict=True) if c]
        if not kept:
            continue
        columns = [list(c) for c in zip(*(g for _, g in kept), strict=True)]
        lines.append(Series(label, [float(v) for v, _ in kept], *columns))
    if lines:
        made.append(
            Chart(
                "tails",
                "Shape and width of a dense network's prior, T = 1",
                "One vertical compares shapes of one variance. Published comparisons set the "
                "first Gaussian beside the last point of each other family. 95 % intervals over "
                "training sets and test rows.",
                "variance of a weight over that of the first Gaussian",
                "gain in test log-likelihood over the first Gaussian, nats a row",
                lines,
                zero=True,
            )
        )
    filters = [r["filters"] for r in done if r.get("filters")]
    if filters:
        lines = []
        for path, f in filters[0].items():
            for when, key in (("trained", "correlation"), ("as they began", "initial")):
                lines.append(
                    Series(f"{path}, {when}", [round(v, 2) for v in f["distance"]], f[key])
                )
        made.append(
            Chart(
                "filters",
                "How alike the weights of a filter are",
                "Correlation of two positions of a 3 x 3 filter by their distance, over all "
                "filters of all networks; where they began independent it is 0 but for chance.",
                "distance, pixels",
                "correlation",
                lines,
                zero=True,
            )
        )
    return made


def tables(results: Results) -> list[Table]:
    """Tails of every kernel, the effect of cold by prior, and every cell."""
    done = list(results)
    tails = [
        (
            path,
            f"{one['df'][0]:.3g} [{one['df'][1]:.3g}, {one['df'][2]:.3g}]",
            f"{one['initial_df']:.3g}",
            one["family"],
            PUBLISHED.get(path),
        )
        for r in done
        for path, one in r.get("kernels", {}).items()
    ]
    cold = []
    for network in ("mlp", "cnn"):
        for prior in dict.fromkeys(r["prior"] for r in done if r["part"] == network):
            warm = [r for r in done if _is(r, network, prior)]
            others = ([r for r in done if _is(r, network, prior, T=COLD)],
                      [r for r in done if _is(r, network, prior, L=COLD)])  # fmt: skip
            gains = [mean_gain(c, warm) if len(c) == len(warm) > 0 else None for c in others]
            if warm and any(g is not None for g in gains):
                cold.append((NETWORKS[network], _named(prior), float(interval(warm)[0]), *gains))
    groups: dict[tuple[str, str, float, float], list[dict[str, Any]]] = {}
    for r in done:
        if r["part"] != "weights":
            groups.setdefault((r["part"], r["prior"], r["T"], r["L"]), []).append(r)
    rows = [
        (
            NETWORKS[part], _named(prior), f"{T:g}", f"{L:g}", len(cells),
            float(interval(cells)[0]),
            100 * (1 - _mean([_mean(c["right"]) for c in cells])),
            _mean([c["ece"] for c in cells]),
            max(c["worst_rhat"] for c in cells),
            min(c["median_ess"] for c in cells),
        )
        for (part, prior, T, L), cells in groups.items()
    ]  # fmt: skip
    heads = ("network", "prior", "T", "L", "sets", "log-likelihood", "error (%)", "ECE")
    return [
        Table(
            "Tails of trained weights",
            ("kernel", "df of a Student-t", "before training", "family by AIC", "published df"),
            tails,
            "Fewer degrees of freedom are heavier tails; inf is a Gaussian. Intervals at 95 % "
            "over trainings. Published: one network on MNIST, of other widths. A pixel that "
            "is always black never moves its weights, so that the first layer mixes what was "
            "learned with the start.",
        ),
        Table(
            "What cold adds",
            ("network", "prior", "log-likelihood at 1", "gain by T = 0.1", "gain by L = 0.1"),
            cold,
            "Nats a test row; the claims have the intervals of differences.",
        ),
        Table(
            "All cells",
            (*heads, "worst R-hat of functions", "median effective draws"),
            rows,
            "R-hat and effective draws of function values over the chains, worst set.",
        ),
    ]


def _over(cells: list[dict[str, Any]], base: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Gain over the first Gaussian with its interval; NaN while sets of one are missing."""
    if [c["split"] for c in cells] != [c["split"] for c in base]:
        return math.nan, math.nan, math.nan
    if len(cells) < 2:
        return mean_gain(cells, base), math.nan, math.nan
    found = gain(cells, base)
    return found.value, found.low, found.high


def _is(r: dict[str, Any], part: str, prior: str, T: float = 1.0, L: float = 1.0) -> bool:
    return (r["part"], r.get("prior"), r.get("T"), r.get("L")) == (part, prior, T, L)


def _named(prior: str) -> str:
    length = prior.removeprefix("correlated-")
    return NAMES.get(prior, f"correlated filters, length-scale {length}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
