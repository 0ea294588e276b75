"""What particle methods say of their repeats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bnnzoo.inference.backends.smc import FEWEST_ANCESTORS
from bnnzoo.inference.evidence import Estimate
from bnnzoo.inference.repeats import mean_of
from bnnzoo.inference.smc_moves import MOST_ROUNDS, STUCK_ACCEPTANCE

CHANCE = 0.001
"""That a lag is warned of where there is none."""

LARGE_LAG = 0.3
"""Nats of lag that are warned of."""


def population_estimate(
    found: dict[str, np.ndarray],
    pilot: dict[str, Any],
    particles: int,
    max_stages: int,
    more: dict[str, Any] | None = None,
) -> Estimate:
    """The mean Z of repeated populations, and what was wrong with any of them.

    Args:
        found: of each repeat ``log_z``, ``gradients``, ``stages``, ``acceptance`` (the lowest),
            ``ancestors``, and ``gap`` if it has one; a positive one counts as standard error.
        pilot: the same of the population that found the way, which has no part in the mean, whether
            it was ``forced`` and its ``most_rounds``.
        particles: of each.
        max_stages: after which the pilot was forced.
        more: diagnostics beside those of every population.
    """
    mean = mean_of(found["log_z"])
    warnings = list(mean.warnings)
    diagnostics: dict[str, Any] = {"most_rounds": pilot["most_rounds"]}
    lag = 0.0
    if "gap" in found and (alive := np.isfinite(found["log_z"])).sum() > 1:
        gap = found["gap"][alive].astype(float)
        lag = max(0.0, float(gap.mean()))
        diagnostics["gap"] = float(gap.mean())
        diagnostics["gap_error"] = float(gap.std(ddof=1) / math.sqrt(len(gap)))
        sure = float(stdtrit(len(gap) - 1, 1.0 - CHANCE)) * diagnostics["gap_error"]
        if lag > max(LARGE_LAG, sure):
            warnings.append(
                f"by bridges between stages log Z is {lag:.2g} nats higher: particles lag behind "
                "the temperature, and the value is low by up to that; raise particles"
            )
    if pilot["most_rounds"] >= MOST_ROUNDS:
        warnings.append(
            f"particles had not settled after {MOST_ROUNDS} rounds of moves in a stage; raise moves"
        )
    if pilot["forced"]:
        warnings.append(
            f"the way to the target was not found in {max_stages} stages: the last is a jump; "
            "raise max_stages"
        )
    ancestors = int(found["ancestors"].min())
    if ancestors < min(FEWEST_ANCESTORS, particles / 8):
        warnings.append(
            f"a repeat's particles descend from {ancestors} draws of the prior: weights of "
            "modes rest on few; raise particles"
        )
    if (lowest := float(found["acceptance"].min())) < STUCK_ACCEPTANCE:
        warnings.append(
            f"acceptance {lowest:.2f} in a stage: particles were copied and hardly moved"
        )
    diagnostics |= {
        "spread": mean.spread,
        "stages": float(found["stages"].mean()),
        "fewest_ancestors": ancestors,
        "lowest_acceptance": lowest,
        "log_z": found["log_z"].tolist(),
        "pilot_log_z": float(pilot["log_z"]),
    }
    gradients = int(found["gradients"].sum() + pilot["gradients"])
    error = math.hypot(mean.standard_error, lag)
    return Estimate(mean.log, error, gradients, diagnostics | (more or {}), tuple(warnings))
