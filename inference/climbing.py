"""L-BFGS up a log density, with a line search that never goes down.

It begins from a curvature of 1 in every direction: a density is to be given in coordinates in which
that is about right, or where widths differ by orders it needs far more steps than it remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

MEMORY = 10
"""Steps that L-BFGS remembers."""

MOST_EVALUATIONS = 20
"""Of one line search."""


def lbfgs() -> optax.GradientTransformationExtraArgs:
    """The optimiser, whose state :func:`climb_step` takes."""
    search = optax.scale_by_zoom_linesearch(MOST_EVALUATIONS, initial_guess_strategy="one")
    return optax.lbfgs(memory_size=MEMORY, linesearch=search)


def climb_step(
    density: Callable[[Array], Array], u: Array, optimiser: Any
) -> tuple[Array, Any, Array, Array]:
    """One step; traced.

    Args:
        density: the log density.
        u: position ``(dim,)``.
        optimiser: its state.

    Returns:
        Position, state, log density at ``u``, gradients taken.
    """

    def loss(u: Array) -> Array:
        return -density(u)

    value, gradient = optax.value_and_grad_from_state(loss)(u, state=optimiser)
    update, moved = lbfgs().update(
        gradient, optimiser, u, value=value, grad=gradient, value_fn=loss
    )
    there = u + update
    # A search that left the numbers, from a kink of the density or at its rounding, stays.
    usable = jnp.isfinite(there).all() & (loss(there) <= value) & jnp.isfinite(moved[-1].value)
    fresh = lbfgs().init(u)
    moved = jax.tree.map(lambda a, b: jnp.where(usable, a, b), moved, fresh)
    steps = jnp.maximum(moved[-1].info.num_linesearch_steps, 1)
    return jnp.where(usable, there, u), moved, -value, steps


def ascend(density: Callable[[Array], Array], u: Array, steps: int) -> tuple[Array, Array]:
    """So many steps from a position; traced.

    Args:
        density: the log density.
        u: position ``(dim,)``.
        steps: of L-BFGS.

    Returns:
        The last position, and gradients taken.
    """

    def body(_: Any, carry: Any) -> Any:
        u, optimiser, spent = carry
        u, optimiser, _, used = climb_step(density, u, optimiser)
        return u, optimiser, spent + used

    start = (u, lbfgs().init(u), jnp.zeros((), jnp.result_type(int)))
    u, _, spent = jax.lax.fori_loop(0, steps, body, start)
    return u, spent
