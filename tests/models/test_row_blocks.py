"""The log-likelihood of many rows in blocks is that of all rows at once, and so are its slopes."""

from __future__ import annotations

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bnnzoo as bz
from bnnzoo.datasets import make_dataset
from bnnzoo.inference.devices import Devices
from bnnzoo.models import row_blocks


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Blocks where a table is of a few hundred rows."""
    monkeypatch.setitem(row_blocks.WORTH_BYTES, "cpu", 10_000)
    monkeypatch.setitem(row_blocks.BLOCK_BYTES, "cpu", 10_000)


def table(rows: int, task: str = "regression", shape: tuple[int, ...] = (3,)) -> bz.Dataset:
    """Rows of noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, *shape))
    y = rng.normal(size=rows) if task == "regression" else rng.integers(0, 3, rows)
    return make_dataset(x, y, task=task)


LONG = pytest.mark.validate
CASES = [
    pytest.param(dict(likelihood="student-t"), table(173), {}, id="regression", marks=LONG),
    pytest.param(
        dict(likelihood="categorical", prior="hierarchical-gaussian"),
        table(150, "classification"),
        {"posterior_temperature": 0.3},
        id="tempered labels",
    ),
    pytest.param(
        dict(
            network="cnn",
            network_options={"channels": [3]},
            likelihood="categorical",
            augmentation="flip",
            augmentation_options={"combine": "averaged-probabilities"},
        ),
        table(37, "classification", (6, 6, 1)),
        {"likelihood_temperature": 2.0},
        id="copies of images",
        marks=LONG,
    ),
    pytest.param(dict(prior="horseshoe"), table(173), {}, id="horseshoe", marks=LONG),
]
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""What is computed once is compiled in less time than it takes to optimise it."""


@pytest.mark.parametrize(("parts", "data", "temperatures"), CASES)
def test_value_slope_and_curvature_are_those_of_all_rows(parts, data, temperatures):
    """In float64, to rounding, at two points at once; the last block is shorter than the others."""
    with jax.enable_x64(True):
        posterior = bz.Posterior(bz.make_model(**parts), data, **temperatures)
        whole = copy.copy(posterior)
        whole.in_blocks = False
        assert 1 < posterior.block_rows < posterior.rows and whole.block_rows == 0
        assert posterior.rows % posterior.block_rows
        points = jnp.stack([posterior.initial(jax.random.key(seed)) for seed in (1, 2)])
        way = jnp.cos(jnp.arange(posterior.dimension))

        @quick
        def looked_at(p, us):
            def at(u):
                slope = jax.grad(p.log_density)
                rows = p.pointwise_log_likelihood(u)
                return p.log_density(u), slope(u), jax.jvp(slope, (u,), (way,))[1], rows

            return jax.vmap(at)(us)

        for name, found, truth in zip(
            ("value", "slope", "curvature", "rows"),
            looked_at(posterior, points),
            looked_at(whole, points),
            strict=True,
        ):
            scale = float(jnp.max(jnp.abs(truth)))
            np.testing.assert_allclose(found, truth, atol=1e-11 * scale, err_msg=name)


def test_what_a_model_is_made_of_can_be_moved_too():
    """Gradients with respect to scales, noise and data, as tuning takes them."""
    with jax.enable_x64(True):
        options = {"noise": "fixed", "noise_std": 0.7}
        posterior = bz.Posterior(bz.make_model(likelihood_options=options), table(211))
        u = posterior.initial(jax.random.key(0))
        leaves, structure = jax.tree.flatten(posterior)

        @quick
        def slopes(leaves, u):
            def density(leaves, u):
                return jax.tree.unflatten(structure, leaves).log_likelihood(u)

            # Backwards over backwards, as an evidence's gradient through a mode is taken.
            def pulled(leaves, u):
                return jnp.sum(jax.grad(density, 1)(leaves, u) ** 2)

            return jax.grad(density)(leaves, u), jax.grad(pulled)(leaves, u)

        leaves = [jnp.asarray(leaf, float) for leaf in leaves]
        assert posterior.block_rows
        found = jax.tree.leaves(slopes(leaves, u))
        posterior.in_blocks = False
        structure = jax.tree.structure(posterior)
        truth = jax.tree.leaves(jax.jit(slopes.__wrapped__)(leaves, u))
        assert sum(bool(jnp.any(t != 0)) for t in truth) >= 6  # noise, inputs, targets, twice
        for mine, right in zip(found, truth, strict=True):
            np.testing.assert_allclose(mine, right, rtol=1e-9, atol=1e-9)


class Mixing(nnx.Module):
    """A module that breaks its contract: every row sees the mean of all."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.layer = nnx.Linear(in_shape[0], out_shape[0], rngs=rngs)

    def __call__(self, x):
        """Outputs of centred rows."""
        h = jnp.tanh(self.layer(x - x.mean(0)))
        return h + 0 * jnp.tile(h, (1, 100))[:, :1]


def test_a_network_that_mixes_rows_is_not_cut():
    """A block would be another function."""
    posterior = bz.Posterior(bz.make_model(network=Mixing), table(900))
    assert posterior.block_rows == Devices(1).place(posterior).block_rows == 0
    posterior.in_blocks = True
    assert posterior.block_rows > 0  # by its size it would have been


@pytest.mark.parametrize(
    ("rows", "row_bytes", "read", "expected"),
    [
        (100, 100, 10, 0),  # fits
        (101, 100, 10, 51),  # two blocks
        (1000, 100, 10, 100),
        (1000, 20_000, 10, 1),  # a row is larger than a block
        (1000, 100, 100, 0),  # copying a row costs as much as it makes
    ],
)
def test_blocks_are_as_even_as_they_can_be(rows, row_bytes, read, expected):
    """So many that each fits; none where all rows do."""
    assert row_blocks.rows_of_block(rows, row_bytes, read) == expected
