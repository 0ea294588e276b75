"""Every sampling estimator of the evidence against closed forms, bounds and each other.

An estimate is judged by its own standard error: z = (value - truth) / standard error. Where that
error is the spread of 16 repeats z has Student's t distribution with 15 degrees of freedom, whose
tails all bounds here allow for.
"""

import itertools
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
from bnnzoo import registry
from bnnzoo.inference.estimators._populations import population_estimate
from bnnzoo.inference.repeats import in_groups
from bnnzoo.inference.rungs import Sampled, jackknife
from bnnzoo.inference.smc_weights import effective_size, largest_step

sys.path.insert(0, str(Path(__file__).parent))
from _evidence import NOISE, linear, linear_model, scores

METHODS = bz.list("estimators", family="sampling")
QUICK = {
    # 16 moving rungs each: one program.
    "stepping-stone": {"rungs": 17, "sweeps": 50},
    "thermodynamic": {"rungs": 16, "sweeps": 50},
    "ais": {"reverse": False, "rungs": 300},
    "smc": {"particles": 128},  # as many as a pilot has: one program
    "persistent-smc": {"particles": 128},
    "ibis": {"particles": 128},
}
"""Settings that do for five features; the others' defaults do."""


@pytest.mark.parametrize(
    "method",
    [m if m == "smc" else pytest.param(m, marks=pytest.mark.validate) for m in METHODS],
)
def test_evidence_of_linear_models(method):
    """z of 4 seeds: a mean of 4 / sqrt(4) is met by one right estimator in 5,000."""
    z, errors = scores(method, 5, range(4), **QUICK.get(method, {}))
    assert abs(z.mean()) < 2
    assert np.all(np.abs(z) < 6)  # Student's t of 15 degrees of freedom: one in 10,000 of all
    assert np.all(errors <= 0.3)


@pytest.mark.validate
@pytest.mark.parametrize("features", [5, 20, 100])
@pytest.mark.parametrize("method", [m for m in METHODS if m != "nested"])  # see test_nested.py
def test_evidence_is_calibrated_on_linear_models(method, features, record_property):
    """100 seeds. Mean of z within 0.4, four standard errors; std 0.7 to 1.4 is four as well."""
    z, errors = scores(method, features, range(100))
    record_property("mean z", round(float(z.mean()), 3))
    record_property("std z", round(float(z.std(ddof=1)), 3))
    record_property("largest standard error", round(float(errors.max()), 3))
    print(method, features, z.mean(), z.std(ddof=1), np.abs(z).max(), errors.max())
    assert abs(z.mean()) <= 0.4
    assert 0.7 <= z.std(ddof=1) <= 1.4
    assert np.all(errors <= 0.3)


SMALL = {
    "smc": {"repeats": 4, "particles": 64},
    "ibis": {"repeats": 4, "particles": 64},
    "persistent-smc": {"repeats": 4, "particles": 64},
    "ais": {"rungs": 60, "chains": 32, "warmup": 100, "thin": 2},
    "stepping-stone": {"rungs": 17, "replicas": 8, "sweeps": 20},
    "thermodynamic": {"rungs": 16, "replicas": 8, "sweeps": 20, "schedule": "pilot"},
}


@pytest.mark.validate
@pytest.mark.parametrize("method", SMALL)
def test_evidence_in_double_precision(method):
    """Within 10 standard errors: from 4 repeats z is Student's t of 3 degrees, one in 500."""
    model, data, truth = linear(5, 0)
    said = bz.log_evidence(model, data, method, dtype="float64", **SMALL[method])
    assert abs(said.value - truth) < 10 * said.standard_error < 4.0


# -- rungs ---------------------------------------------------------------------------------------


def _stratified(rungs, draws=20_000):
    """Log-likelihoods of w ~ N(0, 1), y = 2 ~ N(w, 0.5^2) at each rung, by quantiles of its law."""
    betas = np.linspace(0.0, 1.0, rungs + 1) ** (1 / 0.3)
    precision = 1.0 + 4.0 * betas
    w = stats.norm.ppf((np.arange(draws) + 0.5) / draws) / np.sqrt(precision)[:, None]
    w = w + (8.0 * betas / precision)[:, None]
    truth = stats.norm.logpdf(2.0, scale=math.sqrt(1.25))
    # Two replicas: the quantiles of odd and even numbers.
    values = stats.norm.logpdf(2.0, w, 0.5).reshape(rungs + 1, draws // 2, 2)
    return Sampled(betas, values.transpose(2, 0, 1)), truth


def test_rules_over_rungs_are_those_of_the_papers():
    """Without noise: what is left is the quantiles' and, of thermodynamic, the grid's."""
    sampled, truth = _stratified(16)
    build = lambda name: registry.get("estimators", name).build({}, "estimator")  # noqa: E731
    stones, integral = build("stepping-stone"), build("thermodynamic")
    without_last = sampled._replace(log_likelihood=sampled.log_likelihood[:, :-1])
    assert stones.value(without_last) == pytest.approx(truth, abs=1e-3)
    assert stones.value(without_last.every_second()) == pytest.approx(truth, abs=1e-3)
    mean = sampled.log_likelihood.mean((0, 2))
    plain = abs(np.trapezoid(mean, sampled.betas) - truth)
    assert abs(integral.value(sampled) - truth) < plain / 10 < 0.01
    coarse = abs(integral.value(sampled.every_second()) - truth)
    assert integral.value(sampled) == pytest.approx(truth, abs=coarse / 4)
    said, warnings = integral.judge(sampled, 0.0)
    assert abs(integral.value(sampled) - truth) < said["discretisation"]
    assert not warnings
    assert integral.judge(_stratified(4)[0], 0.0)[1]


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=(7, 1, 3))
    sampled = Sampled(np.zeros(1), values)
    value, error = jackknife(lambda s: float(s.log_likelihood.mean()), sampled)
    means = values.mean((1, 2))
    assert value == pytest.approx(means.mean())
    assert error == pytest.approx(means.std(ddof=1) / math.sqrt(7))


def test_points_in_groups_keep_their_order():
    starts = np.arange(14.0).reshape(7, 2)
    found = in_groups(
        lambda _, __, given: {"twice": 2 * given[1]},
        None,
        bz.Posterior(linear_model(), linear(2, 0)[1]),
        jax.random.key(0),
        jnp.asarray(starts),
        3,
        "float32",
    )
    np.testing.assert_array_equal(found["twice"], 2 * starts)


def test_the_largest_step_leaves_as_many_effective_as_asked():
    """Weights 1 and e^-s: (1 + e^-s)^2 / (1 + e^-2s) = 1.5 at e^-s = 2 - sqrt(3)."""

    def effective(step):
        return effective_size(step * jnp.array([0.0, -1.0]))

    step = largest_step(effective, jnp.array(9.0), jnp.array(1.5))
    assert step == pytest.approx(-math.log(2 - math.sqrt(3)), rel=1e-5)
    assert largest_step(effective, jnp.array(1.0), jnp.array(1.5)) == 1.0
    assert effective_size(jnp.full(3, -jnp.inf)) == 0.0


# -- networks ------------------------------------------------------------------------------------


def _curve(width, **likelihood):
    """30 points of a noisy sine, and a network with one hidden layer of tanh units."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2, 2, (30, 1)), axis=0)
    y = np.sin(2 * x[:, 0]) + 0.2 * rng.normal(size=30)
    data = bz.make_dataset(x, y, task="regression", scale="none")
    model = bz.make_model(
        "mlp",
        "gaussian",
        "gaussian",
        network_options={"widths": [width], "activation": "tanh"},
        likelihood_options=likelihood or {"noise": "fixed", "noise_std": 0.3},
    )
    return model, data


def _moons():
    """60 rows of two moons, and a network with one hidden layer of 5 tanh units."""
    network = {"widths": [5], "activation": "tanh"}
    model = bz.make_model("mlp", "gaussian", "categorical", network_options=network)
    return model, bz.load_dataset("two-moons", n=60)


NETWORKS = {
    "1x3": lambda: _curve(3),
    "1x10": lambda: _curve(10),
    "two-moons": _moons,
}
BUDGET = 0.01
"""Chance that any pair of right estimators is said to disagree, on all networks together."""


@pytest.mark.validate
@pytest.mark.parametrize("network", NETWORKS)
def test_estimators_agree_on_networks(network, record_property):
    """Every pair, at ``BUDGET`` over all pairs and networks, by Student's t of 15 degrees."""
    model, data = NETWORKS[network]()
    found = {method: bz.log_evidence(model, data, method) for method in METHODS}
    for method, said in found.items():
        line = f"{said.value:.3f} +- {said.standard_error:.3f}, {said.gradients} gradients"
        record_property(method, line)
        print(network, method, line, f"{said.seconds:.0f} s", said.warnings)
    pairs = list(itertools.combinations(METHODS, 2))
    bound = stats.t.isf(BUDGET / len(pairs) / len(NETWORKS) / 2, 15)
    for one, other in pairs:
        gap = found[one].value - found[other].value
        error = math.hypot(found[one].standard_error, found[other].standard_error)
        assert error < 0.5, (one, other)
        assert abs(gap) < bound * error, (one, other, gap, error)


@pytest.mark.validate
def test_estimators_agree_with_a_learned_noise(record_property):
    """1x3 again, where a large noise gives way abruptly to a small one as the temperature falls.

    Every pair but those with ``thermodynamic``, whose integrand is infinite at the prior and which
    says so, by Student's t of 15 degrees at ``BUDGET``; and ``smc``, whose error has its lag in it,
    is not off by more than 1.5 nats.
    """
    model, data = _curve(3, noise="learned")
    methods = [method for method in METHODS if method != "thermodynamic"]
    found = {method: bz.log_evidence(model, data, method) for method in methods}
    for method, said in found.items():
        record_property(method, f"{said.value:.3f} +- {said.standard_error:.3f}")
        print(method, said.value, said.standard_error, said.warnings)
    pairs = list(itertools.combinations(methods, 2))
    bound = stats.t.isf(BUDGET / len(pairs) / 2, 15)
    for one, other in pairs:
        gap = found[one].value - found[other].value
        error = math.hypot(found[one].standard_error, found[other].standard_error)
        assert abs(gap) < bound * error, (one, other, gap, error)
    assert abs(found["smc"].value - found["nested"].value) < 1.5
    assert bz.log_evidence(model, data, "thermodynamic").warnings


# -- populations -------------------------------------------------------------------------------


def _said(gap, log_z=-3.0):
    """What 16 repeats come to whose gaps have this mean and a standard error of 0.02."""
    noise = np.linspace(-1, 1, 16)
    noise *= 0.02 * 4 / noise.std(ddof=1)
    found = {
        "log_z": np.full(16, log_z) + noise,
        "gap": gap + noise,
        "gradients": np.full(16, 10),
        "stages": np.full(16, 5),
        "acceptance": np.full(16, 0.8),
        "ancestors": np.full(16, 50),
    }
    pilot = {"forced": False, "gradients": 7, "log_z": -3.1, "most_rounds": 1}
    return found, lambda: population_estimate(found, pilot, 256, 200)


def test_a_lag_is_standard_error_and_a_large_one_is_said():
    found, estimate = _said(-0.5)
    right = estimate()
    assert right.warnings == () and right.standard_error == pytest.approx(0.02, rel=0.05)
    assert right.diagnostics["gap"] == pytest.approx(-0.5)
    found["gap"] += 0.7
    small = estimate()
    assert small.warnings == () and small.value == right.value
    assert small.standard_error == pytest.approx(math.hypot(right.standard_error, 0.2))
    found["gap"] += 0.2
    (line,) = estimate().warnings
    assert line.startswith("by bridges between stages log Z is 0.4 nats higher")
    found["log_z"][3], found["gap"][3] = -np.inf, 0.0  # a repeat of no weight has none
    dead = estimate()
    assert dead.diagnostics["gap"] == pytest.approx(0.4, abs=0.02)


# -- ibis ----------------------------------------------------------------------------------------


def _exact_terms(data, blocks, order):
    """Log p(block | blocks before) of a linear model, from Gaussian densities of prefixes."""
    x, y = data.x[order], data.y[order]
    covariance = x @ x.T / x.shape[1] + 1.0 + NOISE**2 * np.eye(len(y))
    ends = [0, *itertools.accumulate(blocks)]
    prefixes = [
        stats.multivariate_normal(np.zeros(n), covariance[:n, :n]).logpdf(y[:n]) for n in ends[1:]
    ]
    return np.diff(prefixes, prepend=0.0)


@pytest.mark.validate
@pytest.mark.parametrize("order", ["given", "shuffled"])
def test_ibis_predicts_each_block(order):
    """Each term within 5 standard errors of the sum, whose error is larger than a term's."""
    model, data, _ = linear(5, 0)
    said = bz.log_evidence(model, data, "ibis", seed=3, order=order, particles=128)
    blocks = said.diagnostics["block_rows"]
    assert blocks == [5] * 10
    owner = np.repeat(np.arange(10), 5)
    if order == "shuffled":
        owner = np.random.default_rng(3).permutation(owner)
    exact = _exact_terms(data, blocks, np.argsort(owner, kind="stable"))
    terms = np.array(said.diagnostics["block_log_predictive"])
    assert terms.sum() == pytest.approx(said.value, abs=1e-4)
    assert np.abs(terms - exact).max() < 5 * said.standard_error < 1.0


# -- ais -----------------------------------------------------------------------------------------


@pytest.mark.validate
@pytest.mark.parametrize("schedule", ["pilot", "sigmoid", "geometric"])
def test_ais_is_unbiased_and_its_bounds_hold_on_any_schedule(schedule):
    """80 rungs are few: the bounds are apart, and the mean weight of 2000 chains is still right.

    10 models; of each bound the mean distance from the truth is at most 3 standard errors on the
    wrong side, and the mean z of 10 right estimates within 4 / sqrt(10).
    """
    z, low, high = [], [], []
    for seed in range(10):
        model, data, truth = linear(5, seed)
        said = bz.log_evidence(
            model, data, "ais", seed=seed, rungs=80, chains=2000, thin=2, schedule=schedule
        )
        found = said.diagnostics
        z.append((said.value - truth) / said.standard_error)
        low.append((found["lower_bound"] - truth) / found["lower_bound_error"])
        high.append((found["upper_bound"] - truth) / found["upper_bound_error"])
        assert found["upper_bound"] - found["lower_bound"] > 0.1
    print(schedule, np.mean(z), np.std(z), np.mean(low), np.mean(high))
    assert abs(np.mean(z)) < 4 / math.sqrt(10)
    assert max(low) < 3
    assert min(high) > -3


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("ibis", {"blocks": 0}, "estimator.blocks = 0"),
        ("ibis", {"blocks": 60}, "estimator.blocks = 60: there are 50 training rows"),
        ("ibis", {"max_stages": 5}, "estimator.max_stages = 5: 10 blocks"),
        ("ibis", {"particles": 1}, "estimator.particles = 1"),
        ("ibis", {"repeats": 1}, "estimator.repeats = 1"),
        ("ibis", {"order": "random"}, "estimator.order = 'random'"),
        ("ais", {"chains": 1}, "estimator.chains = 1"),
        ("ais", {"rungs": 1}, "estimator.rungs = 1"),
        ("ais", {"schedule": "linear"}, "estimator.schedule = 'linear'"),
        ("ais", {"first": 1.0}, "estimator.first = 1.0"),
        ("persistent-smc", {"particles": 1}, "estimator.particles = 1"),
        ("persistent-smc", {"target_ess": 0}, "estimator.target_ess = 0"),
        ("persistent-smc", {"max_stages": 2}, "max_stages = 2 leaves no stage"),
        ("stepping-stone", {"rungs": 2}, "estimator.rungs = 2"),
        ("stepping-stone", {"replicas": 1}, "estimator.replicas = 1"),
        ("stepping-stone", {"alpha": 1.5}, "estimator.alpha = 1.5"),
        ("thermodynamic", {"sweeps": 0}, "estimator.sweeps = 0"),
        ("thermodynamic", {"pilot": 1}, "estimator.pilot = 1"),
    ],
)
def test_options_that_are_none(method, options, said):
    _, data, _ = linear(2, 0)
    with pytest.raises(bz.errors.InputError, match=said):
        bz.log_evidence(linear_model(), data, method, **options)


def _one_term(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, 1.0).to_event(1), obs=y)


def test_ibis_needs_a_term_a_row():
    _, data, _ = linear(2, 0)
    with pytest.raises(bz.errors.InputError, match="observed site 'y' has log-likelihood terms"):
        bz.log_evidence(_one_term, data, "ibis")


def _bounded(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 3))
    numpyro.sample("y", dist.Uniform(w - 3 * jnp.ones(len(x)), w + 3), obs=y)


@pytest.mark.validate
@pytest.mark.parametrize("method", METHODS)
def test_likelihoods_that_may_be_zero(method):
    """y within 3 of w: the evidence is 6^-n times the prior mass of where w may be."""
    rng = np.random.default_rng(0)
    data = bz.make_dataset(
        rng.normal(size=(20, 1)), rng.uniform(-1, 1, 20), task="regression", scale="none"
    )
    mass = stats.norm.cdf(data.y.min() + 3, scale=3) - stats.norm.cdf(data.y.max() - 3, scale=3)
    truth = -20 * math.log(6) + math.log(mass)
    if method == "thermodynamic":
        with pytest.raises(bz.errors.RunError, match="have likelihood 0"):
            bz.log_evidence(_bounded, data, method)
        return
    said = bz.log_evidence(_bounded, data, method)
    print(method, said, truth)
    assert abs(said.value - truth) < 6 * said.standard_error < 1.0
