"""A run without some of its chains, for those who have looked and decided.

A chain that turned NaN or froze is flagged and stays in every average until its user says
otherwise; this is how. What is left is a run of its own, which records what was left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr

from bnnzoo import store
from bnnzoo.errors import InputError, RunError
from bnnzoo.inference.precision import precision
from bnnzoo.inference.run import Run, test_metrics
from bnnzoo.inference.tree import (
    STREAMED,
    score_again,
    site_draws,
    tree_draws,
    unconstrained_draws,
)


def drop_chains(run: Run, chains: Sequence[int], out: str | os.PathLike[str] | None = None) -> Run:
    """The same run without some chains, in a folder of its own.

    Args:
        run: a finished run, loaded with its model.
        chains: numbers of the chains to leave out, as flags name them, from 0.
        out: folder for what is left; a temporary one, gone with the run, if not given.

    Returns:
        The run that is left. Its chains are numbered anew; ``manifest["dropped_chains"]`` says
        which were left out. It cannot be resumed or extended.

    Raises:
        InputError: no such chain, or none would be left.
        RunError: the run is not finished.
        RunExistsError: ``out`` holds something else.
    """
    count = run.tree["posterior"].sizes["chain"]
    dropped = sorted(set(chains))
    for chain in dropped:
        if not 0 <= chain < count:
            raise InputError(f"chain {chain}: {run.label} has chains 0 to {count - 1}")
    kept = [chain for chain in range(count) if chain not in dropped]
    if not dropped or not kept:
        what = "no chain" if not dropped else f"all {count} chains"
        raise InputError(f"drop_chains was given {what}: name some of 0 to {count - 1}")
    if run.manifest["state"] != "complete":
        raise RunError(f"{run.path} is not finished: bnnzoo resume {run.path}")
    posterior = run.posterior  # refused here, before anything is written, where it is not known
    folder, handle = store.temporary_folder() if out is None else (Path(out), None)
    mark = ",".join(map(str, dropped))
    fingerprint = {**run.manifest["fingerprint"], "dropped chains": mark}
    store.prepare(folder, run.spec.to_toml(), fingerprint)
    tree = _without(run.tree, kept)
    tree.attrs["label"] = label = f"{run.label}, without chain{'s' * (len(dropped) > 1)} {mark}"
    inference = run.spec.inference
    values = tree_draws(run.tree, posterior).select(kept)
    score_again(tree, posterior, values, inference.seed, inference.dtype)
    u = unconstrained_draws(run.tree, posterior).select(kept)
    with precision(inference.dtype):
        store.write_tree(folder, tree, site_draws(posterior, u))
    number = {chain: new for new, chain in enumerate(kept)}
    manifest = {
        **run.manifest,
        "label": label,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "flags": [
            {**flag, "chain": number[flag["chain"]]}
            for flag in run.manifest["flags"]
            if flag["chain"] in number
        ],
        "dropped_chains": dropped,
        "fingerprint": fingerprint,
        "metrics": test_metrics(tree) if "test_scores" in tree.children else {},
        "files": store.file_hashes(folder),
    }
    store.write_manifest(folder, manifest)
    tree = store.open_tree(folder, handle)
    made = Run(folder, run.spec, store.read_manifest(folder), tree, posterior)
    made._temporary = handle
    return made


def _without(tree: xr.DataTree, kept: Sequence[int]) -> xr.DataTree:
    groups = {}
    for name, node in tree.children.items():
        group = node.to_dataset()
        if name in STREAMED:
            group = group[[]]
        if "chain" in group.sizes:
            group = group.isel(chain=kept)
            if "chain" in group.coords:
                group = group.assign_coords(chain=np.arange(len(kept)))
        groups[name] = group
    made = xr.DataTree.from_dict(groups)
    made.attrs |= tree.attrs
    return made
