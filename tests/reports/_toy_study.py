"""A study whose cells take no time, registered by the tests of the runner."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bnnzoo.registry import register, unregister
from bnnzoo.reports.claims import Claim, Measurement
from bnnzoo.reports.study import Cell, Results, Study, StudyOptions, Table
from bnnzoo.reports.study_charts import Chart, Series


class Toy(Study):
    """Means of normal numbers about the temperature."""

    question: ClassVar = "Is <b>T</b> what it says?"
    protocol: ClassVar = "Draw numbers | and look."
    differences: ClassVar = ("Nothing was published.",)

    def cells(self) -> list[Cell]:
        number = {"smoke": 2, "small": 4, "paper": 9}[self.scale]
        return [
            Cell(f"T{T:g}-{seed}", {"T": T, "seed": seed})
            for T in (0.1, 1.0)
            for seed in range(number)
        ]

    def run(self, **settings: Any) -> dict[str, Any]:
        if log := os.environ.get("TOY_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{settings['T']:g}-{settings['seed']}\n")
        trap = Path(os.environ.get("TOY_TRAP", "/nowhere"))
        if settings["T"] == 1.0 and settings["seed"] == 1 and trap.exists():
            what = trap.read_text()
            if what == "raise":
                raise ValueError("the trap")
            trap.unlink()
            os._exit(9)  # as a killed worker ends: no handler runs
        rng = np.random.default_rng(settings["seed"])
        return {"mean": float(settings["T"] + 0.01 * rng.normal())}

    def claims(self) -> list[Claim]:
        return [
            Claim(
                "warm",
                "T = 1 is warmer than T = 0.1.",
                "Nobody (2026)",
                "difference of means",
                lambda results: Measurement.mean_of(
                    [
                        a["mean"] - b["mean"]
                        for a, b in zip(results.where(T=1.0), results.where(T=0.1), strict=True)
                    ],
                    "seeds",
                ),
            ),
            Claim(
                "hot",
                "T = 10 is hotter.",
                "Nobody (2026)",
                "mean",
                lambda results: Measurement.exact(results.where(T=10.0)[0]["mean"]),
            ),
        ]

    def charts(self, results: Results) -> list[Chart]:
        rows = list(results)
        points = sorted({r["T"] for r in rows})
        y = [np.mean([r["mean"] for r in rows if r["T"] == T]) for T in points]
        low, high = [v - 0.1 for v in y], [v + 0.1 for v in y]
        line = Series("<mean>", points, y, low, high)
        return [Chart("means", "Means & more", "They rise.", "T", "mean", [line], log_x=True)]

    def tables(self, results: Results) -> list[Table]:
        return [Table("All", ("cell", "mean"), [(f"T={r['T']}", r["mean"]) for r in results])]


def toy(options: StudyOptions) -> Toy:
    """The factory, for ``registered``."""
    return Toy(options.scale)


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """The toy among the studies, for a while."""
    register(
        "studies", "toy", summary="A toy.", options=StudyOptions, references=("Nobody (2026)",)
    )(toy)
    try:
        yield
    finally:
        unregister("studies", "toy")
