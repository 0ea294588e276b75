"""Gaussians along the path of a quasi-Newton optimiser.

The inverse Hessian of L-BFGS is kept in the factored form of Zhang et al. (2022), from which a
Gaussian is drawn in time linear in the dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

from bnnzoo.inference.climbing import begin, climb_step

CURVED = 1e-12
"""Least curvature s'z / |z|^2 of a step that is remembered (Zhang et al. 2022, alg. 3)."""

LOG_2PI = 1.8378770664093453


class Path(NamedTuple):
    """Where an optimiser has been.

    Attributes:
        u: positions ``(step, dim)``.
        gradients: of minus the log density ``(step, dim)``.
        length: how many of them count.
        evaluations: gradients taken.
    """

    u: Array
    gradients: Array
    length: Array
    evaluations: Array


class Curvature(NamedTuple):
    """What L-BFGS remembers: H = diag(alpha) + rank 2 ``memory``.

    Attributes:
        alpha: diagonal ``(dim,)``.
        s: last moves, newest last ``(memory, dim)``; 0 where there are none yet.
        z: changes of the gradient over them ``(memory, dim)``.
    """

    alpha: Array
    s: Array
    z: Array


class PathGaussian(NamedTuple):
    """N(mean, D (Q (M M' - I) Q' + I) D), D = diag(scale), Q with orthonormal columns.

    Attributes:
        mean: ``(dim,)``.
        scale: ``(dim,)``.
        basis: Q ``(dim, rank)``.
        inner: M, lower triangular ``(rank, rank)``.
    """

    mean: Array
    scale: Array
    basis: Array
    inner: Array

    def draw(self, noise: Array) -> tuple[Array, Array]:
        """Position ``(dim,)`` and its log density from standard normal noise ``(dim,)``."""
        along = self.basis.T @ noise
        u = self.mean + self.scale * (noise + self.basis @ (self.inner @ along - along))
        log_det = jnp.sum(jnp.log(self.scale)) + jnp.sum(jnp.log(jnp.diag(self.inner)))
        return u, -0.5 * jnp.sum(noise**2) - log_det - 0.5 * noise.size * LOG_2PI

    def log_density(self, u: Array) -> Array:
        """Log density at any position ``(dim,)``."""
        w = (u - self.mean) / self.scale
        along = self.basis.T @ w
        inside = solve_triangular(self.inner, along, lower=True)
        square = w @ w - along @ along + inside @ inside
        log_det = jnp.sum(jnp.log(self.scale)) + jnp.sum(jnp.log(jnp.diag(self.inner)))
        return -0.5 * square - log_det - 0.5 * u.size * LOG_2PI


def climb(
    log_density: Callable[[Array], Array], u: Array, steps: int, memory: int, tolerance: float
) -> Path:
    """L-BFGS up a log density; traced.

    Args:
        log_density: of a position ``(dim,)``.
        u: the start ``(dim,)``.
        steps: most of them.
        memory: pairs that L-BFGS remembers.
        tolerance: it stops where a step changes the log density by less than this share of it, or
            where it is not finite any more.
    """

    def one(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        search, path, before, _ = carry
        finite = jnp.isfinite(search.value) & jnp.all(jnp.isfinite(search.gradient))
        change = jnp.abs(before - search.value)
        settled = change <= tolerance * jnp.maximum(jnp.abs(search.value), 1.0)
        i = path.length
        moved, spent = climb_step(log_density, search, lambda v: v)
        path = Path(
            path.u.at[i].set(search.u),
            path.gradients.at[i].set(search.gradient),
            path.length + finite,
            path.evaluations + spent.astype(path.evaluations.dtype),
        )
        return moved, path, search.value, settled | ~finite

    def going(carry: tuple[Any, ...]) -> Array:
        return (carry[1].length < steps) & ~carry[3]

    empty = jnp.zeros((steps, u.size), u.dtype)
    path = Path(empty, empty, jnp.zeros((), jnp.int32), jnp.ones((), u.dtype))
    value, gradient = jax.value_and_grad(lambda v: -log_density(v))(u)
    start = begin(u, value, gradient, memory), path, jnp.asarray(jnp.inf, u.dtype)
    return jax.lax.while_loop(going, one, (*start, jnp.asarray(False)))[1]


def no_curvature(u: Array, memory: int) -> Curvature:
    """Before the first move: the identity."""
    zeros = jnp.zeros((memory, u.size), u.dtype)
    return Curvature(jnp.ones_like(u), zeros, zeros)


def remember(known: Curvature, s: Array, z: Array) -> Curvature:
    """One move more, unless the density was not curved along it (Zhang et al. 2022, alg. 3).

    Args:
        known: so far.
        s: the move ``(dim,)``.
        z: change of the gradient of minus the log density over it ``(dim,)``.
    """
    b = s @ z
    curved = b > CURVED * (z @ z)
    b = jnp.where(curved, b, 1.0)
    a = jnp.sum(known.alpha * z**2)
    c = jnp.where(curved, jnp.sum(s**2 / known.alpha), 1.0)
    inverse = a / (b * known.alpha) + z**2 / b - a * s**2 / (b * c * known.alpha**2)
    # Positive by Cauchy's inequality, but for rounding.
    curved &= jnp.all(inverse > 0)
    new = Curvature(
        1.0 / inverse,
        jnp.concatenate([known.s[1:], s[None]]),
        jnp.concatenate([known.z[1:], z[None]]),
    )
    return jax.tree.map(lambda n, k: jnp.where(curved, n, k), new, known)


def gaussian(known: Curvature, u: Array, gradient: Array) -> PathGaussian:
    """N(u - H gradient, H): exact where the log density is quadratic and H its inverse Hessian.

    H = diag(alpha) + [alpha Z, S] G [alpha Z, S]' with G from R = triu(S'Z) (Zhang et al. 2022,
    eq. 13); drawn by a QR decomposition of rank 2 ``memory`` (alg. 4). NaN where rounding has left
    no positive definite H.

    Args:
        known: moves and changes of the gradient up to ``u``.
        u: position ``(dim,)``.
        gradient: of minus the log density there ``(dim,)``.
    """
    count = len(known.s)
    products = known.s @ known.z.T
    eta = jnp.diag(products)
    # Places that are still empty decouple by a 1 on the diagonal.
    upper = jnp.triu(products) + jnp.diag(jnp.where(eta > 0, 0.0, 1.0))
    eye = jnp.eye(count, dtype=u.dtype)
    inverse = solve_triangular(upper, eye, lower=False)
    middle = jnp.diag(eta) + (known.z * known.alpha) @ known.z.T
    corner = inverse.T @ middle @ inverse
    g = jnp.block([[jnp.zeros_like(eye), -inverse], [-inverse.T, corner]])
    wide = jnp.concatenate([known.z * known.alpha, known.s]).T  # (dim, 2 memory)
    mean = u - known.alpha * gradient - wide @ (g @ (wide.T @ gradient))
    scale = jnp.sqrt(known.alpha)
    basis, r = jnp.linalg.qr(wide / scale[:, None])
    inner = jnp.linalg.cholesky(jnp.eye(len(r), dtype=u.dtype) + r @ g @ r.T)
    return PathGaussian(mean, scale, basis, inner)
