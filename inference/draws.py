"""Draws that are read a few at a time: those of a large network do not fit in memory.

Whatever goes over the draws of a run does so through :class:`Draws`, and never asks for more of
them at once than it works on. They may be in memory, in the checkpoint of a run that is being
finished, or in the tree of one that is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import xarray as xr

from bnnzoo.inference.memory import let_pass

IN_MEMORY_BYTES = 128 * 2**20
"""Draws of a tree that take no more are read once and kept."""


class Draws(ABC):
    """Draws of all chains. Number ``i`` of them is draw ``i % draws`` of chain ``i // draws``.

    Attributes:
        shape: ``(chains, draws)``.
    """

    shape: tuple[int, int]

    @abstractmethod
    def take(self, chain: int, which: slice) -> Any:
        """Some draws of one chain: an array, or a mapping of them, with first axis ``draw``.

        Args:
            chain: its number.
            which: a slice with a start, a stop within the draws, and a positive step.
        """

    @property
    def count(self) -> int:
        """Draws of all chains."""
        return self.shape[0] * self.shape[1]

    def read(self, start: int, stop: int) -> Any:
        """Draws ``start`` to ``stop``, chain by chain."""
        parts = []
        while start < stop:
            chain, first = divmod(start, self.shape[1])
            last = min(first + stop - start, self.shape[1])
            parts.append(self.take(chain, slice(first, last, 1)))
            start += last - first
        return parts[0] if len(parts) == 1 else jax.tree.map(_join, *parts)

    def all(self) -> Any:
        """Every draw, first axes ``(chain, draw)``; only for what is known to be small."""
        flat = self.read(0, self.count)
        return jax.tree.map(lambda leaf: leaf.reshape(*self.shape, *leaf.shape[1:]), flat)

    def select(self, chains: Sequence[int] | None = None, step: int = 1) -> Draws:
        """Every ``step``-th draw of some chains, of all if none are named."""
        return _Selected(self, range(self.shape[0]) if chains is None else chains, step)


class RepeatedDraws(Draws):
    """Every draw again and again: chain by chain, all of them, then all of them once more.

    Args:
        draws: to be repeated.
        times: how often each appears.
    """

    def __init__(self, draws: Draws, times: int) -> None:
        self.shape = (draws.shape[0] * times, draws.shape[1])
        self._draws = draws

    def take(self, chain: int, which: slice) -> Any:
        return self._draws.take(chain % self._draws.shape[0], which)


def _join(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


class _Selected(Draws):
    def __init__(self, draws: Draws, chains: Sequence[int], step: int) -> None:
        self._draws, self._chains, self._step = draws, chains, step
        self.shape = (len(chains), -(-draws.shape[1] // step))

    def take(self, chain: int, which: slice) -> Any:
        last = min(which.stop * self._step, self._draws.shape[1])
        inner = slice(which.start * self._step, last, which.step * self._step)
        return self._draws.take(self._chains[chain], inner)


class ArrayDraws(Draws):
    """Draws in memory.

    Args:
        values: an array, or a mapping of arrays, with first axes ``(chain, draw)``.
    """

    def __init__(self, values: Any) -> None:
        self._values = values
        first = jax.tree.leaves(values)[0]
        self.shape = (first.shape[0], first.shape[1])

    def take(self, chain: int, which: slice) -> Any:
        return jax.tree.map(lambda leaf: leaf[chain, which], self._values)


@runtime_checkable
class Piece(Protocol):
    """Some draws of a chain in a row, ``(draw, dim)``, wherever they are."""

    def __len__(self) -> int: ...

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray: ...


class PieceDraws(Draws):
    """Unconstrained draws as the loop leaves them: chains in pieces.

    Args:
        chains: pieces of every chain.
        draws: of each chain; one that has fewer is NaN after its end.
        dimension: of a draw.
        dtype: of a draw.
    """

    def __init__(
        self, chains: Sequence[Sequence[Piece]], draws: int, dimension: int, dtype: Any
    ) -> None:
        self.shape = (len(chains), draws)
        self._chains, self._dimension, self._dtype = chains, dimension, dtype
        self._ends = [np.cumsum([len(piece) for piece in pieces]) for pieces in chains]
        self._latest: tuple[Piece | None, np.ndarray] = (None, np.zeros((0, dimension), dtype))

    def take(self, chain: int, which: slice) -> np.ndarray:
        wanted = np.arange(which.start, which.stop, which.step)
        made = np.full((len(wanted), self._dimension), np.nan, self._dtype)
        owner = np.searchsorted(self._ends[chain], wanted, side="right")
        for number in np.unique(owner):
            if number < len(self._chains[chain]):
                piece = self._chains[chain][number]
                here = owner == number
                first = self._ends[chain][number] - len(piece)
                made[here] = self._content(piece)[wanted[here] - first]
        return made

    def _content(self, piece: Piece) -> np.ndarray:
        if self._latest[0] is not piece:  # the next draws asked for are most likely of it too
            self._latest = (None, np.zeros(()))  # two pieces are never held
            self._latest = (piece, np.asarray(piece))
            let_pass(self._latest[1].nbytes)
        return self._latest[1]


class TreeDraws(Draws):
    """Draws of a run's tree, by site.

    Args:
        variables: with first axes ``(chain, draw)``; large ones are not read as a whole.
    """

    def __init__(self, variables: Mapping[str, xr.Variable]) -> None:
        self._small = sum(v.nbytes for v in variables.values()) <= IN_MEMORY_BYTES
        self._values: Mapping[str, Any] = (
            {site: v.to_numpy() for site, v in variables.items()} if self._small else variables
        )
        first = next(iter(variables.values()))
        self.shape = (first.shape[0], first.shape[1])

    def take(self, chain: int, which: slice) -> dict[str, np.ndarray]:
        found = {site: np.asarray(values[chain, which]) for site, values in self._values.items()}
        if not self._small:
            let_pass(sum(values.nbytes for values in found.values()))
        return found


class FlatDraws(Draws):
    """Draws by site, put together to one vector a draw.

    Args:
        sites: draws by site.
        order: of the sites in the vector.
    """

    def __init__(self, sites: Draws, order: Sequence[str]) -> None:
        self.shape, self._sites, self._order = sites.shape, sites, order

    def take(self, chain: int, which: slice) -> np.ndarray:
        found = self._sites.take(chain, which)
        parts = [found[site] for site in self._order]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
