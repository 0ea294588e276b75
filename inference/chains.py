"""What chains have given: piece by piece while they run, as arrays once they stop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bnnzoo.inference.backend import Backend, Flag
from bnnzoo.inference.draws import Draws, Piece, PieceDraws


@dataclass
class ChainResult:
    """What one chain has given so far.

    Attributes:
        state: the backend's state after ``position`` steps.
        position: steps done, warm-up included.
        u: draws ``(draw, dim)`` in pieces, in memory until a checkpoint has them.
        stats: statistics of the sampling steps, in pieces by name.
        warmup: statistics of the warm-up steps, in pieces by name.
        warmup_seconds, sampling_seconds: host time inside segments.
        flags: what was found wrong.
    """

    state: Any
    position: int = 0
    u: list[Piece] = field(default_factory=list)
    stats: list[dict[str, np.ndarray]] = field(default_factory=list)
    warmup: list[dict[str, np.ndarray]] = field(default_factory=list)
    warmup_seconds: float = 0.0
    sampling_seconds: float = 0.0
    flags: list[Flag] = field(default_factory=list)

    @property
    def has_nan(self) -> bool:
        """The position is not a number any more: the chain has stopped."""
        return any(flag.kind == "nan" for flag in self.flags)


@dataclass
class Chains:
    """Draws and statistics of all chains.

    Attributes:
        u: unconstrained draws, read when they are needed.
        stats, warmup_stats: by name, ``(chain, draw)`` and ``(chain, warm-up step)``.
        flags: ``(chain, flag)`` pairs.
        states: where every chain ended.
        complete: every scheduled step was done.
        at_once: chains that shared the machine.
        compile_seconds, warmup_seconds, sampling_seconds: wall time of each part.
    """

    u: Draws
    stats: dict[str, np.ndarray]
    warmup_stats: dict[str, np.ndarray]
    flags: list[tuple[int, Flag]]
    states: list[Any]
    complete: bool
    at_once: int
    compile_seconds: float
    warmup_seconds: float
    sampling_seconds: float


def gather(
    backend: Backend,
    results: list[ChainResult],
    total: int,
    like: np.ndarray,
    compile_seconds: float,
    at_once: int,
) -> Chains:
    """All chains, cut to one length.

    Args:
        backend: judges every finished chain.
        results: one a chain.
        total: scheduled steps of a chain.
        like: a draw ``(dim,)``, for its size and type.
        compile_seconds: time spent before the first step.
        at_once: chains that shared the machine, to turn their times into one.

    Returns:
        The draws every going chain has; a chain that turned NaN is NaN from there on.
    """
    flags: list[tuple[int, Flag]] = []
    for chain, result in enumerate(results):
        stats, warmup = _joined(result.stats), _joined(result.warmup)
        flags += [(chain, flag) for flag in result.flags]
        if not result.flags and stats:
            flags += [(chain, flag) for flag in backend.flags(stats, warmup)]
    stopped = [r.has_nan for r in results]
    counts = [sum(len(u) for u in r.u) for r in results]
    going = [n for n, dead in zip(counts, stopped, strict=True) if not dead]
    draws = min(going) if going else max(counts)
    return Chains(
        u=PieceDraws([r.u for r in results], draws, like.size, like.dtype),
        stats=_stacked([_joined(r.stats) for r in results], draws),
        warmup_stats=_stacked([_joined(r.warmup) for r in results], None),
        flags=flags,
        states=[r.state for r in results],
        complete=all(r.position >= total or dead for r, dead in zip(results, stopped, strict=True)),
        at_once=at_once,
        compile_seconds=compile_seconds,
        warmup_seconds=sum(r.warmup_seconds for r in results) / at_once,
        sampling_seconds=sum(r.sampling_seconds for r in results) / at_once,
    )


def _joined(pieces: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]} if pieces else {}


def _stacked(chains: list[dict[str, np.ndarray]], length: int | None) -> dict[str, np.ndarray]:
    names = next((list(c) for c in chains if c), [])
    if length is None:
        length = max((len(v) for c in chains for v in c.values()), default=0)
    empty = np.zeros(0)
    return {name: np.stack([_padded(c.get(name, empty), length) for c in chains]) for name in names}


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    """The first ``length`` entries, NaN after a chain's end."""
    values = values[:length]
    if len(values) == length:
        return values
    tail = np.full((length - len(values), *values.shape[1:]), np.nan)
    return np.concatenate([values.astype(float), tail])
