"""Tuning: gradients against finite differences, closed forms, and what is refused."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import bnnzoo as bz
from bnnzoo.errors import InputError
from bnnzoo.inference.climbing import ascend
from bnnzoo.inference.hyper_parameters import grouped, make_groups, placed
from bnnzoo.inference.laplace_structures import Flavour, log_normaliser
from bnnzoo.inference.tuners._following import (
    Following,
    FollowingOptions,
    Objective,
    pull_of_mode,
    slope_through_mode,
)
from bnnzoo.inference.tuners.holdout import held_out_and_slope, kept_density, mode_of_kept
from bnnzoo.inference.tuners.laplace import OfCurvature, evidence_and_slope
from bnnzoo.models.model import build_model
from bnnzoo.specs import spec_from_toml


def regression(rows=30, features=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    y = np.sin(x[:, 0]) + 0.3 * x[:, 1] + 0.1 * rng.normal(size=rows)
    return bz.make_dataset(x, y, task="regression")


def network(widths=(4,), **likelihood):
    likelihood = likelihood or {"noise": "fixed", "noise_std": 0.3}
    return bz.make_model(network_options={"widths": list(widths)}, likelihood_options=likelihood)


def prepared(model, data, groups, noise=True):
    bound = model.bind(data)
    chosen, start = make_groups(bound, bound.bound, groups, noise)
    return bz.Posterior(grouped(model, chosen, start), data), chosen, start


def differences(value, hyper, step):
    """Central differences of a function of logarithms, flattened."""
    flat, unflatten = jax.flatten_util.ravel_pytree(hyper)
    found = []
    for k in range(flat.size):
        move = np.zeros(flat.size)
        move[k] = step
        up, down = (float(value(unflatten(flat + s * move))) for s in (1.0, -1.0))
        found.append((up - down) / (2 * step))
    return np.array(found)


@pytest.mark.validate
@pytest.mark.parametrize(
    "groups",
    ["input", *(pytest.param(g, marks=pytest.mark.validate) for g in ("global", "layer", "unit"))],
)
def test_placed_widths_are_those_of_the_model(groups):
    """The traced posterior has the density of the model that is written from the same numbers."""
    data, model = regression(), network((4, 4))
    with jax.enable_x64(True):
        posterior, chosen, start = prepared(model, data, groups)
        moved = {name: v + 0.1 * (k + 1) for k, (name, v) in enumerate(start.items())}
        written = bz.Posterior(grouped(model, chosen, moved), data)
        u = posterior.initial(jax.random.key(0))
        assert float(placed(posterior, chosen, moved).log_density(u)) == pytest.approx(
            float(written.log_density(u)), rel=1e-7
        )
        # Where the search starts is the model as it was.
        plain = bz.Posterior(model, data)
        assert float(posterior.log_density(u)) == pytest.approx(float(plain.log_density(u)))


@pytest.mark.parametrize(
    ("structure", "groups", "likelihood"),
    [
        pytest.param("full", "input", None, marks=pytest.mark.validate),
        pytest.param("kron", "input", None, marks=pytest.mark.validate),
        ("diagonal", "unit", None),
        pytest.param("kron", "layer", "categorical", marks=pytest.mark.validate),
        pytest.param("full", "layer", "categorical", marks=pytest.mark.validate),
        pytest.param("diagonal", "global", "two targets", marks=pytest.mark.validate),
        pytest.param("kron", "layer", "two targets", marks=pytest.mark.validate),
        pytest.param("full", "input", "two targets", marks=pytest.mark.validate),
    ],
)
def test_the_laplace_gradient_is_that_of_differences(structure, groups, likelihood):
    """Two targets with one noise have a curvature in the outputs of equal eigenvalues."""
    data, model = regression(), network()
    if likelihood == "two targets":
        y = np.column_stack([data.y, data.x[:, 2] ** 2])
        data = bz.make_dataset(data.x, y, task="regression")
    elif likelihood:
        rng = np.random.default_rng(0)
        data = bz.make_dataset(
            rng.normal(size=(30, 3)), rng.integers(0, 3, 30), task="classification"
        )
        model = bz.make_model(likelihood=likelihood, network_options={"widths": [4]})
    flavour = Flavour(structure, "ggn", "expand", 5, 2**28)
    with jax.enable_x64(True):
        posterior, chosen, start = prepared(model, data, groups)
        u = 0.3 * posterior.initial(jax.random.key(0))
        of = functools.partial(evidence_and_slope, posterior, chosen, u=u, flavour=flavour)
        slope = jax.flatten_util.ravel_pytree(of(hyper=start)[1])[0]
        numeric = differences(lambda h: of(hyper=h)[0], start, 1e-5)
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.validate
@pytest.mark.parametrize(
    ("structure", "likelihood"),
    [
        pytest.param("full", None, marks=pytest.mark.validate),
        pytest.param("kron", None, marks=pytest.mark.validate),
        ("diagonal", None),
        pytest.param("full", "categorical", marks=pytest.mark.validate),
        pytest.param("kron", "categorical", marks=pytest.mark.validate),
    ],
)
def test_the_laplace_gradient_goes_through_the_mode(structure, likelihood):
    """Against differences of the evidence at modes that are found anew, in float64."""
    data, model = regression(), network((3,))
    if likelihood:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 30)
        data = bz.make_dataset(rng.normal(size=(30, 3)), labels, task="classification")
        model = bz.make_model(likelihood=likelihood, network_options={"widths": [3]})
    objective = OfCurvature(Flavour(structure, "ggn", "expand", 5, 2**28), solves=100)
    with jax.enable_x64(True):
        posterior, groups, start = prepared(model, data, "layer")

        @jax.jit
        def mode(hyper, u):
            target = placed(posterior, groups, hyper)
            u, _ = ascend(target.log_density, u, 300)
            for _ in range(3):
                u = u - jnp.linalg.solve(
                    jax.hessian(target.log_density)(u), jax.grad(target.log_density)(u)
                )
            return u

        u = mode(start, 0.3 * posterior.initial(jax.random.key(0)))
        evidence = jax.jit(
            lambda h: log_normaliser(placed(posterior, groups, h), mode(h, u), objective.flavour)
        )
        numeric = differences(evidence, start, 1e-4)
        held = evidence_and_slope(posterior, groups, start, u, objective.flavour)[1]
        pull = pull_of_mode(posterior, groups, start, u, objective)
        moved = slope_through_mode(posterior, groups, start, u, pull)
        held, moved = (np.asarray(jax.flatten_util.ravel_pytree(p)[0]) for p in (held, moved))
    np.testing.assert_allclose(held + moved, numeric, rtol=1e-4, atol=1e-5)
    assert np.abs(held - numeric).max() > 0.01, "the mode's move counts"


@pytest.mark.validate
def test_the_gradient_of_held_out_rows_goes_through_the_mode():
    data, model = regression(), network((3,))
    with jax.enable_x64(True):
        posterior, chosen, start = prepared(model, data, "layer")
        held = jnp.asarray(np.arange(30) < 8, float)
        begin = posterior.initial(jax.random.key(1))
        near, _ = mode_of_kept(posterior, chosen, start, begin, held, 500)

        @jax.jit
        def newton(u, hyper):
            density = functools.partial(kept_density, posterior, chosen, hyper, held=held)
            return u - jnp.linalg.solve(jax.hessian(density)(u), jax.grad(density)(u))

        def polished(hyper, u=near):
            for _ in range(6):  # differences need the mode to rounding
                u = newton(u, hyper)
            return u

        def score(hyper):
            return held_out_and_slope(posterior, chosen, hyper, polished(hyper), held, 200)[0]

        mode = polished(start)

        _, slope = held_out_and_slope(posterior, chosen, start, mode, held, 200)
        slope = jax.flatten_util.ravel_pytree(slope)[0]
        numeric = differences(score, start, 1e-4)
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-7)


def test_exact_tuning_finds_the_optimum_of_the_closed_form():
    """Against a search of the density of the targets, written out."""
    data = regression(40, 3)
    model = network(())
    found = bz.tune(model, data, "exact", groups="layer")
    posterior = bz.Posterior(model, data)
    x, y = np.asarray(posterior.x, float), np.asarray(posterior.y, float)

    def loss(logs):
        kernel, bias, noise = np.exp(2 * logs)
        covariance = kernel * x @ x.T / 3 + bias + noise * np.eye(40)
        _, log_det = np.linalg.slogdet(covariance)
        return 0.5 * (log_det + y @ np.linalg.solve(covariance, y) + 40 * np.log(2 * np.pi))

    best = optimize.minimize(loss, np.log([1.0, 0.1, 0.3]), method="BFGS")
    assert found.value == pytest.approx(-best.fun, abs=1e-3)
    assert found.widths["layers.0.kernel"] == pytest.approx(np.exp(best.x[0]), rel=0.02)
    assert found.noise_std == pytest.approx(np.exp(best.x[2]), rel=0.02)
    again = bz.log_evidence(found.model, data, "exact")
    assert again.value == pytest.approx(found.value, abs=1e-3)
    assert again.data_dependent == ("scaling of the targets", "prior")
    shown = [line.split() for line in str(found).splitlines()]
    assert shown[0][1:] == [f"{found.trace[0]:.3f}", "->", f"{found.value:.3f}", "nats", "(exact)"]
    assert ["width", "layers.0.kernel", f"{found.widths['layers.0.kernel']:.3g}"] in shown


@pytest.mark.validate
def test_a_tuned_model_is_saved_and_read_like_any_other(tmp_path):
    data = regression()
    found = bz.tune(network(()), data, "exact", groups="input")
    found.save(tmp_path / "tuned.toml")
    again = build_model(spec_from_toml((tmp_path / "tuned.toml").read_text()))
    with jax.enable_x64(True):
        posterior, other = (bz.Posterior(model, data) for model in (found.model, again))
        u = posterior.initial(jax.random.key(0))
        assert float(posterior.log_density(u)) == float(other.log_density(u))
    assert again.prior.fitted_to_targets


def test_learned_noise_becomes_a_known_one():
    data, model = regression(), network((3,), noise="learned", noise_scale=2.0)
    posterior, _, start = prepared(model, data, "layer")
    assert np.exp(float(start["noise"])) == pytest.approx(1.0)
    assert posterior.model.likelihood.noise == "fixed"
    posterior, _, start = prepared(model, data, "layer", noise=False)
    assert posterior.model.likelihood.noise == "learned"
    assert "noise" not in start


@pytest.mark.validate
def test_inputs_that_say_nothing_are_switched_off(record_property):
    """Friedman's first function reads five of ten inputs; of three searches the best by evidence.

    No random error to speak of is left in the separation: widths are an order apart at least.
    """
    data = bz.load_dataset("friedman-1", n=200)
    found = bz.tune(network((10,)), data, "laplace", groups="input")
    widths = found.widths["layers.0.kernel"]
    record_property("widths", np.round(widths, 4).tolist())
    record_property("noise, 0.2 in truth", round(found.noise_std, 3))
    assert widths[:5].min() > 10 * widths[5:].max()
    assert widths[5:].max() < 0.01


@pytest.mark.validate
def test_the_infinitely_wide_evidence_is_climbed():
    """Slopes by the chain rule against differences of the value."""
    data = regression()
    found = bz.tune(network((10,)), data, "exact", over="infinite-width", groups="layer")
    start = bz.inference.InfiniteNetwork(network((10,)).bind(data), data).log_evidence
    assert found.value > start
    best = bz.log_evidence(found.model, data, "exact", over="infinite-width").value
    assert best == pytest.approx(found.value, abs=1e-5)


@pytest.mark.validate
def test_a_bound_is_climbed_with_its_hyper_parameters():
    """On a linear model full-rank q is exact: the bound's optimum is that of the evidence.

    0.05 nats are left for the optimiser and the gradient's noise.
    """
    data, model = regression(40, 3), network(())
    exact = bz.tune(model, data, "exact")
    found = bz.tune(model, data, "elbo", family="full-rank-vi")
    there = bz.log_evidence(found.model, data, "exact").value
    assert exact.value - 0.05 <= there <= exact.value + 1e-3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"groups": "layers"}, "did you mean 'layer'"),
        ({"method": "laplase"}, "did you mean 'laplace'"),
        ({"method": "exact", "over": "infinite-width", "noise": False}, "noise that is tuned"),
        ({"method": "exact"}, "not quadratic in the weights"),
        ({"structure": "last-layer"}, "largest where their widths go to zero; give"),
        ({"method": "elbo", "family": "last-layer-vi"}, "no bound on the evidence"),
        ({"structure": "low-rank"}, "'low-rank' has no gradient"),
        ({"structure": "kron", "groups": "unit"}, "average precisions over units"),
        ({"memory_bytes": 100}, "tuner.memory_bytes = 100; give tuner.structure"),
        ({"method": "holdout", "share": 0.001}, "leaves nothing on one side"),
        ({"method": "elbo", "family": "mean-field"}, "did you mean 'mean-field-vi'"),
        ({"model": bz.make_model(prior="laplace")}, "no Gaussian of fixed width"),
        ({"model": bz.make_model(prior="horseshoe")}, "no Gaussian of fixed width"),
    ],
)
def test_what_cannot_be_tuned_is_said(change, said):
    given = {"model": network(), "method": "laplace", **change}
    with pytest.raises(InputError, match=said):
        bz.tune(given.pop("model"), regression(), **given)


@dataclass(frozen=True)
class Misleading(Objective):
    """-log^2 of a width, whose gradient says that it rises for ever."""

    def __call__(self, posterior, u, key, held):
        log = jnp.log(jax.tree.leaves(posterior.model.prior.widths)[0])
        return -jax.lax.stop_gradient(log**2) + 5.0 * (log - jax.lax.stop_gradient(log))


@dataclass(frozen=True)
class Misled(Following):
    options: FollowingOptions

    def objective(self, last):
        return Misleading()


@pytest.mark.validate
def test_the_best_of_the_way_is_kept_where_the_gradient_leads_down():
    posterior, groups, start = prepared(network((2,)), regression(rows=5), "global", noise=False)
    name = dict(groups.of_path)[min(path for path, _ in groups.of_path)]
    start[name] = jnp.log(jnp.asarray(0.5))
    options = FollowingOptions(restarts=1, rounds=20, steps=1, hyper_steps=1)
    found = Misled(options).search(posterior, groups, start, 0, False)
    assert found.trace.argmax() not in (0, 20), "it goes over the top and down"
    assert found.trace[-1] == found.trace[:-1].max() > found.trace[-2]
    assert float(found.hyper[name]) ** 2 == pytest.approx(-found.trace[-1], abs=1e-6)
    (line,) = found.warnings
    assert "the widths of that round are kept" in line


@pytest.mark.validate
def test_a_tuned_model_is_no_worse_than_the_one_it_began_with():
    """On a table that is mostly noise, where a search from little noise kept what it had fitted."""
    data, model = bz.load_dataset("diabetes"), bz.make_model()
    found = bz.tune(model, data, "laplace", groups="input", restarts=1, rounds=60)
    assert found.value > bz.log_evidence(model, data, "laplace").value + 10
    again = bz.log_evidence(found.model, data, "laplace")
    assert not again.warnings, "at a mode"
    assert again.value == pytest.approx(found.value, abs=0.5)
    assert 0.6 < found.noise_std < 0.8
