"""Convolutions with gradients of matrix products equal JAX's own, to any order."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnnzoo.models.convolution import as_product, as_products, convolve

LAYOUT = ("NHWC", "HWIO", "NHWC")
CASES = [
    ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1), "SAME"),
    ((2, 7, 6, 2), (3, 2, 2, 3), (2, 1), "SAME"),
    ((2, 8, 8, 1), (5, 5, 1, 2), (1, 1), "VALID"),
    ((2, 9, 8, 2), (1, 1, 2, 3), (2, 2), "SAME"),
    ((1, 7, 7, 2), (3, 3, 2, 2), (3, 2), ((0, 2), (1, 0))),
    ((2, 4, 5, 20), (3, 3, 20, 2), (2, 1), "SAME"),  # a window of many numbers
]


def arrays(x_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Images and a kernel."""
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=x_shape)), jnp.asarray(rng.normal(size=kernel_shape))


@pytest.mark.parametrize(("x_shape", "kernel_shape", "strides", "padding"), CASES)
def test_it_is_the_convolution_of_lax(x_shape, kernel_shape, strides, padding):
    """Values, both gradients and a product with the Hessian of a nonlinear function of it."""
    with jax.enable_x64(True):
        at = arrays(x_shape, kernel_shape)

        def curved(function):
            return lambda pair: jnp.sum(jnp.sin(function(*pair)))

        def ours(x, kernel):
            return convolve(x, kernel, strides, padding, dimension_numbers=LAYOUT)

        def theirs(x, kernel):
            return jax.lax.conv_general_dilated(
                x, kernel, strides, padding, dimension_numbers=LAYOUT
            )

        way = jax.tree.map(jnp.cos, at)

        @functools.partial(jax.jit, static_argnums=0)
        def looked_at(function, pair):
            f = curved(function)
            slope, curvature = jax.jvp(jax.grad(f), (pair,), (way,))
            alone = jax.jvp(lambda x: function(x, pair[1]), pair[:1], way[:1])[1]
            return function(*pair), slope, curvature, alone

        results = looked_at(ours, at), looked_at(theirs, at)
        for mine, right in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(mine, right, rtol=1e-10, atol=1e-10)


def test_products_are_the_convolution_and_batch():
    """The sum of products is the convolution; over vmapped kernels, as chains have, too."""
    with jax.enable_x64(True):
        x, kernel = arrays((3, 6, 6, 2), (3, 3, 2, 4))
        pads = ((1, 1), (1, 1))
        whole = jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=LAYOUT)
        for form in (as_product, as_products):
            np.testing.assert_allclose(form(x, kernel, (1, 1), pads), whole, atol=1e-12)
        kernels = jnp.stack([kernel, 2 * kernel])

        def slope(k):
            return jax.grad(lambda k: jnp.sum(convolve(x, k, (1, 1), pads) ** 2))(k)

        one, two = jax.vmap(slope)(kernels)
        np.testing.assert_allclose(one, slope(kernel), rtol=1e-12)
        np.testing.assert_allclose(two, 2 * one, rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_module_that_asks_for_more_gets_what_lax_gives(groups):
    """Groups and dilations are left to JAX."""
    made = [
        nnx.Conv(
            4,
            4,
            (3, 3),
            feature_group_count=groups,
            kernel_dilation=2,
            rngs=nnx.Rngs(0),
            **({} if own is None else {"conv_general_dilated": own}),
        )
        for own in (convolve, None)
    ]
    x, _ = arrays((2, 8, 8, 4), (1, 1, 1, 1))
    np.testing.assert_allclose(made[0](x), made[1](x), rtol=1e-6)
