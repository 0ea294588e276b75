"""What an unfinished run keeps on disk, chain by chain."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bnnzoo import store
from bnnzoo.errors import CorruptRunError
from bnnzoo.models.posterior import Posterior

if TYPE_CHECKING:
    from bnnzoo.inference.chains import ChainResult

PIECE_BYTES = 8 * 2**20
"""Draws of a chain that wait in memory for its next checkpoint."""


def keep_data(folder: Path, posterior: Posterior, external: str) -> None:
    """Write what ``resume`` needs besides the spec: the data, and what is known of the model.

    Args:
        folder: the run folder.
        posterior: the target, bound to its data.
        external: hash of what the registry cannot rebuild of the model.
    """
    data = posterior.data
    assert data is not None
    named = {name: getattr(data, name) for name in ("x", "y", "x_test", "y_test")}
    arrays = {name: array for name, array in named.items() if array is not None}
    model = {"external": external, "description": posterior.model.label}
    store.save_checkpoint(folder, "data", arrays, {"data": data.metadata(), "model": model})


@dataclass(frozen=True)
class StoredPiece:
    """Draws of a chain in its checkpoint, read whenever they are used."""

    folder: Path
    name: str
    draws: int

    def __len__(self) -> int:
        return self.draws

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = store.load_checkpoint(self.folder, self.name)
        if found is None:
            raise CorruptRunError(f"{self.folder} has lost its checkpoint {self.name}")
        return np.asarray(found[0]["u"], dtype)


class Checkpoint:
    """Pieces of draws and the latest state of every chain, under ``folder/checkpoint``.

    Finished draws are written once, as numbered pieces, and leave the memory; then the state file,
    atomically, says how many pieces and steps count. A kill between the two leaves a piece that is
    written again.

    Args:
        folder: the run folder.

    Attributes:
        seconds_before: that the run took before now, up to its last checkpoint.
        compile_seconds: of those before now, and of now once it is known.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds_before = 0.0
        self.compile_seconds = 0.0
        self._begun = time.monotonic()
        self._saved: dict[int, float] = {}
        self._pieces: dict[int, int] = {}
        self._kept: dict[int, tuple[int, int]] = {}

    def save(self, chain: int, result: ChainResult, every: float = 0.0) -> None:
        """Write what is new of a chain, unless that is little and its last checkpoint young.

        Args:
            chain: its number.
            result: what it has given; its new draws are replaced by where they are now.
            every: seconds that must have passed, or else there are ``PIECE_BYTES`` of draws.
        """
        now = time.monotonic()
        fresh = [np.asarray(piece) for piece in result.u if not isinstance(piece, StoredPiece)]
        recent = now - self._saved.setdefault(chain, now) < every
        if recent and sum(piece.nbytes for piece in fresh) < PIECE_BYTES:
            return
        self._saved[chain] = now
        kept_stats, kept_warmup = self._kept.get(chain, (0, 0))
        arrays: dict[str, np.ndarray] = {}
        if fresh:
            arrays["u"] = np.concatenate(fresh) if len(fresh) > 1 else fresh[0]
        for group, pieces in (
            ("stats", result.stats[kept_stats:]),
            ("warmup", result.warmup[kept_warmup:]),
        ):
            for name in pieces[0] if pieces else ():
                arrays[f"{group}/{name}"] = np.concatenate([p[name] for p in pieces])
        piece = self._pieces.get(chain, 0)
        if arrays:
            name = _piece_name(chain, piece)
            store.save_checkpoint(self.folder, name, arrays, {})
            if fresh:
                stored = StoredPiece(self.folder, name, len(arrays["u"]))
                result.u[len(result.u) - len(fresh) :] = [stored]
            # At once: should the state below find no room, the next piece must not replace this.
            self._pieces[chain] = piece = piece + 1
            self._kept[chain] = (len(result.stats), len(result.warmup))
        leaves = {f"leaf-{i}": np.asarray(v) for i, v in enumerate(jax.tree.leaves(result.state))}
        meta = {
            "position": result.position,
            "pieces": piece,
            "draws": sum(len(u) for u in result.u),
            "seconds": self.seconds_before + now - self._begun,
            "compile_seconds": self.compile_seconds,
            "warmup_seconds": result.warmup_seconds,
            "sampling_seconds": result.sampling_seconds,
        }
        store.save_checkpoint(self.folder, f"chain-{chain}", leaves, meta)

    def load_into(self, chain: int, result: ChainResult) -> bool:
        """Bring a fresh chain to where its checkpoint stopped, if there is one.

        Returns:
            Whether there is.
        """
        found = store.load_checkpoint(self.folder, f"chain-{chain}")
        if found is None:
            return False
        leaves, meta = found
        if "draws" not in meta:
            raise CorruptRunError(
                f"{self.folder}: its checkpoints are of an earlier version of bnnzoo; fit again"
            )
        structure = jax.tree.structure(result.state)
        result.state = jax.tree.unflatten(
            structure, [leaves[f"leaf-{i}"] for i in range(len(leaves))]
        )
        result.position = meta["position"]
        result.warmup_seconds = meta["warmup_seconds"]
        result.sampling_seconds = meta["sampling_seconds"]
        for piece in range(meta["pieces"]):
            name = _piece_name(chain, piece)
            arrays, _ = store.load_checkpoint(self.folder, name) or ({}, {})
            if "u" in arrays:
                result.u.append(StoredPiece(self.folder, name, len(arrays["u"])))
            for group, target in (("stats", result.stats), ("warmup", result.warmup)):
                part = {
                    k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(group + "/")
                }
                if part:
                    target.append(part)
        held = sum(len(u) for u in result.u)
        if held != meta["draws"]:
            raise CorruptRunError(
                f"{self.folder}: the checkpoints of chain {chain} hold {held} draws where they "
                f"should hold {meta['draws']}; fit again"
            )
        self.seconds_before = max(self.seconds_before, meta["seconds"])
        self.compile_seconds = max(self.compile_seconds, meta.get("compile_seconds", 0.0))
        self._pieces[chain] = meta["pieces"]
        self._kept[chain] = (len(result.stats), len(result.warmup))
        return True


def _piece_name(chain: int, piece: int) -> str:
    return f"chain-{chain}-piece-{piece:05d}"
