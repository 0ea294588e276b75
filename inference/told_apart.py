"""How many arrangements of hidden units a Gaussian about one mode tells apart.

The equal copies of a mode are a mixture of as many Gaussians, equally likely. Its integral is that
of one times exp of the mutual information between a point and the copy it was drawn of: log H! 2^H
a layer where copies do not overlap, 0 where units are so little determined that all copies are one
Gaussian. Any guess q of the copy given the point bounds it from below (Barber & Agakov 2003, The IM
Algorithm): I >= log(number of copies) + E log q(copy | point). Here q weighs an arrangement by the
units' own Gaussians, and its normaliser, a permanent, is at most the product of its row sums:

    log q >= -sum_i log sum_j [N_j(w_i) + N_j(-w_i)] / N_i(w_i)

with w_i the weights of unit i, N_j the Gaussian of place j and the second term for odd activations.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from bnnzoo.inference.symmetries import HiddenLayer, judged_by

ROUNDING = 1e-9
"""Relative error that is none."""


class ToldApart(NamedTuple):
    """A logarithm of how many times one Gaussian's integral the mixture has.

    Attributes:
        log_count: lower bound.
        standard_error: of its mean over draws.
    """

    log_count: float
    standard_error: float


def log_told_apart(
    layers: tuple[HiddenLayer, ...], centre: np.ndarray, draws: np.ndarray
) -> ToldApart:
    """The bound above, layer by layer; at least 0 and at most all arrangements.

    A layer is told by weights that no arrangement of a later one changes, the layers before it in
    their places.

    Args:
        layers: from :func:`bnnzoo.inference.symmetries.hidden_layers`.
        centre: the mode ``(dim,)``.
        draws: of the Gaussian about it ``(draw, dim)``; at least two.
    """
    widths = np.sqrt(np.mean((draws - centre) ** 2, axis=0))
    total, most = np.zeros(len(draws)), sum(layer.log_count for layer in layers)
    for number, layer in enumerate(layers):
        index = judged_by(layers, number)
        lost = _lost(draws[:, index], centre[index], widths[index], layer.odd)
        if lost.mean() < layer.log_count:
            total += layer.log_count - lost
    value, error = float(total.mean()), float(total.std(ddof=1) / math.sqrt(len(draws)))
    # Where copies do not overlap draws differ by rounding.
    return ToldApart(min(max(value, 0.0), most), error if error > ROUNDING * most else 0.0)


def _lost(draws: np.ndarray, centre: np.ndarray, widths: np.ndarray, odd: bool) -> np.ndarray:
    """Sum over units of log sum over places of N_j(+-w_i) / N_i(w_i) ``(draw,)``.

    Args:
        draws: weights of each unit ``(draw, unit, weight)``.
        centre: of each place ``(place, weight)``.
        widths: likewise.
        odd: signs may change.
    """
    width = np.maximum(widths, 1e-6 * widths.max())  # a weight that hardly moves tells enough
    scaled, precision = centre / width**2, width**-2.0
    own = np.sum(centre * scaled, axis=1) + 2.0 * np.sum(np.log(width), axis=1)
    even = -0.5 * (draws**2 @ precision.T + own)
    cross = draws @ scaled.T
    logs = even + cross
    at_home = np.diagonal(logs, axis1=1, axis2=2)
    every = np.concatenate([logs, even - cross], axis=2) if odd else logs
    return np.sum(logsumexp(every, axis=2) - at_home, axis=1)
