"""Intervals for statistics of weights: networks are resampled, or units where those are few.

The weights of a network depend on each other, so that an interval from independent weights would
be far too narrow. With five networks or more whole networks are drawn with replacement, their units
with them (Davison & Hinkley 1997, sec. 3.8, find drawing within clusters as well too wide): the
interval is about other trainings on the same data. With fewer, units are drawn within each network,
and the interval is about those networks alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

OUTER = 5
"""Networks from which on they are what is resampled."""

LEVEL = 0.95


class IntervalEstimate(NamedTuple):
    """A number with its 95 % interval.

    Attributes:
        value: of the networks as they are.
        low: of the interval.
        high: of the interval; infinite where the end is.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """In words: ``4.2 [3.1, 6.5]``."""
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def draw_counts(
    networks: int, units: int, resamples: int, seed: int | Sequence[int]
) -> Float[np.ndarray, "resample network unit"]:
    """How often each unit of each network is in each bootstrap sample.

    Args:
        networks: at least two.
        units: of each, in the parameter that is looked at.
        resamples: number of bootstrap samples.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    if networks >= OUTER:
        counts = random.multinomial(networks, np.full(networks, 1.0 / networks), size=resamples)
        return np.broadcast_to(counts[:, :, None], (resamples, networks, units)).astype(float)
    return random.multinomial(units, np.full(units, 1.0 / units), size=(resamples, networks)) * 1.0


def estimate(
    value: float,
    resampled: np.ndarray,
    networks: int,
    units: int,
    there: Callable[[float], float] = lambda v: v,
    back: Callable[[float], float] = lambda v: v,
) -> IntervalEstimate:
    """A Student-t interval of the bootstrap's standard error, on a scale where that is fair.

    Percentiles of samples of a few clusters are too narrow: the error is multiplied by the root of
    n / (n - 1), and n - 1 are the degrees of freedom, n the number of networks (of units).

    Args:
        value: of the networks as they are.
        resampled: of the bootstrap samples ``(resample,)``.
        networks: how many there are.
        units: of each.
        there: to the scale on which errors are taken to be normal.
        back: from it, increasing or decreasing.
    """
    size, df = (networks, networks - 1) if networks >= OUTER else (units, networks * (units - 1))
    if size < 2:
        return IntervalEstimate(value, math.nan, math.nan)
    spread = np.std([there(v) for v in resampled], ddof=1) * math.sqrt(size / (size - 1))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, df) * spread)
    ends = [back(there(value) - half), back(there(value) + half)]
    return IntervalEstimate(value, min(ends), max(ends))
