"""Gaussian arrays pushed through planar flows, with their exact density at any value.

A planar step z + u tanh(w . z + b) moves a vector along one direction, by an amount that depends on
one projection of it. Its inverse is known but for one number, t = w . z + b, the root of
t + c tanh(t) = r with r = w . y + b and c = w . u: Newton's method finds it to rounding, and the
density needs nothing else. So the parameters themselves are sampled, and every temperature is that
of the density of the parameters.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float

from bnnzoo.models.leaf import Leaf

FLOOR = 0.05
"""Steps made by :func:`invertible` have slopes above it: below, rounding would be magnified."""

NEWTON = 14
"""Steps of Newton's method; it converges from one side, and to rounding well before."""


class Flow(NamedTuple):
    """Planar steps, first to last.

    Attributes:
        u: direction of each ``(step, size)``.
        w: projection that each depends on ``(step, size)``; w . u is above -1.
        b: its offset ``(step,)``.
    """

    u: Any
    w: Any
    b: Any


def invertible(
    u: Float[Array, "step size"], w: Float[Array, "step size"]
) -> Float[Array, "step size"]:
    """Directions whose w . u is above -1, the nearest along w; those of u = 0 stay 0.

    Args:
        u: any directions.
        w: projections.

    Source: Rezende & Mohamed (2015), Variational Inference with Normalizing Flows, appendix A.1,
    with a smooth bound that leaves 0 where it is.
    """
    along = jnp.sum(u * w, axis=-1, keepdims=True)
    below = (1.0 - FLOOR) * jnp.expm1(jnp.minimum(along, 0.0) / (1.0 - FLOOR))
    wanted = jnp.where(along > 0.0, along, below)
    return u + (wanted - along) * w / jnp.sum(w**2, axis=-1, keepdims=True)


def pushed(flow: Flow, z: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
    """Vectors after all steps.

    Args:
        flow: the steps.
        z: vectors before.
    """

    def step(now: Array, one: Flow) -> tuple[Array, None]:
        return now + one.u * jnp.tanh(now @ one.w + one.b)[..., None], None

    return jax.lax.scan(step, z, _arrays(flow, z))[0]


def pulled(
    flow: Flow, y: Float[Array, "*batch size"]
) -> tuple[Float[Array, "*batch size"], Float[Array, "*batch"]]:
    """Vectors before all steps, and the log-determinant of those steps.

    Args:
        flow: the steps.
        y: vectors after.

    Returns:
        z with ``pushed(flow, z) = y``, and log |det dy/dz|.
    """

    def step(carry: tuple[Array, Array], one: Flow) -> tuple[tuple[Array, Array], None]:
        now, total = carry
        slope = jnp.sum(one.w * one.u)
        bent = jnp.tanh(_root(now @ one.w + one.b, slope))
        total = total + jnp.log1p(slope * (1.0 - bent) * (1.0 + bent))
        return (now - one.u * bent[..., None], total), None

    start = (y, jnp.zeros(y.shape[:-1], y.dtype))
    return jax.lax.scan(step, start, _arrays(flow, y), reverse=True)[0]


def _arrays(flow: Flow, like: Array) -> Flow:
    return Flow(*(jnp.asarray(part, like.dtype) for part in flow))


@jax.custom_jvp
def _root(r: Array, c: Array) -> Array:
    """The root t of t + c tanh(t) = r, for c > -1."""
    size, sign = jnp.abs(r), jnp.sign(r)
    # On t > 0 the left side is concave for c > 0 and convex for c < 0, so that Newton's method
    # converges from below, or from above, without ever passing the root.
    ends = size - c, size / (1.0 + c)
    begin = jnp.where(c > 0.0, jnp.maximum(*ends), jnp.minimum(*ends))

    def improve(_: Any, t: Array) -> Array:
        bent = jnp.tanh(t)
        return t - (t + c * bent - size) / (1.0 + c * (1.0 - bent) * (1.0 + bent))

    return sign * jax.lax.fori_loop(0, NEWTON, improve, begin)


@_root.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # By the implicit function theorem: not through the iterations.
    t = _root(*primals)
    bent = jnp.tanh(t)
    slope = 1.0 + primals[1] * (1.0 - bent) * (1.0 + bent)
    return t, (tangents[0] - bent * tangents[1]) / slope


class PlanarNormal(dist.Distribution):
    """An array ``centre + scale f(z)``, z independent N(0, 1) and f planar steps.

    Args:
        shape: of one value, which the steps see flattened in C order.
        centre: added to every element.
        scale: multiplies every element.
        flow: the steps, of vectors as long as the array has elements.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("centre", "scale", "flow")

    def __init__(
        self,
        shape: tuple[int, ...],
        centre: Leaf,
        scale: Leaf,
        flow: Flow,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.centre, self.scale, self.flow = centre, scale, flow
        super().__init__((), tuple(shape), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """Every real array of the shape."""
        return dist.constraints.independent(dist.constraints.real, len(self.event_shape))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws ``(*sample_shape, *shape)``."""
        white = jax.random.normal(key, (*sample_shape, math.prod(self.event_shape)))
        moved = pushed(self.flow, white).reshape(*sample_shape, *self.event_shape)
        return self.centre + self.scale * moved

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """Log density of arrays ``(*batch, *shape)``."""
        size = math.prod(self.event_shape)
        batch = value.shape[: value.ndim - len(self.event_shape)]
        white, log_det = pulled(
            self.flow, ((value - self.centre) / self.scale).reshape(*batch, size)
        )
        normaliser = size * (0.5 * math.log(2.0 * math.pi) + jnp.log(self.scale))
        return -0.5 * jnp.sum(white**2, axis=-1) - normaliser - log_det
