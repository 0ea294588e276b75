"""More draws for a run that is finished: its chains go on from where they ended.

A finished run keeps the last state of every chain (``ends.npz``). To extend it is to turn it back
into a stopped one, whose checkpoints hold all it has, and to resume that: a kill at any moment
leaves the finished run or one that resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bnnzoo import store
from bnnzoo.errors import InputError, RunError
from bnnzoo.inference.chains import ChainResult, Chains
from bnnzoo.inference.checkpoint import Checkpoint, keep_data
from bnnzoo.inference.run import Run
from bnnzoo.models.layout import tree_name
from bnnzoo.models.posterior import Posterior
from bnnzoo.specs import RunSpec


def keep_ends(folder: Path, posterior: Posterior, chains: Chains, values: Any) -> None:
    """Write what a finished run needs to go on, beside its draws.

    Args:
        folder: the run folder.
        posterior: the target.
        chains: all of them complete.
        values: the tree's ``posterior`` group. Draws of sites that it does not hold bit for bit
            (those that are transformed) are kept unconstrained as well.
    """
    arrays: dict[str, np.ndarray] = {}
    for chain, state in enumerate(chains.states):
        leaves = jax.tree.leaves(state)
        arrays |= {f"state/{chain}/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    for site in posterior.sites:
        own = chains.u[..., site.offset : site.offset + site.size]
        kept = values[tree_name(site.name)].to_numpy()
        if not np.array_equal(kept.reshape((*kept.shape[:2], -1)), own):
            arrays[f"u/{site.name}"] = own
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
    u = _unconstrained(run, arrays)
    share = meta["at_once"] / inference.chains
    keep_data(run.path, run.posterior, run.manifest["model"]["external"])
    checkpoint = Checkpoint(run.path)
    for chain in range(inference.chains):
        result = ChainResult(
            [arrays[f"state/{chain}/{i}"] for i in range(meta["leaves"])],
            position=inference.warmup + inference.draws,
            u=[u[chain]],
            stats=[_statistics(run, "sample_stats", chain, u.dtype)],
            warmup=[_statistics(run, "warmup_sample_stats", chain, u.dtype)],
            warmup_seconds=run.manifest["warmup_seconds"] * share,
            sampling_seconds=run.manifest["sampling_seconds"] * share,
        )
        checkpoint.save(chain, result)
    # From here on the folder holds a stopped run; its spec is not among the files vouched for.
    files = {name: kept for name, kept in run.manifest["files"].items() if name != "run.toml"}
    store.write_manifest(run.path, {**run.manifest, "state": "stopped", "files": files})
    lengthen(run.path, run.spec, draws)


def lengthen(folder: Path, spec: RunSpec, draws: int) -> None:
    """Let an unfinished run have more draws."""
    longer = spec.inference.model_copy(update={"draws": draws})
    store.replace_spec(folder, spec.model_copy(update={"inference": longer}).to_toml())


def _unconstrained(run: Run, ends: Mapping[str, np.ndarray]) -> np.ndarray:
    """``(chain, draw, dim)``: what the sampler gave, bit for bit."""
    posterior, group = run.posterior, run.tree["posterior"]
    parts = []
    for site in posterior.sites:
        own = ends.get(f"u/{site.name}")
        kept = group[tree_name(site.name)].to_numpy() if own is None else own
        parts.append(kept.reshape((*kept.shape[:2], -1)))
    return np.concatenate(parts, axis=2)


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
