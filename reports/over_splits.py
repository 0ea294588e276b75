"""Temperatures over several splits of a data set: does what one split shows outlast it?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bnnzoo.reports.cold_posterior import scores_by_metric, verdict_over_splits
from bnnzoo.reports.comparison import Scores, read_scores
from bnnzoo.reports.formatting import counted
from bnnzoo.reports.runs import ReportRun
from bnnzoo.reports.temperature import AXES, family, symbol

OF_DATA = ("split", "seed")
"""Options of a data set that choose a split of it, or its draw."""


def split_panels(groups: Sequence[Sequence[ReportRun]]) -> list[dict[str, Any]]:
    """Verdicts over the splits of a data set, for runs alike but for one temperature and the split.

    Args:
        groups: the runs of each split, or of other data sets.

    Returns:
        One panel a data set and temperature that varies: ``name`` of the data set, ``axis``,
        ``sentence`` and ``series``; a series has ``label``, ``splits``, ``temperatures`` (those
        that every split has) and ``verdicts``.
    """
    panels = []
    for axis in AXES:
        families: dict[str, dict[int, list[ReportRun]]] = defaultdict(lambda: defaultdict(list))
        for split, runs in enumerate(groups):
            for run in runs:
                if any(option in run.spec.data.options for option in OF_DATA):
                    families[family(run, axis, OF_DATA)][split].append(run)
        made: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for by_split in families.values():
            if len(by_split) > 1 and (series := _series(axis, list(by_split.values()))):
                made[series["name"]].append(series)
        for name, several in made.items():
            panel = {"name": name, "axis": axis, "series": several}
            panels.append(panel | {"sentence": _sentence(name, axis, several)})
    return panels


def _series(axis: str, splits: Sequence[Sequence[ReportRun]]) -> dict[str, Any] | None:
    """Verdicts on one family of runs, or None where 1 and another are not in every split."""
    scored = [
        [(_at(run, axis), score) for run in runs if (score := _tested(run))] for runs in splits
    ]
    scored = [pairs for pairs in scored if pairs]
    if len(scored) < 2:
        return None
    shared = sorted(set.intersection(*({T for T, _ in pairs} for pairs in scored)))
    if len(shared) < 2 or 1.0 not in shared:
        return None
    run = splits[0][0]
    data, inference = run.manifest["data"], run.spec.inference
    task = str(data.get("task", "regression"))
    means = [_means(pairs, shared, task) for pairs in scored]
    rows = [float(one[0].manifest["data"]["rows"]) for one in splits]
    tests = [len(pairs[0][1].log_density) for pairs in scored]
    overlap = float(np.mean(tests) / np.mean(rows))
    verdicts = []
    for metric in means[0]:
        if all(metric in one for one in means):
            of_splits = [one[metric] for one in means]
            found = verdict_over_splits(metric, shared, of_splits, overlap=overlap)
            verdicts.append({**vars(found), "sentence": found.sentence})
    model = run.spec.network.name or run.spec.model.name or "model"
    other = next(a for a in AXES if a != axis)
    at = getattr(inference, other)
    parts = [model, run.spec.prior.name, inference.backend]
    parts += [] if at == 1 else [f"{symbol(other)}={at:g}"]
    return {
        "name": str(data.get("name", "data")),
        "label": ", ".join(part for part in parts if part),
        "splits": len(scored),
        "temperatures": shared,
        "verdicts": verdicts,
    }


def _at(run: ReportRun, axis: str) -> float:
    return float(getattr(run.spec.inference, axis))


def _tested(run: ReportRun) -> Scores | None:
    score = read_scores(run)
    return score if score is not None and score.rows == "test" else None


def _means(
    pairs: Sequence[tuple[float, Scores]], temperatures: Sequence[float], task: str
) -> Mapping[str, np.ndarray]:
    """Mean score of one split at each temperature, over rows and runs of other seeds, by metric."""
    at = np.array([T for T, _ in pairs])
    by_metric = scores_by_metric([score for _, score in pairs], task)
    return {
        name: np.array([values[at == T].mean() for T in temperatures])
        for name, values in by_metric.items()
    }


def _sentence(name: str, axis: str, several: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts by log density, counted."""
    said = [one["verdicts"][0]["verdict"] for one in several]
    tally = ", ".join(f"{said.count(v)} {v}" for v in dict.fromkeys(said))
    sizes = sorted({one["splits"] for one in several})
    span = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return (
        f"Over {span} splits of {name}, {axis.replace('_', ' ')}, by log density: of "
        f"{counted(len(several), 'series', 'series')} {tally}."
    )
