"""Weights that are the same function: hidden units in another order, and with other signs.

A layer of H units can be ordered in H! ways; where the activation is odd each unit's ingoing and
outgoing weights may change sign as well, 2^H ways. A posterior has as many equal copies of every
mode, which an approximation at one mode does not see.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.optimize import linear_sum_assignment

from bnnzoo.models.handwritten import HandwrittenModel
from bnnzoo.models.networks.mlp import MLP, MLPOptions
from bnnzoo.models.posterior import Posterior

ODD = ("tanh", "erf", "sin", "identity")
"""Activations with f(-x) = -f(x)."""

TRIED = 4
"""Random points at which an arrangement is tried."""


class HiddenLayer(NamedTuple):
    """Units that may be exchanged: indices into the flat unconstrained vector.

    Attributes:
        ingoing: of what comes into each unit ``(unit, in)``, its bias included.
        outgoing: of what goes out of it ``(unit, out)``.
        odd: whether a unit's weights may change sign together.
    """

    ingoing: np.ndarray
    outgoing: np.ndarray
    odd: bool

    @property
    def units(self) -> int:
        """Their number."""
        return len(self.ingoing)

    @property
    def log_count(self) -> float:
        """Log of the number of equivalent arrangements, 2^H H! or H!."""
        return math.lgamma(self.units + 1) + (self.units * math.log(2.0) if self.odd else 0.0)


def hidden_layers(posterior: Posterior) -> tuple[HiddenLayer, ...]:
    """Hidden layers of an ``mlp`` whose units the posterior does not tell apart.

    Whether prior and likelihood agree that they are equal is tried: an arrangement that changes
    the density is none.

    Args:
        posterior: the target.

    Returns:
        In the order of the network; empty for networks of other kinds, and where weights are not
        sampled directly.
    """
    found = _of_mlp(posterior)
    if not found:
        return ()
    return tuple(
        layer for layer, holds in zip(found, _hold(posterior, found), strict=True) if holds
    )


def log_arrangements(layers: tuple[HiddenLayer, ...]) -> float:
    """Log of the number of equivalent copies of a generic point."""
    return math.fsum(layer.log_count for layer in layers)


def rearranged(layers: tuple[HiddenLayer, ...], u: Array, key: Array) -> Array:
    """An equivalent point, drawn uniformly among all; traced.

    Args:
        layers: from :func:`hidden_layers`.
        u: unconstrained ``(dim,)``.
        key: typed key.
    """
    for number, layer in enumerate(layers):
        order_key, sign_key = jax.random.split(jax.random.fold_in(key, number))
        order = jax.random.permutation(order_key, layer.units)
        signs = jnp.ones(layer.units, u.dtype)
        if layer.odd:
            signs = jax.random.rademacher(sign_key, (layer.units,), u.dtype)
        for index in (layer.ingoing, layer.outgoing):
            u = u.at[index].set((signs[:, None] * u[index])[order])
    return u


def judged_by(layers: tuple[HiddenLayer, ...], number: int) -> np.ndarray:
    """Weights of each unit that no arrangement of a later layer changes ``(unit, weight)``.

    Outgoing weights are among them only where they lead into no other of these layers.

    Args:
        layers: from :func:`hidden_layers`.
        number: of the layer.
    """
    layer = layers[number]
    later = {i for other in layers[number + 1 :] for i in other.ingoing.ravel()}
    if not later.isdisjoint(layer.outgoing.ravel()):
        return layer.ingoing
    return np.concatenate([layer.ingoing, layer.outgoing], axis=1)


class Reference(NamedTuple):
    """Where the units of each place are expected: a mean and a width for every coordinate.

    Attributes:
        centre: ``(dim,)``.
        width: ``(dim,)``, positive.
    """

    centre: np.ndarray
    width: np.ndarray


def nearest(
    layers: tuple[HiddenLayer, ...], us: np.ndarray, reference: Reference
) -> tuple[np.ndarray, np.ndarray]:
    """Of all equivalent points the one nearest to a reference.

    The points that are their own nearest form a domain with exactly one point of every generic set
    of equivalent ones. Layer by layer the best arrangement is an assignment problem, each of what
    it is :func:`judged_by`, once the layers before are in place.

    Args:
        layers: from :func:`hidden_layers`.
        us: unconstrained ``(draw, dim)``.
        reference: what is near; distances are in its widths.

    Returns:
        The nearest points ``(draw, dim)``, and which of them are not what was given ``(draw,)``.
    """
    found = np.array(us)
    moved = np.zeros(len(found), bool)
    for number, layer in enumerate(layers):
        index = judged_by(layers, number)
        whole = np.concatenate([layer.ingoing, layer.outgoing], axis=1)
        centre, width = reference.centre[index], reference.width[index]
        for change, u in enumerate(found):
            units = u[index][:, None, :]
            cost = (((units - centre) / width) ** 2).sum(-1)
            signs = np.ones_like(cost)
            if layer.odd:
                turned = (((-units - centre) / width) ** 2).sum(-1)
                signs = np.where(turned < cost, -1.0, 1.0)
                cost = np.minimum(cost, turned)
            unit, place = linear_sum_assignment(cost)
            sign = signs[unit, place]
            if np.any(unit != place) or np.any(sign < 0):
                u[whole[place]] = sign[:, None] * u[whole[unit]]
                moved[change] = True
    return found, moved


def gathered(
    layers: tuple[HiddenLayer, ...], us: np.ndarray, start: np.ndarray, rounds: int = 20
) -> Reference:
    """A reference about which draws lie as close together as arranging them can bring them.

    Args:
        layers: from :func:`hidden_layers`.
        us: unconstrained draws ``(draw, dim)``.
        start: the first centre ``(dim,)``.
        rounds: most times that draws are arranged and their means and widths taken anew.
    """
    reference = Reference(start, np.maximum(us.std(0), 1e-12))
    for _ in range(rounds if layers else 1):
        us, moved = nearest(layers, us, reference)
        floor = 1e-3 * max(float(us.std(0).max()), 1e-9)
        reference = Reference(us.mean(0), np.maximum(us.std(0), floor))
        if not moved.any():
            break
    return reference


def _of_mlp(posterior: Posterior) -> list[HiddenLayer]:
    model = posterior.model
    if isinstance(model, HandwrittenModel) or model.network is None:
        return []
    options = model.network.options_of(MLP, MLPOptions)
    if options is None or options.residual != "none":
        return []
    sites = {site.name: site for site in posterior.sites}

    def index(path: str) -> np.ndarray:
        site = sites[path]
        return np.arange(site.offset, site.offset + site.size).reshape(site.shape)

    found = []
    for number in range(len(options.widths)):
        kernel, after = f"layers.{number}.kernel", f"layers.{number + 1}.kernel"
        bias = f"layers.{number}.bias"
        if not {kernel, after} <= sites.keys() or (options.bias and bias not in sites):
            continue
        ingoing = index(kernel).T
        if options.bias:
            ingoing = np.concatenate([ingoing, index(bias)[:, None]], axis=1)
        found.append(HiddenLayer(ingoing, index(after), options.activation in ODD))
    return found


def _hold(posterior: Posterior, layers: list[HiddenLayer]) -> np.ndarray:
    """Of which layers the density agrees at a few random points, to rounding ``(layer,)``."""
    rng = np.random.default_rng(0)  # of NumPy: a program for these few would take seconds
    us = rng.standard_normal((TRIED, posterior.dimension)).astype(posterior.x.dtype)
    tried = [us]
    for layer in layers:
        other = us.copy()
        for u in other:
            order = rng.permutation(layer.units)
            signs = rng.choice([-1, 1] if layer.odd else [1], (layer.units, 1))
            for index in (layer.ingoing, layer.outgoing):
                u[index] = (signs * u[index])[order]
        tried.append(other)
    first, *others = np.split(np.asarray(_densities(posterior, np.concatenate(tried))), len(tried))
    tolerance = 100 * float(jnp.finfo(posterior.x.dtype).eps) * (1.0 + np.abs(first))
    return np.array([np.all(np.abs(first - other) <= tolerance) for other in others])


# Unoptimised: it runs once, and takes half a second to compile.
@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def _densities(posterior: Posterior, us: Array) -> Array:
    return jax.lax.map(posterior.log_density, us)
