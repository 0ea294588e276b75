"""Independent repeats of one estimate, and the one number they come to."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from scipy.special import logsumexp

from bnnzoo.inference.loop import chains_on_threads
from bnnzoo.inference.precision import precision
from bnnzoo.inference.programs import side_by_side
from bnnzoo.models.posterior import Posterior

UNRELIABLE_NATS = 1.0
"""Standard deviation of repeated log Z above which their mean rests on the few largest."""

Program = Callable[[Any, Posterior, Any], dict[str, Array]]
"""Estimator, posterior and key to named results; jitted once, at module level, by its owner."""


def repeat(
    program: Program, estimator: Any, posterior: Posterior, seed: int, count: int, dtype: str
) -> dict[str, np.ndarray]:
    """Run a program so often, each with a key of its own.

    On a CPU host threads call it; on an accelerator it is vmapped, so ``program`` may come jitted.

    Args:
        program: traced; see :data:`Program`.
        estimator: its first argument, a pytree.
        posterior: the target.
        seed: of the keys.
        count: repeats.
        dtype: ``float32`` or ``float64``.

    Returns:
        Its results, stacked along a leading axis of repeats.
    """
    keys = jax.random.split(jax.random.key(seed), count)
    return repeat_each(program, estimator, posterior, keys, dtype)


def repeat_each(
    program: Program, estimator: Any, posterior: Posterior, given: Any, dtype: str
) -> dict[str, np.ndarray]:
    """Run a program once for each of what it is given; see :func:`repeat`.

    Args:
        program: traced; its third argument is one of ``given``.
        estimator: its first argument, a pytree.
        posterior: the target.
        given: a pytree of arrays that have a leading axis of repeats.
        dtype: ``float32`` or ``float64``.
    """
    if not chains_on_threads():
        return jax.device_get(jax.vmap(program, (None, None, 0))(estimator, posterior, given))
    count = len(jax.tree.leaves(given)[0])

    def one(number: int) -> dict[str, np.ndarray]:
        with precision(dtype):
            mine = jax.tree.map(lambda leaf: leaf[number], given)
            return jax.device_get(program(estimator, posterior, mine))

    # The first alone: it compiles, and NumPyro's handlers are not safe to trace in two threads.
    found = [one(0)]
    workers = min(max(count - 1, 1), os.cpu_count() or 1)
    with side_by_side(workers > 1), ThreadPoolExecutor(workers) as pool:
        found += pool.map(one, range(1, count))
    return {name: np.stack([values[name] for values in found]) for name in found[0]}


def in_groups(
    program: Program,
    estimator: Any,
    posterior: Posterior,
    key: Array,
    starts: Array,
    at_once: int,
    dtype: str,
) -> dict[str, np.ndarray]:
    """Run a program on groups of points, each with a key of its own.

    All groups are of one size; the last is filled up with points that are dropped again.

    Args:
        program: traced; given a key and points ``(group, dim)``, its results have a leading axis
            of points.
        estimator: its first argument, a pytree.
        posterior: the target.
        key: typed key.
        starts: points ``(point, dim)``.
        at_once: most points of a group.
        dtype: ``float32`` or ``float64``.

    Returns:
        Its results, with a leading axis of points.
    """
    count = len(starts)
    groups = -(-count // at_once)
    size = -(-count // groups)
    index = np.arange(groups * size) % count
    given = jax.random.split(key, groups), starts[index].reshape(groups, size, -1)
    found = repeat_each(program, estimator, posterior, given, dtype)
    return {name: v.reshape(groups * size, *v.shape[2:])[:count] for name, v in found.items()}


class Mean(NamedTuple):
    """The mean of repeated estimates of Z, as a logarithm.

    Attributes:
        log: log of the mean.
        standard_error: of ``log``, to first order.
        spread: standard deviation of the repeats' logarithms.
        warnings: where that order does not do.
    """

    log: float
    standard_error: float
    spread: float
    warnings: tuple[str, ...]


def mean_of(log_estimates: np.ndarray) -> Mean:
    """Average estimates of Z that are given as logarithms.

    Args:
        log_estimates: log Z of each repeat ``(repeat,)``; minus infinity is an estimate of 0.

    Returns:
        log(mean Z) with the standard deviation of Z over its mean and the root of their number.
    """
    logs = np.asarray(log_estimates, np.float64)
    count = len(logs)
    log = float(logsumexp(logs) - np.log(count))
    ratios = np.exp(logs - log)
    error = float(ratios.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    spread = float(logs.std(ddof=1)) if np.isfinite(logs).all() and count > 1 else math.inf
    found: tuple[str, ...] = ()
    if spread > UNRELIABLE_NATS or np.isnan(logs).any():
        found = (
            f"the repeats' log Z spread by {spread:.2g} nats: their mean rests on the largest and "
            "its standard error is too small; spend more on each repeat",
        )
    return Mean(log, error, spread, found)
