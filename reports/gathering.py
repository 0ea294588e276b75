"""What a report is given, by data set: runs, evidences and selections."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bnnzoo.errors import InputError, brief
from bnnzoo.reports.evidence import ReportEvidence, ReportSelection, data_of
from bnnzoo.reports.runs import ReportRun
from bnnzoo.reports.settings import settings


@dataclass
class Group:
    """Everything on one data set.

    Attributes:
        data: its name, hash and sizes.
        runs: in the order in which they were given.
        evidences: evidences and selections, likewise.
    """

    data: Mapping[str, Any]
    runs: list[ReportRun] = field(default_factory=list)
    evidences: list[ReportEvidence | ReportSelection] = field(default_factory=list)


def as_list(runs: Any) -> list[Any]:
    """What a report was given as a list; a run, evidence or selection may come without one.

    Args:
        runs: one thing or several.
    """
    alone = isinstance(runs, str | os.PathLike) or not isinstance(runs, Iterable)
    return [runs] if alone else list(runs)


def gather(items: Iterable[Any]) -> list[Group]:
    """One group a data set, by hash, in order of appearance; only what is in one is compared.

    Data sets with runs come first, so that evidences of other rows stand apart at the end.

    Args:
        items: runs, evidences and selections.

    Raises:
        InputError: something else is among them.
    """
    groups: dict[str, Group] = {}
    for item in items:
        if isinstance(item, ReportSelection | ReportEvidence):
            data = data_of(item)
            groups.setdefault(str(data["hash"]), Group(data)).evidences.append(item)
        elif hasattr(item, "manifest") and hasattr(item, "tree"):
            data = item.manifest["data"]
            groups.setdefault(str(data["hash"]), Group(data)).runs.append(item)
        else:
            raise InputError(
                f"a report takes runs, evidences and selections, not {brief(item)}: read files "
                "with load_run or load_evidence"
            )
    return sorted(groups.values(), key=lambda one: not one.runs)


def empty_block(data: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report on a data set that has no runs."""
    return {
        **data,
        "name": str(data.get("name", "data")),
        "hash": str(data["hash"]),
        "task": data.get("task", "regression"),
        "scored_on": "none",
        "digits": 3,
        "glyphs": {"hue": None, "fill": None, "hues": [], "fills": []},
        "runs": [],
        "pairs": {"difference": [], "standard_error": []},
        "temperature": [],
        "settings": settings([]),
    }
