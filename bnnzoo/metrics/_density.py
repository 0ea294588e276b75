"""The predictive density: mixtures over draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import InputError
from bnnzoo.metrics._checks import rows


def log_mean_exp(log_values: ArrayLike, axis: int | tuple[int, ...] = 0) -> np.ndarray:
    """Log of the mean of exponentials, without overflow.

    Args:
        log_values: logarithms, -inf allowed.
        axis: axis or axes to average over, such as chains and draws.

    Returns:
        ``log(mean(exp(log_values)))`` with those axes removed.

    Raises:
        InputError: there is nothing to average.
    """
    values = np.asarray(log_values, dtype=np.float64)
    axes = (axis,) if isinstance(axis, int) else axis
    count = int(np.prod([values.shape[a] for a in axes]))
    if count == 0:
        raise InputError("there is nothing to average: log_values is empty")
    top = values.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)  # -inf - -inf would be NaN
    with np.errstate(divide="ignore"):
        total = np.log(np.sum(np.exp(values - top), axis=axis))
    return np.asarray(total + np.squeeze(top, axis=axis) - np.log(count))


def mixture_nll(log_density: ArrayLike) -> float:
    """Negative log predictive density a row of the mixture over draws.

    Args:
        log_density: ``(row,)``: :func:`log_mean_exp` over draws of log p(y | draw), in nats of
            the density in original units.

    Returns:
        Its negative mean, in nats a row; infinite where a row has density zero.

    Raises:
        InputError: there are no rows.
    """
    return -float(np.mean(rows("log_density", log_density)))
