"""Settings of runs on one data set: what all share, what differs, what they were made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bnnzoo.reports.runs import ReportRun

PROVENANCE = (
    "created",
    "state",
    "device",
    "gradients",
    "wall_seconds",
    "compile_seconds",
    "warmup_seconds",
    "sampling_seconds",
)
"""Fields of the manifest that are tabulated a run."""


def settings(runs: Sequence[ReportRun]) -> dict[str, Any]:
    """Settings and provenance of runs as plain data.

    Returns:
        ``shared``: setting -> value common to all; ``differing``: setting -> values in the order
        of the runs (None where a run has no such setting); ``versions``: package -> versions, one
        where all agree; ``runs``: for each run its ``folder``, ``settings`` (nested), ``toml`` and
        manifest fields.
    """
    flat = [flatten(run.spec.to_tree()) for run in runs]
    names = list(dict.fromkeys(name for one in flat for name in one))
    columns = {name: [one.get(name) for one in flat] for name in names}
    alike = {name: all(v == values[0] for v in values) for name, values in columns.items()}
    return {
        "shared": {name: values[0] for name, values in columns.items() if alike[name]},
        "differing": {name: values for name, values in columns.items() if not alike[name]},
        "versions": _versions(runs),
        "runs": [_provenance(run) for run in runs],
    }


def _provenance(run: ReportRun) -> dict[str, Any]:
    manifest = run.manifest
    return {
        "folder": run.path.name or str(run.path),
        "path": str(run.path),
        "dimension": manifest.get("model", {}).get("dimension"),
        "description": manifest.get("model", {}).get("description"),
        **{name: manifest.get(name) for name in PROVENANCE},
        "versions": dict(manifest.get("versions", {})),
        "settings": run.spec.to_tree(),
        "toml": run.spec.to_toml(),
    }


def _versions(runs: Sequence[ReportRun]) -> dict[str, list[str]]:
    """Every version met of every package, in order of appearance."""
    met: dict[str, list[str]] = {}
    for run in runs:
        for package, version in run.manifest.get("versions", {}).items():
            seen = met.setdefault(str(package), [])
            if str(version) not in seen:
                seen.append(str(version))
    return met


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"prior": {"std": 1}}`` as ``{"prior.std": 1}``.

    Args:
        tree: nested settings.
        prefix: of every name.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat
