"""What an unfinished run keeps on disk, chain by chain."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from bnnzoo import store
from bnnzoo.models.posterior import Posterior

if TYPE_CHECKING:
    from bnnzoo.inference.chains import ChainResult


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


class Checkpoint:
    """Pieces of draws and the latest state of every chain, under ``folder/checkpoint``.

    Finished draws are written once, as numbered pieces; then the state file, atomically, says how
    many pieces and steps count. A kill between the two leaves a piece that is written again.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._saved: dict[int, float] = {}
        self._pieces: dict[int, int] = {}
        self._kept: dict[int, tuple[int, int]] = {}

    def save(self, chain: int, result: ChainResult, every: float = 0.0) -> None:
        """Write what is new of a chain, unless its last checkpoint is ``every`` seconds young."""
        now = time.monotonic()
        if now - self._saved.setdefault(chain, now) < every:
            return
        self._saved[chain] = now
        kept_draws, kept_warmup = self._kept.get(chain, (0, 0))
        arrays: dict[str, np.ndarray] = {}
        if result.u[kept_draws:]:
            arrays["u"] = np.concatenate(result.u[kept_draws:])
        for group, pieces in (
            ("stats", result.stats[kept_draws:]),
            ("warmup", result.warmup[kept_warmup:]),
        ):
            for name in pieces[0] if pieces else ():
                arrays[f"{group}/{name}"] = np.concatenate([p[name] for p in pieces])
        piece = self._pieces.get(chain, 0)
        if arrays:
            store.save_checkpoint(self.folder, f"chain-{chain}-piece-{piece:05d}", arrays, {})
            piece += 1
        leaves = {f"leaf-{i}": np.asarray(v) for i, v in enumerate(jax.tree.leaves(result.state))}
        meta = {
            "position": result.position,
            "pieces": piece,
            "warmup_seconds": result.warmup_seconds,
            "sampling_seconds": result.sampling_seconds,
        }
        store.save_checkpoint(self.folder, f"chain-{chain}", leaves, meta)
        self._pieces[chain] = piece
        self._kept[chain] = (len(result.u), len(result.warmup))

    def load_into(self, chain: int, result: ChainResult) -> bool:
        """Bring a fresh chain to where its checkpoint stopped, if there is one.

        Returns:
            Whether there is.
        """
        found = store.load_checkpoint(self.folder, f"chain-{chain}")
        if found is None:
            return False
        leaves, meta = found
        structure = jax.tree.structure(result.state)
        result.state = jax.tree.unflatten(
            structure, [leaves[f"leaf-{i}"] for i in range(len(leaves))]
        )
        result.position = meta["position"]
        result.warmup_seconds = meta["warmup_seconds"]
        result.sampling_seconds = meta["sampling_seconds"]
        for piece in range(meta["pieces"]):
            arrays, _ = store.load_checkpoint(self.folder, f"chain-{chain}-piece-{piece:05d}") or (
                {},
                {},
            )
            if "u" in arrays:
                result.u.append(arrays["u"])
            for group, target in (("stats", result.stats), ("warmup", result.warmup)):
                part = {
                    k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(group + "/")
                }
                if part:
                    target.append(part)
        self._pieces[chain] = meta["pieces"]
        self._kept[chain] = (len(result.u), len(result.warmup))
        return True
