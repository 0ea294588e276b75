"""The mean of correlated draws with its standard error."""

from __future__ import annotations

import math

import numpy as np


def mean_with_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over chains and draws, and its Monte Carlo standard error.

    Args:
        values: ``(chain, draw)``; draws that are NaN in every chain are skipped, then chains that
            have a NaN are.

    Returns:
        Mean and standard deviation / sqrt(ESS); NaN where fewer than 4 draws a chain are left or
        none varies.

    Source:
        Vehtari et al. (2021), eq. 10; ESS by ``arviz_stats``.
    """
    from arviz_stats.base import array_stats

    known = values[:, np.isfinite(values).any(0)]
    known = np.asarray(known[np.isfinite(known).all(1)], np.float64)
    if known.shape[0] == 0 or known.shape[1] < 4:
        return math.nan, math.nan
    spread = float(known.std())
    if spread == 0:
        return float(known.mean()), math.nan
    ess = array_stats.ess(known[..., None], method="mean", chain_axis=0, draw_axis=1)
    return float(known.mean()), spread / math.sqrt(float(ess[0]))
