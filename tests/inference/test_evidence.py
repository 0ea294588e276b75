"""Evidence: what it says, what it refuses, closed forms, and estimators against them."""

import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import bnnzoo as bz
from bnnzoo.inference.evidence import KINDS
from bnnzoo.inference.repeats import mean_of
from bnnzoo.inference.symmetries import hidden_layers, log_arrangements, rearranged

sys.path.insert(0, str(Path(__file__).parent))
from _evidence import NOISE, linear, linear_model

# -- closed forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [5, 100])
def test_exact_is_the_density_of_the_targets(features):
    model, data, truth = linear(features, 0)
    said = bz.log_evidence(model, data, "exact")
    assert said.value == pytest.approx(truth, abs=1e-8)
    assert (said.kind, said.standard_error, said.log_jacobian) == ("exact", 0.0, 0.0)


@pytest.mark.validate
def test_exact_over_the_last_layer_is_the_density_given_the_features():
    _, data, _ = linear(3, 0)
    model = bz.make_model(
        "mlp",
        network_options={"widths": [20], "activation": "tanh"},
        likelihood_options={"noise": "fixed", "noise_std": NOISE},
    )
    said = bz.log_evidence(model, data, "exact", over="last-layer", seed=7)
    with jax.enable_x64(True):
        posterior = bz.Posterior(model, data)
        drawn = jax.device_get(posterior.constrain(posterior.initial(jax.random.key(7))))
    hidden = np.tanh(data.x @ drawn["layers.0.kernel"] + drawn["layers.0.bias"])
    covariance = hidden @ hidden.T / 20 + 1.0 + NOISE**2 * np.eye(len(data.y))
    truth = stats.multivariate_normal(np.zeros(len(data.y)), covariance).logpdf(data.y)
    assert said.value == pytest.approx(truth, abs=1e-8)


def test_exact_over_infinite_width_is_the_process():
    _, data, _ = linear(3, 0)
    model = bz.make_model("mlp", network_options={"widths": [20, 20], "activation": "erf"})
    said = bz.log_evidence(model, data, "exact", over="infinite-width", noise_std=NOISE)
    partner = bz.inference.InfiniteNetwork(model.bind(data), data, NOISE)
    assert said.value == partner.log_evidence


def test_targets_in_their_own_units():
    """Scaling by s changes a density of n targets by s^-n: known for the process of the data."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), 3.0 + 10.0 * rng.normal(size=20)
    said = bz.log_evidence(linear_model(), bz.make_dataset(x, y, task="regression"), "exact")
    assert said.original_units == pytest.approx(said.value - 20 * math.log(y.std()))
    assert said.data_dependent == ("scaling of the targets",)


@pytest.mark.parametrize(
    "structure", ["full", "last-layer", pytest.param("low-rank", marks=pytest.mark.validate)]
)
def test_laplace_of_a_linear_model_is_its_evidence(structure):
    model, data, truth = linear(5, 0)
    options = {"rank": 6} if structure == "low-rank" else {}
    said = bz.log_evidence(
        model, data, "laplace", structure=structure, modes=1, steps=50, dtype="float64", **options
    )
    assert said.value == pytest.approx(truth, abs=1e-4)


@pytest.mark.validate
def test_a_full_rank_bound_of_a_linear_model_is_tight():
    """Its gap vanishes at the optimum; 0.02 nats are left for the optimiser."""
    model, data, truth = linear(5, 0)
    said = bz.log_evidence(model, data, "elbo", steps=3000, restarts=1)
    assert truth - 0.02 <= said.value <= truth + 3 * said.standard_error + 1e-4
    assert said.kind == "lower-bound"


# -- repeats -------------------------------------------------------------------------------------


def test_a_mean_of_estimates_is_taken_before_the_logarithm():
    logs = np.log([1.0, 3.0])
    mean = mean_of(logs)
    assert mean.log == pytest.approx(math.log(2.0))
    assert mean.standard_error == pytest.approx(np.std([0.5, 1.5], ddof=1) / math.sqrt(2))
    assert mean_of(np.array([-math.inf, 0.0])).log == pytest.approx(math.log(0.5))
    assert mean_of(np.array([0.0, 0.1, 5.0])).warnings


# -- arrangements of hidden units ----------------------------------------------------------------


@pytest.mark.validate
def test_rearranged_networks_are_the_same_function():
    _, data, _ = linear(3, 0)
    model = bz.make_model("mlp", network_options={"widths": [4, 3], "activation": "tanh"})
    posterior = bz.Posterior(model, data)
    layers = hidden_layers(posterior)
    expected = math.lgamma(5) + math.lgamma(4) + 7 * math.log(2)
    assert log_arrangements(layers) == pytest.approx(expected)
    u = posterior.initial(jax.random.key(0))
    other = rearranged(layers, u, jax.random.key(1))
    assert not np.allclose(u, other)
    np.testing.assert_allclose(posterior.predict(u, data.x), posterior.predict(other, data.x), 1e-4)
    relu = bz.make_model("mlp", network_options={"widths": [4], "activation": "relu"})
    (layer,) = hidden_layers(bz.Posterior(relu, data))
    assert (layer.odd, layer.log_count) == (False, pytest.approx(math.lgamma(5)))


def test_arrangements_that_the_prior_tells_apart_are_none():
    _, data, _ = linear(3, 0)
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.5, 2.0, (3, 4))

    def rule(x, y=None):
        w = numpyro.sample("w", dist.Normal(0, jnp.asarray(scales)).to_event(2))
        numpyro.sample("y", dist.Normal((x @ w).sum(1), 1.0), obs=y)

    assert hidden_layers(bz.Posterior(rule, data)) == ()
    residual = bz.make_model("mlp", network_options={"widths": [4, 4], "residual": "1"})
    assert hidden_layers(bz.Posterior(residual, data)) == ()


# -- refusals ------------------------------------------------------------------------------------


def _improper(x, y=None):
    w = numpyro.sample("slope", dist.ImproperUniform(dist.constraints.real, (), (x.shape[1],)))
    numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def _masked(x, y=None):
    w = numpyro.sample("slope", dist.Normal(jnp.zeros(x.shape[1]), 1.0).mask(False).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def _factor(x, y=None):
    w = numpyro.sample("slope", dist.Normal(jnp.zeros(x.shape[1]), 1.0).to_event(1))
    numpyro.factor("penalty", -jnp.sum(jnp.abs(w)))
    numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (_improper, "'slope' has an improper prior"),
        (_masked, "'slope' is masked"),
        (_factor, "'penalty' is a numpyro.factor"),
    ],
)
@pytest.mark.parametrize("method", ["smc", "laplace", "elbo", "exact"])
def test_no_evidence_without_a_normalised_prior(model, said, method):
    _, data, _ = linear(2, 0)
    with pytest.raises(bz.errors.InputError, match=said):
        bz.log_evidence(model, data, method)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("smk", {}, "did you mean 'smc'"),
        ("smc", {"particles": 1}, "estimator.particles = 1"),
        ("smc", {"particle": 64}, "did you mean 'particles'"),
        ("smc", {"dtype": "float16"}, "dtype = 'float16'"),
        ("elbo", {"family": "full-rank"}, "did you mean 'full-rank-vi'"),
        ("elbo", {"options": {"learning": 1}}, "unknown option options.learning"),
        ("elbo", {"family": "last-layer-vi"}, "is no bound on the evidence; give options.others"),
        ("exact", {"over": "all"}, "estimator.over = 'all'"),
        ("laplace", {"memory_bytes": 9}, "estimator.memory_bytes = 9; give estimator.structure"),
    ],
)
def test_options_that_are_none(method, options, said):
    _, data, _ = linear(2, 0)
    with pytest.raises(bz.errors.InputError, match=said):
        bz.log_evidence(linear_model(), data, method, **options)


@pytest.mark.parametrize("over", ["weights", "last-layer"])
def test_exact_refuses_what_has_no_closed_form(over):
    _, data, _ = linear(2, 0)
    model = bz.make_model("mlp", network_options={"widths": [3]})  # its noise is learned
    with pytest.raises(bz.errors.InputError, match="is not quadratic"):
        bz.log_evidence(model, data, "exact", over=over)


def test_every_estimator_says_what_its_number_is():
    for name in bz.list("estimators"):
        card = bz.describe("estimators", name)
        assert card.tags["kind"] in KINDS
        assert set(card.facts) == {"number", "standard error", "wrong when", "choose it"}
        assert card.references


# -- what it is for ------------------------------------------------------------------------------


def _bumps(width):
    def model(x, y=None):
        features = jnp.exp(-((x - jnp.linspace(-5, 5, 40)) ** 2) / (2 * width**2))
        w = numpyro.sample("w", dist.Normal(jnp.zeros(40), 1.0).to_event(1))
        numpyro.sample("y", dist.Normal(features @ w, 0.2), obs=y)

    return model


@pytest.mark.validate
def test_the_evidence_chooses_the_width_that_the_training_error_cannot():
    """The example that opens the chapter: highest evidence, lowest error on new points."""
    rng = np.random.default_rng(0)
    x, new = np.linspace(-5, 5, 25), np.linspace(-5, 5, 200)
    y = np.sin(1.5 * x) + 0.2 * rng.normal(size=25)
    data = bz.make_dataset(x[:, None], y, task="regression", scale="none")
    evidence, trained, tested = {}, {}, {}
    for width in (0.05, 0.2, 0.8, 3.2):
        evidence[width] = bz.log_evidence(_bumps(width), data, "exact").value
        at, there = (
            np.exp(-((v[:, None] - np.linspace(-5, 5, 40)) ** 2) / (2 * width**2)) for v in (x, new)
        )
        trained[width] = np.mean((at @ np.linalg.lstsq(at, y)[0] - y) ** 2)
        mean = there @ at.T @ np.linalg.solve(at @ at.T + 0.04 * np.eye(25), y)
        tested[width] = np.mean((mean - np.sin(1.5 * new)) ** 2)
    assert max(evidence, key=evidence.get) == min(tested, key=tested.get) == 0.8
    assert max(trained, key=trained.get) == 3.2
    assert max(trained[w] for w in (0.05, 0.2, 0.8)) < 1e-12  # which of them, it does not say


@pytest.mark.validate
def test_laplace_needs_no_network():
    """A hand-written linear model is Gaussian: its exact Hessian gives its evidence."""
    _, data, _ = linear(3, 0)

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal(jnp.zeros(3), 1.0).to_event(1))
        numpyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)

    truth = bz.log_evidence(model, data, "exact").value
    options = {"curvature": "hessian", "modes": 1, "steps": 50, "dtype": "float64"}
    said = bz.log_evidence(model, data, "laplace", **options)
    assert said.value == pytest.approx(truth, abs=1e-4)
