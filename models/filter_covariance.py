"""Covariance of a convolution filter's weights over its positions: a Gaussian process on a grid."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np

Kernel = Literal["matern-1/2", "matern-3/2", "matern-5/2", "squared-exponential"]
"""Correlation as a function of the distance between two positions."""


def filter_covariance(shape: tuple[int, ...], kernel: Kernel, length_scale: float) -> np.ndarray:
    """Correlation of the weights of a filter, position by position in C order.

    Args:
        shape: positions along each spatial axis, such as ``(3, 3)``.
        kernel: correlation at a distance.
        length_scale: in steps between neighbouring positions.

    Returns:
        ``(position, position)``, ones on the diagonal.

    Source: Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, sec. 4.2.1;
    exp(-d / length_scale) over filter positions is Fortuin et al. (2022), sec. 4.
    """
    places = np.array(list(itertools.product(*(range(n) for n in shape))), float)
    distance = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1)) / length_scale
    if kernel == "squared-exponential":
        return np.exp(-0.5 * distance**2)
    if kernel == "matern-1/2":
        return np.exp(-distance)
    if kernel == "matern-3/2":
        r = math.sqrt(3.0) * distance
        return (1.0 + r) * np.exp(-r)
    r = math.sqrt(5.0) * distance
    return (1.0 + r + r**2 / 3.0) * np.exp(-r)
