"""The log-determinant of a precision relative to its prior's, which is 1 at least everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnzoo.inference.spectra import log_det_above_one


def matrix(size, rank, scale=1.0):
    a = np.random.default_rng(0).normal(size=(size, rank)) * scale
    return a @ a.T + np.eye(size)


def test_value_and_gradient_are_those_of_dense_algebra():
    with jax.enable_x64(True):
        m = jnp.asarray(matrix(12, 5))
        value, slope = jax.jit(jax.value_and_grad(log_det_above_one))(m)
    assert float(value) == pytest.approx(np.linalg.slogdet(m)[1], rel=1e-13)
    np.testing.assert_allclose(slope, np.linalg.inv(m), rtol=1e-10, atol=1e-13)


def test_where_rounding_leaves_no_factor_eigenvalues_serve():
    """In float32 the smallest of 1e9 and 1 are lost; there are as many of 1 as of rank missing."""
    m = matrix(40, 4, 1e4)
    given = jnp.asarray(m, jnp.float32)
    assert not np.isfinite(jnp.linalg.cholesky(given)).all(), "not the case that is meant"
    value, slope = jax.value_and_grad(log_det_above_one)(given)
    # Each of the 36 is 1, or what rounding made of it: at most 40 eps 1e10, whose log is 11.
    exact = np.linalg.slogdet(m)[1]
    assert exact - 1.0 < value < exact + 36 * 11.0
    assert np.isfinite(slope).all()
