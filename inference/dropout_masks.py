"""Which weights a dropout mask takes away: rows of kernels, one for each unit of the layer below.

To drop an input of a dense layer, or a channel of a convolution, is to put a row of its kernel to
zero; so a mask is a factor on the flat vector, and no network needs a dropout layer.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Literal

from bnnzoo.errors import InputError
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.network import BoundNetwork
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.posterior import Posterior

ABLE = "(backends that need none: hmc, nuts, deep-ensemble)"


class Masked(NamedTuple):
    """One kernel whose rows may be dropped.

    Attributes:
        offset: its first element in ``u``.
        shape: of the kernel; rows are along the last axis but one.
        first: it is applied before every other kernel, to the inputs.
    """

    offset: int
    shape: tuple[int, ...]
    first: bool


def masked_kernels(posterior: Posterior) -> tuple[Masked, ...]:
    """The kernels of a zoo model's network, the first of them marked.

    Args:
        posterior: of the model.

    Raises:
        InputError: a hand-written model, or a network whose kernels have no rows of units.
    """
    bound = posterior.network
    if bound is None:
        raise InputError(
            f"mc-dropout: a hand-written model does not say which of its weights are kernels {ABLE}"
        )
    sites = {site.name: site for site in posterior.sites}
    kernels = [info for info in bound.infos if info.role == "kernel"]
    if not kernels:
        raise InputError(f"mc-dropout: the network has no kernel to drop rows of {ABLE}")
    first = _first_used(bound, kernels)
    found = []
    for info in kernels:
        if len(info.shape) < 2 or info.fan_in != math.prod(info.shape[:-1]):
            raise InputError(
                f"mc-dropout: kernel {info.path!r} of shape {info.shape} has no row for each unit "
                f"below; only dense layers and convolutions do {ABLE}"
            )
        if info.path not in sites:
            raise InputError(
                f"mc-dropout: kernel {info.path!r} is made from other sites by its prior, which "
                f"has no density of a dropped weight {ABLE}"
            )
        if not sites[info.path].free:
            raise InputError(
                f"mc-dropout: kernel {info.path!r} has a prior that does not hold 0, which a "
                f"dropped weight is {ABLE}"
            )
        found.append(Masked(sites[info.path].offset, info.shape, info.path == first))
    return tuple(found)


def draw_mask(
    kernels: tuple[Masked, ...], like: Array, rate: Leaf, input_rate: Leaf, key: Array
) -> Array:
    """A factor for the flat vector: 0 or 1 / (1 - rate) on rows of kernels, 1 elsewhere.

    Args:
        kernels: whose rows are dropped.
        like: a flat vector ``(dim,)``.
        rate: probability of a row.
        input_rate: probability of a row of the first kernel.
        key: typed key.
    """
    mask = jnp.ones_like(like)
    for i, kernel in enumerate(kernels):
        keep = 1.0 - jnp.asarray(input_rate if kernel.first else rate, like.dtype)
        rows = kernel.shape[-2]
        drawn = jax.random.bernoulli(jax.random.fold_in(key, i), keep, (rows,))
        factor = jnp.broadcast_to((drawn / keep).astype(like.dtype)[:, None], kernel.shape)
        end = kernel.offset + math.prod(kernel.shape)
        mask = mask.at[kernel.offset : end].set(factor.reshape(-1))
    return mask


def _first_used(bound: BoundNetwork, kernels: list[ParameterInfo]) -> str:
    """Path of the kernel that the network uses first, read off its jaxpr."""
    real = jnp.result_type(float)
    parameters = {i.path: jax.ShapeDtypeStruct(i.shape, real) for i in bound.infos}
    x = jax.ShapeDtypeStruct((2, *bound.in_shape), real)
    jaxpr = jax.make_jaxpr(bound.by_rows)(parameters, x).jaxpr
    inputs = dict(zip(jaxpr.invars[: len(parameters)], sorted(parameters), strict=True))
    wanted = {info.path for info in kernels}
    for equation in jaxpr.eqns:
        for variable in equation.invars:
            path = None if isinstance(variable, Literal) else inputs.get(variable)
            if path in wanted:
                return str(path)
    raise InputError(f"mc-dropout: the network uses none of its kernels {ABLE}")
