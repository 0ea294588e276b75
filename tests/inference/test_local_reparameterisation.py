"""Pre-activations by row: the same bound and gradient in the mean, with less variance."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.inference.backends.mean_field_vi import Factors
from bnnzoo.inference.local_reparameterisation import RowwiseNetwork, why_not

DRAWS = 10_000


@functools.cache
def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 3))
    return bz.make_dataset(x, np.sin(2 * x[:, 0]) + 0.1 * random.normal(size=20), task="regression")


NETWORKS = [
    {"widths": [4]},
    {"widths": [4, 4], "residual": "1/sqrt(blocks)", "activation": "relu"},
    {"widths": [4, 4], "activation": "gelu", "parameterisation": "ntk"},
]


@functools.partial(jax.jit, static_argnames=("local",))
def bounds_and_gradients(post, key, local):
    options = {"local_reparameterisation": local, "samples": 1}
    backend = registry.get("backends", "mean-field-vi").build(options)
    d = post.dimension
    at = Factors(0.3 * jax.random.normal(jax.random.key(1), (d,)), jnp.full(d, -1.5))

    def one(key):
        batch = jnp.arange(5)
        value = jax.value_and_grad(
            lambda parameters: backend.objective(post, parameters, batch, key), has_aux=True
        )
        (_, (_, bound, _)), gradient = value(at)
        return bound, jnp.concatenate(gradient)

    return jax.lax.map(one, jax.random.split(key, DRAWS), batch_size=1000)


@pytest.mark.validate
@pytest.mark.parametrize(
    "options", [NETWORKS[0], *(pytest.param(o, marks=pytest.mark.validate) for o in NETWORKS[1:])]
)
def test_the_mean_is_that_of_drawn_weights_and_the_variance_is_less(options):
    """Bound and every gradient agree within 5 standard errors: 6e-7 each, 1e-4 in all."""
    model = bz.make_model("mlp", network_options=options)
    post = bz.Posterior(model, data(), 0.5)
    plain, local = (
        bounds_and_gradients(post, jax.random.key(key), way) for key, way in ((2, False), (3, True))
    )
    for a, b in zip(plain, local, strict=True):
        error = np.sqrt((np.var(a, 0) + np.var(b, 0)) / DRAWS)
        assert np.abs((np.mean(a, 0) - np.mean(b, 0)) / error).max() < 5.0
    ratio = float(np.var(local[1], 0).sum() / np.var(plain[1], 0).sum())
    print(f"{options}: variance of the gradient {ratio:.2f} of that with drawn weights")
    assert ratio < 0.9


def test_pre_activations_have_the_moments_of_kernel_and_bias():
    """A linear network's outputs are Gaussian: x'm + c, x^2'v + w; rows are independent."""
    bound = registry.get("networks", "mlp").build({"widths": []}).bind((3,), 2)
    means = {"layers.0.kernel": jnp.arange(6.0).reshape(3, 2), "layers.0.bias": jnp.ones(2)}
    variances = {name: 0.1 + 0.2 * value for name, value in means.items()}
    x = jnp.array([[1.0, -2.0, 0.5], [1.0, -2.0, 0.5]])

    def outputs(key):
        return RowwiseNetwork.of(bound, means, variances, key).apply(means, x)

    drawn = jax.vmap(outputs)(jax.random.split(jax.random.key(0), DRAWS)).reshape(DRAWS, 4)
    mean = x @ means["layers.0.kernel"] + means["layers.0.bias"]
    variance = x**2 @ variances["layers.0.kernel"] + variances["layers.0.bias"]
    z = (drawn - mean.ravel()) / jnp.sqrt(variance.ravel())
    np.testing.assert_allclose(z.mean(0), 0.0, atol=5 / DRAWS**0.5)
    np.testing.assert_allclose(np.cov(z.T), np.eye(4), atol=5 * (2 / DRAWS) ** 0.5)


class Convolution(nnx.Module):
    """Shares its kernel between places."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.conv = nnx.Conv(1, 2, (3,), rngs=rngs)
        self.out = nnx.Linear(2, *out_shape, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.conv(x[..., None])).mean(1))


class Twice(nnx.Module):
    """Uses one layer two times."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.inner = nnx.Linear(*in_shape, *in_shape, rngs=rngs)
        self.out = nnx.Linear(*in_shape, *out_shape, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.inner(jnp.tanh(self.inner(x)))))


class Summed(nnx.Module):
    """Adds one bias to every column: its elements are not independent in a row."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.shift = nnx.Param(jnp.zeros(1))
        self.out = nnx.Linear(*in_shape, *out_shape, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(x + self.shift[...]))


@pytest.mark.parametrize("module", [Convolution, Twice, Summed])
def test_shared_weights_are_refused_by_name_and_drawn_otherwise(module):
    model = bz.make_model(module)
    assert "parameter" in why_not(bz.Posterior(model, data()))
    with pytest.raises(bz.errors.InputError, match=r"local_reparameterisation = true: its network"):
        bz.fit(model, data(), "mean-field-vi", local_reparameterisation=True, progress=False)


def test_a_handwritten_model_is_refused():
    import numpyro
    import numpyro.distributions as dist

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal().expand([3]).to_event(1))
        numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)

    with pytest.raises(bz.errors.InputError, match="hand-written model cannot be seen"):
        bz.fit(model, data(), "mean-field-vi", local_reparameterisation=True, progress=False)
