"""Variational inference with a normalising flow of affine couplings."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.variational import LOG_2PI, Family, Variational, VariationalOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Positive
from bnnzoo.registry import register

LARGEST_LOG_SCALE = 2.0
"""One coupling stretches a coordinate by a factor of 7.4 at the most: early steps stay finite."""


class FlowOptions(VariationalOptions):
    """Options of ``flow-vi``."""

    learning_rate: Positive = Field(
        0.005, description="Step of Adam at the start; it falls to a hundredth along a cosine."
    )
    couplings: Annotated[int, Field(gt=0)] = Field(
        6, description="Affine couplings; each moves the half of the coordinates the last left."
    )
    width: Annotated[int, Field(gt=0)] = Field(
        32, description="Hidden tanh units of a coupling's network."
    )


class Coupling(NamedTuple):
    """A network from the coordinates that stay to shift and log scale of the others.

    Attributes:
        first: ``(dim, width)``.
        bias: ``(width,)``.
        second: ``(width, 2 dim)``.
        offset: ``(2 dim,)``.
    """

    first: Array
    bias: Array
    second: Array
    offset: Array


class FlowParameters(NamedTuple):
    """Couplings in units of s about m, then u = m + s z.

    Attributes:
        mean: m ``(dim,)``.
        log_std: log s ``(dim,)``.
        couplings: stacked along a leading axis.
    """

    mean: Array
    log_std: Array
    couplings: Coupling


class CouplingFlow(Family):
    """A standard normal through affine couplings, in units of a location and scale.

    Args:
        dimension: of ``u``.
        couplings: their number.
        width: hidden units of each.
    """

    def __init__(self, dimension: int, couplings: int, width: int) -> None:
        self.noise_size, self.count, self.width = dimension, couplings, width

    def start(self, u: Array, std: Leaf) -> FlowParameters:
        """The identity: last layers are 0, first ones random so that units differ."""
        n, d, h = self.count, u.size, self.width
        first = jax.random.normal(jax.random.key(0), (n, d, h), u.dtype) / d**0.5
        zeros = functools.partial(jnp.zeros, dtype=u.dtype)
        couplings = Coupling(first, zeros((n, h)), zeros((n, h, 2 * d)), zeros((n, 2 * d)))
        return FlowParameters(u, jnp.full_like(u, jnp.log(std)), couplings)

    def draw(self, parameters: FlowParameters, noise: Array) -> Array:
        """Through the couplings, one after the other."""

        def through(z: Array, one: tuple[Coupling, Array]) -> tuple[Array, None]:
            shift, log_scale = _shift_and_scale(*one, z)
            return z * jnp.exp(log_scale) + shift, None

        z, _ = jax.lax.scan(through, noise, (parameters.couplings, self._stays(noise)))
        return parameters.mean + jnp.exp(parameters.log_std) * z

    def log_density(self, parameters: FlowParameters, u: Array) -> Array:
        """By the inverse, which costs what a draw costs."""

        def back(
            carry: tuple[Array, Array], one: tuple[Coupling, Array]
        ) -> tuple[tuple[Array, Array], None]:
            z, log_det = carry
            shift, log_scale = _shift_and_scale(*one, z)
            return ((z - shift) * jnp.exp(-log_scale), log_det + jnp.sum(log_scale)), None

        z = (u - parameters.mean) * jnp.exp(-parameters.log_std)
        begin = z, jnp.sum(parameters.log_std)
        steps = parameters.couplings, self._stays(u)
        (z, log_det), _ = jax.lax.scan(back, begin, steps, reverse=True)
        return -jnp.sum(0.5 * z**2 + 0.5 * LOG_2PI) - log_det

    def centre(self, parameters: FlowParameters) -> Array:
        """Where the origin goes."""
        return self.draw(parameters, jnp.zeros_like(parameters.mean))

    def _stays(self, like: Array) -> Array:
        """1 for the coordinates that a coupling leaves and reads ``(coupling, dim)``.

        Even and odd ones in turn, then lower and upper halves, so that neighbours meet as well.
        """
        index = jnp.arange(like.size)
        patterns = jnp.stack(
            [index % 2, 1 - index % 2, index < like.size // 2, index >= like.size // 2]
        )
        return patterns[jnp.arange(self.count) % 4].astype(like.dtype)


def _shift_and_scale(coupling: Coupling, stays: Array, z: Array) -> tuple[Array, Array]:
    """Both ``(dim,)``, 0 for the coordinates that stay."""
    hidden = jnp.tanh((stays * z) @ coupling.first + coupling.bias)
    shift, raw = jnp.split(hidden @ coupling.second + coupling.offset, 2)
    log_scale = LARGEST_LOG_SCALE * jnp.tanh(raw / LARGEST_LOG_SCALE)
    return (1.0 - stays) * shift, (1.0 - stays) * log_scale


@functools.partial(
    register_dataclass,
    data_fields=("learning_rate", "initial_std", "steps"),
    meta_fields=("samples", "batch_size", "couplings", "width"),
)
@dataclass(frozen=True)
class Flow(Variational):
    """Affine couplings in unconstrained coordinates."""

    couplings: int
    width: int

    def family(self, posterior: Posterior) -> CouplingFlow:
        """A flow over all coordinates."""
        return CouplingFlow(posterior.dimension, self.couplings, self.width)


@register(
    "backends",
    "flow-vi",
    summary="A normalising flow of affine couplings, fitted by the evidence lower bound.",
    options=FlowOptions,
    references=(
        "Rezende & Mohamed (2015), Variational Inference with Normalizing Flows",
        "Dinh, Sohl-Dickstein & Bengio (2017), Density Estimation Using Real NVP, eq. 7-8",
        "Roeder, Wu & Duvenaud (2017), Sticking the Landing, eq. 7",
        "Agrawal, Sheldon & Domke (2020), Advances in Black-Box VI, sec. 3.4",
    ),
    tags={"exact": False, "family": "variational", "gradients": "minibatch"},
    facts={
        "exact for": "no posterior",
        "bias": "falls as the flow grows",
        "a draw costs": "nothing, after the fit",
        "memory": "18 vectors of couplings x width x parameters",
        "choose it": "few parameters, and full-rank-vi's k-hat is large",
    },
    notes="Curved and skewed densities, not only Gaussian ones; begins as an independent Gaussian. "
    "Exact for no posterior in finitely many units. Bias: what the couplings cannot bend, one "
    "mode as a rule, tails of a Gaussian seen through bounded scales; KL(q || p) nats in the "
    "bound. Cost: samples gradients a step and nothing a draw but one density; memory: about six "
    "arrays of couplings x 3 x dim x width. Take it for up to some hundred parameters where "
    "full-rank-vi shows a large k-hat. The flag 'unconverged' rests on a diagonal estimate of the "
    "Fisher information, an order of magnitude.",
)
def flow_vi(options: FlowOptions) -> Variational:
    """The backend of these options."""
    return Flow.of(options, couplings=options.couplings, width=options.width)
