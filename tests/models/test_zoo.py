"""Named models: each has its study's shape, parameter count and prior scales. Nothing is random."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnzoo import registry
from bnnzoo.datasets import make_dataset
from bnnzoo.errors import OptionError
from bnnzoo.models import Posterior, load_model
from tests.models._tools import rng

HMC = math.sqrt(0.2)

# Shape of an input, outputs or classes, parameters, and by pattern of path: mean and standard
# deviation of a parameter (of a kernel given a variance of 1), as the study has them.
PROTOCOLS = {
    "gpi-mlp": ((13,), 1, 13 * 100 + 100 + 100 + 1, {".*": (0, 1)}),
    "priors-revisited-fcnn": (
        (784,),
        10,
        42_310,
        {
            r"layers.0.kernel": (0, math.sqrt(2 / 784)),
            r"layers.[12].kernel": (0, math.sqrt(2 / 50)),
            r".*bias": (0, 1),
        },
    ),
    "priors-revisited-cnn": (
        (28, 28, 1),
        10,
        500 + 22_550 + 24_510,
        {
            r"convs.0.kernel": (0, math.sqrt(2)),
            r"convs.1.kernel": (0, math.sqrt(2 / 50)),
            r"dense.0.kernel": (0, math.sqrt(2 / 2450)),
            r".*bias": (0, 1),
        },
    ),
    "hmc-uci-mlp": ((8,), 1, 8 * 50 + 50 + 100 + 2, {".*": (0, math.sqrt(0.1))}),
    "hmc-resnet20": ((32, 32, 3), 10, 274_042, {".*": (0, HMC)}),
    "cold-posterior-resnet20": (
        (32, 32, 3),
        10,
        272_474,
        {r".*norm.scale": (1, 1), r".*(kernel|bias)": (0, 1)},
    ),
    "mile-mlp": ((5,), 1, 96 + 3 * 272 + 34, {".*": (0, 1)}),
    "pbp-mlp": ((13,), 1, 751, {".*": (0, 1)}),
    "bo-surrogate-mlp": (
        (10,),
        1,
        10 * 128 + 128 + 2 * (128 * 128 + 128) + 129,
        {
            r"layers.0.kernel": (0, math.sqrt(1 / 10)),
            r"layers.[123].kernel": (0, math.sqrt(1 / 128)),
            r".*bias": (0, 1),
        },
    ),
}
QUICK = ("pbp-mlp",)
"""What `make test` compiles: the one whose prior has hyper-parameters."""

SMALL = {
    "hmc-resnet20": {"width": 1},
    "cold-posterior-resnet20": {"width": 1},
    "gpi-mlp": {"widths": (4,)},
    "pbp-mlp": {"width": 4},
}


def data(shape, outputs, rows=10):
    x = rng(90).normal(size=(rows, *shape))
    if outputs == 1:
        return make_dataset(x, x.reshape(rows, -1)[:, 0], task="regression")
    return make_dataset(x, np.arange(rows) % outputs, task="classification")


def test_every_named_model_is_here():
    assert set(PROTOCOLS) == set(registry.list_names("models"))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_card_names_its_paper_its_task_and_its_data(name):
    card = registry.describe("models", name)
    assert card.references and "(20" in card.references[0]
    assert card.tags["network"] in registry.list_names("networks")
    of = registry.describe("datasets", str(card.tags["data"]))
    assert of.tags["task"] == card.tags["task"]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_named_model_is_its_protocols(name):
    shape, outputs, parameters, laws = PROTOCOLS[name]
    model = load_model(name).bind(data(shape, outputs))
    assert model.parameter_count == parameters
    notes = registry.describe("models", name).notes
    if count := re.search(r"it has ([\d,]+) parameters", notes):
        assert int(count.group(1).replace(",", "")) == parameters
    assert count or name in ("priors-revisited-fcnn", "bo-surrogate-mlp")
    for info in model.bound.infos:
        matches = [law for pattern, law in laws.items() if re.fullmatch(pattern, info.path)]
        assert len(matches) == 1, info.path
        law = model.prior.distribution(info)
        # What multiplies a value the layer itself divides is the prior's, as in the protocol.
        np.testing.assert_allclose(law.mean, np.full(info.shape, matches[0][0]), atol=1e-7)
        np.testing.assert_allclose(
            jnp.sqrt(law.variance), np.full(info.shape, matches[0][1]), rtol=1e-5
        )
    assert all(
        i.forward_scaled == (name in ("gpi-mlp", "pbp-mlp"))
        for i in model.bound.infos
        if i.role == "kernel"
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.validate) for n in PROTOCOLS],
)
def test_a_named_model_has_a_density_on_small_data(name):
    shape, outputs, *_ = PROTOCOLS[name]
    small = {(28, 28, 1): (4, 4, 1), (32, 32, 3): (4, 4, 3), (784,): (9,)}.get(shape, shape)
    post = Posterior(load_model(name, **SMALL.get(name, {})), data(small, min(outputs, 3)), 0.3)
    u = 0.1 * jnp.asarray(rng(91).normal(size=post.dimension), jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(post.log_density))(u)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def test_the_noise_of_each_is_its_protocols():
    noise = {n: load_model(n).likelihood for n in ("gpi-mlp", "hmc-uci-mlp", "mile-mlp", "pbp-mlp")}
    assert noise["gpi-mlp"].noise == "fixed"
    assert noise["gpi-mlp"].number ** 2 == pytest.approx(0.1)
    assert noise["hmc-uci-mlp"].noise == noise["mile-mlp"].noise == "heteroscedastic"
    assert noise["pbp-mlp"].noise == "learned"


def test_precisions_of_pbp_are_gamma_of_shape_and_rate_6():
    """v ~ InverseGamma(6, 6) is 1/v ~ Gamma(6, 6); a kernel without gain has std sqrt(v)."""
    model = load_model("pbp-mlp").bind(data((13,), 1))
    assert (model.prior.shape, model.prior.rate) == (6.0, 6.0)
    kernel = next(i for i in model.bound.infos if i.role == "kernel")
    law = model.prior.distribution(kernel, scale=np.sqrt(2.5))
    assert model.prior.share == "network"
    np.testing.assert_allclose(law.variance, np.full(kernel.shape, 2.5), rtol=1e-5)


def test_options_of_named_models():
    wide = load_model("priors-revisited-cnn", fan_in="window", prior="laplace", shape=[4, 4])
    bound = wide.bind(data((16,), 3))
    kernel = bound.bound.infos[1]
    assert kernel.shape == (3, 3, 1, 50)
    # The published scale parameter: a Laplace of scale b has variance 2 b^2.
    np.testing.assert_allclose(
        bound.prior.distribution(kernel).variance[0, 0, 0, 0], 2 * 2 / 9, rtol=1e-5
    )
    smooth = load_model("priors-revisited-cnn", prior="correlated-conv", shape=[4, 4])
    law = smooth.bind(data((16,), 3)).prior.distribution(kernel)
    np.testing.assert_allclose(law.variance, np.full(kernel.shape, 2.0), rtol=1e-5)
    np.testing.assert_allclose(law.factors[0][1, 0], np.exp(-1.0), rtol=1e-5)
    with pytest.raises(OptionError, match=r"model.variance = 0"):
        load_model("hmc-resnet20", variance=0)
    with pytest.raises(OptionError, match=r"unknown option model.widht"):
        load_model("hmc-resnet20", widht=3)


def test_scales_of_normalisations_may_have_mean_0():
    from bnnzoo.models.parameters import ParameterInfo
    from bnnzoo.models.prior import make_prior
    from bnnzoo.specs import Component

    scale = ParameterInfo("norm.scale", (3,), "scale", 1, 1.0, False)
    for options, mean, std in (
        ({}, 1.0, 1.0),
        ({"scale_mean": 0.0, "bias_std": 0.5}, 0.0, 0.5),
        ({"rules": {"*.scale": {"name": "gaussian", "std": 2.0, "scale_mean": -1.0}}}, -1.0, 2.0),
    ):
        law = make_prior(Component(name="gaussian", options=options)).distribution(scale)
        np.testing.assert_allclose(law.mean, [mean] * 3)
        np.testing.assert_allclose(law.variance, [std**2] * 3, rtol=1e-6)
