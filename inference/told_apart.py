"""How many arrangements of hidden units a Gaussian about one mode tells apart.

The equal copies of a mode are a mixture of as many Gaussians, equally likely. Its entropy is that
of one plus the mutual information I between a point and the copy it was drawn of, and by so much
its bound of the log evidence is higher: log H! 2^H a layer where copies do not overlap, 0 where
units are so little determined that all copies are one Gaussian. Any guess q of the copy given the
point bounds it from below (Barber & Agakov 2003, The IM Algorithm):

    I >= log(number of copies) + E log q(copy | point)

Here q takes units by the length of their weights, which no copy changes, the longest first, and
gives each a place among those that are left, by Gaussians N_j of the places:

    q = prod_i N_i(w_i) / sum_(j left) [N_j(w_i) + N_j(-w_i)]

with w_i the weights of unit i and the second term for odd activations. Where units have all one
Gaussian that is one over the number of copies, and nothing is told.
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
    layers: tuple[HiddenLayer, ...], centre: np.ndarray, widths: np.ndarray, draws: np.ndarray
) -> ToldApart:
    """The bound above, layer by layer; at least 0 and at most all arrangements.

    A layer is told by weights that no arrangement of a later one changes, the layers before it in
    their places.

    Args:
        layers: from :func:`bnnzoo.inference.symmetries.hidden_layers`.
        centre: the mode ``(dim,)``.
        widths: of the units' Gaussians ``(dim,)``: any do, but those of ``draws`` themselves, which
            would know each draw from the copies by the chance it is made of.
        draws: of the Gaussian about it ``(draw, dim)``; at least two.
    """
    total, most = np.zeros(len(draws)), sum(layer.log_count for layer in layers)
    for number, layer in enumerate(layers):
        index = judged_by(layers, number)
        lost = np.array([_lost(u[index], centre[index], widths[index], layer.odd) for u in draws])
        if lost.mean() < layer.log_count:
            total += layer.log_count - lost
    value, error = float(total.mean()), float(total.std(ddof=1) / math.sqrt(len(draws)))
    # Where copies do not overlap draws differ by rounding.
    return ToldApart(min(max(value, 0.0), most), error if error > ROUNDING * most else 0.0)


def _lost(units: np.ndarray, centre: np.ndarray, widths: np.ndarray, odd: bool) -> float:
    """-log q of the arrangement that the units are in.

    Args:
        units: weights of each ``(unit, weight)``.
        centre: of each place ``(place, weight)``.
        widths: likewise.
        odd: signs may change.
    """
    width = np.maximum(widths, 1e-6 * widths.max())  # a weight that hardly moves tells enough
    order = np.argsort(-np.sum((units / width.mean(0)) ** 2, axis=1), kind="stable")
    units, centre, width = units[order], centre[order], width[order]
    scaled = centre / width**2
    own = np.sum(centre * scaled, axis=1) + 2.0 * np.sum(np.log(width), axis=1)
    even = -0.5 * (units**2 @ (width**-2.0).T + own)
    cross = units @ scaled.T
    logs = even + cross
    every = np.logaddexp(logs, even - cross) if odd else logs
    left = np.where(np.tri(len(logs), k=-1, dtype=bool), -np.inf, every)
    return float(np.sum(logsumexp(left, axis=1) - np.diagonal(logs)))
