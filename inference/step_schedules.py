"""How steps and temperatures of stochastic-gradient samplers change from one step to the next."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from bnnzoo.models.leaf import Leaf


def polynomial(taken: Array, power: Leaf, halved: Leaf) -> Array:
    """Factor (1 + t / b)^-power of the step, 1 at first.

    Args:
        taken: steps t so far.
        power: of the decay; sums of steps diverge up to 1, sums of squares converge above 1/2.
        halved: b, the steps until the factor is 2^-power.

    Source:
        Welling & Teh (2011), eq. 2 and sec. 5.
    """
    return (1.0 + taken / halved) ** -power


def cosine(step: Array, cycle: Leaf) -> Array:
    """Factor (cos(pi k / K) + 1) / 2 of the step: from 1 towards 0 over a cycle.

    Args:
        step: k, steps since the cycle began.
        cycle: K, its length.

    Source:
        Zhang et al. (2020), Cyclical Stochastic Gradient MCMC, eq. 1.
    """
    return 0.5 * (jnp.cos(jnp.pi * step / cycle) + 1.0)


def ramp(step: Array, cycle: Leaf, begin: Leaf, end: Leaf) -> Array:
    """Factor of the temperature in a cycle: 0 up to ``begin``, linear, 1 from ``end``.

    Args:
        step: steps since the cycle began.
        cycle: its length.
        begin: share of the cycle without noise.
        end: share of the cycle after which the temperature is whole; with ``begin = end`` it jumps.

    Source:
        Wenzel et al. (2020), appendix A.1 (a linear ramp); Zhang et al. (2020), algorithm 1 (a
        jump, from exploration to sampling).
    """
    share = step / cycle
    linear = (share - begin) / jnp.maximum(end - begin, 1e-6)
    return jnp.where(share >= end, 1.0, jnp.clip(linear, 0.0, 1.0))
