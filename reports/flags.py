"""Flags that say the same but for their figures, as one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

FIGURE = r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?"

NUMBER = re.compile(rf"(?<![\w.]){FIGURE}(?: to {FIGURE})?(?!\w)")
"""A number that stands alone, not the 2 of ``layer2``, or a range of such."""


def merge_messages(messages: Iterable[str]) -> str:
    """One text for messages that differ in their figures alone, which become ranges.

    Args:
        messages: of one :func:`template`; ``"k-hat 1.3 > 0.7"`` and ``"k-hat 2 > 0.7"`` make
            ``"k-hat 1.3 to 2 > 0.7"``.
    """
    unique = list(dict.fromkeys(messages))
    columns = [list(dict.fromkeys(c)) for c in zip(*map(NUMBER.findall, unique), strict=True)]
    spans = iter(columns)

    def span(_: re.Match[str]) -> str:
        found = sorted((n for s in next(spans) for n in s.split(" to ")), key=_value)
        return found[0] if len(set(found)) == 1 else f"{found[0]} to {found[-1]}"

    return NUMBER.sub(span, unique[0])


def template(message: str) -> str:
    """A message without its figures."""
    return NUMBER.sub("#", message)


def merge_flags(flags: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A run's flags, those of a kind that differ in figures alone as one.

    Args:
        flags: as the manifest has them: ``chain``, ``kind``, ``message``.

    Returns:
        Flags with ``chains``, a sorted list, in place of ``chain``, in the order in which they
        were first raised.
    """
    groups: dict[tuple[Any, str], list[Mapping[str, Any]]] = {}
    for flag in flags:
        key = (flag.get("kind"), template(flag.get("message", "")))
        groups.setdefault(key, []).append(flag)
    made = []
    for (kind, _), same in groups.items():
        chains = sorted({flag["chain"] for flag in same if flag.get("chain") is not None})
        made.append(
            {
                "kind": kind,
                "chains": chains,
                "message": merge_messages(flag.get("message", "") for flag in same),
            }
        )
    return made


def _value(number: str) -> float:
    return float(number.replace(",", ""))
