"""MC dropout where its optimum is known: a linear model, on which it is a ridge regression.

With masks m of kept rows over 1 - p, E|y - X (m w) - b|^2 = |y - X w - b|^2 + p / (1 - p)
sum_j (X'X)_jj w_j^2 (Srivastava et al. 2014, sec. 9.1), so the trained weights solve a linear
system, whichever masks a batch shares.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from flax import nnx

import bnnzoo as bz
from bnnzoo.inference.dropout_masks import draw_mask, masked_kernels
from bnnzoo.models import Posterior

ROWS, FEATURES, NOISE, RATE = 40, 4, 0.5, 0.3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(11)
    x = rng.normal(size=(ROWS, FEATURES)) @ (np.eye(FEATURES) + 0.3) * [1.0, 2.0, 0.5, 1.0]
    y = x @ rng.normal(size=FEATURES) + 1.0 + NOISE * rng.normal(size=ROWS)
    return bz.make_dataset(x, y, task="regression", scale="none")


def model(widths=(), **changes):
    settings = {
        "network_options": {"widths": list(widths)},
        "likelihood_options": {"noise": "fixed", "noise_std": NOISE},
    }
    return bz.make_model(**settings | changes)


def fit(data, made=None, **changes):
    settings = {"chains": 2, "draws": 2000, "seed": 0, "progress": False, "input_rate": RATE}
    return bz.fit(model() if made is None else made, data, "mc-dropout", **settings | changes)


def ridge(data, L=1.0):
    """Kernel and bias; the prior of the kernel is N(0, 1 / features), of the bias N(0, 1)."""
    x = np.column_stack([data.x, np.ones(ROWS)])
    dropped = RATE / (1 - RATE) * np.append((data.x**2).sum(0), 0.0)
    prior = np.append(np.full(FEATURES, float(FEATURES)), 1.0)
    system = (x.T @ x + np.diag(dropped)) / (NOISE**2 * L) + np.diag(prior)
    return np.linalg.solve(system, x.T @ data.y / (NOISE**2 * L))


@pytest.mark.validate
@pytest.mark.parametrize(
    ("masks", "batch_size", "L"),
    [
        ("row", 10, 2.0),
        pytest.param("row", None, 1.0, marks=pytest.mark.validate),
        pytest.param("batch", 10, 1.0, marks=pytest.mark.validate),
    ],
)
def test_a_linear_model_is_trained_to_the_ridge_of_dropout(data, masks, batch_size, L):
    """Weights where a row is kept, times 1 - p, are the trained ones: read off without noise.

    They are the mean of the last 2,000 steps, which wander about the optimum by the noise of masks
    and batches; 3 % of the norm is three to five standard deviations of that mean over seeds, the
    fewer the smaller the batch. The ridge without dropout is over 10 % away.
    """
    exact = ridge(data, L)
    run = fit(
        data, masks=masks, batch_size=batch_size, likelihood_temperature=L, warmup=20_000
    )  # fmt: skip
    for chain in range(2):
        kernel = run.tree["posterior"]["layers.0.kernel"].to_numpy()[chain, :, :, 0]
        bias = run.tree["posterior"]["layers.0.bias"].to_numpy()[chain, 0, 0]
        kept = kernel != 0
        trained = [(1 - RATE) * kernel[kept[:, j], j][0] for j in range(FEATURES)]
        error = np.linalg.norm(np.append(trained, bias) - exact) / np.linalg.norm(exact)
        print(f"{masks}, batch {batch_size}, L={L}: {error:.4f}")
        assert error < 0.03
    x = np.column_stack([data.x, np.ones(ROWS)])
    plain = np.linalg.lstsq(x, data.y, rcond=None)[0]
    assert np.linalg.norm(plain - exact) > 0.1 * np.linalg.norm(exact)
    assert run.manifest["flags"] == []


@pytest.mark.validate
def test_draws_are_masks_of_one_set_of_weights(data):
    """Rows fall out independently with probability p: 4,000 draws, five binomial deviations."""
    kernel = fit(data).tree["posterior"]["layers.0.kernel"].to_numpy()[..., 0]
    for own in kernel:
        assert all(len(np.unique(own[:, j])) == 2 for j in range(FEATURES))
    dropped = (kernel == 0).reshape(-1, FEATURES)
    assert np.all(np.abs(dropped.mean(0) - RATE) < 5 * np.sqrt(RATE * (1 - RATE) / 4000))
    together = np.corrcoef(dropped.T) - np.eye(FEATURES)
    assert np.abs(together).max() < 5 / np.sqrt(4000)


def test_rows_of_every_kernel_but_the_first_are_dropped(data):
    """Units of a hidden layer, by whole rows; biases and inputs are never."""
    post = Posterior(model((6, 5)), data)
    kernels = masked_kernels(post)
    assert [k.first for k in kernels] == [True, False, False]
    u = jnp.ones(post.dimension)
    keys = jax.random.split(jax.random.key(0), 2000)
    masks = jax.vmap(lambda key: draw_mask(kernels, u, 0.25, 0.0, key))(keys)
    sites = {s.name: np.asarray(jax.vmap(s.take)(masks)) for s in post.sites}
    for name in ("layers.0.kernel", "layers.0.bias", "layers.1.bias", "layers.2.bias"):
        assert np.all(sites[name] == 1.0)
    for name in ("layers.1.kernel", "layers.2.kernel"):
        assert set(np.unique(sites[name])) == {0.0, np.float32(1 / 0.75)}
        assert np.all(sites[name] == sites[name][:, :, :1]), "whole rows"
        rate = (sites[name][:, :, 0] == 0).mean(0)
        assert np.all(np.abs(rate - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000))


class Backwards(nnx.Module):
    """A convolution and a head whose names are not in the order of use."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.z_stem = nnx.Conv(in_shape[-1], 3, (2, 2), rngs=rngs)
        self.a_head = nnx.Linear(3 * in_shape[0] * in_shape[1], out_shape[0], rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.z_stem(x))
        return self.a_head(h.reshape(len(x), -1))


def test_the_first_kernel_is_the_first_used_and_channels_are_rows_of_a_convolution():
    x = np.random.default_rng(0).normal(size=(12, 4, 4, 2))
    data = bz.make_dataset(x, x.mean((1, 2, 3)), task="regression")
    post = Posterior(bz.make_model(Backwards), data)
    kernels = {k.shape: k for k in masked_kernels(post)}
    assert kernels[(2, 2, 2, 3)].first and not kernels[(48, 1)].first
    masks = draw_mask(masked_kernels(post), jnp.ones(post.dimension), 0.0, 0.5, jax.random.key(3))
    site = next(s for s in post.sites if s.name == "z_stem.kernel")
    taken = np.asarray(site.take(masks))
    assert np.all(taken == taken[:1, :1, :, :1]), "one factor for every input channel"


@pytest.mark.validate
def test_a_loss_that_is_not_finite_is_stepped_back_from(data):
    """float32 overflows: a step of 1e20 squares to infinity."""
    run = fit(data, learning_rate=1e20, warmup=200, draws=10)
    assert np.isfinite(run.tree["posterior"]["layers.0.kernel"]).all()
    assert any("lower learning_rate" in f["message"] for f in run.manifest["flags"])


def by_hand(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([FEATURES]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        (None, {"batch_size": 41}, "batch_size = 41, but there are 40 training rows"),
        (None, {"input_rate": 0.0}, "its only kernel is of the inputs; set rate, or input_rate"),
        (None, {"rate": 1.0}, "rate = 1.0"),
        (None, {"posterior_temperature": 0.3}, r"posterior_temperature = 0.3.*hmc, nuts"),
        (by_hand, {}, "a hand-written model does not say"),
        (None, {"masks": "both"}, "masks = 'both'"),
    ],
)
def test_what_it_cannot_treat_is_refused_before_anything_is_written(
    data, tmp_path, made, options, said
):
    with pytest.raises(bz.errors.InputError, match=said):
        fit(data, made, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
