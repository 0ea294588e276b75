"""Variational inference with a full-rank Gaussian over the output layer alone."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference.backends.full_rank_vi import LARGEST, FullGaussian
from bnnzoo.inference.backends.mean_field_vi import FactorisedGaussian
from bnnzoo.inference.output_layer import elements, output_sites
from bnnzoo.inference.variational import Family, Variational, VariationalOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register


class LastLayerOptions(VariationalOptions):
    """Options of ``last-layer-vi``."""

    others: Literal["point", "mean-field"] = Field(
        "point",
        description="What the other parameters get: one value that maximises the bound, or "
        "independent Gaussians.",
    )
    sites: tuple[str, ...] | None = Field(
        None,
        description="Names of sites, or beginnings of names, that are treated jointly; the output "
        "layer and the noise of a zoo model if not given.",
    )


class Blocks(NamedTuple):
    """The parameters of both parts.

    Attributes:
        last: of the Gaussian over the output layer.
        others: of the independent Gaussians, or the point ``(other,)``.
    """

    last: Any
    others: Any


class LastLayer(Family):
    """q(u) = N(u_last; m, L L') q(u_others), where q(u_others) is a point or factorises.

    A point has no entropy: its log q is 0.

    Args:
        last: whether each coordinate belongs to the output layer ``(dim,)``.
        point: whether the others are a point.
        std: initial width, by which the verdict on convergence measures a point's gradient.
    """

    def __init__(self, last: np.ndarray, point: bool, std: Leaf) -> None:
        self.which = np.flatnonzero(last), np.flatnonzero(~last)
        self.point, self.std = point, std
        sizes = [len(part) for part in self.which]
        self.joint, self.factors = FullGaussian(sizes[0]), FactorisedGaussian(sizes[1])
        self.noise_size = sizes[0] + (0 if point else sizes[1])

    def start(self, u: Array, std: Leaf) -> Blocks:
        """Independent coordinates about a position, and the point at it."""
        last, others = (u[part] for part in self.which)
        of_others = others if self.point else self.factors.start(others, std)
        return Blocks(self.joint.start(last, std), of_others)

    def draw(self, parameters: Blocks, noise: Array) -> Array:
        """Both parts, put together."""
        size = self.joint.noise_size
        last = self.joint.draw(parameters.last, noise[:size])
        others = parameters.others
        if not self.point:
            others = self.factors.draw(others, noise[size:])
        return self._together(last, others)

    def log_density(self, parameters: Blocks, u: Array) -> Array:
        """Of the output layer, and of the others unless they are a point."""
        last, others = (u[part] for part in self.which)
        of_last = self.joint.log_density(parameters.last, last)
        if self.point:
            return of_last
        return of_last + self.factors.log_density(parameters.others, others)

    def centre(self, parameters: Blocks) -> Array:
        """Both means, or the mean and the point."""
        others = parameters.others if self.point else self.factors.centre(parameters.others)
        return self._together(self.joint.centre(parameters.last), others)

    def whitened(self, parameters: Blocks, gradient: Any, us: Array) -> Array:
        """Exact for the Gaussians; a point is measured as if it were of the initial width."""
        last = self.joint.whitened(parameters.last, gradient.last, us)
        if self.point:
            return jnp.concatenate([last, self.std * gradient.others])
        others = self.factors.whitened(parameters.others, gradient.others, us)
        return jnp.concatenate([last, others])

    def _together(self, last: Array, others: Array) -> Array:
        order = np.argsort(np.concatenate(self.which))
        return jnp.concatenate([last, others])[order]


@functools.partial(
    register_dataclass,
    data_fields=("learning_rate", "initial_std", "steps"),
    meta_fields=("samples", "batch_size", "others", "sites"),
)
@dataclass(frozen=True)
class LastLayerVI(Variational):
    """A Gaussian of any covariance over the output layer and the noise."""

    others: str
    sites: tuple[str, ...] | None

    def family(self, posterior: Posterior) -> LastLayer:
        """A Gaussian over the output layer's coordinates, and what the others get."""
        which = elements(posterior, output_sites(posterior, self.sites))
        return LastLayer(which, self.others == "point", self.initial_std)

    def check(self, posterior: Posterior) -> None:
        """Besides the batch: an output layer is found and its matrix fits into memory."""
        size = int(elements(posterior, output_sites(posterior, self.sites)).sum())
        if size > LARGEST:
            raise InputError(
                f"last-layer-vi keeps matrices of {size} x {size}; over {LARGEST} parameters take "
                "low-rank-vi, or hmc for exact draws"
            )
        super().check(posterior)


@register(
    "backends",
    "last-layer-vi",
    summary="A full Gaussian over the output layer, the other parameters optimised.",
    options=LastLayerOptions,
    references=(
        "Snoek et al. (2015), Scalable Bayesian Optimization Using Deep Neural Networks, sec. 3.1",
        "Harrison, Willes & Snoek (2024), Variational Bayesian Last Layers",
        "Roeder, Wu & Duvenaud (2017), Sticking the Landing, eq. 7",
    ),
    tags={"exact": False, "family": "variational", "gradients": "minibatch", "points": True},
    facts={
        "exact for": "the output layer given its features, where noise is known",
        "bias": "does not vanish: features have no uncertainty",
        "a draw costs": "nothing, after the fit",
        "memory": "six matrices of the output layer squared",
        "choose it": "large networks on much data, and the mean function is trusted",
    },
    notes="The output layer is the module that the network uses last; the noise, and whatever "
    "else is no weight, goes with it. With others = 'point' the bound is E_q[log p(y, last, "
    "point)] - E_q[log q(last)], at most the log of p(y, point): it optimises the features by "
    "their marginal likelihood times prior density and is no bound on log p(y); the point "
    "depends on coordinates. With 'mean-field' it is a bound on log p(y). Exact for the output "
    "layer given the point where the model is linear in it and the noise known. Bias: no "
    "uncertainty of the features, so too narrow between the data; 'virial' is flagged, as a point "
    "does not spread. k-hat is of the output layer given the point. Cost: samples gradients a "
    "step and nothing a draw but one density; memory: six matrices of last x last. Take it for "
    "large networks on much data.",
)
def last_layer_vi(options: LastLayerOptions) -> Variational:
    """The backend of these options."""
    return LastLayerVI.of(options, others=options.others, sites=options.sites)
