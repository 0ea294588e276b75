"""The microcanonical integrator: against its differential equation, BlackJAX, and bad gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc import mclmc
from blackjax.mcmc.integrators import isokinetic_mclachlan
from scipy.integrate import solve_ivp

from bnnzoo.inference.isokinetic import kick, mclachlan
from bnnzoo.inference.precision import precision

DIM = 7


def vectors(seed: int, count: int) -> list[jax.Array]:
    return [jnp.asarray(v) for v in np.random.default_rng(seed).normal(size=(count, DIM))]


@pytest.mark.parametrize("path", [0.01, 1.0, 20.0])
def test_a_turn_solves_the_equation_of_a_constant_force(path):
    with precision("float64"):
        direction, gradient, logs = vectors(0, 3)
        direction /= jnp.linalg.norm(direction)
        scale = jnp.exp(0.3 * logs)
        turned, change = kick(direction, gradient, jnp.asarray(path), scale)
        force = np.asarray(gradient * scale)

    def moving(_, state):
        u = state[:-1]
        along = u @ force
        return np.append((force - along * u) / (DIM - 1), along)

    start = np.append(np.asarray(direction), 0.0)
    end = solve_ivp(moving, (0.0, path), start, rtol=1e-11, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(turned, end[:-1], atol=1e-8)
    np.testing.assert_allclose(change, end[-1], rtol=1e-8)


def bent(u: jax.Array) -> jax.Array:
    return -0.25 * jnp.sum(u**4) - jnp.sum(jnp.cos(u))


@pytest.mark.parametrize("step", [1e-3, 0.1, 1.0, 10.0])
def test_a_step_is_blackjax_s(step):
    with precision("float64"):
        u, logs = vectors(1, 2)
        metric = jnp.exp(logs)
        chain = mclmc.init(u, bent, jax.random.key(2))
        theirs, change = isokinetic_mclachlan(bent, metric)(chain, jnp.asarray(step))
        ours, our_change = mclachlan(bent, chain, jnp.asarray(step), metric)
        for name in chain._fields:
            np.testing.assert_allclose(
                getattr(ours, name), getattr(theirs, name), rtol=1e-11, atol=1e-13, err_msg=name
            )
        np.testing.assert_allclose(our_change, change, rtol=1e-10)


@pytest.mark.parametrize("path", [0.02, 0.05, 0.1, 0.2])
def test_small_changes_of_energy_are_not_rounded_away(path):
    """In float32, over 100,000 dimensions, against float64: log(1 + x) without log1p is 3e-3 off.

    The energy is a difference of sums of 20 nats or fewer, good to 1e-6 of them.
    """
    raw = np.random.default_rng(3).normal(size=(2, 100_000))
    changes = {}
    for dtype in ("float32", "float64"):
        with precision(dtype):
            direction, gradient = (jnp.asarray(v) for v in raw)
            direction /= jnp.linalg.norm(direction)
            ones = jnp.ones_like(direction)
            _, changes[dtype] = kick(direction, gradient, jnp.asarray(path), ones)
    assert abs(float(changes["float32"]) - float(changes["float64"])) < 1e-4


def test_without_a_force_a_direction_stays():
    (direction,) = vectors(4, 1)
    direction /= jnp.linalg.norm(direction)
    turned, change = kick(direction, jnp.zeros(DIM), jnp.asarray(1.0), jnp.ones_like(direction))
    np.testing.assert_allclose(turned, direction, rtol=1e-6)
    assert change == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e25])
@pytest.mark.parametrize("where", ["half way", "at the end"])
def test_a_bad_gradient_anywhere_shows_in_the_change_alone(bad, where):
    """Also one whose square is beyond float32: callers look at the change and at nothing else."""
    start = jnp.zeros(DIM)
    step = jnp.asarray(1.0)

    @jax.custom_vjp
    def density(u):
        return -0.5 * jnp.sum(u * u)

    def forward(u):
        return density(u), u

    def backward(u, cotangent):
        far = jnp.linalg.norm(u)
        there = (far > 0.75) if where == "at the end" else ((far > 0.25) & (far < 0.75))
        return (cotangent * jnp.where(there, (-u).at[2].set(bad), -u),)

    density.defvjp(forward, backward)
    chain = mclmc.init(start, density, jax.random.key(0))
    ones = jnp.ones(DIM)
    compiled = jax.jit(mclachlan, static_argnums=0)
    _, change = compiled(density, chain, step, ones)
    assert not np.isfinite(change)
    _, change = compiled(lambda u: -0.5 * jnp.sum(u * u), chain, step, ones)
    assert np.isfinite(change)
