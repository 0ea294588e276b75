"""Evidences of one data set: by kind, against the best of each, and what is not to be told apart.

Numbers of different kinds do not rank. Each kind has an order of its own and a sentence of its own;
what two honest methods say of one model is compared as a check, not as a choice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import tomli_w

from bnnzoo.errors import InputError
from bnnzoo.reports.formatting import counted, digits_for, interval, listed, number
from bnnzoo.reports.settings import flatten

DISTINCT = 2.0
"""Standard errors of their difference by which two evidences have to differ."""

DISAGREE = 3.0
"""Standard errors from which two methods are said to disagree on one model."""

KINDS: dict[str, str] = {
    "exact": "a closed form",
    "unbiased": "right on average for the evidence itself; its logarithm is low by about half the "
    "squared standard error",
    "consistent": "right in the limit of much work",
    "lower-bound": "below the evidence, by a gap that nobody knows",
    "upper-bound": "above the evidence, by a gap that nobody knows",
    "approximation-bound": "below an approximation of the evidence, which may be on either side",
    "approximation": "of unknown error; the standard error covers only its randomness",
    "predictive": "not the evidence: how well rows are predicted from other rows",
    "heuristic": "not the evidence, nor a bound of it",
}
"""What a number of each kind is, in the order in which they are shown."""

ESTIMATES = ("exact", "unbiased", "consistent")
"""Kinds that say what the evidence is, up to their standard error."""

BOUNDS = ("lower-bound", "upper-bound", "approximation-bound")

NOT_EVIDENCE = ("predictive", "heuristic")


_NOUNS = {
    "lower-bound": "lower bound",
    "upper-bound": "upper bound",
    "approximation-bound": "bound of an approximation",
    "approximation": "approximate log evidence",
    **dict.fromkeys(NOT_EVIDENCE, "score"),
}
"""What a number of a kind is called in a sentence, where it is not its kind's log evidence."""


@runtime_checkable
class ReportEvidence(Protocol):
    """The part of an evidence that a report reads."""

    @property
    def value(self) -> float: ...

    @property
    def standard_error(self) -> float: ...

    @property
    def kind(self) -> str: ...

    @property
    def method(self) -> str: ...

    @property
    def gradients(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def diagnostics(self) -> Mapping[str, Any]: ...

    @property
    def cautions(self) -> str: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    @property
    def log_jacobian(self) -> float: ...

    @property
    def data_dependent(self) -> tuple[str, ...]: ...

    @property
    def record(self) -> Mapping[str, Any]: ...


@runtime_checkable
class ReportSelection(Protocol):
    """The part of a selection that a report reads."""

    @property
    def candidates(self) -> tuple[Any, ...]: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    @property
    def seconds(self) -> float: ...

    @property
    def record(self) -> Mapping[str, Any]: ...


def data_of(item: ReportEvidence | ReportSelection) -> dict[str, Any]:
    """Name, hash and sizes of the data set an evidence or selection is of.

    Raises:
        InputError: it was made by hand and has no record.
    """
    if "data" not in item.record:
        raise InputError(
            "an evidence without a record of its data cannot be reported: make it with "
            "log_evidence or select"
        )
    return dict(item.record["data"])


def evidence_panel(
    items: Sequence[ReportEvidence | ReportSelection], name: str
) -> dict[str, Any] | None:
    """Evidences and selections of one data set as plain data.

    Args:
        items: on one data set, in the order in which they were given.
        name: of the data set.

    Returns:
        ``sentences`` (one a kind), ``groups`` (one a kind: ``kind``, ``meaning``, ``entries`` from
        the highest down, each with its ``number``, value and error in original units and nats,
        difference to the best of its kind and its error, ``distinct``, cost and settings),
        ``selections`` (probabilities), ``checks`` (two methods on one model) and ``notes``
        (warnings and what was fitted to the targets); None where there is nothing.
    """
    entries, selections = _entries(items)
    if not entries and not selections:
        return None
    _name_apart(entries)
    groups = []
    for kind in dict.fromkeys([*KINDS, *(e["kind"] for e in entries)]):
        members = [e for e in entries if e["kind"] == kind]
        if members:
            members.sort(key=lambda e: (not math.isfinite(e["value"]), -_finite(e["value"])))
            _against_best(members)
            digits = digits_for([e["se"] for e in members], least=1, most=2)
            meaning = KINDS.get(kind, "")
            groups.append({"kind": kind, "meaning": meaning, "digits": digits, "entries": members})
    ordered = [e for one in groups for e in one["entries"]]
    for k, entry in enumerate(ordered, start=1):
        entry["number"] = k
    for one in selections:
        for row in one["candidates"]:
            row["entry"] = None if row["entry"] is None else row["entry"]["number"]
    return {
        "sentences": [_sentence(name, one["kind"], one["entries"]) for one in groups],
        "groups": groups,
        "selections": selections,
        "checks": _checks(ordered),
        "notes": _notes(ordered, selections),
        "digits": digits_for([e["se"] for e in ordered], least=1, most=2),
    }


def _entries(
    items: Iterable[ReportEvidence | ReportSelection],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every evidence, those of selections among them, and the selections."""
    entries: list[dict[str, Any]] = []
    selections: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, ReportSelection):
            selections.append(_selection(item, len(selections) + 1, entries))
        else:
            entries.append(_entry(item, str(item.record.get("label", "model")), None))
    return entries, selections


def _selection(item: ReportSelection, number: int, entries: list[dict[str, Any]]) -> dict[str, Any]:
    rows = []
    for candidate in item.candidates:
        row = {
            "name": candidate.name,
            "probability": candidate.probability,
            "low": candidate.interval[0],
            "high": candidate.interval[1],
            "failure": candidate.failure,
            "doubts": [] if candidate.evidence is None else list(candidate.evidence.warnings),
            "entry": None,
        }
        if candidate.evidence is not None:
            row["entry"] = _entry(candidate.evidence, candidate.name, number)
            entries.append(row["entry"])
        rows.append(row)
    methods = dict.fromkeys(r["entry"]["method"] for r in rows if r["entry"])
    return {
        "number": number,
        "methods": list(methods),
        "candidates": rows,
        "warnings": list(item.warnings),
        "seconds": item.seconds,
        "gradients": sum(r["entry"]["gradients"] for r in rows if r["entry"]),
    }


def _entry(evidence: ReportEvidence, name: str, selection: int | None) -> dict[str, Any]:
    record = evidence.record
    spec = {k: v for k, v in record.get("spec", {}).items() if k != "data"}
    error = float(evidence.standard_error)
    return {
        "name": name,
        "selection": selection,
        "kind": evidence.kind,
        "method": evidence.method,
        "value": float(evidence.value) + float(evidence.log_jacobian),
        "modelled_value": float(evidence.value),
        "se": error if math.isfinite(error) else None,
        "gradients": int(evidence.gradients),
        "seconds": float(evidence.seconds),
        "cautions": evidence.cautions,
        "warnings": list(evidence.warnings),
        "data_dependent": list(evidence.data_dependent),
        "spec": spec,
        "toml": tomli_w.dumps(spec),
        "model": _model_key(spec, record.get("external", "")),
        "options": dict(record.get("options", {})),
        "seed": record.get("seed"),
        "dtype": record.get("dtype"),
        "created": record.get("created"),
        "device": record.get("device"),
        "versions": dict(record.get("versions", {})),
        "diagnostics": {k: v for k, v in evidence.diagnostics.items() if _is_scalar(v)},
    }


def _model_key(spec: Mapping[str, Any], external: str) -> str:
    """Equal for equal models, whatever they are called."""
    return json.dumps([spec, external], sort_keys=True, default=str)


def _name_apart(entries: Sequence[dict[str, Any]]) -> None:
    """One name a model, that of a selection first; settings tell models of one name apart."""
    chosen = {e["model"]: e["name"] for e in entries if e["selection"] is not None}
    for entry in entries:
        entry["name"] = chosen.get(entry["model"], entry["name"])
    for name in {e["name"] for e in entries}:
        alike = [e for e in entries if e["name"] == name]
        if len({e["model"] for e in alike}) < 2:
            continue
        flat = [flatten(e["spec"]) for e in alike]
        keys = list(dict.fromkeys(k for one in flat for k in one))
        differing = [k for k in keys if len({str(one.get(k)) for one in flat}) > 1]
        for entry, one in zip(alike, flat, strict=True):
            said = [f"{k.rpartition('.')[2]} {one[k]}" for k in differing if k in one]
            entry["name"] = ", ".join([name, *said])


def _against_best(members: Sequence[dict[str, Any]]) -> None:
    """Differences to the first, whose errors add as those of independent numbers."""
    best = members[0]
    for entry in members:
        difference, error = entry["value"] - best["value"], None
        if entry["se"] is not None and best["se"] is not None:
            error = math.hypot(entry["se"], best["se"])
        known = entry is not best and math.isfinite(difference)
        entry["difference"] = difference if known else None
        entry["difference_se"] = error if known else None
        entry["distinct"] = bool(known and error is not None and -difference > DISTINCT * error)


def _sentence(name: str, kind: str, members: Sequence[Mapping[str, Any]]) -> str:
    """What the numbers of one kind say, and no more."""
    best = members[0]
    methods = listed(sorted({e["method"] for e in members}))
    digits = digits_for([best["se"]], least=1, most=2)
    value = f"{interval(best['value'], best['se'] or None, digits)} nats"
    what = _NOUNS.get(kind, f"{kind} log evidence")
    if not math.isfinite(best["value"]):
        return f"On {name}, no number by {methods} is finite."
    others = [e for e in members if e["model"] != best["model"] and math.isfinite(e["value"])]
    if not others:
        a = "an" if what[0] in "aeiou" else "a"
        alone = "the only one of its kind" if len(members) == 1 else "the only model of this kind"
        return f"On {name}, {best['name']} has {a} {what} of {value} ({methods}), {alone}."
    models = len({e["model"] for e in members})
    near = others[0]
    gap = -(near["difference"] or 0.0)
    error = near["difference_se"]
    apart = interval(gap, error or None, digits_for([error], least=1, most=2))
    among = f"On {name}, of {counted(models, 'model')} by {methods}"
    if kind in BOUNDS:
        return (
            f"{among}, {best['name']} has the highest {what}, {value}; how far each bound is from "
            "its evidence is not known, so their order is not that of the evidences."
        )
    if kind in NOT_EVIDENCE:
        return f"{among}, {best['name']} scores highest ({value}); this is no evidence."
    if not near["distinct"]:
        close = sum(not e["distinct"] for e in others)
        rest = f"; {counted(close, 'model')} cannot be told from it" if close > 1 else ""
        return (
            f"{among}, no model can be called the most probable: {best['name']} has the highest "
            f"log evidence, {value}, but only by {apart} nats over {near['name']}{rest}."
        )
    doubt = ", as far as the approximation goes" if kind == "approximation" else ""
    return (
        f"{among}, the training rows speak for {best['name']}{doubt}: its {what} is "
        f"{value}, {apart} nats above the next, {near['name']}."
    )


def _checks(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Two different methods that each say what the evidence of one model is."""
    honest = [e for e in entries if e["kind"] in ESTIMATES and math.isfinite(e["value"])]
    made = []
    for k, a in enumerate(honest):
        for b in honest[k + 1 :]:
            if a["model"] != b["model"] or a["method"] == b["method"]:
                continue
            difference = a["value"] - b["value"]
            known = a["se"] is not None and b["se"] is not None
            error = math.hypot(a["se"], b["se"]) if known else None
            made.append(
                {
                    "entries": [a["number"], b["number"]],
                    "name": a["name"],
                    "methods": [a["method"], b["method"]],
                    "difference": difference,
                    "se": error,
                    "agree": error is not None
                    and abs(difference) <= max(DISAGREE * error, 1e-6 * abs(a["value"])),
                }
            )
    return made


def _notes(
    entries: Sequence[Mapping[str, Any]], selections: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """What must be known before the numbers are trusted; the gravest first."""
    made = []
    warned: dict[str, list[int]] = {}
    for entry in entries:
        for line in entry["warnings"]:
            warned.setdefault(line, []).append(entry["number"])
    for line, who in warned.items():
        which = f"Evidence{'s' if len(who) > 1 else ''} {listed(who)}"
        made.append({"level": "warn", "text": f"{which}: {line}."})
    for one in selections:
        for line in one["warnings"]:
            made.append({"level": "warn", "text": f"Selection {one['number']}: {line}."})
        for row in one["candidates"]:
            if row["failure"]:
                text = f"Selection {one['number']}: {row['name']} failed: {row['failure']}."
                made.append({"level": "warn", "text": text})
    dependent = sorted({", ".join(e["data_dependent"]) for e in entries if e["data_dependent"]})
    if dependent:
        who = [e["number"] for e in entries if e["data_dependent"]]
        all_of = len(who) == len(entries) and len(dependent) == 1
        several = f"The numbers of evidences {listed(who)} are"
        some = several if len(who) > 1 else f"The number of evidence {who[0]} is"
        text = (
            f"{'All numbers are' if all_of else some} data-dependent ({listed(dependent)} fitted "
            "to the training targets before): compare only with numbers that are so too."
        )
        made.append({"level": "note" if all_of else "warn", "text": text})
    return made


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool)) or hasattr(value, "item")


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def factor(entry: Mapping[str, Any]) -> str:
    """A Bayes factor against the best in words: ``1 : 24``."""
    if entry["difference"] is None:
        return "1 : 1"
    behind = -entry["difference"]
    odds = math.exp(behind) if behind < 700 else math.inf
    if odds < 10:
        return f"1 : {odds:.1f}"
    return f"1 : {odds:,.0f}" if odds < 1e4 else f"1 : 10^{number(behind / math.log(10), 1)}"
