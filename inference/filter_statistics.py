"""How alike the weights of a convolution's filters are, by their distance."""

from __future__ import annotations

import itertools
import math

import numpy as np
from jaxtyping import Float
from scipy import optimize

LENGTH_RANGE = (0.05, 100.0)
"""Length-scales that are looked at, in positions: at 0.05 neighbours have correlation 2e-9."""


def filter_moments(kernels: np.ndarray, axes: int) -> Float[np.ndarray, "network unit p p"]:
    """Second moments about 0 of filter positions, means over input channels.

    Args:
        kernels: ``(network, *positions, *channels, unit)``.
        axes: how many axes positions have.
    """
    networks, units = kernels.shape[0], kernels.shape[-1]
    positions = math.prod(kernels.shape[1 : 1 + axes])
    flat = kernels.reshape(networks, positions, -1, units)
    return np.einsum("rpiu,rqiu->rupq", flat, flat) / flat.shape[2]


def distances(sides: tuple[int, ...]) -> Float[np.ndarray, "p p"]:
    """Euclidean distances of the positions of a filter, last axis fastest.

    Args:
        sides: of the filter.
    """
    places = np.array(list(itertools.product(*(range(n) for n in sides))), float)
    return np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))


def correlation_by_distance(
    moments: Float[np.ndarray, "p p"], distance: Float[np.ndarray, "p p"]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances that occur, and the mean correlation of pairs of positions that far apart.

    Args:
        moments: second moments of the positions.
        distance: of the positions.
    """
    size = np.sqrt(np.diag(moments))
    correlation = moments / np.outer(size, size)
    above = np.triu_indices(len(moments), 1)
    rounded = np.round(distance[above], 6)
    found = np.unique(rounded)
    return found, np.array([correlation[above][rounded == d].mean() for d in found])


def length_scale(moments: Float[np.ndarray, "p p"], distance: Float[np.ndarray, "p p"]) -> float:
    """Length-scale l of highest likelihood: filters are N(0, s^2 exp(-distance / l)), any s.

    Args:
        moments: second moments of the positions.
        distance: of the positions.

    Returns:
        The length-scale, in positions; 0 where independence is as likely, infinite where a filter
        of equal weights is.
    """
    count = len(moments)

    def loss(log_length: float) -> float:
        values, vectors = np.linalg.eigh(np.exp(-distance * math.exp(-log_length)))
        along = np.einsum("pk,pq,qk->k", vectors, moments, vectors)
        variance = float(np.mean(along / values))  # of highest likelihood given the length
        return count * math.log(variance) + float(np.log(values).sum())

    ends = (math.log(LENGTH_RANGE[0]), math.log(LENGTH_RANGE[1]))
    found = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4})
    if loss(ends[0]) <= found.fun + 1e-12:
        return 0.0
    return math.inf if found.x > ends[1] - 1e-2 else math.exp(float(found.x))
