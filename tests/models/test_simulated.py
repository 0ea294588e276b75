"""Data drawn from models: their law, their truth, and every likelihood there is.

Random: variances at 6 standard errors of their squares (`_tools.assert_variance`, below 1e-6 each),
laws by Kolmogorov-Smirnov at 1e-6.
"""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.errors import DataError, InputError, OptionError, UnknownNameError
from bnnzoo.models.simulated import draw_dataset
from tests.models._tools import assert_variance, rng

X = rng(7).normal(size=(40, 3))
FIXED = {"noise": "fixed", "noise_std": 0.1}


def tanh_network(truth, x, layers=2):
    """The function of an mlp in plain NumPy."""
    h = x
    for layer in range(layers):
        h = h @ truth[f"layers.{layer}.kernel"] + truth[f"layers.{layer}.bias"]
        h = np.tanh(h) if layer < layers - 1 else h
    return h


def test_the_default_is_a_small_tanh_network_with_little_noise():
    data = bz.load_dataset("bnn-draw", n=2000, n_test=50, seed=7)
    assert data.in_shape == (5,)
    assert data.scale == "none"
    assert data.truth["layers.0.kernel"].shape == (5, 50)
    np.testing.assert_allclose(tanh_network(data.truth, data.x)[:, 0], data.truth["f"])
    np.testing.assert_allclose(tanh_network(data.truth, data.x_test)[:, 0], data.truth["f_test"])
    assert stats.kstest((data.y - data.truth["f"]) / 0.1, "norm").pvalue > 1e-6
    assert stats.kstest(data.x.ravel(), "norm").pvalue > 1e-6
    assert set(data.truth) == {
        *(f"layers.{i}.{part}" for i in (0, 1) for part in ("kernel", "bias")),
        *("f", "f_test"),
    }


@pytest.mark.validate
def test_weights_follow_the_prior():
    wide = {"widths": [300]}
    data = bz.load_dataset("bnn-draw", n=2, n_test=0, features=40, network_options=wide, seed=1)
    assert_variance(data.truth["layers.0.kernel"], 1 / 40)
    assert_variance(data.truth["layers.0.bias"], 1)
    assert_variance(data.truth["layers.1.kernel"], 1 / 300)
    assert stats.kstest(data.truth["layers.0.kernel"].ravel() * 40**0.5, "norm").pvalue > 1e-6
    laplace = bz.load_dataset(
        "bnn-draw", n=2, features=40, network_options=wide, prior="laplace", seed=2
    )
    scaled = laplace.truth["layers.0.kernel"].ravel() * (40 / 0.5) ** 0.5
    assert stats.kstest(scaled, "laplace").pvalue > 1e-6


@pytest.mark.validate
def test_f_has_the_variance_of_the_closed_form():
    """A linear model: f(x) = w x + b has variance |x|^2 / features + 1."""
    model = bz.make_model(network_options={"widths": []}, likelihood_options=FIXED)
    x = np.array([[1.0, 2.0], [0.0, 0.5]])
    draws = [draw_dataset(model, x, seed=seed) for seed in range(1000)]
    f = np.array([d.truth["f"] for d in draws])
    for column, point in zip(f.T, x, strict=True):
        assert_variance(column, (point**2).sum() / 2 + 1)
        assert stats.kstest(column, stats.norm(scale=((point**2).sum() / 2 + 1) ** 0.5).cdf)[1] > (
            1e-6
        )
    noise = np.array([d.y for d in draws]) - f
    assert_variance(noise, 0.01)
    # The two rows share their weights: cov = x . x' / 2 + 1 = 1.5.
    assert_variance((f[:, 0] - f[:, 1]), ((x[0] - x[1]) ** 2).sum() / 2)


def test_a_seed_draws_the_same_data_and_another_one_does_not():
    model = bz.make_model(likelihood_options=FIXED)
    one, same, other = (draw_dataset(model, X, X[:5], seed=seed) for seed in (3, 3, 4))
    assert one.hash == same.hash != other.hash
    for name, value in one.truth.items():
        np.testing.assert_array_equal(value, same.truth[name])
        assert not np.array_equal(value, other.truth[name])
    assert one.truth["f_test"].shape == (5,)
    np.testing.assert_array_equal(one.truth["f_test"], one.truth["f"][:5])  # the same inputs
    assert not np.array_equal(one.y_test, one.y[:5])  # and other noise


def test_test_rows_do_not_change_the_weights():
    model = bz.make_model(likelihood_options=FIXED)
    alone, beside = draw_dataset(model, X), draw_dataset(model, X, X[:5])
    np.testing.assert_array_equal(alone.truth["f"], beside.truth["f"])


@pytest.mark.validate
def test_the_posterior_sees_the_likelihood_of_the_true_weights():
    data = bz.load_dataset("bnn-draw", n=60, likelihood_options={"noise": "learned"}, seed=5)
    model = bz.make_model(likelihood_options={"noise": "learned"})
    posterior = bz.Posterior(model, data)
    latent = {k: v for k, v in data.truth.items() if k not in ("f", "f_test")}
    assert {site.name for site in posterior.sites} == set(latent)
    u = posterior.unconstrain(latent)
    by_hand = stats.norm.logpdf(data.y, tanh_network(latent, data.x)[:, 0], latent["noise_std"])
    np.testing.assert_allclose(posterior.pointwise_log_likelihood(u), by_hand, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(posterior.log_likelihood(u), by_hand.sum(), rtol=1e-4)
    np.testing.assert_allclose(
        posterior.predict(u, jnp.asarray(data.x))[:, 0], data.truth["f"], atol=1e-5
    )


@pytest.mark.parametrize(
    "likelihood",
    [
        pytest.param(name, marks=() if name in ("bernoulli", "poisson") else pytest.mark.validate)
        for name in registry.list_names("likelihoods")
    ],
)
def test_every_likelihood_can_be_drawn_from_and_fitted_to_its_draw(likelihood):
    task = registry.describe("likelihoods", likelihood).tags["task"]
    data = bz.load_dataset("bnn-draw", n=50, n_test=20, likelihood=likelihood, seed=11)
    assert data.task == task
    assert len(data.class_names) == (2 if task == "classification" else 0)
    options = FIXED if likelihood == "gaussian" else {}
    posterior = bz.Posterior(bz.make_model(likelihood=likelihood, likelihood_options=options), data)
    latent = {k: v for k, v in data.truth.items() if k not in ("f", "f_test")}
    u = posterior.unconstrain(latent)
    assert np.isfinite(posterior.log_likelihood(u))
    f = np.asarray(posterior.predict(u, jnp.asarray(data.x_test))).squeeze()
    np.testing.assert_allclose(f, data.truth["f_test"], atol=2e-5)


def test_classes_follow_the_softmax_of_f():
    data = bz.load_dataset(
        "bnn-draw", n=20_000, n_test=0, likelihood="categorical", outputs=3, seed=2
    )
    assert data.class_names == ("0", "1", "2")
    f = data.truth["f"]
    np.testing.assert_allclose(f, tanh_network(data.truth, data.x))
    probability = np.exp(f - f.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    for label in range(3):
        p = probability[:, label]
        error = np.sqrt((p * (1 - p)).sum())
        assert abs((data.y == label).sum() - p.sum()) < 6 * error
        # Also where that class is likely: the labels go with their own rows.
        likely = p > np.median(p)
        error = np.sqrt((p * (1 - p))[likely].sum())
        assert abs((data.y[likely] == label).sum() - p[likely].sum()) < 6 * error


def test_several_targets():
    data = bz.load_dataset("bnn-draw", outputs=2, n=30)
    assert data.y.shape == data.truth["f"].shape == (30, 2)


def test_a_handwritten_model_can_be_drawn_from():
    def line(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        scale = numpyro.sample("scale", dist.HalfNormal(1))
        f = numpyro.deterministic("f", slope * x[:, 0])
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", dist.Normal(f, scale), obs=y)

    data = draw_dataset(line, np.linspace(-1, 1, 5000), [0.5, 1.0], seed=4)
    assert set(data.truth) == {"slope", "scale", "f", "f_test"}
    np.testing.assert_allclose(data.truth["f_test"], data.truth["slope"] * np.array([0.5, 1.0]))
    assert stats.kstest((data.y - data.truth["f"]) / data.truth["scale"], "norm").pvalue > 1e-6
    u = bz.Posterior(line, data).unconstrain({k: data.truth[k] for k in ("slope", "scale")})
    assert np.isfinite(bz.Posterior(line, data).log_likelihood(u))


@pytest.mark.parametrize(
    ("law", "task", "classes"),
    [
        (lambda f: dist.Bernoulli(logits=f), "classification", 2),
        (lambda f: dist.Categorical(logits=jnp.stack([f, -f, 0 * f], -1)), "classification", 3),
        (lambda f: dist.Poisson(jnp.exp(f)), "regression", 0),
        (lambda f: dist.Normal(f, 1.0), "regression", 0),
    ],
)
def test_the_task_of_a_handwritten_model_is_that_of_its_target(law, task, classes):
    def model(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", law(slope * x[:, 0]), obs=y)

    data = draw_dataset(model, X)
    assert data.task == task
    assert len(data.class_names) == classes
    assert set(data.truth) == {"slope"}


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="does not know its number of classes: give outputs"):
        draw_dataset(bz.make_model(likelihood="categorical"), X)
    with pytest.raises(InputError, match="outputs = 3, but the model's likelihood is for 2"):
        draw_dataset(
            bz.make_model(likelihood="categorical", likelihood_options={"outputs": 2}), X, outputs=3
        )
    with pytest.raises(InputError, match="'silent' has no sample site 'y'"):

        def silent(x, y=None):
            numpyro.sample("w", dist.Normal(0, 1))

        draw_dataset(silent, X)
    with pytest.raises(InputError, match="outputs is for zoo models"):
        draw_dataset(silent, X, outputs=2)
    with pytest.raises(DataError, match="x is nan"):
        draw_dataset(bz.make_model(), [[1.0], [np.nan], [2.0]])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prior": "gausian"}, UnknownNameError, "unknown prior 'gausian'"),
        ({"prior_options": {"std": -1}}, OptionError, "prior.std = -1"),
        ({"network_options": {"width": [5]}}, OptionError, "unknown option network.width"),
        ({"noise": 0.1, "likelihood": "categorical"}, OptionError, "data.noise = 0.1 is for"),
        ({"noise": 0.1, "likelihood_options": FIXED}, OptionError, "data.noise = 0.1 is for"),
        ({"noise": 0}, OptionError, "data.noise = 0"),
        ({"width": 50}, OptionError, "unknown option data.width"),
    ],
)
def test_bad_options_are_named(options, error, words):
    with pytest.raises(error) as caught:
        bz.load_dataset("bnn-draw", **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_source_repeats_the_data_set():
    data = bz.load_dataset("bnn-draw", network_options={"widths": [3]}, prior="laplace", n=10)
    assert data.source["network_options"] == {"widths": [3]}
    assert bz.load_dataset(data.name, **data.source).hash == data.hash


@pytest.mark.validate
def test_a_data_set_that_needs_no_model_loads_no_jax():
    code = (
        "import sys, bnnzoo; bnnzoo.load_dataset('gap'); print('jax' in sys.modules);"
        "bnnzoo.load_dataset('bnn-draw'); print('jax' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]
