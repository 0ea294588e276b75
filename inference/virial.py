"""Do the draws follow their target at its temperature? The virial identity says so in one number.

For any density p on R^d whose tails fall faster than 1/|u|, and any fixed centre c,
E[-(u - c) . grad log p(u)] = d (integrate by parts). A sampler that ignores a temperature T gives
1/T times that, one that explores too narrowly less, an unadjusted one with too large a step more.
A Gaussian of best reverse Kullback-Leibler divergence satisfies it as well, so a variational fit
that has converged does.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.inference.backend import Flag
from bnnzoo.inference.draws import Draws
from bnnzoo.inference.evaluation import (
    PIECE_TERMS,
    draws_at_once,
    in_pieces,
    over_draws,
    piece_draws,
)
from bnnzoo.metrics._montecarlo import mean_with_error
from bnnzoo.models.posterior import Posterior

LEEWAY = 0.05
"""How far off the ratio may be, beyond chance, before a chain is flagged."""

ERRORS = 5.0
"""Standard errors that count as chance: two-sided 6e-7 a chain, were the ratio normal."""

MOST_DRAWS = 1000
"""Draws of a chain looked at: a gradient each."""


def virial_ratios(posterior: Posterior, u: Draws) -> np.ndarray:
    """-(u - c) . grad log_density(u) / d of every draw; its mean is 1 under the target.

    The centre c of a chain is the mean of the others, which does not depend on its draws; with one
    chain c = 0.

    Args:
        posterior: the target.
        u: unconstrained draws.

    Returns:
        ``(chain, draw)``: NaN where a draw or its gradient is not finite, and between the draws
        looked at, at most ``MOST_DRAWS`` evenly spaced ones a chain.
    """
    (chains, draws), dimension = u.shape, posterior.dimension
    made = np.full((chains, draws), np.nan)
    step = max(1, -(-draws // MOST_DRAWS))
    size = max(1, min(256, PIECE_TERMS // max(posterior.rows, dimension)))
    means = np.stack([_mean(u.select([chain]), piece_draws(posterior)) for chain in range(chains)])
    usable = np.isfinite(means).all(1)
    for chain in range(chains):
        others = means[usable & (np.arange(chains) != chain)]
        centre = others.mean(0) if len(others) else np.zeros_like(means[chain])
        centre = centre.astype(posterior.x.dtype)

        def ratios(
            part: np.ndarray, _: np.ndarray, count: np.int32, centre: np.ndarray = centre
        ) -> Array:
            return _ratios(posterior, part, centre, count)

        pieces = in_pieces(ratios, u.select([chain], step), size)
        made[chain, ::step] = np.concatenate([out for _, out in pieces])
    return np.where(np.isfinite(made), made, np.nan)


def _mean(u: Draws, size: int) -> np.ndarray:
    """``(dim,)``, in double precision, from ``size`` draws at once."""
    total: np.ndarray | float = 0.0
    with np.errstate(invalid="ignore"):
        for start in range(0, u.count, size):
            total = total + u.read(start, min(start + size, u.count)).sum(0, dtype=np.float64)
        return np.asarray(total / u.count)


# Unoptimised, for it costs a gradient a draw where the draws cost a hundred: half the compilation.
@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def _ratios(posterior: Posterior, u: Array, centre: Array, count: Array) -> Array:
    def one(u: Array) -> Array:
        return -jnp.sum((u - centre) * jax.grad(posterior.log_density)(u)) / posterior.dimension

    return over_draws(one, (u,), count, draws_at_once(posterior, posterior.rows))


def virial_flags(ratios: np.ndarray) -> list[tuple[int, Flag]]:
    """Chains whose ratio is off by more than chance and ``LEEWAY``.

    Args:
        ratios: ``(chain, draw)``, NaN where unknown.
    """
    found = []
    for chain, own in enumerate(ratios):
        mean, error = mean_with_error(own[None])
        if abs(mean - 1.0) > LEEWAY + ERRORS * error:
            text = f"virial ratio {mean:.2f} +- {error:.2f}, 1 under the target: {_meaning(mean)}"
            found.append((chain, Flag("virial", text)))
    return found


def _meaning(mean: float) -> str:
    return "draws spread too widely" if mean > 1 else "draws spread too narrowly"
