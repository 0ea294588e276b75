"""The top of the page in words: which run predicts best, by how much, and what to beware of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bnnzoo.reports.comparison import CLEAR, in_errors
from bnnzoo.reports.diagnostics import ESS_LOW, RHAT_BAD, RHAT_GOOD
from bnnzoo.reports.formatting import counted, digits_for, listed, number, numbered
from bnnzoo.reports.runs import words

Row = Mapping[str, Any]


def verdict(
    name: str, rows: Sequence[Row], pairs: Mapping[str, Any], scored_on: str
) -> dict[str, Any]:
    """One sentence on the best run of a data set and one on the others.

    Args:
        name: of the data set.
        rows: facts of the runs, best first.
        pairs: differences and standard errors between them (:func:`comparison.pairwise`).
        scored_on: ``"test"``, ``"training"`` or ``"none"``.

    Returns:
        ``sentence``, ``detail``, ``decided`` (a difference of 2 standard errors or more),
        ``best`` and ``next`` (run numbers), ``difference``, ``standard_error`` (nats a row),
        ``errors`` (the ratio) and ``within_two`` (other runs within 2 standard errors).
    """
    unknown = ("best", "next", "difference", "standard_error", "errors", "within_two")
    made: dict[str, Any] = {"decided": False, "detail": "", **dict.fromkeys(unknown)}
    scored = [k for k, row in enumerate(rows) if not math.isnan(row["log_density"]["value"])]
    if scored_on != "test" or not scored:
        why = "there are no test rows" if scored_on != "none" else "no run has scores"
        made["sentence"] = f"On {name}, {why}, so nothing here says which run predicts best."
        if scored_on == "training":
            made["detail"] = (
                "The scores below are of the training rows, which every run has seen: they favour "
                "runs that overfit, and are shown for information only."
            )
        return made
    best = rows[0]
    named = words(best, likelihood=len({row["likelihood"] for row in rows}) > 1)
    made["best"] = best["number"]
    if len(scored) == 1:
        only = "the only run" if len(rows) == 1 else "the only run with a score"
        value = number(best["log_density"]["value"], 3)
        made["sentence"] = (
            f"On {name}, {named} is {only}: its mean test log density is {value} nats a row."
        )
        made["detail"] = "There is nothing to compare it with."
        return made
    difference, error = pairs["difference"][0][1], pairs["standard_error"][0][1]
    ratio = in_errors(difference, error)
    z = [in_errors(pairs["difference"][0][k], pairs["standard_error"][0][k]) for k in scored[1:]]
    within = sum(value < CLEAR for value in z)
    made |= {
        "next": rows[1]["number"],
        "difference": difference,
        "standard_error": error,
        "errors": ratio,
        "within_two": within,
        "decided": bool(ratio >= CLEAR),
    }
    made["sentence"] = _sentence(name, named, difference, error, ratio)
    made["detail"] = _detail(rows, len(scored), within, made["decided"])
    return made


def without_runs(block: Mapping[str, Any], alone: bool) -> dict[str, Any]:
    """The words on a data set of which there are evidences and no runs.

    Args:
        block: its part of the report, with ``evidence``, ``title`` and ``hash``.
        alone: it is the only data set of the report.

    Returns:
        ``verdict`` and ``cautions``, as :func:`verdict` and :func:`cautions` give them.
    """
    first, *others = block["evidence"]["sentences"]
    unknown = ("best", "next", "difference", "standard_error", "errors", "within_two")
    said = dict.fromkeys(unknown)
    found = []
    if not alone:
        text = (
            f"Set apart: these evidences are of data {block['hash'][:8]}, on which the report has "
            "no runs. Evidences of other rows do not compare, nor do scores."
        )
        found.append(_entry("note", text, []))
    return {
        "verdict": {**said, "decided": False, "sentence": first, "detail": " ".join(others)},
        "cautions": found,
    }


def _sentence(name: str, best: str, difference: float, error: float, ratio: float) -> str:
    digits = digits_for([error], least=2)
    gap = f"{number(difference, digits)} ± {number(error, digits)} nats a row"
    times = f"({number(ratio, 1)} standard errors)"
    if math.isinf(difference):
        return f"On {name}, {best} predicts best: the others give some test row a density of zero."
    if math.isnan(error):
        return (
            f"On {name}, {best} has the highest log density on the one test row, which is too few "
            "to say which run predicts best."
        )
    if difference == 0 and error == 0:
        return f"On {name}, the two best runs predict every test row alike; the first is {best}."
    if math.isinf(ratio) and ratio > 0:
        return f"On {name}, {best} predicts best: {number(difference, 3)} nats better on every row."
    if ratio >= CLEAR:
        return f"On {name}, {best} predicts best: {gap} better than the next {times}."
    return (
        f"On {name}, no run can be called the best: {best} has the highest mean test log density, "
        f"but only by {gap} over the next {times}."
    )


def _detail(rows: Sequence[Row], scored: int, within: int, decided: bool) -> str:
    """Who is next, and how many of the others cannot be told apart from the best."""
    others = scored - 1
    next_run = f"The next is run {rows[1]['number']} ({rows[1]['short']})."
    if others == 1:
        return next_run
    if within == 0:
        tail = f"None of the other {others} runs is within 2 standard errors of the best."
    elif within == others:
        tail = f"All of the other {others} runs are within 2 standard errors of it."
    else:
        verb, rest = "is" if within == 1 else "are", "" if others - within > 1 else "s"
        tail = (
            f"{within} of the other {others} runs {verb} within 2 standard errors of it; the rest "
            f"predict{rest} clearly worse."
        )
    luck = ""
    if not decided and within > 2:
        luck = " Which of so many close runs comes first is partly luck."
    return f"{next_run} {tail}{luck}"


def cautions(rows: Sequence[Row], best: int | None) -> list[dict[str, Any]]:
    """What a reader must know before trusting the comparison.

    Args:
        rows: facts of the runs of one data set, with ``convergence``.
        best: number of the best run, or None.

    Returns:
        Entries ``level`` (``warn``, ``note`` or ``good``), ``text`` and ``runs`` (numbers), the
        gravest first.
    """
    found = [
        *_winner(rows, best),
        *_convergence(rows),
        *_divergences(rows),
        *_flags(rows),
        *_incomplete(rows),
        *_variational(rows),
        *_fitted(rows),
        *_single(rows),
    ]
    found.sort(key=lambda entry: entry["level"] != "warn")
    if not any(entry["level"] == "warn" for entry in found):
        found.insert(0, _all_well(rows))
    return found


def _winner(rows: Sequence[Row], best: int | None) -> list[dict[str, Any]]:
    row = next((r for r in rows if r["number"] == best), None)
    if row is None or len(rows) < 2 or row["convergence"]["converged"] is not False:
        return []
    worst = number(row["convergence"]["function"]["worst_rhat"], 3)
    text = (
        f"The leading run, run {best}, has not converged itself (R-hat of function values up to "
        f"{worst}): its lead may not last with longer chains."
    )
    return [_entry("warn", text, [row])]


def _convergence(rows: Sequence[Row]) -> list[dict[str, Any]]:
    made = []
    for variational in (False, True):
        kind = [r for r in rows if r["variational"] is variational]
        bad = [r for r in kind if r["convergence"]["converged"] is False]
        if bad:
            of = f"{len(bad)} of {counted(len(rows), 'run')}"
            what = f"Restarts disagree in {of}" if variational else f"{of} did not converge"
            text = f"{what}: R-hat of function values above {RHAT_BAD} ({_names(bad)})."
            made.append(_entry("warn", text, bad))
    few = [r for r in rows if _few(r)]
    if few:
        has = "has" if len(few) == 1 else "have"
        text = (
            f"{counted(len(few), 'run')} {has} fewer than {ESS_LOW} effective draws of some "
            f"function value ({_names(few)}): few draws lower a score and make tails unsure."
        )
        made.append(_entry("warn", text, few))
    return made


def _few(row: Row) -> bool:
    ess = row["convergence"]["function"]["worst_ess"]
    return ess is not None and not math.isnan(ess) and ess < ESS_LOW


def _divergences(rows: Sequence[Row]) -> list[dict[str, Any]]:
    some = [r for r in rows if r["convergence"]["divergences"]]
    if not some:
        return []
    each = listed(
        [f"{r['convergence']['divergences']:,} in run {r['number']}" for r in some[:4]]
        + (["more in others"] if len(some) > 4 else [])
    )
    text = f"Divergent transitions: {each}; parts of these posteriors may be unexplored."
    return [_entry("warn", text, some)]


def _flags(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Flags by kind, without those that only repeat what the draws say."""
    phrases = {
        "nan": "met values that are not numbers",
        "stuck": "had chains that stopped moving",
        "virial": "had chains whose draws do not follow their target",
        "warning": "gave warnings",
    }
    made = []
    for kind, phrase in phrases.items():
        flagged = [r for r in rows if any(f.get("kind") == kind for f in r["flags"])]
        if flagged:
            text = f"{_names(flagged).capitalize()} {phrase}; see Convergence."
            made.append(_entry("note" if kind == "warning" else "warn", text, flagged))
    return made


def _incomplete(rows: Sequence[Row]) -> list[dict[str, Any]]:
    made = []
    short = [r for r in rows if r["state"] != "complete"]
    if short:
        text = f"{_names(short).capitalize()} stopped early, with fewer draws than asked."
        made.append(_entry("warn", text, short))
    unscored = [r for r in rows if math.isnan(r["log_density"]["value"])]
    if unscored and len(unscored) < len(rows):
        text = f"{_names(unscored).capitalize()}: no usable test scores, so not compared."
        made.append(_entry("warn", text, unscored))
    return made


def _fitted(rows: Sequence[Row]) -> list[dict[str, Any]]:
    made = []
    for what in dict.fromkeys(r["fitted_to"] for r in rows if r["fitted_to"]):
        own = [r for r in rows if r["fitted_to"] == what]
        has = "has a prior that was" if len(own) == 1 else "have priors that were"
        text = (
            f"{_names(own).capitalize()} {has} fitted beforehand ({what}): test scores are honest "
            "only where the test rows were not among those."
        )
        made.append(_entry("note", text, own))
    return made


def _variational(rows: Sequence[Row]) -> list[dict[str, Any]]:
    approximate = [r for r in rows if r["variational"]]
    if not approximate:
        return []
    backends = listed(sorted({str(r["backend"]) for r in approximate}))
    plural = len(approximate) > 1
    text = (
        f"{counted(len(approximate), 'run')} by {backends} ({_names(approximate)}) "
        f"{'are' if plural else 'is'} approximate: agreement between restarts does not show how "
        "near the posterior they come."
    )
    return [_entry("note", text, approximate)]


def _single(rows: Sequence[Row]) -> list[dict[str, Any]]:
    single = [r for r in rows if r["convergence"]["chains"] == 1]
    if not single:
        return []
    has = "has" if len(single) == 1 else "have"
    text = f"{_names(single).capitalize()} {has} one chain: R-hat cannot check its convergence."
    return [_entry("note", text, single)]


def _all_well(rows: Sequence[Row]) -> dict[str, Any]:
    """What may be said when nothing is wrong, and no more than that."""
    rhats = [r["convergence"]["function"]["worst_rhat"] for r in rows]
    known = [v for v in rhats if v is not None and not math.isnan(v)]
    if not known:
        return _entry("note", "No run's convergence could be judged.", rows)
    subject = "In every run" if len(known) == len(rows) else "In every run that could be judged"
    checks = (
        f"{subject} the chains agree: R-hat of function values at most {number(max(known), 3)}, "
        "no divergences" + ("." if any(r["flags"] for r in rows) else ", no chain flagged.")
    )
    over = [r for r in rows if r["convergence"]["state"] == "fair"]
    if not over:
        return _entry("good", checks, rows)
    text = (
        f"{checks} Above the strict level of {RHAT_GOOD}: {_names(over)}; longer chains would "
        "settle them."
    )
    return _entry("note", text, over)


def _names(rows: Sequence[Row]) -> str:
    return numbered([r["number"] for r in rows])


def _entry(level: str, text: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {"level": level, "text": text, "runs": [r["number"] for r in rows]}
