"""A process whose lengthscales and variance are fitted to training targets by exact evidence."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float
from scipy import optimize

from bnnzoo.errors import InputError
from bnnzoo.inference.gaussian_process import GaussianProcess
from bnnzoo.models.process import Hyper, Process

MOST_ROWS = 3000
"""Every step of the search costs the cube of the rows: half a minute a step beyond."""

STARTS = (1.0, 0.3, 3.0)
"""What lengthscales are multiplied by at the start of each search; the best end is kept."""

LENGTHS, VARIANCES, NOISES = (1e-2, 1e3), (1e-4, 1e4), (1e-2, 1e1)
"""Where the search stays: lengthscales in modelled units, the others in units of the targets'."""


class FittedProcess(NamedTuple):
    """A process and how well it explains the training targets.

    Attributes:
        process: with lengthscales, one an input, and a variance that are fixed from now on.
        noise_std: standard deviation of Gaussian noise, modelled units: as given, or fitted too.
        log_evidence: nats, of the targets in modelled units.
    """

    process: Process
    noise_std: float
    log_evidence: float


def fit_process(
    process: Process,
    x: Float[np.ndarray, "row feature"],
    y: np.ndarray,
    noise_std: float | None = None,
) -> FittedProcess:
    """The process under which the targets with Gaussian noise are most probable.

    L-BFGS on the logarithms of a lengthscale for every input (irrelevant inputs get long ones), of
    the variance and, if it is not known, of the noise, from three starts.

    Args:
        process: its kernel, and lengthscales and variance to start from.
        x: training inputs, modelled units.
        y: training targets ``(row,)``, or ``(row, output)`` of independent outputs, modelled units.
        noise_std: of the noise, modelled units; None to fit it.

    Raises:
        InputError: too many rows for an exact evidence, or targets that are all the same.

    Source: Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, sec. 5.4.1.
    """
    rows, features = x.shape
    if rows > MOST_ROWS:
        raise InputError(
            f"process.hyper = 'fitted': the exact evidence of {rows:,} rows is out of reach (at "
            f"most {MOST_ROWS:,}); fit to some of them, bnnzoo.inference.fit_process, and give "
            "what it finds as length_scale and variance"
        )
    size = float(np.mean(np.square(y)))
    if not size > 0.0:
        raise InputError("process.hyper = 'fitted': the targets are all 0; nothing can be fitted")
    plain = _with(process, hyper="fixed")
    given = plain.hyper(features)
    variance = size
    if "variance" in process.options.model_fields_set:
        variance = float(given.variance)
    ends = [LENGTHS] * features + [tuple(size * v for v in VARIANCES)]
    if noise_std is None:
        ends.append((NOISES[0] * math.sqrt(size), NOISES[1] * math.sqrt(size)))
    bounds = np.log(ends)
    best: Any = None
    with jax.enable_x64(True):
        inputs = jnp.asarray(x, float)
        loss = functools.partial(_loss, plain, inputs, y, noise_std)
        for times in STARTS:
            first = [*(times * np.asarray(given.length_scale, float)), variance]
            if noise_std is None:
                first.append(0.3 * math.sqrt(size))
            start = np.clip(np.log(first), *bounds.T)
            found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
            if best is None or found.fun < best.fun:
                best = found
    if not best.fun < _IMPOSSIBLE:
        raise InputError(
            f"process.hyper = 'fitted': with noise_std = {noise_std:g} no covariance is positive "
            "definite in float64: give the likelihood a larger one"
        )
    length, scale = np.exp(best.x[:features]), float(np.exp(best.x[features]))
    made = _with(
        plain, length_scale=tuple(float(f"{v:.6g}") for v in length), variance=float(f"{scale:.6g}")
    )
    noise = float(np.exp(best.x[-1])) if noise_std is None else float(noise_std)
    return FittedProcess(made, noise, -float(best.fun))


_IMPOSSIBLE = 1e25


def _with(process: Process, **changes: Any) -> Process:
    return dataclasses.replace(process, options=process.options.model_copy(update=changes))


def _loss(
    process: Process, x: Array, y: np.ndarray, known: float | None, at: np.ndarray
) -> tuple[float, np.ndarray]:
    """Minus the log evidence, and its slope by the logarithms."""
    noise = float(np.exp(at[-1])) if known is None else known
    of_process = jnp.asarray(at[: x.shape[1] + 1])
    try:
        exact = GaussianProcess(_covariance(process, x, of_process), y, noise)
    except InputError:  # not positive definite: the search turns back
        return _IMPOSSIBLE, np.zeros_like(at)
    slope = exact.evidence_slope
    found = np.asarray(_pulled_back(process, x, of_process, jnp.asarray(slope)))
    if known is None:
        found = np.append(found, 2.0 * noise**2 * np.trace(slope))
    return -exact.log_evidence, -found


@functools.partial(jax.jit, static_argnums=0)
def _covariance(process: Process, x: Array, logs: Array) -> Array:
    return process.covariance(x, Hyper(jnp.exp(logs[:-1]), jnp.exp(logs[-1])))


@functools.partial(jax.jit, static_argnums=0)
def _pulled_back(process: Process, x: Array, logs: Array, slope: Array) -> Array:
    return jax.vjp(lambda at: _covariance(process, x, at), logs)[1](slope)[0]
