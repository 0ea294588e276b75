"""Variables that are written a few draws at a time: together they may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np


class Stream(NamedTuple):
    """Variables with first axes ``(chain, draw)``, as blocks of consecutive draws.

    Attributes:
        shape: ``(chains, draws)``.
        variables: the other axes of each, by its path in the tree: ``"posterior/w"``.
        dtype: of all of them.
        blocks: values of every variable, first axis ``draw``: draws of the first chain, then of
            the second, and so on; a block may be of any length.
    """

    shape: tuple[int, int]
    variables: Mapping[str, tuple[int, ...]]
    dtype: Any
    blocks: Iterable[Mapping[str, np.ndarray]]


def fill(stream: Stream, arrays: Mapping[str, Any]) -> None:
    """Write a stream's blocks, chunk by chunk.

    Args:
        stream: what to write.
        arrays: a zarr array for every variable, none of whose chunks holds parts of two chains
            without holding all draws of both.

    Raises:
        ValueError: the blocks are not all the draws.
    """
    waiting: dict[str, list[np.ndarray]] = {path: [] for path in arrays}
    regions = {path: _regions(array) for path, array in arrays.items()}
    due = {path: next(regions[path], None) for path in arrays}
    for block in stream.blocks:
        for path, values in block.items():
            waiting[path].append(np.array(values))  # a view would hold what it is a view of
            while (region := due[path]) and sum(map(len, waiting[path])) >= region.draws:
                ready = np.concatenate(waiting[path])
                waiting[path] = [ready[region.draws :].copy()]
                region.write(arrays[path], ready[: region.draws])
                due[path] = next(regions[path], None)
    if any(due.values()) or any(len(v) for parts in waiting.values() for v in parts):
        raise ValueError("a stream's blocks are not all its draws")


class _Region(NamedTuple):
    """Some chunks of an array that are consecutive draws: of one chain, or all of several."""

    chains: slice
    which: slice

    @property
    def draws(self) -> int:
        return (self.chains.stop - self.chains.start) * (self.which.stop - self.which.start)

    def write(self, array: Any, values: np.ndarray) -> None:
        sizes = [part.stop - part.start for part in self]
        array[self.chains, self.which] = values.reshape(*sizes, *values.shape[1:])


def _regions(array: Any) -> Iterator[_Region]:
    (chains, draws), (across, along) = array.shape[:2], array.chunks[:2]
    for first in range(0, chains, across):
        for start in range(0, draws, along):
            yield _Region(
                slice(first, min(first + across, chains)), slice(start, min(start + along, draws))
            )
