"""Whether draws of an approximation can be weighted into draws of the posterior."""

from __future__ import annotations

import math

import numpy as np

from bnnzoo.inference.backend import Flag

LARGEST_KHAT = 0.7
"""Above it no practical number of draws makes importance weights reliable."""

LEAST_DRAWS = 100
"""Fewer have no tail to fit."""

SAME_TAIL = "All tail values are the same"
"""What ArviZ raises of a tail without spread."""


def khat(log_ratios: np.ndarray) -> float:
    """Shape of the generalised Pareto law fitted to the largest importance ratios.

    Args:
        log_ratios: log p(u) - log q(u) of draws from q ``(draw,)``; p need not be normalised.

    Returns:
        ArviZ's estimate; NaN for fewer than 100 draws, infinity where a ratio is infinite.

    Source: Vehtari et al. (2024), Pareto Smoothed Importance Sampling, sec. 3.
    """
    from arviz_stats.base import array_stats

    ratios = np.asarray(log_ratios, np.float64)
    if len(ratios) < LEAST_DRAWS or np.isnan(ratios).any():
        return math.nan
    if np.isposinf(ratios).any():
        return math.inf
    ratios = ratios - ratios.max()
    if ratios.min() > -1e-6:
        return -math.inf  # Equal weights: q is p, and there is no tail to fit.
    try:
        return float(array_stats.psislw(-ratios)[1])
    except ValueError as error:
        if SAME_TAIL not in str(error):
            raise
        return -math.inf  # The largest are equal, as where ratios differ by rounding alone.


def khat_flags(log_ratios: np.ndarray) -> list[Flag]:
    """A warning where the draws cannot be weighted into the posterior's.

    Args:
        log_ratios: of one chain's draws ``(draw,)``.
    """
    value = khat(log_ratios)
    return [khat_flag(value)] if value > LARGEST_KHAT else []


def khat_flag(value: float) -> Flag:
    """The warning of a k-hat above 0.7."""
    return Flag(
        "warning",
        f"Pareto k-hat {value:.2f} > {LARGEST_KHAT:g}: the approximation is too far from the "
        "posterior for importance weights; compare with an exact backend (hmc, nuts)",
    )
