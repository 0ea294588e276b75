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
                gains = [len(_met(missing, row | {name: i})) for i in range(len(factors[name]))]
                row[name] = gains.index(max(gains))
        for pair in _met(missing, row):
            del missing[pair]
        rows.append({name: factors[name][row[name]] for name in names})
    return rows


def full_product(factors: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, the last factor changing fastest."""
    return [dict(zip(factors, row, strict=True)) for row in itertools.product(*factors.values())]


def _met(missing: Mapping[Any, None], row: Mapping[str, int]) -> list[Any]:
    return [pair for pair in missing if all(row.get(name) == level for name, level in pair)]
