"""L-BFGS with a line search of its own: directions, lengths, where it rests, and cliffs."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnzoo.inference.climbing import FLATTER, LOWER, _newton, ascend, begin, climb_step
from bnnzoo.inference.precision import precision

DIM = 8


def searched(density, u, inverse=lambda v: v, steps=1, memory=10):
    """Every place a climb is at, its start first, and the gradients it took."""
    value, gradient = jax.value_and_grad(lambda v: -density(v))(u)
    seen, spent = [begin(u, value, gradient, memory)], []
    step = jax.jit(lambda s: climb_step(density, s, inverse))
    for _ in range(steps):
        search, used = step(seen[-1])
        seen.append(search)
        spent.append(int(used))
    return seen, spent


def valley(u):
    """Minus Rosenbrock's function, highest at 1."""
    return -jnp.sum(100.0 * (u[1:] - u[:-1] ** 2) ** 2 + (1.0 - u[:-1]) ** 2)


def test_the_direction_is_that_of_the_dense_matrix():
    """While it remembers all steps: H by the update of BFGS, from the scaled given matrix."""
    with precision("float64"):
        given = np.diag(np.linspace(0.5, 2.0, DIM))
        start = jnp.asarray(np.random.default_rng(0).normal(size=DIM))
        inverse = jnp.asarray(given)
        seen, _ = searched(valley, start, lambda v: inverse @ v, steps=6)
        for at in range(2, 7):
            pairs = [
                (np.asarray(b.u - a.u), np.asarray(b.gradient - a.gradient))
                for a, b in pairwise(seen[: at + 1])
            ]
            s, y = pairs[-1]
            H = given * (s @ y) / (y @ given @ y)
            for s, y in pairs:
                V = np.eye(DIM) - np.outer(s, y) / (s @ y)
                H = V @ H @ V.T + np.outer(s, s) / (s @ y)
            pull, scaled = inverse @ seen[at].gradient, seen[at].turns @ inverse
            direction, gain = _newton(seen[at], pull, scaled)
            gradient = np.asarray(seen[at].gradient)
            np.testing.assert_allclose(direction, -H @ gradient, rtol=1e-8)
            assert gain == pytest.approx(0.5 * gradient @ H @ gradient, rel=1e-8)


def test_every_step_is_lower_and_flatter():
    """The weak Wolfe conditions, step by step, through a curved valley to its end."""
    with precision("float64"):
        seen, spent = searched(valley, jnp.full(DIM, -1.5), steps=120)
        for a, b in pairwise(seen):
            move = np.asarray(b.u - a.u)
            if not move.any():
                break
            slope = float(a.gradient @ move)
            assert b.value <= a.value + LOWER * slope + 1e-12
            assert b.gradient @ move >= FLATTER * slope
        np.testing.assert_allclose(seen[-1].u, 1.0, atol=1e-6)
        assert sum(spent) < 200  # SciPy's L-BFGS-B takes about 100 for it


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_with_the_curvature_given_a_quadratic_takes_few_steps_and_rests(dtype):
    """Widths over six decades; the first step is cut to length 1, each further at most doubles."""
    with precision(dtype):
        widths = jnp.logspace(-3, 3, DIM)
        start = 2.0 * widths

        def density(u):
            return -1000.0 - 0.5 * jnp.sum((u / widths) ** 2)

        seen, _ = searched(density, start, lambda v: widths**2 * v, steps=8)
        eps = float(jnp.finfo(widths.dtype).eps)
        assert seen[-1].resting
        assert seen[-1].value - 1000.0 <= 10 * eps * 1000.0
        end, spent = ascend(density, start, 1000, lambda v: widths**2 * v)
        assert density(end) >= -1000.0 * (1 + 10 * eps)
        assert spent < 20


def test_a_cliff_is_not_stepped_over():
    """No density, and no number, beyond a wall: the climb comes to the wall and no further."""

    def density(u):
        return jnp.where(u[0] < 1.0, u[0], -jnp.inf) - jnp.sum(u[1:] ** 2)

    def root(u):
        return jnp.sum(u) + jnp.sum(jnp.sqrt(1.0 - u))  # NaN beyond 1, highest at 0.75

    seen, _ = searched(density, jnp.zeros(DIM) + 0.1, steps=60)
    assert all(np.isfinite(s.u).all() and np.isfinite(s.value) for s in seen)
    assert 0.99 < float(seen[-1].u[0]) < 1.0
    seen, _ = searched(root, jnp.full(DIM, -3.0), steps=60)
    np.testing.assert_allclose(seen[-1].u, 0.75, atol=1e-3)


def test_where_no_step_leads_on_it_rests_and_stays():
    """A peak without a slope of zero."""
    seen, _ = searched(lambda u: -jnp.abs(u).sum(), jnp.zeros(DIM), steps=3)
    assert seen[-1].resting
    np.testing.assert_array_equal(seen[-1].u, 0.0)
