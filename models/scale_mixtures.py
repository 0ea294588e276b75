"""Width of an element that is Gaussian given a random scale, computed once on the host.

Families of this kind (two-component mixtures, horseshoes, gates) have no quantile in closed form:
with scale s of weight p(s) the distribution function at q is the mean of Phi(q / s).
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from bnnzoo.models.prior import NORMAL_IQR, Match


def matching_unit(scales: np.ndarray, weights: np.ndarray, match: Match) -> float:
    """What an element is multiplied by so that its width is that of N(0, 1).

    Args:
        scales: of the Gaussians; 0 is a point mass.
        weights: of each, adding up to 1.
        match: which width: see :class:`bnnzoo.models.prior.ElementwiseOptions`.
    """
    if match == "scale":
        return 1.0
    if match == "variance":
        return float(np.sum(weights * scales**2) ** -0.5)
    return NORMAL_IQR / (2.0 * upper_quartile(scales, weights))


def upper_quartile(scales: np.ndarray, weights: np.ndarray) -> float:
    """The quantile of 3/4; 0 where a point mass at 0 holds half of the weight or more.

    Args:
        scales: of the Gaussians.
        weights: of each, adding up to 1.
    """
    wide, of = scales[scales > 0], weights[scales > 0]

    def excess(log_q: float) -> float:
        # Beyond q lies a quarter: small tails are added up, not differences of ones near 1.
        return float(np.sum(of * special.ndtr(-np.exp(log_q) / wide))) - 0.25

    low, high = np.log(wide.min()) - 5.0, np.log(wide.max()) + 5.0
    if excess(low) <= 0:
        return 0.0
    return float(np.exp(optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14)))
