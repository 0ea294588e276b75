"""Moments of activations of jointly Gaussian pre-activations: E[phi(u)] and E[phi(u) phi(v)].

Closed forms where there is one, else quadrature in polar coordinates. The plane is cut along the
rays on which u or v is zero: there rectifiers have their kinks and steep sigmoids their steps, and
between them every activation of the zoo is smooth, so that few Gauss-Legendre nodes do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.models.activations import get_activation

Function = Callable[[Array], Array]

ODD = ("erf", "tanh", "sin", "identity")
"""Activations with phi(-u) = -phi(u)."""

RADIUS = 9.0
"""Where the plane ends: a radius beyond it has probability 3e-18."""

RADII, ANGLES = 40, 32
"""Nodes along a radius, and in each of the two sectors that are not mirror images of another.

Errors relative to the moment are below 1e-9 for standard deviations of pre-activations up to 2,
1e-7 up to 10 and 1e-5 up to 100."""


def product_moment(activation: str, a: Array, b: Array, c: Array) -> Array:
    """E[phi(u) phi(v)] for (u, v) Gaussian with mean 0.

    Args:
        activation: name of phi.
        a: variances of u.
        b: variances of v.
        c: their covariances; the three broadcast.

    Returns:
        The moments, in the shape the arguments broadcast to.

    Source: relu, Cho & Saul (2009), eq. 6; erf, Williams (1997), eq. 11.
    """
    a, b, c = jnp.broadcast_arrays(a, b, c)
    closed = _PRODUCTS.get(activation)
    if closed is not None:
        return closed(a, b, c)
    return plane_moment(get_activation(activation).function, activation in ODD, a, b, c)


def mean(activation: str, a: Array) -> Array:
    """E[phi(u)] for u ~ N(0, a).

    Args:
        activation: name of phi.
        a: variances.
    """
    if activation in ODD:
        return jnp.zeros_like(a)
    if activation == "relu":
        return _root(a) / math.sqrt(2.0 * math.pi)
    return line_moment(get_activation(activation).function, a)


# -- closed forms ------------------------------------------------------------------------------


def _root(a: Array) -> Array:
    """A square root whose derivative at 0 is 0, not infinite."""
    positive = a > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, a, 1.0)), 0.0)


def _correlation(size: Array, c: Array) -> Array:
    """Covariance c over size, and 0 where something is constant."""
    return c / jnp.where(size > 0.0, size, 1.0)


@jax.custom_jvp
def _arc_cosine(cosine: Array) -> Array:
    """(sin t + (pi - t) cos t) / (2 pi) of the angle t with this cosine."""
    cosine = jnp.clip(cosine, -1.0, 1.0)
    sine = jnp.sqrt((1.0 - cosine) * (1.0 + cosine))
    return (sine + (math.pi - jnp.arccos(cosine)) * cosine) / (2.0 * math.pi)


@_arc_cosine.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # By hand: on the diagonal of a kernel automatic derivatives are infinite less infinite.
    cosine = jnp.clip(primals[0], -1.0, 1.0)
    slope = (math.pi - jnp.arccos(cosine)) / (2.0 * math.pi)
    return _arc_cosine(primals[0]), slope * tangents[0]


def _relu(a: Array, b: Array, c: Array) -> Array:
    size = _root(a) * _root(b)
    return size * _arc_cosine(_correlation(size, c))


def _erf(a: Array, b: Array, c: Array) -> Array:
    return 2.0 / math.pi * jnp.arcsin(2.0 * c / jnp.sqrt((1.0 + 2.0 * a) * (1.0 + 2.0 * b)))


def _sin(a: Array, b: Array, c: Array) -> Array:
    # exp(-(a + b)/2) sinh(c), without overflow where c is large
    middle = -0.5 * (a + b)
    return 0.5 * (jnp.exp(middle + c) - jnp.exp(middle - c))


def _identity(a: Array, b: Array, c: Array) -> Array:
    return c


_PRODUCTS = {"relu": _relu, "erf": _erf, "sin": _sin, "identity": _identity}


# -- quadrature --------------------------------------------------------------------------------


@functools.cache
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return 0.5 * (nodes + 1.0), 0.5 * weights


def line_moment(phi: Function, a: Array) -> Array:
    """E[phi(u)] for u ~ N(0, a), each half of the line by itself.

    Args:
        phi: the function.
        a: variances.
    """
    nodes, weights = _legendre(4 * RADII)
    place = RADIUS * nodes**2  # denser near 0, where a steep function has its step
    density = 2.0 * RADIUS * nodes * weights * np.exp(-0.5 * place**2) / math.sqrt(2.0 * math.pi)
    u = _root(a)[..., None] * place
    return ((phi(u) + phi(-u)) * density).sum(-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def plane_moment(phi: Function, odd: bool, a: Array, b: Array, c: Array) -> Array:
    """E[phi(u) phi(v)] for (u, v) Gaussian with mean 0, by quadrature.

    Args:
        phi: the function; smooth but for a kink or step at 0.
        odd: whether phi(-u) = -phi(u), which halves the work.
        a: variances of u.
        b: variances of v, the same shape.
        c: their covariances, the same shape.
    """
    return _plane(phi, phi, odd, a, b, c)


@plane_moment.defjvp
def _(
    phi: Function,
    odd: bool,
    primals: tuple[Array, Array, Array],
    tangents: tuple[Array, Array, Array],
) -> tuple[Array, Array]:
    # With p = phi': d/dc = E[p(u) p(v)], and d/da = (E[u p(u) phi(v)] - c d/dc) / (2 a).
    a, b, c = primals
    slope = _elementwise_derivative(phi)
    by_c = _plane(slope, slope, odd, a, b, c)

    def by(own: Array, other: Array) -> Array:
        safe = jnp.where(own > 0.0, own, 1.0)
        first = _plane(lambda u: u * slope(u), phi, odd, own, other, c)
        return jnp.where(own > 0.0, 0.5 * (first - c * by_c) / safe, 0.0)

    change = by(a, b) * tangents[0] + by(b, a) * tangents[1] + by_c * tangents[2]
    return _plane(phi, phi, odd, a, b, c), change


def _elementwise_derivative(phi: Function) -> Function:
    return lambda u: jax.jvp(phi, (u,), (jnp.ones_like(u),))[1]


def _plane(p: Function, q: Function, same: bool, a: Array, b: Array, c: Array) -> Array:
    """E[p(u) q(v)]; u = sqrt(a) r cos(t), v = sqrt(b) r cos(t - angle), r and t polar.

    ``same`` says that p(-u) q(-v) = p(u) q(v).
    """
    root_a, root_b = _root(a), _root(b)
    angle = jnp.arccos(jnp.clip(_correlation(root_a * root_b, c), -1.0, 1.0))
    nodes, weights = _legendre(RADII)
    radii = RADIUS * nodes**2
    in_radius = 2.0 * RADIUS * nodes * weights * radii * np.exp(-0.5 * radii**2) / (2.0 * math.pi)
    nodes, weights = _legendre(ANGLES)
    angles = nodes**2 * (3.0 - 2.0 * nodes)  # denser at both ends, for the same reason
    in_angle = 6.0 * nodes * (1.0 - nodes) * weights
    grid = np.stack([x.ravel() for x in np.meshgrid(radii, angles, indexing="ij")], 1)
    density = np.outer(in_radius, in_angle).ravel()
    real = angle.dtype
    table = jnp.asarray(np.column_stack([grid, density]), real)

    def add(total: Array, node: Array) -> tuple[Array, None]:
        # Two sectors, u and v of opposite sign in the first; the other two are their images.
        r, share, weight = node
        here = jnp.zeros_like(angle)
        for width, start in ((angle, -0.5 * math.pi), (math.pi - angle, angle - 0.5 * math.pi)):
            t = start + share * width
            u, v = root_a * r * jnp.cos(t), root_b * r * jnp.cos(t - angle)
            value = p(u) * q(v)
            here += width * (2.0 * value if same else value + p(-u) * q(-v))
        return total + weight * here, None

    return jax.lax.scan(add, jnp.zeros_like(angle), table)[0]
