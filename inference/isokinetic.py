"""The integrator of microcanonical dynamics: a particle of unit speed that the gradient turns.

BlackJAX has it with a pass over the parameters for each length and each product, fifteen a step
where the formulas below take six: of a step of ``mclmc`` on a small table that was a tenth.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from blackjax.mcmc.integrators import IntegratorState
from jax import Array

OUTER, INNER = 0.1931833275037836, 0.6136333449924328
"""Shares of a step in its first and last turn, and in the one between its two halves of way."""


def kick(direction: Array, gradient: Array, path: Array, scale: Array) -> tuple[Array, Array]:
    """Turn a direction towards the gradient, exactly as the dynamics would if it were constant.

    Args:
        direction: unit vector ``(dim,)``.
        gradient: of the log density.
        path: way along which it turns, in units of ``scale``.
        scale: of the coordinates ``(dim,)``, the root of a diagonal metric.

    Returns:
        The unit vector after the path, and the change of kinetic energy in nats.

    Source:
        Steeg & Galstyan (2021), Hamiltonian Dynamics with Non-Newtonian Momentum: the update of the
        momentum; the length of what is to be a unit vector in closed form.
    """
    freedom = direction.size - 1
    force = gradient * scale
    norm = jnp.sqrt(jnp.sum(force * force))
    inverse = jnp.where(norm == 0.0, 0.0, 1.0 / norm)  # without a force a direction stays
    cosine = jnp.clip(jnp.sum(direction * force) * inverse, -1.0, 1.0)
    turn = path * norm / freedom
    fading = jnp.exp(-turn)
    faded = -jnp.expm1(-2.0 * turn)
    half = 1.0 - 0.5 * faded * (1.0 - cosine)
    along = 0.5 * (1.0 - fading) * (1.0 + fading + cosine * (1.0 - fading)) * inverse
    turned = (along * force + fading * direction) / half
    change = (turn + jnp.log1p(-0.5 * faded * (1.0 - cosine))) * freedom
    return turned, change


def mclachlan(
    log_density: Callable[[Array], Array], chain: IntegratorState, step: Array, metric: Array
) -> tuple[IntegratorState, Array]:
    """One step: three turns, two halves of way between them, two gradients.

    Args:
        log_density: of a position ``(dim,)``.
        chain: position, direction, log density and its gradient.
        step: length of the way.
        metric: diagonal of the inverse mass matrix ``(dim,)``.

    Returns:
        Where the chain is then, and the change of kinetic energy in nats. Neither is finite where a
        gradient on the way is not: the change says so alone.

    Source:
        McLachlan (1995), On the numerical integration of ordinary differential equations by
        symmetric composition methods; Robnik & Seljak (2023), Microcanonical Langevin Monte Carlo.
    """
    scale = jnp.sqrt(metric)

    def climb(u: Array) -> tuple[Array, Array]:
        # Whole before several sums read it: else each puts it together from its layers again.
        return jax.lax.optimization_barrier(jax.value_and_grad(log_density)(u))

    direction, first = kick(chain.momentum, chain.logdensity_grad, OUTER * step, scale)
    half_way = chain.position + 0.5 * step * scale * direction
    _, gradient = climb(half_way)
    direction, second = kick(direction, gradient, INNER * step, scale)
    position = half_way + 0.5 * step * scale * direction
    value, gradient = climb(position)
    direction, third = kick(direction, gradient, OUTER * step, scale)
    return IntegratorState(position, direction, value, gradient), first + second + third
