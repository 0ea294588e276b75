"""Samplers by stochastic gradients as runs: batches, failures, options, small networks."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError
from bnnzoo.inference import control_variates, minibatches
from bnnzoo.inference.precision import precision

sys.path.insert(0, str(Path(__file__).parent))

import _closed_forms as forms
import _stochastic as lin

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))


@pytest.fixture(scope="module")
def data():
    return forms.regression_data()


def test_a_pass_takes_every_row_once_and_the_next_another_order():
    rows, size = 10, 3
    at, passes = minibatches.begin(rows), []
    for step in range(9):
        batch, at = minibatches.next_batch(at, size, jax.random.fold_in(jax.random.key(SEED), step))
        passes.append(np.asarray(batch))
    for first in range(0, 9, 3):
        assert len(set(np.concatenate(passes[first : first + 3]))) == 9, "no row twice in a pass"
    assert not np.array_equal(passes[:3], passes[3:6])


@pytest.mark.validate
def test_control_variates_take_the_noise_away_where_the_centre_is_known(data):
    """On a Gaussian the difference of two gradients has noise of x x' (u - c) alone.

    The centre is the mode to 2 % of a standard deviation after 100 steps from there, the estimate
    is unbiased over all batches of one row, and its noise at the mode is under 1 % of a batch's.
    """
    with precision("float64"):
        posterior = bz.Posterior(forms.known_noise, data, 0.3, 1.0)
        mean, covariance = forms.known_noise_moments(data, 0.3, 1.0)
        u = jnp.asarray(mean)
        centre = control_variates.begin(posterior, u + 0.05)
        centre = jax.lax.fori_loop(
            0, 100, lambda _, c: control_variates.climb(posterior, c), centre
        )
        off = np.asarray(centre.position - mean) / np.sqrt(np.diag(covariance))
        assert np.abs(off).max() < 0.02
        one = jnp.arange(posterior.rows)[:, None]
        here = u + 0.1
        made = jax.vmap(lambda b: control_variates.estimate(posterior, centre, here, b))(one)
        plain = jax.vmap(lambda b: jax.grad(posterior.log_density)(u, b))(one)
        at_mode = jax.vmap(lambda b: control_variates.estimate(posterior, centre, u, b))(one)
        full = jax.grad(posterior.log_density)(here)
        np.testing.assert_allclose(made.mean(0), full, rtol=1e-8)
        assert at_mode.var(0).sum() < 0.01 * plain.var(0).sum()


def fit(data, backend="sgld", model=forms.known_noise, **options):
    sizes = {"chains": 2, "draws": 30, "warmup": 20, "seed": SEED, "progress": False, "thin": 10}
    return bz.fit(model, data, backend, **sizes | options)


@pytest.mark.validate
def test_a_run_goes_on_to_the_same_draws_in_the_middle_of_a_pass(data, tmp_path):
    """Control variates and 4 batches of 7 rows a pass: 10 steps a draw end inside one."""
    options = {"batch_size": 7, "control_variates": True, "learning_rate": 1e-3}
    whole = fit(data, **options)
    fit(data, draws=13, out=tmp_path / "run", **options)
    resumed = bz.resume(tmp_path / "run", draws=30, model=forms.known_noise, progress=False)
    for name in ("w",):
        np.testing.assert_array_equal(
            resumed.tree["posterior"][name], whole.tree["posterior"][name]
        )
    # In warm-up 10 steps of the centre, then 2 gradients a step; 30 draws after it.
    assert whole.manifest["gradients"] == 2 * (10 + 40 * 10 * 2)


def test_a_step_too_long_is_not_taken_counted_and_flagged(data):
    run = fit(data, learning_rate=1e4)
    assert np.isfinite(run.tree["posterior"]["w"]).all()
    said = {flag["message"].split("; ")[-1] for flag in run.manifest["flags"]}
    assert "lower learning_rate = 10000" in said
    assert {"divergent"} <= {flag["kind"] for flag in run.manifest["flags"]}


def test_temperatures_off_the_targets_are_flagged_with_a_remedy():
    backend = lin.make("sghmc")
    rng = np.random.default_rng(SEED)
    good = {"lp": np.zeros(400), "diverging": np.zeros(400), "starved": np.zeros(400)}
    good |= {
        f"{name}_temperature": rng.normal(1, 0.1, 400) for name in ("kinetic", "configurational")
    }
    assert backend.flags(good, good) == []
    hot = backend.flags(good | {"kinetic_temperature": rng.normal(1.3, 0.1, 400)}, good)
    assert [flag.kind for flag in hot] == ["warning"] and "lower learning_rate" in hot[0].message
    cold = backend.flags(good | {"configurational_temperature": rng.normal(0.7, 0.1, 400)}, good)
    assert "too cold: raise warmup" in cold[0].message
    starved = backend.flags(good | {"starved": np.full(400, 0.2)}, good)
    assert "friction" in starved[0].message
    assert "raise warmup" in backend.flags(good, {})[0].message
    tested = lin.make("gg-mc")
    stuck = tested.flags(good | {"acceptance_rate": np.full(400, 0.05)}, good)
    assert [flag.kind for flag in stuck] == ["stuck"] and "5.0% of passes" in stuck[0].message


@pytest.mark.parametrize("name", registry.list_names("backends", family="sgmcmc"))
def test_batches_that_do_not_exist_are_refused(name, data):
    with pytest.raises(InputError, match="batch_size = 31, but there are 30 training rows"):
        fit(data, name, batch_size=31)
    with pytest.raises(InputError, match="control_variates = true needs"):
        fit(data, name, control_variates=True)
    with pytest.raises(InputError, match="latent site 'z' belongs to the training rows"):
        fit(data, name, rows_of_their_own, batch_size=5)


def rows_of_their_own(x, y=None):
    with numpyro.plate("row", x.shape[0]):
        z = numpyro.sample("z", dist.Normal())
        numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("sgld", {"learning_rate": 0.0}, "learning_rate"),
        ("sgld", {"decay_power": 1.5}, "decay_power"),
        ("sgld", {"step_schedule": "cosine"}, "step_schedule"),
        ("psgld", {"average": 1.0}, "average"),
        ("sghmc", {"friction": 1.0}, "friction"),
        ("sgnht", {"coupling": -1.0}, "coupling"),
        ("gg-mc", {"momentum": 1.0}, "momentum"),
        ("cyclical-sgld", {"ramp_begin": 0.5, "ramp_end": 0.2}, "ramp_end = 0.2"),
        ("cyclical-sghmc", {"thin": 0}, "thin"),
    ],
)
def test_options_out_of_range_are_refused(name, options, said, data):
    with pytest.raises(OptionError, match=said):
        fit(data, name, **options)


# -- networks ----------------------------------------------------------------------------------


@functools.cache
def network_reference():
    rng = np.random.default_rng(5)
    x = rng.uniform(-2.0, 2.0, size=(60, 1))
    y = np.sin(2.0 * x[:, 0]) + 0.2 * rng.normal(size=60)
    data = bz.make_dataset(x, y, x[:20], y[:20], task="regression")
    model = bz.make_model(
        network_options={"widths": [10], "activation": "tanh"},
        likelihood_options={"noise": "fixed", "noise_std": 0.3},
    )
    run = bz.fit(model, data, "hmc", chains=4, draws=2000, seed=1, progress=False)
    return data, model, *function_moments(run)


def function_moments(run):
    f = run.tree["function_draws"]["f"].to_numpy()[..., 0]
    return f.mean((0, 1)), f.std((0, 1))


NETWORK = {
    "sgld": {"learning_rate": 0.02, "thin": 1000},
    "psgld": {"learning_rate": 3e-4, "thin": 1000},
    "sghmc": {"learning_rate": 1e-4, "thin": 200},
    "sgnht": {"learning_rate": 0.01, "thin": 200},
    "gg-mc": {"learning_rate": 0.01, "thin": 200},
    "cyclical-sgld": {"learning_rate": 0.05, "thin": 5000, "draws": 400},
    "cyclical-sghmc": {"learning_rate": 0.02, "thin": 3000, "draws": 400},
}


@pytest.mark.validate
@pytest.mark.parametrize("name", NETWORK)
def test_functions_of_a_small_network_agree_with_hmc(name):
    """1x10 tanh, 60 rows: means within 0.25 of a standard deviation, those within 15 %."""
    data, model, mean, std = network_reference()
    run = bz.fit(
        model, data, name, chains=4, seed=2, progress=False, **{"draws": 1000} | NETWORK[name]
    )
    own_mean, own_std = function_moments(run)
    off, ratio = np.abs(own_mean - mean) / std, own_std / std
    print(f"{name}: means off by {off.max():.3f} sd, sds {ratio.min():.3f} to {ratio.max():.3f}")
    print([flag["message"] for flag in run.manifest["flags"]])
    assert off.max() < 0.25 and np.abs(ratio - 1.0).max() < 0.15
