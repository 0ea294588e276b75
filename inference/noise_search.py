"""A learned noise at the mode of its own marginal, the weights integrated by Laplace's method.

Weights that follow the rows leave small residuals, so that where weights and noise are highest
together the noise is too small, and where they can follow every row it is near zero. With the
weights integrated at each noise (MacKay 1992, A Practical Bayesian Framework for Backpropagation
Networks, section 3; Rue, Martino & Chopin 2009, for the nested approximation)

    g(w, s) = log p(y, w, s) + k log(2 pi) / 2 - log|H| / 2

with w the mode given s. Held weights make it flat where a variance is the squared residuals over
what is left of the rows once gamma = tr(I - P H^-1) weights are determined: MacKay's update, which
is quick and leaves out that the mode moves. So the climb follows it half of the way, and then looks
for a higher one about the noise of highest g that it has passed.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.inference.curvature import GGN
from bnnzoo.inference.laplace_evidence import noise_coordinates
from bnnzoo.inference.laplace_structures import Flavour, prior_at
from bnnzoo.models.posterior import Posterior

FOLLOWED = 0.5
"""Share of the times that the noise is set in which MacKay's update is followed."""

FOUND = 0.75
"""Share after which the best noise is held, and the climb is one of weights alone."""

FURTHEST = 0.5
"""Most that a logarithm of the noise moves at once: ten times cover a hundredfold."""

FIRST = 0.1
"""First distance from the best logarithm of the noise to another; halved where none is better."""

LEAST_LEFT = 0.05
"""Least share of the rows that counts as left."""


class NoiseSearch(NamedTuple):
    """The noise of highest g, among those the climb has been at.

    Attributes:
        u: the climb's place there ``(dim,)``.
        value: g, but for a constant.
        stride: signed distance to the logarithm that is tried next.
        turns: times that the noise was set.
    """

    u: Array
    value: Array
    stride: Array
    turns: Array


def begin(u: Array) -> NoiseSearch:
    """A search that has been nowhere."""
    none = jnp.zeros((), jnp.result_type(int))
    lowest, stride = jnp.full((), -jnp.inf, u.dtype), jnp.full((), FIRST, u.dtype)
    return NoiseSearch(u, lowest, stride, none)


def is_searched(posterior: Posterior, flavour: Flavour) -> bool:
    """Whether the noise has a marginal that is looked for.

    An empirical Fisher is not proportional to the noise's precision, a Hessian may be negative, a
    diagonal may have more weights determined than there are rows, and a part of the weights, or a
    few eigenvectors, have fewer.

    Args:
        posterior: the target.
        flavour: of the weights' curvature.
    """
    told = flavour.curvature == GGN and flavour.structure in ("full", "kron")
    return told and noise_coordinates(posterior) is not None


def turn(
    posterior: Posterior,
    search: NoiseSearch,
    u: Array,
    slope: Array,
    value: Array,
    determined: Array,
    turns: int,
) -> tuple[NoiseSearch, Array]:
    """Where the climb goes on, with another noise; traced.

    Args:
        posterior: with a noise :func:`is_searched`.
        search: so far.
        u: where the climb has come to with the last noise ``(dim,)``.
        slope: of the target there ``(dim,)``.
        value: g there, but for a constant, with what the weights would still gain.
        determined: gamma.
        turns: all that there will be.

    Returns:
        The search, and the place ``(dim,)``.
    """
    better = value > search.value  # not where it is NaN
    nowhere = ~jnp.isfinite(search.value)
    best, highest = jnp.where(better | nowhere, u, search.u), jnp.where(better, value, search.value)
    following = search.turns < int(FOLLOWED * turns)
    stride = jnp.where(better | following, search.stride, -0.5 * search.stride)
    where = noise_coordinates(posterior)
    assert where is not None
    followed = u.at[where].add(_update(posterior, u, where, slope, determined))
    tried = best.at[where].add(stride)
    last = _last(turns)
    known = jnp.isfinite(highest)
    place = jnp.where((search.turns == last) & known, best, jnp.where(following, followed, tried))
    place = jnp.where((search.turns > last) | ~jnp.isfinite(place).all(), u, place)
    return NoiseSearch(best, highest, stride, search.turns + 1), place


def is_found(search: NoiseSearch, turns: int) -> Array:
    """Whether the noise is held from now on."""
    return search.turns > _last(turns)


def _last(turns: int) -> int:
    return int(FOUND * turns)


def _update(
    posterior: Posterior, u: Array, where: np.ndarray, slope: Array, determined: Array
) -> Array:
    """MacKay's step of the logarithms ``(noise,)``; every output has an equal share of gamma.

    The slope of the target in the logarithm of a noise is -rows + squares + that of the prior,
    rows and squared residuals over the variance tempered; with the determinant's, gamma is added.
    """
    temperature = posterior.posterior_temperature * posterior.likelihood_temperature
    rows = posterior.y.size / len(where) / temperature
    prior = jax.grad(lambda v: prior_at(posterior, v))(u)[where]
    squares = slope[where] + rows - prior
    left = rows - prior - determined / len(where)
    least = LEAST_LEFT * rows
    ratio = jnp.maximum(squares, least * 1e-6) / jnp.maximum(left, least)
    return jnp.clip(0.5 * jnp.log(ratio), -FURTHEST, FURTHEST)


def held(posterior: Posterior, v: Array) -> Array:
    """A direction ``(dim,)`` without its part along the noise."""
    where = noise_coordinates(posterior)
    assert where is not None
    return v.at[where].set(0.0)
