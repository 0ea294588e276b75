"""Draws from priors: laws in closed form, activations by depth, warnings, any model."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bnnzoo as bz
from bnnzoo.errors import InputError, OptionError
from tests.models._tools import SEED, assert_variance, rng

X = rng(0).normal(size=(12, 3))
NUMBERS = bz.make_dataset(X, X[:, 0], task="regression", scale="none")
CLASSES = bz.make_dataset(X, np.arange(12) % 3, task="classification", scale="none")


def test_functions_and_targets_have_the_priors_variance():
    # f = w . x + b: variance |x|^2 / 3 + 1, and that of fixed noise on top; 20,000 draws.
    model = bz.make_model(
        network_options={"widths": []}, likelihood_options={"noise": "fixed", "noise_std": 0.5}
    )
    found = bz.prior_predictive(model, X[:2], draws=20_000, seed=SEED)
    assert found.f.shape == (20_000, 2, 1) and found.y.shape == (20_000, 2)
    for row in range(2):
        variance = (X[row] ** 2).sum() / 3 + 1
        assert_variance(found.f[:, row], variance)
        assert_variance(found.y[:, row], variance + 0.25)
    assert found.probabilities is None and found.warnings == ()


@pytest.mark.validate
def test_activations_are_those_of_the_layers():
    model = bz.make_model(network_options={"widths": [4, 4], "activation": "relu"})
    found = bz.prior_predictive(model, NUMBERS, draws=400, seed=SEED)
    assert found.layers == ("layers.0.kernel", "layers.1.kernel", "layers.2.kernel")
    assert found.activations.shape == (400, 3)
    # First layer: mean square over rows and units 2 |x|^2 / 3 (the gain of relu), over draws.
    squares = found.activations[:, 0] ** 2
    expected = 2 * (X**2).sum(1).mean() / 3
    assert abs(squares.mean() - expected) < 5 * squares.std() / 20


@pytest.mark.validate
def test_classes():
    options = {"prior_options": {"bias_std": 0.1}, "network_options": {"widths": [5]}}
    model = bz.make_model(likelihood="categorical", **options)
    found = bz.prior_predictive(model, CLASSES, draws=50, seed=SEED)
    assert found.probabilities.shape == (50, 12, 3)
    np.testing.assert_allclose(found.probabilities.sum(-1), 1.0, rtol=1e-5)
    assert set(np.unique(found.y)) <= {0, 1, 2} and not found.warnings
    with pytest.raises(InputError, match=r"call model\.bind\(data\)"):
        bz.prior_predictive(model, X)


@pytest.mark.validate
@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"std": 0.01, "bias_std": 5.0}, "to one class", marks=pytest.mark.validate),
        ({"std": 1e3}, "certain before any data"),
        pytest.param(
            {"std": 1e-3, "bias_std": 1.0},
            "hardly depend on the inputs",
            marks=pytest.mark.validate,
        ),
        pytest.param(
            {"std": 20.0, "absolute": True, "bias_std": 1e-3},
            "explode or vanish",
            marks=pytest.mark.validate,
        ),
    ],
)
def test_what_is_degenerate_is_said(options, said):
    network = {"widths": [20, 20, 20], "activation": "relu"}
    model = bz.make_model(likelihood="categorical", network_options=network, prior_options=options)
    found = bz.prior_predictive(model, CLASSES, draws=60, seed=SEED)
    assert any(said in line for line in found.warnings), found.warnings


def test_a_hand_written_model():
    def own(x, y=None):
        a = numpyro.sample("a", dist.Normal())
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", dist.Normal(a * x[:, 0], 0.1), obs=y)

    found = bz.prior_predictive(own, NUMBERS, draws=30, seed=SEED)
    assert found.f.shape == (30, 12, 1) and found.layers == ()
    slope = found.f[:, 0, 0] / X[0, 0]
    np.testing.assert_allclose(found.f[..., 0], slope[:, None] * X[:, 0], rtol=1e-4, atol=1e-5)


def test_parameters_made_from_other_sites():
    model = bz.make_model(
        prior="matrix-normal", prior_options={"inputs": 0.9}, network_options={"widths": []}
    )
    found = bz.prior_predictive(model, np.ones((2, 3)), draws=4000, seed=SEED)
    # The variance of a sum of three weights of correlation 0.9 is 3 (1 + 2 * 0.9) / 3.
    assert_variance(found.f[:, 0], 1 + 2 * 0.9 + 1)


def test_bad_input():
    model = bz.make_model()
    with pytest.raises(OptionError, match="draws = 1"):
        bz.prior_predictive(model, X, draws=1)
    with pytest.raises(InputError, match=r"x has shape \(3,\)"):
        bz.prior_predictive(model, jnp.ones(3))
