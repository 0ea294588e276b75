"""Standardisation: fitted on training rows, applied to anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Scaling:
    """Means and standard deviations that take original units to model units and back.

    The methods use plain arithmetic, so NumPy and JAX arrays both pass through, traced or not.

    Attributes:
        x_mean: ``(*in_shape)``, in units of x.
        x_std: ``(*in_shape)``, in units of x; 1 where a column is constant.
        y_mean: ``()`` or ``(outputs,)``, in units of y; 0 for classification.
        y_std: ``()`` or ``(outputs,)``, in units of y; 1 for classification or a constant target.
    """

    x_mean: np.ndarray
    x_std: np.ndarray
    y_mean: np.ndarray
    y_std: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.x_mean, self.x_std, self.y_mean, self.y_std):
            array.setflags(write=False)

    @classmethod
    def identity(cls, in_shape: tuple[int, ...], y_shape: tuple[int, ...] = ()) -> Scaling:
        """The scaling that changes nothing.

        Args:
            in_shape: shape of one input.
            y_shape: shape of one target: ``()`` or ``(outputs,)``.
        """
        return cls(np.zeros(in_shape), np.ones(in_shape), np.zeros(y_shape), np.ones(y_shape))

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray | None, pooled: bool = False) -> Scaling:
        """Means and population standard deviations over rows.

        Images ``(row, height, width, channel)`` have one of each a channel: pixel by pixel, a
        corner that is nearly always black would be blown up, and a moved image would be another.

        Args:
            x: ``(row, *in_shape)`` training inputs.
            y: ``(row,)`` or ``(row, outputs)`` training targets, None for class numbers.
            pooled: one mean and one standard deviation for all inputs, which are of one kind.

        Returns:
            The scaling; a column that never varies has std 1.
        """
        over = tuple(range(x.ndim)) if pooled else (0, 1, 2) if x.ndim == 4 else (0,)
        x_mean, x_std = (np.array(np.broadcast_to(m, x.shape[1:])) for m in _moments(x, over))
        y_mean, y_std = (np.zeros(()), np.ones(())) if y is None else _moments(y, (0,))
        return cls(x_mean, x_std, y_mean, y_std)

    def of_inputs(self) -> Scaling:
        """The same for inputs; targets stay as they are."""
        y_shape = self.y_mean.shape
        return Scaling(self.x_mean, self.x_std, np.zeros(y_shape), np.ones(y_shape))

    def transform_x(self, x: Any) -> Any:
        """Inputs in model units.

        Args:
            x: inputs ``(..., *in_shape)``, original units.
        """
        return (x - self.x_mean) / self.x_std

    def transform_y(self, y: Any) -> Any:
        """Targets in model units; class numbers unchanged.

        Args:
            y: targets ``(...)`` or ``(..., outputs)``, original units.
        """
        return y if np.dtype(y.dtype).kind in "iu" else (y - self.y_mean) / self.y_std

    def inverse_y(self, value: Any, std: bool = False) -> Any:
        """Model units back to original units.

        Args:
            value: targets ``(...)`` or ``(..., outputs)``, or their spread, model units.
            std: they are a spread, which has no offset.
        """
        return value * self.y_std if std else value * self.y_std + self.y_mean


def constant_columns(values: np.ndarray) -> np.ndarray:
    """Whether each column ``(*shape,)`` of ``(row, *shape)`` holds one value only."""
    return np.asarray(values.max(axis=0) == values.min(axis=0))


def _moments(values: np.ndarray, over: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    # Divided by the largest magnitude first: the square of 1e200 overflows, that of 1e-200 is 0,
    # and a constant 0.1 has a standard deviation of 1e-17 where a constant 1 has exactly 0.
    size = np.abs(values).max(axis=over)
    size = np.where(size > 0, size, 1.0)
    unit = values / np.expand_dims(size, over)
    std = size * unit.std(axis=over)
    return np.asarray(size * unit.mean(axis=over)), np.where(std == 0, 1.0, std)
