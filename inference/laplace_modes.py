"""Independent climbs to modes, for estimators that ask no draws of the backend ``laplace``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bnnzoo.inference.backends.laplace import Laplace
from bnnzoo.inference.laplace_structures import Flavour
from bnnzoo.inference.loop import run_chains
from bnnzoo.models.posterior import Posterior


class Modes(NamedTuple):
    """Where climbs have ended.

    Attributes:
        states: of the backend, one a climb.
        stats: its statistics at the end ``(climb,)``.
        warnings: what is wrong with each.
        gradients: of all.
    """

    states: list[Any]
    stats: dict[str, np.ndarray]
    warnings: list[tuple[str, ...]]
    gradients: int


def find_modes(
    posterior: Posterior,
    flavour: Flavour,
    *,
    noise: str,
    modes: int,
    steps: int,
    seed: int,
    dtype: str,
) -> Modes:
    """Climb so many times, each from a start of its own.

    Args:
        posterior: the target.
        flavour: of the curvature, in whose metric they climb.
        noise: ``marginal`` or ``joint``, as of the backend.
        modes: number of climbs.
        steps: of L-BFGS of each.
        seed: of every random number.
        dtype: ``float32`` or ``float64``; the caller is inside ``precision`` already.
    """
    # Sampled, so that a hand-written model needs no network; nothing is drawn.
    sampler = Laplace(flavour, "sampled", noise=noise, drawn=False).planned(steps)
    chains = run_chains(
        sampler, posterior, chains=modes, draws=0, warmup=steps, seed=seed, dtype=dtype
    )
    warnings, gradients = [], 0
    for climb in range(modes):
        stats = {name: values[climb] for name, values in chains.warmup_stats.items()}
        flags = [flag for chain, flag in chains.flags if chain == climb]
        said = [flag.message for flag in flags or sampler.flags(stats, {})]
        # What a run calls warmup is called steps here.
        warnings.append(tuple(text.replace("raise warmup", "raise steps") for text in said))
        gradients += sampler.gradients(stats)
    ends = {name: values[:, -1] for name, values in chains.warmup_stats.items()}
    return Modes(chains.states, ends, warnings, gradients)
