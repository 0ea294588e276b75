"""Kernels at a network's ends, and the priors of them: relevances of inputs, output variance.

Random: 2 comparisons, each failing below 1e-6 (`_tools.ALARM`).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from flax import nnx
from numpyro import handlers
from scipy import integrate, stats

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import InputError, OptionError, TemperatureError
from bnnzoo.models import Posterior, make_model, score
from bnnzoo.models.network import Network
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import NORMAL_IQR, make_prior
from bnnzoo.specs import Component
from tests.models._tools import ALARM, key, rng

# -- which kernels -----------------------------------------------------------------------------


class Backwards(nnx.Module):
    """Names in the opposite order of use, an input that skips ahead, two outputs put together."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.z_first = nnx.Linear(*in_shape, 4, rngs=rngs)
        self.y_skip = nnx.Linear(*in_shape, 4, rngs=rngs)
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.m_middle = nnx.Linear(4, 4, rngs=rngs)
        self.b_left = nnx.Linear(4, *out_shape, rngs=rngs)
        self.a_right = nnx.Linear(4, *out_shape, rngs=rngs)

    def __call__(self, x):
        h = jax.jit(lambda x: jnp.tanh(self.z_first(x)))(x)
        h = nnx.silu(self.m_middle(self.norm(h))) + jax.nn.relu(self.y_skip(x))
        return self.b_left(h) * jax.nn.sigmoid(self.a_right(h))


class Recurrent(nnx.Module):
    """A cell in a loop over the rows of its input: the input's kernel is within the loop."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.cell = nnx.SimpleCell(in_shape[-1], 5, rngs=rngs, keep_rngs=False)
        self.a_head = nnx.Linear(5, *out_shape, rngs=rngs)

    def __call__(self, x):
        start = jnp.zeros((x.shape[0], 5))
        return self.a_head(jax.lax.scan(self.cell, start, x.swapaxes(0, 1))[0])


class Attentive(nnx.Module):
    """Attention over positions, normalised before and after."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.before = nnx.LayerNorm(in_shape[-1], rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, in_shape[-1], decode=False, rngs=rngs)
        self.a_last = nnx.Linear(in_shape[-1], *out_shape, rngs=rngs)

    def __call__(self, x):
        return self.a_last((x + self.attend(self.before(x))).mean(1))


class Lookup(nnx.Module):
    """No kernel ever meets the inputs: they are places in a table."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.table = nnx.Embed(7, 5, rngs=rngs)
        self.last = nnx.Linear(5, *out_shape, rngs=rngs)

    def __call__(self, x):
        return self.last(self.table(jnp.int32(jnp.clip(x, 0, 6))).mean(1))


FOUND = {
    Backwards: ((3,), {"z_first", "y_skip"}, {"a_right", "b_left"}),
    Recurrent: ((6, 3), {"cell.dense_i"}, {"a_head"}),
    Attentive: ((5, 4), {"attend.query", "attend.key", "attend.value"}, {"a_last"}),
    # The clipped and rounded inputs choose rows; the last kernel is the first to see them.
    Lookup: ((3,), {"last"}, {"last"}),
}


@pytest.mark.parametrize("module", FOUND)
def test_ends_are_read_off_the_program(module):
    shape, first, last = FOUND[module]
    infos = Network(module).bind(shape, 1).infos
    assert {i.path.removesuffix(".kernel") for i in infos if i.reads_input} == first
    assert {i.path.removesuffix(".kernel") for i in infos if i.writes_output} == last


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "silu", "erf", "softplus"])
def test_ends_of_the_mlp(activation):
    options = {"widths": [4, 4], "activation": activation, "residual": "1"}
    infos = make_model(network_options=options).bind(data()).bound.infos
    assert [i.path for i in infos if i.reads_input] == ["layers.0.kernel"]
    assert [i.path for i in infos if i.writes_output] == ["layers.2.kernel"]


# -- the priors --------------------------------------------------------------------------------


def prior(name, **options):
    return make_prior(Component(name=name, options=options))


def parameter(path, shape, fan_in=1, first=False, last=False):
    role = path.rpartition(".")[2]
    gain = 1.5 if role == "kernel" else 1.0
    return ParameterInfo(path, shape, role, fan_in, gain, False, (), first, last)


INFOS = [
    parameter("a.bias", (4,)),
    parameter("a.kernel", (3, 4), 3, first=True),
    parameter("b.bias", (2,)),
    parameter("b.kernel", (4, 2), 4, last=True),
]


def traced(made, values, infos=INFOS):
    seeded = handlers.seed(lambda: made.sample(infos), key(1))
    values = {name: jnp.asarray(v) for name, v in values.items()}
    return handlers.trace(handlers.substitute(seeded, values)).get_trace()


def deviations(sites):
    return {n: np.sqrt(s["fn"].variance) for n, s in sites.items() if not n.endswith("variance")}


def test_ard_gives_each_input_its_width():
    made, v = prior("ard", std=0.7, bias_std=0.3), np.array([0.5, 1.0, 4.0])
    sites = traced(made, {"a.kernel.variance": v})
    law = sites["a.kernel.variance"]["fn"]
    assert law.event_shape == (3,) and type(score.base(law)) is dist.InverseGamma
    assert (score.base(law).concentration, score.base(law).rate) == (3.0, 2.0)
    found = deviations(sites)
    wide = 0.7 * 1.5 * np.sqrt(v / 3)
    np.testing.assert_allclose(found["a.kernel"], np.tile(wide[:, None], 4), rtol=1e-6)
    np.testing.assert_allclose(found["b.kernel"], np.full((4, 2), 0.7 * 0.75), rtol=1e-6)
    np.testing.assert_allclose(found["a.bias"], np.full(4, 0.3), rtol=1e-6)
    # A convolution has one for each channel.
    image = [parameter("a.kernel", (3, 2, 5, 4), 30, first=True)]
    assert traced(made, {}, image)["a.kernel.variance"]["value"].shape == (5,)


def test_ard_by_half_cauchys_is_matched_in_its_quartiles():
    made, scale, z = prior("ard", relevance="half-cauchy"), np.array([0.5, 1.0, 4.0]), rng(1)
    z = z.normal(size=(3, 4))
    sites = traced(made, {"a.kernel.relevance": scale, "a.kernel.base": z})
    value = made.unit * scale[:, None] * z * 1.5 / np.sqrt(3)
    np.testing.assert_allclose(sites["a.kernel"]["value"], value, rtol=1e-5)
    assert type(score.base(sites["a.kernel.relevance"]["fn"])) is dist.HalfCauchy
    # P(k l |z| < q) over the uniform v that makes l = tan(pi v / 2).
    quartile = NORMAL_IQR / 2 / made.unit
    within = integrate.quad(
        lambda v: 2 * stats.norm.cdf(quartile / np.tan(np.pi * v / 2)) - 1, 0, 1, limit=500
    )[0]
    assert within == pytest.approx(0.5, rel=1e-7)


@pytest.mark.parametrize("scale_bias", [True, False])
def test_the_output_layer_shares_one_variance(scale_bias):
    made = prior("inverse-gamma-scale", std=0.7, bias_std=0.3, shape=4.0, scale_bias=scale_bias)
    sites = traced(made, {"network.output_variance": 4.0})
    law = sites["network.output_variance"]["fn"]
    assert (law.concentration, law.rate) == (4.0, 3.0)
    found = {name: d.flat[0] for name, d in deviations(sites).items()}
    expected = {
        "a.bias": 0.3,
        "a.kernel": 0.7 * 1.5 / np.sqrt(3),
        "b.bias": 0.6 if scale_bias else 0.3,
        "b.kernel": 2 * 0.7 * 0.75,
    }
    assert found == pytest.approx(expected, rel=1e-6)


def test_functions_of_a_random_output_scale_are_student_t():
    """A linear network is all output layer: f = (x, 1) w is exactly a t process of 2a degrees."""
    options = {"shape": 2.0, "rate": 3.0, "std": 1.3, "bias_std": 0.5}
    model = make_model(
        prior="inverse-gamma-scale", prior_options=options, network_options={"widths": []}
    ).bind(data())

    @jax.jit
    @jax.vmap
    def draw(own):
        sampled = handlers.seed(lambda: model.prior.sample(model.bound.infos), own)()
        return model.bound.apply(sampled, X)[:, 0]

    f = np.asarray(draw(jax.random.split(key(2), 20_000)), float)
    kernel = 1.3**2 * np.asarray(X) @ np.asarray(X).T / 2 + 0.25
    one = stats.t(4.0, scale=np.sqrt(1.5 * kernel[0, 0]))
    assert stats.kstest(f[:, 0], one.cdf).pvalue > ALARM
    # Jointly: a squared distance over its dimension is F(3, 2a).
    distance = np.einsum("ni,ij,nj->n", f, np.linalg.inv(1.5 * kernel), f) / 3
    assert stats.kstest(distance, stats.f(3, 4.0).cdf).pvalue > ALARM


X = jnp.array([[0.5, -1.0], [2.0, 0.3], [-0.4, 0.8]])


@functools.cache
def data():
    x = rng(5).normal(size=(6, 2))
    return make_dataset(x, x[:, 0], task="regression")


@jax.jit
def log_density(post, u):
    return post.log_density(u), post.log_likelihood(u), post.constrain(u)


@pytest.mark.parametrize("name", ["ard", "inverse-gamma-scale"])
def test_the_target_at_each_temperature_is_written_out(name):
    """Conditional weights N(0, T v s^2), roots to the power 1/T, Jacobians once."""
    model = make_model(prior=name, network_options={"widths": [2]})
    with jax.enable_x64(True):
        for T in (1.0, 0.3, 0.1):
            post = Posterior(model, data(), T)
            u = jax.random.normal(key(6), (post.dimension,))
            found, likelihood, values = log_density(post, u)
            noise = float(values["noise_std"])
            expected = likelihood / T + stats.halfnorm.logpdf(noise) / T + np.log(noise)
            site = "layers.0.kernel.variance" if name == "ard" else "network.output_variance"
            v = np.asarray(values[site])
            expected += (stats.invgamma.logpdf(v, 3.0, scale=2.0) / T + np.log(v)).sum()
            for i in post.model.bound.infos:
                w = np.asarray(values[i.path])
                has = i.path == "layers.0.kernel" if name == "ard" else "layers.1" in i.path
                spread = (v[:, None] if name == "ard" else v) if has else 1.0
                if has:
                    expected += stats.norm.logpdf(w, scale=i.unit * np.sqrt(T * spread)).sum()
                else:
                    expected += stats.norm.logpdf(w, scale=i.unit).sum() / T
            np.testing.assert_allclose(found, expected, rtol=1e-10)
        with pytest.raises(TemperatureError, match="improper"):
            Posterior(model, data(), 4.0)


def test_what_cannot_be_decided_is_refused_by_name():
    inside = [parameter("m.kernel", (4, 4), 4), parameter("m.bias", (4,))]
    with pytest.raises(InputError, match=r"no kernel of m\.kernel, m\.bias is applied.*inputs"):
        prior("ard").check(inside)
    with pytest.raises(InputError, match=r"no kernel of .* is the last.*prior\.output"):
        prior("inverse-gamma-scale").check(inside)
    with pytest.raises(InputError, match=r"prior\.inputs = 'n\.\*' matches no kernel.*: m\.kernel"):
        prior("ard", inputs="n.*").check(inside)
    prior("ard", inputs="m.*").check(inside)
    named = traced(prior("inverse-gamma-scale", output="m.*"), {}, inside)
    assert "network.output_variance" in named
    attention = [parameter("q.kernel", (4, 3, 2), 4, first=True)]
    with pytest.raises(InputError, match=r"'q\.kernel' of shape \(4, 3, 2\) is no dense layer's"):
        prior("ard").check(attention)
    with pytest.raises(InputError, match=r"no kernel of b\.bias, b\.kernel is applied"):
        prior("gaussian", rules={"b.*": {"name": "ard"}}).check(INFOS)
    with pytest.raises(OptionError, match=r"prior\.rate: it is of the inverse-gamma"):
        prior("ard", relevance="half-cauchy", rate=1.0)
    with pytest.raises(OptionError, match=r"shape = 0\.5: .* give prior.rate"):
        prior("inverse-gamma-scale", shape=0.5)
