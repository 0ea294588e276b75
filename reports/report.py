"""From runs to the three files of a report: gathered once as plain data, written three ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bnnzoo.datasets import Dataset
from bnnzoo.errors import InputError
from bnnzoo.reports import comparison, rendering, summary
from bnnzoo.reports.calibration import calibrate
from bnnzoo.reports.citations import citations
from bnnzoo.reports.cost import cost
from bnnzoo.reports.diagnostics import diagnose, state_of
from bnnzoo.reports.evidence import evidence_panel
from bnnzoo.reports.foreign import Foreign, foreign_rows, separation
from bnnzoo.reports.formatting import digits_for, listed
from bnnzoo.reports.gathering import as_list, empty_block, gather
from bnnzoo.reports.over_splits import split_panels
from bnnzoo.reports.pictures import SEEN, picture
from bnnzoo.reports.runs import ReportRun, assign_glyphs, facts, short_labels
from bnnzoo.reports.selective import selective
from bnnzoo.reports.settings import settings
from bnnzoo.reports.temperature import temperature_panels
from bnnzoo.reports.writing import check_target, write

FORMAT = 2
"""Of ``report.json``; raised when a field changes its meaning."""


def write_report(
    runs: Any,
    path: str | Path,
    *,
    title: str | None = None,
    format: str | None = None,
    ood: Dataset | None = None,
) -> Path:
    """Write a page that compares runs, with the same content as Markdown and JSON beside it.

    Args:
        runs: a run, an evidence or a selection, or several in a list, on one data set or several;
            only those on the same data (by hash) are compared with each other.
        path: of the HTML page; ``.md`` and ``.json`` of the same name are written beside it, and
            missing folders are made.
        title: of the page.
        format: ``html``, ``md`` or ``json`` to write that alone, under ``path``.
        ood: another data set with the same inputs, which a run should be unsure of: its rows are
            told from the runs' test rows by predictive uncertainty.

    Returns:
        The path of the page.

    Raises:
        InputError: there are no runs, one of them is something else, ``path`` is a folder or
            ends otherwise than the format, or ``ood`` is what a run was fitted to.
        DataError: ``ood`` has other features than a run.
        OptionError: no such format.
        StorageError: the files cannot be written; none of them is then left behind.
    """
    runs = as_list(runs)
    if not runs:
        raise InputError("a report needs at least one run; none was given")
    target = check_target(path, format)
    write(collect(runs, title, ood), target, format)
    return target


def collect(
    runs: Sequence[Any], title: str | None = None, ood: Dataset | None = None
) -> dict[str, Any]:
    """Everything a report says, as plain data.

    Args:
        runs: at least one run, evidence or selection.
        title: of the page, or None for a plain one.
        ood: rows of another kind, or None.

    Returns:
        ``title``, ``created``, ``versions``, ``splits`` (verdicts on temperatures over several
        splits of one data set) and ``blocks``, one a data set: its ``name``, sizes, ``verdict``,
        ``cautions``, ``runs`` (best first, numbered from 1), ``pairs``, ``temperature``,
        ``settings`` and ``evidence`` (or None).
    """
    groups = gather(runs)
    foreign = None if ood is None else foreign_rows(ood)
    names = [str(one.data.get("name", "data")) for one in groups]
    blocks = []
    for k, (name, one) in enumerate(zip(names, groups, strict=True), start=1):
        block = collect_block(one.runs, foreign) if one.runs else empty_block(one.data)
        # two splits of one data set have one name: the hash tells them apart
        block["title"] = f"{name} ({block['hash'][:8]})" if names.count(name) > 1 else name
        block["id"] = f"data-{k}"
        block["evidence"] = evidence_panel(one.evidences, block["title"])
        if one.runs:
            block["verdict"] = summary.verdict(
                block["title"], block["runs"], block["pairs"], block["scored_on"]
            )
            block["cautions"] = summary.cautions(block["runs"], block["verdict"]["best"])
        else:
            block |= summary.without_runs(block, alone=len(groups) == 1)
        blocks.append(block)
    return {
        "format": FORMAT,
        "title": title or _plain_title(names),
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "run_count": sum(len(one.runs) for one in groups),
        "evidence_count": sum(rendering.evidence_count(block) for block in blocks),
        "versions": _versions(blocks),
        "citations": citations(blocks),
        "splits": split_panels([one.runs for one in groups]),
        "blocks": blocks,
    }


def _versions(blocks: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Versions that the runs of the first data set were made with, or its evidences."""
    if blocks[0]["runs"]:
        return dict(blocks[0]["settings"]["versions"])
    first = blocks[0]["evidence"]["groups"][0]["entries"][0]
    return {package: [version] for package, version in first["versions"].items()}


def collect_block(members: Sequence[ReportRun], foreign: Foreign | None = None) -> dict[str, Any]:
    """The part of a report on one data set, without its words."""
    data = dict(members[0].manifest["data"])
    scores = [comparison.read_scores(run) for run in members]
    tested = any(s is not None and s.rows == "test" for s in scores)
    if tested:  # a run that lacks test scores is not judged by its training rows beside others
        scores = [s if s is not None and s.rows == "test" else None for s in scores]
    order = comparison.rank([None if s is None else s.log_density for s in scores])
    members, scores = [members[k] for k in order], [scores[k] for k in order]
    densities = [None if s is None else s.log_density for s in scores]
    pairs = comparison.pairwise(densities)
    task = data.get("task", "regression")
    rows = [facts(run) for run in members]
    glyphs = assign_glyphs(rows)
    shorts = short_labels([row["label"] for row in rows])
    for k, (run, row, score) in enumerate(zip(members, rows, scores, strict=True)):
        row["number"], row["short"] = k + 1, shorts[k]
        row["rows"] = None if score is None else score.rows
        row["log_density"] = _mean(densities[k])
        # differences are to the best run, so that of a worse one is negative
        row["versus_best"] = {
            "difference": pairs["difference"][k][0],
            "se": pairs["standard_error"][k][0],
        }
        row["metrics"] = comparison.metric_table(score, task)
        row["convergence"] = diagnose(run.tree)
        row["convergence"]["state"] = state_of(row["convergence"])
        row["calibration"] = calibrate(score, task)
        row["selective"] = selective(score, task)
        row["foreign"] = None if foreign is None else separation(run, score, foreign)
        row["picture"] = picture(run, score) if k < SEEN else None
    errors = [row["versus_best"]["se"] for row in rows]
    made = settings(members)
    for row, provenance in zip(rows, made["runs"], strict=True):
        row["cost"] = cost(row, provenance)
    return {
        **data,
        "name": str(data.get("name", "data")),
        "hash": str(data["hash"]),
        "task": task,
        "scored_on": _scored_on(scores),
        "digits": digits_for(errors, least=2),
        "glyphs": glyphs,
        "runs": rows,
        "pairs": pairs,
        "foreign": None if foreign is None else foreign.name,
        "temperature": temperature_panels(members, rows, scores),
        "settings": made,
    }


def _mean(density: np.ndarray | None) -> dict[str, float]:
    if density is None or not len(density):
        return {"value": float("nan"), "se": float("nan")}
    with np.errstate(invalid="ignore"):
        n = len(density)
        se = float(density.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return {"value": float(density.mean()), "se": se}


def _scored_on(scores: Sequence[comparison.Scores | None]) -> str:
    """Which rows the runs of a data set are judged on: ``test``, ``training`` or ``none``."""
    return next((s.rows for s in scores if s is not None), "none")


def _plain_title(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    on = listed(unique) if len(unique) < 4 else f"{len(unique)} data sets"
    return f"Bayesian neural networks on {on}"
