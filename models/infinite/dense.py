"""Covariance of the outputs of fully connected networks whose hidden layers are infinitely wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from bnnzoo.models.infinite.moments import mean, product_moment
from bnnzoo.models.leaf import Leaf


class Dense(NamedTuple):
    """The prior of a fully connected layer, and what stands before it.

    Attributes:
        weight_variance: fan-in times the variance of a weight; in the first layer also one an input
            ``(feature,)``.
        bias_variance: variance of a bias; 0 for none.
        residual: what the activation before this layer is multiplied by when it is added to the
            input of its own layer; None where it is not added.
    """

    weight_variance: Leaf
    bias_variance: Leaf = 0.0
    residual: Leaf | None = None


class _Units(NamedTuple):
    """Moments of hidden units, the same for all units of a layer.

    Attributes:
        product: E[h(x) h(x')] of pairs of rows.
        mean: E[h(x)] of the first row of each.
        mean2: E[h(x')] of the second.
    """

    product: Array
    mean: Array
    mean2: Array


def dense_kernel(
    x: Float[Array, "row feature"],
    x2: Float[Array, "row2 feature"] | None,
    layers: Sequence[Dense],
    activation: str,
) -> Float[Array, "row row2"]:
    """Covariance of an output of the network at pairs of rows.

    With z the pre-activations and h the hidden units of a layer, s and b the two variances of the
    next, its pre-activations are Gaussian with covariance K = b + s E[h h'], and their activations
    have E[phi(z) phi(z')] under N(0, K). Traceable, in the precision of ``x``; symmetric to the
    last bit where ``x2`` is not given.

    Args:
        x: inputs ``(row, feature)``, modelled units.
        x2: others; None for ``x`` itself.
        layers: first to last; one alone is a linear model.
        activation: name of the activation between layers.

    Returns:
        ``(row, row2)``.

    Source: Lee et al. (2018), Deep Neural Networks as Gaussian Processes, eq. 4 and 5; Matthews et
    al. (2018), Gaussian Process Behaviour in Wide Deep Neural Networks.
    """
    other = x if x2 is None else x2
    if x2 is None:  # a pair once
        first, second = jnp.triu_indices(len(x))
    else:
        first, second = (i.ravel() for i in jnp.indices((len(x), len(other))))
    scaled = x * layers[0].weight_variance / x.shape[1]
    own = layers[0].bias_variance + (scaled * x).sum(1)
    own2 = own
    if x2 is not None:
        own2 = layers[0].bias_variance + (x2 * layers[0].weight_variance / x.shape[1] * x2).sum(1)
    cross = layers[0].bias_variance + (scaled @ other.T)[first, second]
    units: tuple[_Units | None, ...] = (None, None, None)
    for layer in layers[1:]:
        found = []
        triples = ((cross, own[first], own2[second]), (own, own, own), (own2, own2, own2))
        for before, (c, a, b) in zip(units, triples, strict=True):
            found.append(_activate(activation, layer.residual, before, a, b, c))
        units = tuple(found)
        cross, own, own2 = (
            layer.bias_variance + layer.weight_variance * u.product for u in units if u is not None
        )
    kernel = jnp.zeros((len(x), len(other)), cross.dtype).at[first, second].set(cross)
    return kernel if x2 is not None else kernel.at[second, first].set(cross)


def _activate(
    activation: str, residual: Leaf | None, before: _Units | None, a: Array, b: Array, c: Array
) -> _Units:
    """Hidden units after an activation of N(0, [[a, c], [c, b]])."""
    product = product_moment(activation, a, b, c)
    one, two = mean(activation, a), mean(activation, b)
    if residual is None or before is None:
        return _Units(product, one, two)
    # A unit's pre-activation sums over all units, so that it is independent of that unit itself.
    mixed = before.mean * two + before.mean2 * one
    return _Units(
        before.product + residual * mixed + residual**2 * product,
        before.mean + residual * one,
        before.mean2 + residual * two,
    )
