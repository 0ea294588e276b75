"""A small set of combinations in which every pair of levels appears."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any


def all_pairs(factors: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows of one level a factor, such that any two levels of two factors meet in some row.

    Greedy: a row starts with a pair that has not met yet, and every further factor takes the level
    that makes most new pairs.
    """
    names = list(factors)
    missing = dict.fromkeys(
        ((a, i), (b, j))
        for a, b in itertools.combinations(names, 2)
        for i in range(len(factors[a]))
        for j in range(len(factors[b]))
    )
    if len(names) < 2:
        return full_product(factors) if names else []
    rows = []
    while missing:
        row = dict(next(iter(missing)))
        for name in names:
            if name not in row:
                gains = [
                    sum(pair in missing for pair in _pairs_with(name, i, row, names))
                    for i in range(len(factors[name]))
                ]
                row[name] = gains.index(max(gains))
        for name, level in row.items():
            for pair in _pairs_with(name, level, row, names):
                missing.pop(pair, None)
        rows.append({name: factors[name][row[name]] for name in names})
    return rows


def full_product(factors: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, the last factor changing fastest."""
    return [dict(zip(factors, row, strict=True)) for row in itertools.product(*factors.values())]


def _pairs_with(
    name: str, level: int, row: Mapping[str, int], names: Sequence[str]
) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """A level of one factor beside those that others have in a row, in the order of ``names``."""
    at = names.index(name)
    return [
        ((other, row[other]), (name, level)) if k < at else ((name, level), (other, row[other]))
        for k, other in enumerate(names)
        if k != at and other in row
    ]
