"""Where a mode moves when its density is changed: linear solves with its curvature."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.sparse.linalg import cg

CLOSE = 100.0
"""Rounding errors, relative to the right side, that a solve may leave."""


def pull_on_mode(
    density: Callable[[Array], Array],
    u: Array,
    slope: Array,
    inverse: Callable[[Array], Array],
    solves: int,
) -> Array:
    """How much a function of the mode rises where the gradient there is shifted; traced.

    With E minus the log density, its mode u*(h) where E_u(u, h) = 0, and a function S(u, h), the
    derivative of S(u*(h), h) through the mode is -S_u E_uu^-1 E_uh = w'(-E_u)_h, w = E_uu^-1 S_u.

    Args:
        density: the log density.
        u: its mode ``(dim,)``.
        slope: S_u there ``(dim,)``.
        inverse: about E_uu^-1 times a vector, from which conjugate gradients begin.
        solves: their steps at the most, each an exact product with E_uu.

    Returns:
        The vector w ``(dim,)``; zeros where E is not convex there, or the solve did not get closer.

    Source: Lorraine, Vicol & Duvenaud (2020), Optimizing Millions of Hyperparameters by Implicit
    Differentiation, eq. 2, with their inverse solved for.
    """

    def times(v: Array) -> Array:
        return -jax.jvp(jax.grad(density), (u,), (v,))[1]

    tolerance = CLOSE * float(jnp.finfo(u.dtype).eps)
    found, _ = cg(times, slope, maxiter=solves, tol=tolerance, M=inverse)
    image = times(found)
    usable = jnp.isfinite(image).all() & (found @ image >= 0) & (found @ slope >= 0)
    usable = usable & (jnp.linalg.norm(image - slope) < jnp.linalg.norm(slope))
    return jnp.where(usable, found, 0.0)
