"""What a report needs of a run, and how runs are grouped by data set and named on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import xarray as xr

from bnnzoo.specs import RunSpec, fitted_before

GLYPHS = 6
"""Distinct marker colours and shapes; a dimension with more levels is not encoded."""


@runtime_checkable
class ReportRun(Protocol):
    """The part of a run that a report reads; ``docs/design.md`` says what each holds."""

    @property
    def label(self) -> str: ...

    @property
    def path(self) -> Path: ...

    @property
    def spec(self) -> RunSpec: ...

    @property
    def manifest(self) -> Mapping[str, Any]: ...

    @property
    def tree(self) -> xr.DataTree: ...


def group(run: ReportRun, name: str) -> xr.Dataset | None:
    """A group of the run's tree as a data set, or None where the run has none."""
    return run.tree[name].to_dataset() if name in run.tree.children else None


def is_variational(run: ReportRun) -> bool:
    """Whether the draws come from a fitted approximation: it leaves a trace of its bound."""
    stats = [group(run, name) for name in ("warmup_sample_stats", "sample_stats")]
    return any(one is not None and "elbo" in one for one in stats)


def facts(run: ReportRun) -> dict[str, Any]:
    """The names and sizes that identify a run, as plain data."""
    spec, inference = run.spec, run.spec.inference
    model = spec.network.name or spec.model.name or "model"
    return {
        "label": str(run.label),
        "folder": str(run.path),
        "state": run.manifest.get("state", "complete"),
        "model": model,
        "handwritten": bool(run.manifest.get("model", {}).get("handwritten", False)),
        "prior": spec.prior.name,
        "fitted_to": fitted_before(spec.prior),
        "likelihood": spec.likelihood.name,
        "backend": inference.backend,
        "variational": is_variational(run),
        "posterior_temperature": inference.posterior_temperature,
        "likelihood_temperature": inference.likelihood_temperature,
        "chains": inference.chains,
        "draws": inference.draws,
        "seed": inference.seed,
        "gradients": run.manifest.get("gradients"),
        "seconds": _run_seconds(run.manifest),
        "compile_seconds": run.manifest.get("compile_seconds"),
        "wall_seconds": run.manifest.get("wall_seconds"),
        "flags": [dict(flag) for flag in run.manifest.get("flags", ())],
    }


def _run_seconds(manifest: Mapping[str, Any]) -> float | None:
    """Warm-up and sampling together, without compilation."""
    parts = [manifest.get(k) for k in ("warmup_seconds", "sampling_seconds")]
    known = [p for p in parts if p is not None]
    return float(sum(known)) if known else manifest.get("wall_seconds")


def short_labels(labels: Sequence[str]) -> list[str]:
    """Labels without the comma-separated parts that all of them share.

    ``["mlp, laplace, nuts", "mlp, gaussian, nuts"]`` become ``["laplace", "gaussian"]``. Where
    nothing would be left of one, or two would become the same, all stay as they are.
    """
    parts = [[p.strip() for p in label.split(",")] for label in labels]
    if len(labels) < 2:
        return list(labels)
    shared = set(parts[0]).intersection(*parts[1:])
    short = [", ".join(p for p in own if p not in shared) for own in parts]
    distinct = len(set(short)) == len(set(labels))
    return short if distinct and all(short) else list(labels)


def words(fact: Mapping[str, Any], likelihood: bool = False) -> str:
    """A run in words: ``mlp with a student-t prior sampled by nuts at posterior temperature 1``.

    Args:
        fact: of the run.
        likelihood: name its likelihood as well, where runs differ in it.
    """
    text = str(fact["model"])
    parts = ["prior", "likelihood"] if likelihood else ["prior"]
    named = [f"{_article(str(fact[part]))} {part}" for part in parts if fact[part]]
    if named:
        text += f" with {' and '.join(named)}"
    verb = "approximated" if fact["variational"] else "sampled"
    text += f" {verb} by {fact['backend']} at posterior temperature "
    text += f"{fact['posterior_temperature']:g}"
    if fact["likelihood_temperature"] != 1:
        text += f" and likelihood temperature {fact['likelihood_temperature']:g}"
    return text


def _article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def assign_glyphs(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give every run a marker: colour and shape by what varies first, filling by what varies next.

    Args:
        rows: facts of the runs of one data set; ``glyph`` is set on each as
            ``{"hue": 0-5, "fill": 0-2}``.

    Returns:
        ``{"hue": name of the encoded fact or None, "fill": the same, "hues": its levels,
        "fills": its levels}``.
    """
    # by name, not by rank: a prior then has one colour on every data set; exact backends are filled
    approximate = {str(r["backend"]): r["variational"] for r in rows}
    levels = {
        name: sorted({str(r[name]) for r in rows}, key=lambda v: (approximate.get(v, False), v))
        for name in ("prior", "model", "backend")
    }
    hue = next((n for n in levels if 2 <= len(levels[n]) <= GLYPHS), None)
    fill = next((n for n in ("backend", "model") if n != hue and 2 <= len(levels[n]) <= 3), None)
    for row in rows:
        row["glyph"] = {
            "hue": levels[hue].index(str(row[hue])) if hue else 0,
            "fill": levels[fill].index(str(row[fill])) if fill else 0,
        }
    return {
        "hue": hue,
        "fill": fill,
        "hues": levels[hue] if hue else [],
        "fills": levels[fill] if fill else [],
    }
