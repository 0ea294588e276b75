"""More draws for a run that is finished: its chains go on from where they ended.

A finished run keeps the last state of every chain (``ends.npz``). To extend it is to turn it back
into a stopped one, whose checkpoints hold all it has, and to resume that: a kill at any moment
leaves the finished run or one that resumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from bnnzoo import store
from bnnzoo.errors import InputError, RunError
from bnnzoo.inference.chains import ChainResult, Chains
from bnnzoo.inference.checkpoint import PIECE_BYTES, Checkpoint, keep_data
from bnnzoo.inference.run import Run
from bnnzoo.inference.tree import unconstrained_draws
from bnnzoo.specs import RunSpec


def keep_ends(folder: Path, chains: Chains) -> None:
    """Write what a finished run needs to go on, beside its draws.

    Args:
        folder: the run folder.
        chains: all of them complete.
    """
    arrays: dict[str, np.ndarray] = {}
    for chain, state in enumerate(chains.states):
        leaves = jax.tree.leaves(state)
        arrays |= {f"state/{chain}/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    meta = {"leaves": len(jax.tree.leaves(chains.states[0])), "at_once": chains.at_once}
    store.save_ends(folder, arrays, meta)


def check_draws(folder: Path, asked: Any, planned: int) -> int:
    """Draws of each chain that a run is to have.

    Args:
        folder: the run folder.
        asked: what the user gave, or None.
        planned: what its spec says.

    Raises:
        InputError: fewer than planned, or no whole number.
    """
    if asked is None:
        return planned
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < planned:
        raise InputError(
            f"draws = {asked!r}: {folder} is one of {planned} a chain; a whole number of at least "
            "that is needed"
        )
    return asked


def reopen(run: Run, draws: int) -> None:
    """Turn a finished run into a stopped one that is to have ``draws`` draws of each chain.

    Args:
        run: a finished run, loaded with its model.
        draws: of each chain, in all; more than it has.

    Raises:
        RunError: a chain turned NaN, or the run was kept without its chains' ends.
    """
    for flag in run.manifest["flags"]:
        if flag["kind"] == "nan":
            raise RunError(
                f"{run.path}: chain {flag['chain']} turned NaN and cannot go on; fit again"
            )
    found = store.load_ends(run.path)
    if found is None:
        raise RunError(f"{run.path} was kept without the ends of its chains; fit again")
    arrays, meta = found
    inference = run.spec.inference
    u = unconstrained_draws(run.tree, run.posterior)
    real = run.posterior.x.dtype
    share = meta["at_once"] / inference.chains
    keep_data(run.path, run.posterior, run.manifest["model"]["external"])
    checkpoint = Checkpoint(run.path)
    checkpoint.seconds_before = run.manifest["wall_seconds"]
    checkpoint.compile_seconds = run.manifest["compile_seconds"]
    piece = max(1, PIECE_BYTES // (run.posterior.dimension * real.itemsize))
    for chain in range(inference.chains):
        result = ChainResult(
            [arrays[f"state/{chain}/{i}"] for i in range(meta["leaves"])],
            position=inference.warmup + inference.draws,
            stats=[_statistics(run, "sample_stats", chain, real)],
            warmup=[_statistics(run, "warmup_sample_stats", chain, real)],
            warmup_seconds=run.manifest["warmup_seconds"] * share,
            sampling_seconds=run.manifest["sampling_seconds"] * share,
        )
        for first in range(0, inference.draws, piece):
            which = slice(first, min(first + piece, inference.draws), 1)
            result.u.append(u.take(chain, which))
            checkpoint.save(chain, result)
    # From here on the folder holds a stopped run; its spec is not among the files vouched for.
    files = {name: kept for name, kept in run.manifest["files"].items() if name != "run.toml"}
    store.write_manifest(run.path, {**run.manifest, "state": "stopped", "files": files})
    lengthen(run.path, run.spec, draws)


def lengthen(folder: Path, spec: RunSpec, draws: int) -> None:
    """Let an unfinished run have more draws."""
    longer = spec.inference.model_copy(update={"draws": draws})
    store.replace_spec(folder, spec.model_copy(update={"inference": longer}).to_toml())


def _statistics(run: Run, group: str, chain: int, real: Any) -> dict[str, np.ndarray]:
    """A chain's statistics as the loop keeps them; what the tree adds is made anew."""
    if group not in run.tree.children:
        return {}
    found = run.tree[group].to_dataset()
    return {
        str(name): values.to_numpy()[chain].astype(real)
        for name, values in found.items()
        if name != "virial"
    }
