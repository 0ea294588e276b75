"""The Gaussian of a Laplace approximation, in each structure, at a point.

Network parameters take the curvature and the structure that were asked for; what else is unknown
(noise, variances of a hierarchy) is a dense block of its own by the exact Hessian, and cross terms
between the two are dropped. The exact Hessian in the structure ``full`` keeps them: there every
coordinate is in one block.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.inference import curvature as curves
from bnnzoo.inference import spectra
from bnnzoo.inference.curvature import HESSIAN
from bnnzoo.inference.laplace_evidence import gaussian_priors
from bnnzoo.inference.network_heads import prior_loss
from bnnzoo.models.posterior import Posterior

DENSE = ("full", "last-layer")
"""Structures that leave nothing out."""


@dataclass(frozen=True)
class Flavour:
    """What curvature is computed, and how it is held.

    Attributes:
        structure: ``full``, ``kron``, ``diagonal``, ``last-layer`` or ``low-rank``.
        curvature: ``ggn``, ``empirical-fisher`` or ``hessian``.
        sharing: ``expand`` or ``reduce``, for ``kron``.
        rank: of ``low-rank``.
        memory_bytes: most that a block of rows may take.
    """

    structure: str
    curvature: str
    sharing: str
    rank: int
    memory_bytes: int


class Blocks(NamedTuple):
    """The approximation: independent blocks of coordinates, and what had to be done for it.

    Attributes:
        network: spectrum of the network's block.
        others: that of what else is unknown; None where nothing is.
        flat: directions without curvature, which were given the precision of their prior.
        clipped: share of the loss' curvature in the outputs that was negative and left out.
    """

    network: Any
    others: Any
    flat: Array
    clipped: Array


def coordinates(posterior: Posterior, flavour: Flavour) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the two blocks; those in neither stay at the mode."""
    network = curves.network_coordinates(posterior)
    everything = np.arange(posterior.dimension)
    if flavour.structure == "full" and flavour.curvature == HESSIAN:
        return everything, everything[:0]
    others = np.setdiff1d(everything, network)
    if flavour.structure == "last-layer":
        from bnnzoo.inference.network_layers import last_layer

        network = last_layer(posterior)
    return network, others


def has_few_rows(posterior: Posterior, flavour: Flavour) -> bool:
    """Whether the rows that the data add to the prior's precision are smaller than the matrix.

    A Gaussian prior is nowhere flat, so that they are all there is to know of a dense matrix.

    Args:
        posterior: the target.
        flavour: with a structure of :data:`DENSE`.
    """
    if flavour.curvature == HESSIAN or not has_network(posterior):
        return False
    where, _ = coordinates(posterior, flavour)
    rows = posterior.rows * curves.root_count(posterior, flavour.curvature)
    smaller = _numbers_of_rows(rows, len(where)) < len(where) ** 2
    return smaller and all(gaussian_priors(posterior).values())


def _numbers_of_rows(rows: int, size: int) -> int:
    """Of so many rows, their eigenvectors and their factor."""
    return rows * (2 * size + rows)


def bytes_held(posterior: Posterior, flavour: Flavour) -> int:
    """Memory of the largest matrix of the approximation, or of few rows, eigenvectors and factor.

    Args:
        posterior: the target.
        flavour: of what kind.
    """
    where, rest = coordinates(posterior, flavour)
    if flavour.structure not in DENSE:
        return curves.bytes_of_matrix(len(rest), posterior)
    if not has_few_rows(posterior, flavour):
        return curves.bytes_of_matrix(len(where), posterior)
    rows = posterior.rows * curves.root_count(posterior, flavour.curvature)
    return _numbers_of_rows(rows, len(where)) * posterior.x.dtype.itemsize


# Compiled with its caller; by itself it is traced once for all of them, a second for each.
@functools.partial(jax.jit, static_argnames="flavour")
def blocks(posterior: Posterior, u: Array, flavour: Flavour) -> Blocks:
    """The curvature at ``u`` as a Gaussian; traced.

    Args:
        posterior: the target.
        u: unconstrained vector ``(dim,)``, where the approximation is made.
        flavour: of what kind.
    """
    where, rest = coordinates(posterior, flavour)
    none = jnp.zeros((), u.dtype)

    def target(v: Array) -> Array:
        return -posterior.log_density(v)

    others, flat_others = None, none
    if len(rest):
        others, flat_others = _others(posterior, u, rest, flavour)
    reference = curves.reference_precision(posterior, u, where)
    memory = flavour.memory_bytes
    prior = curves.prior_diagonal(posterior, u, where, memory)
    precision, flat_prior = spectra.floored(prior, reference)
    clipped = none
    network: Any
    if flavour.structure in DENSE and has_few_rows(posterior, flavour):
        rows, clipped = curves.likelihood_rows(posterior, u, where, flavour.curvature)
        network, flat = spectra.of_rows(rows, precision), flat_prior
    elif flavour.structure in DENSE:
        if flavour.curvature == HESSIAN:
            matrix = curves.exact_hessian(target, u, where, memory)
        else:
            matrix, clipped = curves.likelihood_matrix(
                posterior, u, where, flavour.curvature, memory
            )
            matrix = matrix + curves.prior_matrix(posterior, u, where, memory)
        network, flat = spectra.dense(matrix, precision)
    elif flavour.structure == "diagonal":
        if flavour.curvature == HESSIAN:
            entries = curves.exact_diagonal(target, u, where, memory)
        else:
            entries, clipped = curves.likelihood_diagonal(
                posterior, u, where, flavour.curvature, memory
            )
            entries = entries + prior
        network, flat = spectra.diagonal(entries, precision)
    elif flavour.structure == "low-rank":
        from bnnzoo.inference.low_rank import leading

        times = curves.likelihood_product(posterior, u, where, flavour.curvature, memory)
        root = jnp.sqrt(precision)
        values, vectors = leading(lambda v: times(v / root) / root, len(where), flavour.rank, u)
        network = spectra.LowRank(precision, jnp.maximum(values, 0.0), vectors)
        flat = flat_prior
    else:
        from bnnzoo.inference.kfac import kronecker

        network, clipped = kronecker(posterior, u, where, precision, flavour)
        flat = flat_prior
    return Blocks(network, others, (flat + flat_others).astype(u.dtype), clipped.astype(u.dtype))


def _others(posterior: Posterior, u: Array, rest: np.ndarray, flavour: Flavour) -> Any:
    """The exact Hessian of what is unknown besides the network, and its flat directions."""
    matrix = curves.exact_hessian(
        lambda v: -posterior.log_density(v), u, rest, flavour.memory_bytes
    )
    return spectra.dense(matrix, jnp.ones(len(rest), u.dtype))


def parts(posterior: Posterior, flavour: Flavour, found: Blocks) -> list[tuple[Any, np.ndarray]]:
    """Spectra and the coordinates each is of.

    Args:
        posterior: the target.
        flavour: of what kind.
        found: from :func:`blocks`.
    """
    where, rest = coordinates(posterior, flavour)
    made = [(found.network, where)]
    return made if found.others is None else [*made, (found.others, rest)]


def inverse_of(
    posterior: Posterior, flavour: Flavour, found: Blocks, u: Array
) -> Callable[[Array], Array]:
    """H^-1 times a vector ``(dim,)``; by the prior's variances where H does not reach; traced.

    Args:
        posterior: the target.
        flavour: of what kind.
        found: from :func:`blocks`.
        u: where that was ``(dim,)``.
    """
    known = parts(posterior, flavour, found)
    beyond = curves.prior_widths(posterior, u) ** 2

    def times(v: Array) -> Array:
        out = beyond * v
        for spectrum, where in known:
            out = out.at[where].set(spectra.solve(spectrum, v[where]))
        return out

    return times


def log_normaliser(posterior: Posterior, u: Array, flavour: Flavour) -> Array:
    """Laplace's log integral of the target, its Gaussian at ``u``; traced, differentiable.

    Args:
        posterior: the target.
        u: the mode ``(dim,)``.
        flavour: curvature and structure.
    """
    found = blocks(posterior, u, flavour)
    return posterior.log_density(u) + log_volume(posterior, flavour, found)


def log_volume(posterior: Posterior, flavour: Flavour, found: Blocks) -> Array:
    """-log|H / 2 pi| / 2 of the approximation: what its integral adds to the density at its mode.

    Args:
        posterior: the target.
        flavour: of what kind.
        found: from :func:`blocks`.
    """
    total = jnp.zeros((), posterior.x.dtype)
    for spectrum, where in parts(posterior, flavour, found):
        total = total + 0.5 * (len(where) * math.log(2.0 * math.pi) - spectra.log_det(spectrum))
    return total


def rest_log_volume(posterior: Posterior, u: Array, flavour: Flavour) -> Array:
    """What :func:`log_volume` holds of all that is unknown besides the network; traced.

    Args:
        posterior: the target.
        u: the mode ``(dim,)``.
        flavour: of what kind.
    """
    _, rest = coordinates(posterior, flavour)
    if not len(rest):
        return jnp.zeros((), u.dtype)
    spectrum, _ = _others(posterior, u, rest, flavour)
    return 0.5 * (len(rest) * math.log(2.0 * math.pi) - spectra.log_det(spectrum))


def prior_at(posterior: Posterior, u: Array) -> Array:
    """Tempered log prior density of ``u``, Jacobian included."""
    return -prior_loss(posterior, u)


def has_network(posterior: Posterior) -> bool:
    """Whether the posterior is of a zoo model."""
    return posterior.network is not None
