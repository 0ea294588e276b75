"""Kronecker factors against naive loops, and where they are exact, in float64."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bnnzoo as bz
from bnnzoo.errors import InputError
from bnnzoo.inference import kfac, spectra
from bnnzoo.inference.laplace_structures import Flavour, blocks
from bnnzoo.inference.network_heads import heads
from bnnzoo.inference.network_layers import find_layers
from bnnzoo.inference.precision import precision

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
NOISE = 0.5
BUDGET = 2**26


def flavour(structure="kron", kind="ggn", sharing="expand", memory=BUDGET):
    return Flavour(structure, kind, sharing, 5, memory)


@pytest.fixture(autouse=True)
def double():
    with precision("float64"):
        yield


def posterior_of(network, x, y, T=1.0, L=1.0, likelihood="gaussian", **options):
    given = {"noise": "fixed", "noise_std": NOISE} if likelihood == "gaussian" else {}
    task = "regression" if likelihood == "gaussian" else "classification"
    data = bz.make_dataset(x, y, task=task, scale="none")
    model = bz.make_model(
        network, prior_options={"bias_std": 1.3}, likelihood=likelihood,
        likelihood_options=given, network_options=options,
    )  # fmt: skip
    posterior = bz.Posterior(model, data, T, L)
    return posterior, jax.random.normal(jax.random.key(SEED), (posterior.dimension,))


def dense_ggn(posterior, u):
    """J' J / (noise^2 T L) of a Gaussian likelihood, by the whole Jacobian."""
    batch = jnp.arange(posterior.rows)
    J = jax.jit(jax.jacobian(lambda u: heads(posterior, u, batch)))(u)
    J = np.asarray(J).reshape(-1, posterior.dimension)
    scale = posterior.posterior_temperature * posterior.likelihood_temperature
    return J.T @ J / (NOISE**2 * scale)


def kron_blocks(posterior, u, sharing):
    """Coordinates and A kron B of every layer."""
    layers = find_layers(posterior)
    pairs, _ = jax.jit(lambda u: kfac.factors(posterior, u, layers, flavour(sharing=sharing)))(u)
    places = kfac.matrices(posterior, layers)
    return [(p.ravel(), np.kron(a, b)) for p, (a, b) in zip(places, pairs, strict=True)]


def errors(posterior, u, sharing):
    """Largest relative error of a layer's block."""
    exact = dense_ggn(posterior, u)
    found = []
    for where, block in kron_blocks(posterior, u, sharing):
        own = exact[np.ix_(where, where)]
        found.append(np.abs(block - own).max() / np.abs(own).max())
    return found


class PerPosition(nnx.Module):
    """A deep linear network on each of four positions of three features; one loss a position."""

    def __init__(self, in_shape, out_shape, *, rngs, averaged=False, activation=None):
        outputs = out_shape[0] if averaged else out_shape[0] // in_shape[0]
        self.first = nnx.Linear(in_shape[1], 5, rngs=rngs)
        self.second = nnx.Linear(5, outputs, rngs=rngs)
        self.averaged, self.activation = averaged, activation

    def __call__(self, x):
        h = self.first(x)
        h = h if self.activation is None else self.activation(h)
        h = self.second(h)
        return h.mean(1) if self.averaged else h.reshape(len(x), -1)


def averaged(in_shape, out_shape, *, rngs):
    """The same with one loss, of the mean over positions."""
    return PerPosition(in_shape, out_shape, rngs=rngs, averaged=True)


class Convolutional(nnx.Module):
    """A small convolution with a stride and padding, then a dense layer."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.conv = nnx.Conv(in_shape[-1], 2, (3, 2), strides=(2, 1), padding="SAME", rngs=rngs)
        self.head = nnx.Linear(2 * 3 * 4, out_shape[0], rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.tanh(self.conv(x)).reshape(len(x), -1))


@pytest.mark.validate
def test_expand_is_exact_for_a_loss_a_position_and_reduce_for_their_mean():
    """Deep linear networks: to 1e-10 each in its own setting, off by over a tenth in the other."""
    random = np.random.default_rng(SEED)
    x = random.normal(size=(6, 4, 3))
    own = posterior_of(PerPosition, x, random.normal(size=(6, 8)))
    mean = posterior_of(averaged, x, random.normal(size=(6, 2)))
    assert max(errors(*own, "expand")) < 1e-10
    assert max(errors(*mean, "reduce")) < 1e-10
    assert max(errors(*own, "reduce")) > 0.1
    assert max(errors(*mean, "expand")) > 0.1


@pytest.mark.parametrize("kind", ["ggn", "empirical-fisher"])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_factors_of_a_convolution_equal_a_naive_loop(kind, sharing):
    """Windows cut out by hand, derivatives in the activations by hand-moved sums; to 1e-9."""
    random = np.random.default_rng(SEED)
    x = random.normal(size=(5, 5, 4, 2))
    posterior, u = posterior_of(
        Convolutional, x, np.arange(5) % 3, 0.3, 0.5, likelihood="categorical"
    )
    values = {name: np.asarray(v) for name, v in posterior.constrain(u).items()}
    kernel, bias = values["conv.kernel"], values["conv.bias"]
    top, low = values["head.kernel"], values["head.bias"]
    A, B = np.zeros((13, 13)), np.zeros((2, 2))
    for n in range(5):
        padded = np.zeros((7, 5, 2))  # SAME: strides (2, 1), windows (3, 2): (1, 1) and (0, 1)
        padded[1:6, 0:4] = x[n]
        windows = np.array(
            [[padded[2 * i : 2 * i + 3, j : j + 2] for j in range(4)] for i in range(3)]
        )
        z = np.einsum("ijhwc,hwco->ijo", windows, kernel) + bias
        h = np.tanh(z)
        logits = h.ravel() @ top + low
        p = np.exp(logits - logits.max())
        p /= p.sum()
        slope = (1 - h**2).ravel()[:, None] * top  # d logits / d z, (position output, class)
        if kind == "ggn":
            second = np.diag(p) - np.outer(p, p)
            eigen, vectors = np.linalg.eigh(second)
            root = vectors * np.sqrt(np.maximum(eigen, 0))
        else:
            root = (p - np.eye(3)[n % 3])[:, None]
        g = (slope @ root).reshape(12, 2, -1)
        inputs = windows.reshape(12, 3, 2, 2).transpose(0, 3, 1, 2).reshape(12, -1)
        inputs = np.concatenate([inputs, np.ones((12, 1))], 1)
        if sharing == "reduce":
            inputs, g = inputs.mean(0, keepdims=True), g.sum(0, keepdims=True)
        for r in range(len(inputs)):
            A += np.outer(inputs[r], inputs[r])
            B += g[r] @ g[r].T / len(inputs)
    layers = find_layers(posterior)
    assert [(layer.kernel, layer.bias) for layer in layers] == [
        ("conv.kernel", "conv.bias"),
        ("head.kernel", "head.bias"),
    ]
    asked = flavour(kind=kind, sharing=sharing, memory=20_000)
    pairs, _ = jax.jit(lambda u: kfac.factors(posterior, u, layers, asked))(u)
    found = np.kron(*map(np.asarray, pairs[0]))
    wanted = np.kron(A, B) / (5 * 0.3 * 0.5)
    np.testing.assert_allclose(found, wanted, atol=1e-9 * np.abs(wanted).max())
    # The kernel's matrix has its rows where its inputs are: channel, then window.
    site = next(s for s in posterior.sites if s.name == "conv.kernel")
    places = kfac.matrices(posterior, layers)[0][:-1] - site.offset
    np.testing.assert_array_equal(
        kernel.ravel()[places], kernel.transpose(2, 0, 1, 3).reshape(12, 2)
    )


@pytest.mark.parametrize("options", [{"residual": "1/blocks"}, {"parameterisation": "ntk"}])
def test_equal_rows_are_a_kronecker_product_in_every_mlp(options):
    """With one row, twice, a layer's block is A kron B itself; a bias may be a layer alone."""
    posterior, u = posterior_of(
        "mlp", np.array([[0.3, -1.2]] * 2), np.array([0.4, 0.5]), widths=[3, 3], **options
    )
    assert max(errors(posterior, u, "expand")) < 1e-10
    alone = [layer.kernel is None for layer in find_layers(posterior)]
    assert any(alone) == (options.get("parameterisation") == "ntk")


@pytest.mark.validate
def test_prior_precisions_that_differ_between_rows_stay_exact():
    """H of a spectrum is A kron B + prior, kernels and biases of different widths; to 1e-9."""
    random = np.random.default_rng(SEED)
    posterior, u = posterior_of(
        PerPosition, random.normal(size=(6, 4, 3)), random.normal(size=(6, 8)), 0.1
    )
    prior = np.zeros(posterior.dimension)
    for site in posterior.sites:
        std = 1.3 if site.name.endswith("bias") else site.shape[0] ** -0.5
        prior[site.offset : site.offset + site.size] = 1.0 / (0.1 * std**2)
    wanted = np.diag(prior)
    for where, block in kron_blocks(posterior, u, "expand"):
        wanted[np.ix_(where, where)] += block
    found = jax.jit(blocks, static_argnums=2)(posterior, u, flavour()).network
    size = jnp.eye(posterior.dimension)
    inverse = np.linalg.inv(wanted)
    close = {"atol": 1e-9 * np.abs(inverse).max()}
    np.testing.assert_allclose(np.asarray(spectra.solve(found, size)), inverse, **close)
    half = np.asarray(spectra.draw(found, size))
    np.testing.assert_allclose(half.T @ half, inverse, **close)
    np.testing.assert_allclose(float(spectra.log_det(found)), np.linalg.slogdet(wanted)[1])


class Embedded(nnx.Module):
    def __init__(self, in_shape, out_shape, *, rngs):
        self.scale = nnx.LayerNorm(in_shape[0], rngs=rngs)
        self.last = nnx.Linear(in_shape[0], out_shape[0], rngs=rngs)

    def __call__(self, x):
        return self.last(self.scale(x))


class Tied(nnx.Module):
    def __init__(self, in_shape, out_shape, *, rngs):
        self.inside = nnx.Linear(in_shape[0], in_shape[0], rngs=rngs)
        self.last = nnx.Linear(in_shape[0], out_shape[0], rngs=rngs)

    def __call__(self, x):
        return self.last(self.inside(nnx.tanh(self.inside(x))))


@pytest.mark.parametrize(("network", "name"), [(Embedded, "scale.scale"), (Tied, "inside")])
def test_a_module_that_is_no_kronecker_product_is_refused(network, name, tmp_path):
    data = bz.make_dataset(np.eye(3), np.arange(3.0), task="regression")
    with pytest.raises(InputError, match=rf"'{name}.*'full', 'diagonal' or 'low-rank'"):
        bz.fit(bz.make_model(network), data, "laplace", structure="kron", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
