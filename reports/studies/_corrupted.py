"""Corrupted 8 x 8 images, drawn once: pixel noise, blur and shifts at three strengths."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SEED = 20261121

BRIGHTEST = 16.0
"""Of a pixel of the digits."""

NOISES = (2.0, 4.0, 8.0)
"""Standard deviation of what is added to every pixel; the sum is cut to the range of pixels."""

BLURS = (0.5, 0.8, 1.2)
"""Standard deviation of the Gaussian kernel, pixels."""

SHIFTS = (0.25, 0.5, 0.75)
"""Length of a shift in a random direction, pixels; what comes in is empty."""

KINDS = ("noise", "blur", "shift")
LEVELS = (1, 2, 3)


def corrupted(x: np.ndarray) -> dict[tuple[str, int], np.ndarray]:
    """The same images under every corruption.

    The noise of a row, and the direction of its shift, are those of all strengths, so that a
    stronger corruption is more of the same.

    Args:
        x: images ``(row, 64)``, pixels from 0 to 16.

    Returns:
        Images ``(row, 64)`` by kind and level, 1 the mildest.

    Source: after Hendrycks & Dietterich (2019), Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations; kinds and strengths are for these small images.
    """
    random = np.random.default_rng(SEED)
    images = x.reshape(-1, 8, 8)
    noise = random.normal(size=images.shape)
    angle = random.uniform(0.0, 2.0 * np.pi, size=len(images))
    way = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    made: dict[tuple[str, int], np.ndarray] = {}
    for level in LEVELS:
        noisy = images + NOISES[level - 1] * noise
        blurred = ndimage.gaussian_filter(images, (0.0, BLURS[level - 1], BLURS[level - 1]))
        moved = [
            ndimage.shift(image, SHIFTS[level - 1] * step, order=1)
            for image, step in zip(images, way, strict=True)
        ]
        for kind, found in zip(KINDS, (noisy, blurred, np.stack(moved)), strict=True):
            made[kind, level] = np.clip(found, 0.0, BRIGHTEST).reshape(len(x), -1)
    return made
