"""Two interleaved half circles, with the log-odds that a perfect classifier would give."""

from __future__ import annotations

import functools
from typing import Annotated

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._make import make_dataset
from bnnzoo.datasets._synthetic import SyntheticOptions
from bnnzoo.registry import register

NODES = 600
"""Points of the quadrature along a half circle: closer together than the smallest noise allowed."""

BLOCK = 1000
"""Rows whose log-odds are worked out at once: bounds the memory."""


class MoonsOptions(SyntheticOptions):
    """Options of ``two-moons``."""

    noise: Annotated[float, Field(ge=0.01, allow_inf_nan=False)] = Field(
        0.2, description="Standard deviation of the noise on each input; at least 0.01."
    )


@register(
    "datasets",
    "two-moons",
    summary="Synthetic classification: two interleaved half circles with Gaussian noise.",
    options=MoonsOptions,
    references=("The shape is that of scikit-learn's make_moons.",),
    tags={"task": "classification", "source": "synthetic"},
    notes="The classes are equally likely, places on a half circle uniform. truth['f'] and f_test"
    " are the true log-odds of class 1, log p(x | 1) / p(x | 0); noise and noise_test are the"
    " standard deviation of the inputs' noise, one value a row.",
)
def two_moons(options: MoonsOptions) -> Dataset:
    """The data set of these options."""
    rng = np.random.default_rng(options.seed)
    rows = options.n + options.n_test
    label = rng.integers(2, size=rows)
    label[:2] = 0, 1  # a training set of one class is none
    clean = np.where(label == 1, *(moon(rng.uniform(0, np.pi, rows), k).T for k in (1, 0))).T
    x = clean + options.noise * rng.standard_normal(clean.shape)
    train, test = slice(options.n), slice(options.n, None)
    spread = np.full(rows, options.noise)
    truth = {"f": log_odds(x[train], options.noise), "noise": spread[train]}
    x_test = y_test = None
    if options.n_test:
        x_test, y_test = x[test], label[test]
        truth |= {"f_test": log_odds(x_test, options.noise), "noise_test": spread[test]}
    return make_dataset(
        x[train],
        label[train],
        x_test,
        y_test,
        task="classification",
        scale=options.scale,
        name="two-moons",
        class_names=("0", "1"),
        truth=truth,
    )


def moon(angle: np.ndarray, label: int) -> np.ndarray:
    """Points ``(row, 2)`` of one half circle at angles from 0 to pi."""
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.array([1.0, 0.5]) - circle if label else circle


def log_odds(x: np.ndarray, noise: float) -> np.ndarray:
    """Log p(x | class 1) - log p(x | class 0) at inputs ``(row, 2)``."""
    blocks = np.split(x, range(BLOCK, len(x), BLOCK))
    one, zero = ([_log_density(b, label, noise) for b in blocks] for label in (1, 0))
    return np.concatenate(one) - np.concatenate(zero)


def _log_density(x: np.ndarray, label: int, noise: float) -> np.ndarray:
    """Up to a constant: a Gaussian around every place of the half circle, averaged."""
    node, weight = _quadrature()
    place = moon((node + 1.0) * np.pi / 2.0, label)
    distance = (x[:, :1] - place[:, 0]) ** 2 + (x[:, 1:] - place[:, 1]) ** 2
    nearest = distance.min(axis=1, keepdims=True)
    mean = np.exp((nearest - distance) / (2.0 * noise**2)) @ weight
    return np.asarray(np.log(mean) - nearest[:, 0] / (2.0 * noise**2))


@functools.cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre's rule on (-1, 1): slow to work out."""
    return np.polynomial.legendre.leggauss(NODES)
