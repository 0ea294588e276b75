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
    writers = {path: _Writer(array, stream.dtype) for path, array in arrays.items()}
    for block in stream.blocks:
        for path, values in block.items():
            writers[path].take(values)
    if not all(writer.done for writer in writers.values()):
        raise ValueError("a stream's blocks are not all its draws")


class _Writer:
    """Gathers the draws of one variable to whole chunks, in one buffer for all of them.

    Memory that is asked for and let go again and again would fragment.
    """

    def __init__(self, array: Any, dtype: Any) -> None:
        self._array, self._regions = array, _regions(array)
        self._region = next(self._regions, None)
        most = 0 if self._region is None else self._region.draws  # the first is the largest
        self._buffer = np.empty((most, *array.shape[2:]), dtype)
        self._filled = 0

    @property
    def done(self) -> bool:
        """Whether every chunk is written."""
        return self._region is None

    def take(self, values: np.ndarray) -> None:
        """The next draws, first axis ``draw``."""
        while len(values):
            if self._region is None:
                raise ValueError("a stream's blocks are more than its draws")
            count = min(len(values), self._region.draws - self._filled)
            self._buffer[self._filled : self._filled + count] = values[:count]
            self._filled, values = self._filled + count, values[count:]
            if self._filled == self._region.draws:
                self._region.write(self._array, self._buffer[: self._filled])
                self._region, self._filled = next(self._regions, None), 0


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
