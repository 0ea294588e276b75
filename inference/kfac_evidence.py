"""Laplace's evidence with Kronecker factors for many widths of the prior.

Of log|A kron B + D kron I| only D, the prior's precision of each input, moves with the widths. With
b the eigenvalues of B that is the sum of log|b A + D| over b. Where D is p for the kernel and q for
the bias, and A = [[K, a], [a', n]] with K = V diag(l) V',

    log|b A + D| = sum_i log(b l_i + p) + log(q + b (n - b a' (b K + p)^-1 a))
                 = sum_i log(b l_i + p) + log(q + b (r + sum_i c_i p / (b l_i + p)))

with c_i = (V'a)_i^2 / l_i and r = n - sum_i c_i, what a regression of the bias' input on the others
leaves: nowhere a difference of large numbers. So eigenvalues are found once for all widths, and for
a layer that reads the rows themselves once for all weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.inference import curvature as curves
from bnnzoo.inference import spectra
from bnnzoo.inference.kfac import input_sums, matrices, row_sums
from bnnzoo.inference.laplace_structures import Flavour, coordinates, prior_at, rest_log_volume
from bnnzoo.inference.network_layers import Layer, find_layers, reads_data_alone
from bnnzoo.models.model import Model
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.priors.grouped_gaussian import GroupedGaussian

Inputs = tuple[Any, ...]
"""Of each layer a :class:`Spread`, A itself where the kernel's inputs have widths of their own, or
None where weights move it."""


class Spread(NamedTuple):
    """A, ready for any precision of kernel and bias.

    Attributes:
        values: l of the kernel's part of A ``(input,)``, of a lone bias A itself.
        shared: c ``(input,)``; None without a bias beside a kernel.
        rest: r ``()``; likewise.
    """

    values: Array
    shared: Array | None
    rest: Array | None


class Held(NamedTuple):
    """What an evaluation at one point of the weights keeps for all widths.

    Attributes:
        inputs: of each layer, none of them None.
        outputs: b of each layer ``(output,)``.
        log_likelihood: untempered.
    """

    inputs: Inputs
    outputs: tuple[Array, ...]
    log_likelihood: Array


def known_inputs(posterior: Posterior, flavour: Flavour) -> Inputs:
    """The input factors that no weight moves; traced.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        flavour: sharing and memory.
    """
    layers = find_layers(posterior)
    fixed = reads_data_alone(posterior, layers)
    found = input_sums(posterior, layers, flavour, fixed)
    return tuple(
        None if a is None else _prepared(posterior, layer, a)
        for layer, a in zip(layers, found, strict=True)
    )


def hold(posterior: Posterior, u: Array, flavour: Flavour, known: Inputs) -> Held:
    """The factors at a point, decomposed; traced, differentiable by a known noise.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        u: unconstrained vector ``(dim,)``.
        flavour: curvature, sharing and memory.
        known: of :func:`known_inputs`.
    """
    layers = find_layers(posterior)
    found = row_sums(posterior, u, layers, flavour, [one is None for one in known])
    inputs, outputs = [], []
    for layer, (a, b), one in zip(layers, found.pairs, known, strict=True):
        inputs.append(_prepared(posterior, layer, a) if one is None else one)
        # v'Bv has the derivative of an eigenvalue, also of one that is equal to another.
        _, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(b))
        outputs.append(jnp.maximum(jnp.sum(vectors * (b @ vectors), 0), 0.0))
    return Held(tuple(inputs), tuple(outputs), found.log_likelihood)


def log_normaliser_of(posterior: Posterior, u: Array, flavour: Flavour, held: Held) -> Array:
    """:func:`bnnzoo.inference.laplace_structures.log_normaliser` from factors that are known.

    Args:
        posterior: of a model with prior ``grouped-gaussian``, whose widths it is differentiable by.
        u: the mode ``(dim,)``.
        flavour: curvature, sharing and memory.
        held: of :func:`hold` there.
    """
    where, _ = coordinates(posterior, flavour)
    reference = curves.reference_precision(posterior, u, where)
    prior = curves.prior_diagonal(posterior, u, where, flavour.memory_bytes)
    precision, _ = spectra.floored(prior, reference)
    place = np.full(posterior.dimension, -1)
    place[where] = np.arange(len(where))
    layers = find_layers(posterior)
    total = jnp.zeros((), u.dtype)
    for layer, own, a, b in zip(
        layers, _places(posterior, layers, place), held.inputs, held.outputs, strict=True
    ):
        rows = precision[own].mean(1)
        total = total + (_uniform(layer, a, b, rows) if isinstance(a, Spread) else _any(a, b, rows))
    scale = posterior.posterior_temperature * posterior.likelihood_temperature
    volume = 0.5 * (len(where) * math.log(2.0 * math.pi) - total)
    at_mode = prior_at(posterior, u) + held.log_likelihood / scale
    return at_mode + volume + rest_log_volume(posterior, u, flavour)


def _places(posterior: Posterior, layers: Sequence[Layer], place: np.ndarray) -> list[np.ndarray]:
    return [place[m] for m in matrices(posterior, layers)]


def _prepared(posterior: Posterior, layer: Layer, a: Array) -> Any:
    """A as it is kept; no derivative goes through it."""
    model = posterior.model
    assert isinstance(model, Model) and isinstance(model.prior, GroupedGaussian)
    a = jax.lax.stop_gradient(a)
    if layer.kernel is None:
        return Spread(a[0], None, None)
    if np.ndim(model.prior.widths[layer.kernel]):
        return a
    if layer.bias is None:
        return Spread(jnp.maximum(jnp.linalg.eigvalsh(a), 0.0), None, None)
    values, vectors = jnp.linalg.eigh(a[:-1, :-1])
    # What is zero but for rounding is an input that never changes, and shares nothing.
    some = values > jnp.finfo(a.dtype).eps * len(a) * values[-1]
    shared = jnp.where(some, (a[-1, :-1] @ vectors) ** 2 / jnp.where(some, values, 1.0), 0.0)
    rest = jnp.maximum(a[-1, -1] - shared.sum(), 0.0)
    return Spread(jnp.maximum(values, 0.0), shared, rest)


def _uniform(layer: Layer, a: Spread, b: Array, rows: Array) -> Array:
    """Sum of log|b A + D| over b, D of one precision for the kernel and one for the bias."""
    last = rows[-1]
    kernel = last if layer.kernel is None or layer.bias is None else rows[:-1].mean()
    sums = b[:, None] * a.values + kernel
    found = jnp.sum(jnp.log(sums))
    if a.shared is None or a.rest is None:
        return found
    share = jnp.sum(a.shared * kernel / sums, 1)
    return found + jnp.sum(jnp.log(last + b * (a.rest + share)))


def _any(a: Array, b: Array, rows: Array) -> Array:
    """The same with a precision of each input, by eigenvalues of D^(-1/2) A D^(-1/2).

    An eigenvalue s with vector q falls by s q_i^2 where log D_i rises.
    """
    held = jax.lax.stop_gradient(rows)
    root = jnp.sqrt(held)
    values, vectors = jnp.linalg.eigh(a / (root[:, None] * root))
    moved = (jnp.log(rows) - jnp.log(held)) @ vectors**2
    values = jnp.maximum(values, 0.0) * (1.0 - moved)
    return jnp.sum(jnp.log1p(b[:, None] * values)) + len(b) * jnp.sum(jnp.log(rows))
