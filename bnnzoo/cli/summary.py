"""A finished run on the terminal: scores, convergence, time, what is doubtful, where it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bnnzoo import registry
from bnnzoo.cli.console import counted, facts, seconds

if TYPE_CHECKING:
    from rich.console import Console

    from bnnzoo.inference import Run

NAMES = {
    "nll": "NLL",
    "rmse": "RMSE",
    "crps": "CRPS",
    "coverage_50": "50 % coverage",
    "coverage_90": "90 % coverage",
    "accuracy": "accuracy",
    "brier": "Brier",
    "ece": "ECE",
}
"""Metrics as they are shown, in this order."""


KEPT = [
    *("state", "label", "created", "device", "gradients", "wall_seconds", "compile_seconds"),
    *("warmup_seconds", "sampling_seconds", "metrics", "flags"),
]
"""Entries of the manifest that a script is given."""

PERCENT = {"coverage_50", "coverage_90", "accuracy"}


def metric(name: str, value: float | None) -> str:
    """A metric's value for people."""
    if value is None or not math.isfinite(value):
        return "-" if value is None else str(value)
    if name in PERCENT:
        return f"{100 * value:.1f} %"
    if abs(value) >= 1e6:
        return f"{value:.4g}"
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:,.{digits}f}"


def describe_run(run: Run) -> dict[str, Any]:
    """A run as plain data, for JSON."""
    manifest = run.manifest
    return {
        "run": str(run.path),
        **{key: manifest.get(key) for key in KEPT},
        "convergence": convergence(run),
        "data": {k: v for k, v in manifest["data"].items() if k != "metadata"},
        "spec": run.spec.to_tree(),
    }


def show_run(out: Console, run: Run, reused: bool = False) -> None:
    """Print the summary of a run."""
    manifest = run.manifest
    if manifest.get("state") == "stopped":
        draws = run.tree["posterior"].sizes["draw"]
        out.print(
            f"Stopped early, after {counted(draws, 'draw')} a chain; go on with: "
            f"bnnzoo resume {run.path}",
            style="yellow",
        )
    elif not reused:
        compiling = manifest.get("compile_seconds")
        out.print(
            f"Done in {seconds(manifest.get('wall_seconds'))}, of which {seconds(compiling)} were "
            f"compilation; {manifest.get('gradients', 0):,} gradients"
        )
    out.print(facts(_findings(run)))
    if not reused:
        out.print(f"Wrote {run.path}")
    out.print(f"Next: bnnzoo report {run.path} -o report.html", style="dim")


def _findings(run: Run) -> list[tuple[str, str]]:
    """Scores, convergence and what is doubtful, as lines with a name."""
    scores = run.manifest.get("metrics") or {}
    shown = ", ".join(f"{NAMES[k]} {metric(k, scores[k])}" for k in NAMES if k in scores)
    lines = [("scores", shown or "none: the data have no test rows")]
    found = convergence(run)
    if found["ess"] is not None:
        agreed = "one chain: no R-hat"
        if found["rhat"] is not None:
            agreed = f"R-hat of function values up to {found['rhat']:.3f}"
        lines.append(("checks", f"{agreed}, at least {found['ess']:,.0f} effective draws"))
    return lines + [("beware", line) for line in warnings_of(run, found)]


def warnings_of(run: Run, found: dict[str, Any]) -> list[str]:
    """What makes a run doubtful, a line each."""
    lines = []
    if found["rhat"] is not None and found["rhat"] > found["limit"]:
        lines.append(
            f"not converged: R-hat of function values is {found['rhat']:.3f}, "
            f"above {found['limit']}"
        )
    if found["few"]:
        lines.append(
            f"few draws: {found['ess']:,.0f} effective ones of function values, fewer than "
            f"{found['fewest']}; go on with: bnnzoo resume {run.path} --draws NUMBER"
        )
    if found["divergences"]:
        sizes = run.tree["posterior"].sizes
        total = f"{found['divergences']:,} of {sizes['chain'] * sizes['draw']:,}"
        lines.append(f"{total} draws ended in a divergence")
    from bnnzoo.reports.flags import merge_flags
    from bnnzoo.reports.formatting import numbered

    flags = [
        flag
        for flag in run.manifest.get("flags", ())
        if flag["kind"] != "divergent" or not found["divergences"]
    ]
    return lines + [f"{numbered(f['chains'], 'chain')}: {f['message']}" for f in merge_flags(flags)]


def convergence(run: Run) -> dict[str, Any]:
    """Worst R-hat and effective draws of function values, and the number of divergences."""
    from bnnzoo.reports.diagnostics import ESS_LOW, RHAT_BAD, diagnose

    diagnosed = diagnose(run.tree)
    function = diagnosed["function"]

    def known(value: float | None) -> float | None:
        return None if value is None or value != value else float(value)

    ess = known(function["worst_ess"])
    family = registry.get("backends", run.spec.inference.backend).card.tags["family"]
    return {
        "rhat": known(function["worst_rhat"]),
        "ess": ess,
        # Of chains alone: how many draws an approximation gave says nothing of it.
        "few": ess is not None and ess < ESS_LOW and family in ("mcmc", "sgmcmc"),
        "fewest": ESS_LOW,
        "limit": RHAT_BAD,
        "divergences": diagnosed["divergences"],
    }
