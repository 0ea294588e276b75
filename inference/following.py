"""What a process that does not lead has of a run: its states, and what it is told of its draws.

Process 0 alone has the folder's checkpoints and the draws in them. The others keep no draw: they
need some only to sum over rows that they hold a part of, and are sent those.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bnnzoo.inference import processes
from bnnzoo.inference.chains import ChainResult
from bnnzoo.inference.checkpoint import Checkpoint
from bnnzoo.inference.draws import Draws


@dataclass(frozen=True)
class Elsewhere:
    """Draws of a chain that process 0 has."""

    draws: int

    def __len__(self) -> int:
        return self.draws

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise AssertionError("these draws are in process 0")


class SharedDraws(Draws):
    """Draws of process 0, read by all processes at once.

    Args:
        u: process 0's draws; those of the others are never read.
    """

    def __init__(self, u: Draws) -> None:
        self.shape, self._u = u.shape, u

    def take(self, chain: int, which: slice) -> np.ndarray:
        own = {"u": self._u.take(chain, which)} if processes.leads() else {}
        return processes.tell_arrays(own)["u"]

    def select(self, chains: Sequence[int] | None = None, step: int = 1) -> Draws:
        return SharedDraws(self._u.select(chains, step))


class SharedCheckpoint(Checkpoint):
    """The checkpoints of a run that several processes make: kept by process 0, told to all.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._leads = processes.leads()

    def save(self, chain: int, result: ChainResult, every: float = 0.0) -> None:
        """Write what is new of a chain, or in the other processes forget it."""
        if self._leads:
            super().save(chain, result, every)
            return
        result.u[:] = [Elsewhere(len(piece)) for piece in result.u]

    def load_into(self, chain: int, result: ChainResult) -> bool:
        """Bring a fresh chain of every process to where process 0's checkpoint stopped."""
        structure = jax.tree.structure(result.state)
        meta: dict[str, Any] = {}
        leaves: list[Any] = []
        if self._leads and super().load_into(chain, result):
            leaves = jax.tree.leaves(result.state)
            meta = {
                "position": result.position,
                "draws": sum(len(piece) for piece in result.u),
                "warmup_seconds": result.warmup_seconds,
                "sampling_seconds": result.sampling_seconds,
            }
        meta = json.loads(processes.tell(json.dumps(meta).encode()))
        if not meta:
            return False
        told = processes.tell_arrays({f"leaf-{i}": leaf for i, leaf in enumerate(leaves)})
        if not self._leads:
            state = [told[f"leaf-{i}"] for i in range(len(told))]
            result.state = jax.tree.unflatten(structure, state)
            result.position = meta["position"]
            result.warmup_seconds = meta["warmup_seconds"]
            result.sampling_seconds = meta["sampling_seconds"]
            result.u = [Elsewhere(meta["draws"])] if meta["draws"] else []
        return True
