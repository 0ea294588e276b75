"""Whether a run can be relied on, and what to do where it cannot: the text of a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnnzoo.sklearn import _defaults

if TYPE_CHECKING:
    from bnnzoo.inference import Run

DIVERGENT_SHARE = 0.01
"""A run with a larger share of divergent draws is warned of; a few are chance."""


def doubts(run: Run) -> str | None:
    """Why a run cannot be relied on and what would help, in one line; None where it can.

    Args:
        run: what was fitted.
    """
    from bnnzoo.reports.diagnostics import ESS_LOW, MIN_DRAWS, RHAT_BAD, diagnose

    asked, diagnosed = run.spec.inference, diagnose(run.tree)
    chains, draws = diagnosed["chains"], diagnosed["draws"]
    rhat, ess = diagnosed["function"]["worst_rhat"], diagnosed["function"]["worst_ess"]
    # Draws that are optimisations of their own are no chain: what is to be judged are those.
    single = asked.warmup == 0 and "steps" in asked.options
    warmup: dict[str, Any] = {"warmup": max(2 * asked.warmup, _defaults.WARMUP)}
    if single:
        warmup = {"backend_options": {"steps": 2 * asked.options["steps"]}}
    longer = {**warmup, "draws": max(2 * asked.draws, _defaults.DRAWS)}
    found: list[str] = []
    remedy: dict[str, Any] = {}

    def doubt(said: str, **settings: Any) -> None:
        found.append(said)
        remedy.update(settings)

    flags = {flag["kind"]: flag["message"] for flag in run.manifest["flags"]}
    if draws < asked.draws and "nan" not in flags:
        doubt(f"time was up after {draws} of {asked.draws} draws a chain", max_time=None)
    if single:
        pass
    elif draws < MIN_DRAWS:
        doubt(f"{draws} draws a chain are too few to judge it", **longer)
    elif rhat > RHAT_BAD:
        doubt(f"R-hat of function values is {rhat:.3f}, above {RHAT_BAD}", **longer)
    elif chains == 1 and ess < ESS_LOW:
        doubt(f"the chain has {ess:.0f} effective draws, fewer than {ESS_LOW}", **longer)
    share = (diagnosed["divergences"] or 0) / (chains * draws)
    if share > DIVERGENT_SHARE:
        target = asked.options["target_acceptance"]  # what diverges has one
        nearer_one = {"target_acceptance": round(1 - (1 - target) / 3, 3)}
        doubt(f"{share:.0%} of the draws ended in a divergence", backend_options=nearer_one)
    remedies: dict[str, dict[str, Any]] = {
        "stuck": warmup,
        "unconverged": warmup,
        "virial": warmup,
        "nan": {"dtype": "float64"},
    }
    for kind, settings in remedies.items():
        if kind in flags:
            doubt(flags[kind], **settings)
    if not found:
        return None
    listed = ", ".join(f"{name}={value!r}" for name, value in remedy.items())
    return f"{'; '.join(found)}; fit again with {listed}"
