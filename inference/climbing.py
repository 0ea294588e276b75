"""L-BFGS up a log density, with a line search that never goes down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from bnnzoo.models.leaf import Leaf

MEMORY = 10
"""Steps that L-BFGS remembers."""

MOST_EVALUATIONS = 20
"""Of one line search."""


def lbfgs() -> optax.GradientTransformationExtraArgs:
    """The optimiser, whose state :func:`climb_step` takes."""
    search = optax.scale_by_zoom_linesearch(MOST_EVALUATIONS, initial_guess_strategy="one")
    return optax.lbfgs(memory_size=MEMORY, linesearch=search)


def climb_step(
    density: Callable[[Array], Array], u: Array, optimiser: Any, scale: Leaf = 1.0
) -> tuple[Array, Any, Array, Array]:
    """One step; traced.

    Args:
        density: the log density.
        u: position ``(dim,)``.
        optimiser: its state.
        scale: lengths of the coordinates ``(dim,)`` or one for all, as the prior's widths. L-BFGS
            begins from a curvature of 1 in these units: where widths differ by orders, as tuned
            ones do, it would need far more steps than it remembers in any other.

    Returns:
        Position, state, log density at ``u``, gradients taken.
    """

    def loss(v: Array) -> Array:
        return -density(scale * v)

    v = u / scale
    value, gradient = optax.value_and_grad_from_state(loss)(v, state=optimiser)
    update, moved = lbfgs().update(
        gradient, optimiser, v, value=value, grad=gradient, value_fn=loss
    )
    there = v + update
    # A search that left the numbers, from a kink of the density or at its rounding, stays.
    usable = jnp.isfinite(there).all() & (loss(there) <= value) & jnp.isfinite(moved[-1].value)
    fresh = lbfgs().init(v)
    moved = jax.tree.map(lambda a, b: jnp.where(usable, a, b), moved, fresh)
    steps = jnp.maximum(moved[-1].info.num_linesearch_steps, 1)
    return jnp.where(usable, scale * there, u), moved, -value, steps


def ascend(
    density: Callable[[Array], Array], u: Array, steps: int, scale: Leaf = 1.0
) -> tuple[Array, Array]:
    """So many steps from a position; traced.

    Args:
        density: the log density.
        u: position ``(dim,)``.
        steps: of L-BFGS.
        scale: lengths of the coordinates, as in :func:`climb_step`.

    Returns:
        The last position, and gradients taken.
    """

    def body(_: Any, carry: Any) -> Any:
        u, optimiser, spent = carry
        u, optimiser, _, used = climb_step(density, u, optimiser, scale)
        return u, optimiser, spent + used

    start = (u, lbfgs().init(u), jnp.zeros((), jnp.result_type(int)))
    u, _, spent = jax.lax.fori_loop(0, steps, body, start)
    return u, spent
