"""Samplers by stochastic gradients against the laws of their own discretisations.

False alarms: a comparison of moments is of 1,000 independent chains, in standard errors, with the
bound 5 (two-sided 6e-7); there are under 400 in the file with ``validate``, so 3e-4 in all.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.tree_util import register_dataclass

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError
from bnnzoo.inference import control_variates, minibatches, step_schedules
from bnnzoo.inference.backends.sghmc import SGHMC
from bnnzoo.inference.cyclical import layerwise
from bnnzoo.inference.precision import precision
from bnnzoo.models.leaf import Leaf

sys.path.insert(0, str(Path(__file__).parent))

import _closed_forms as forms
import _stochastic as lin

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
TEMPERATURES = (1.0, 0.3, 0.1)
EYE, ZERO = np.eye(2), np.zeros((2, 2))


@pytest.fixture(scope="module")
def data():
    return forms.regression_data()


# -- one step of each linear kernel, from its paper --------------------------------------------


def langevin(e, curvature):
    """u + (e/2) g + sqrt(e) xi."""
    return EYE - 0.5 * e * curvature, 0.5 * e * EYE, np.sqrt(e) * EYE


def symplectic_euler(e, curvature, kept=0.8):
    """p <- kept p + h g + sqrt(2 (1 - kept)) xi; u <- u + h p. State (u, p)."""
    h, noise = np.sqrt(e), np.sqrt(2.0 * (1.0 - kept))
    force = np.block([[EYE - e * curvature, h * kept * EYE], [-h * curvature, kept * EYE]])
    return force, np.vstack([e * EYE, h * EYE]), np.vstack([h * noise * EYE, noise * EYE])


def obabo(e, curvature, kept=0.8):
    """Half refreshment, half kick, drift, half kick, half refreshment; full batches alone."""
    h = np.sqrt(e)
    refresh = np.block([[EYE, ZERO], [ZERO, np.sqrt(kept) * EYE]])
    kick = np.block([[EYE, ZERO], [-0.5 * h * curvature, EYE]])
    drift = np.block([[EYE, h * EYE], [ZERO, EYE]])
    verlet = kick @ drift @ kick
    noise = np.sqrt(1.0 - kept) * np.vstack([ZERO, EYE])
    return refresh @ verlet @ refresh, None, np.hstack([refresh @ verlet @ noise, noise])


class Kernel:
    """A backend at a constant step, its linear map, and how batches come to it."""

    def __init__(self, name, step, batches, full, small, **options):
        self.name, self.step, self.batches = name, step, batches
        self.rates = {None: full, batches: small}
        self.options = options

    def backend(self, rate, batches):
        size = lin.BATCH if batches else None
        return lin.make(self.name, learning_rate=rate, thin=16, batch_size=size, **self.options)

    def law(self, rate, T, batches):
        """Exact covariance at the end of a pass of four steps."""
        _, precisions = lin.moments(T)
        step = self.step(rate * T / lin.ROWS, np.diag(precisions))
        return lin.law(*step, lin.ROWS // lin.BATCH, T, 1.0, batches)[:2, :2]


KERNELS = {
    "sgld": Kernel("sgld", langevin, "passes", 0.2, 0.1),
    "cyclical-sgld": Kernel("cyclical-sgld", langevin, "passes", 0.2, 0.1, cycles=False),
    "cyclical-sghmc": Kernel(
        "cyclical-sghmc", symplectic_euler, "passes", 0.2, 0.03, cycles=False, momentum=0.8
    ),
    "gg-mc": Kernel("gg-mc", obabo, None, 0.2, 0.2, metropolis=False, momentum=0.8),
}
QUICK = {("sgld", "passes"), ("cyclical-sghmc", "passes")}
CASES = [
    pytest.param(name, batches, marks=() if (name, batches) in QUICK else pytest.mark.validate)
    for name, kernel in KERNELS.items()
    for batches in kernel.rates
]


@pytest.mark.parametrize(("name", "batches"), CASES)
def test_a_kernel_meets_the_law_of_its_own_discretisation(name, batches):
    """Batches included: those of one pass are negatively correlated, which the law knows.

    The law is far from the target here (asserted), so the kernel, not its limit, is what is tested.
    """
    kernel = KERNELS[name]
    for T in TEMPERATURES:
        rate = kernel.rates[batches]
        exact = kernel.law(rate, T, batches)
        mean, precisions = lin.moments(T)
        assert exact[0, 0] * precisions[0] > 1.3
        starts = lin.near_the_mode(T)
        u, stats, _ = lin.simulate(
            kernel.backend(rate, batches), lin.location_posterior(T), starts, SEED
        )
        lin.check(u, mean, exact, f"{name}, {batches}, T={T}")
        assert not stats["diverging"].any()


@pytest.mark.parametrize("name", KERNELS)
def test_the_bias_of_the_law_is_of_the_order_the_card_says(name):
    """By closed form: halving learning_rate divides the error by 2^order, within 10 %."""
    kernel = KERNELS[name]
    order = bz.describe("backends", name).tags["order"]
    for batches in dict.fromkeys((None, kernel.batches)):
        errors = []
        for rate in (2e-4, 1e-4, 5e-5):
            truth = np.diag(1.0 / lin.moments()[1])
            errors.append(np.abs(kernel.law(rate, 1.0, batches) - truth).max())
        ratios = np.divide(errors[:-1], errors[1:])
        np.testing.assert_allclose(ratios, 2.0**order, rtol=0.1)


@pytest.mark.validate
@pytest.mark.parametrize("name", KERNELS)
def test_halving_the_step_halves_the_bias_of_draws(name):
    """With common random numbers, against the ratio that the closed forms give (5 errors)."""
    kernel = KERNELS[name]
    mean, precisions = lin.moments()
    z = []
    for rate in (0.1, 0.05):
        backend = kernel.backend(rate, None)
        u, _, _ = lin.simulate(backend, lin.location_posterior(), lin.near_the_mode(), SEED)
        z.append(((u - mean)[..., 0] ** 2 * precisions[0]).mean(1))
    found = np.mean(z, axis=1) - 1.0
    wanted = [kernel.law(r, 1.0, None)[0, 0] * precisions[0] - 1.0 for r in (0.1, 0.05)]
    difference = z[0] - z[1]
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    print(f"{name}: biases {found}, by closed form {wanted}, error of the difference {error:.4f}")
    assert abs(found[0] - found[1] - (wanted[0] - wanted[1])) < 5.0 * error


# -- sghmc -------------------------------------------------------------------------------------


@functools.partial(
    register_dataclass,
    data_fields=("learning_rate", "thin", "friction", "heating", "metric", "noise"),
    meta_fields=("batch_size", "control_variates", "noise_correction"),
)
@dataclass(frozen=True)
class Known(SGHMC):
    """One that was told what warm-up would have learnt."""

    metric: Leaf
    noise: Leaf

    def begin(self, posterior, u):
        return super().begin(posterior, u)._replace(metric=self.metric, noise=self.noise)

    def schedule(self, warmup):
        return np.full(warmup, 4, np.int32)


def known(rate, metric, noise, batch=lin.BATCH):
    return Known(rate, 16, 0.2, 0, batch, False, True, metric, noise)


def springenberg(e, curvature, metric, taken_off, friction=0.2):
    """v <- (1 - b) v + s g + N(0, 2 b s - s^2 n); u <- u + v, s = e / sqrt(V)."""
    s = np.diag(e / np.sqrt(metric))
    kept = 1.0 - friction
    force = np.block([[EYE - s @ curvature, kept * EYE], [-s @ curvature, kept * EYE]])
    noise = np.sqrt(2.0 * friction * s - s**2 @ np.diag(taken_off))
    return force, np.vstack([s, s]), np.vstack([noise, noise])


def test_sghmc_meets_its_law_with_a_metric_and_its_batches_noise_taken_off():
    """And the noise that is taken off leaves variances nearer the target than without."""
    metric = np.array([0.5, 0.05])
    for T in TEMPERATURES:
        rate = 0.004 * T
        noise = np.diag(lin.batch_noise(T, independent=True)[0])
        mean, precisions = lin.moments(T)
        e, curvature = rate * T / lin.ROWS, np.diag(precisions)
        laws = [
            lin.law(*springenberg(e, curvature, metric, off), 1, T, 1.0, "independent")[:2, :2]
            for off in (noise, 0.0 * noise)
        ]
        excess = [np.abs(np.diag(exact) * precisions - 1.0) for exact in laws]
        assert (excess[0] < 0.5 * excess[1]).all()
        u, _, _ = lin.simulate(
            known(rate, metric, noise), lin.location_posterior(T), lin.near_the_mode(T), SEED
        )
        lin.check(u, mean, laws[0], f"sghmc, T={T}, excess {excess[0]} instead of {excess[1]}")


def test_sghmc_measures_the_noise_of_its_batches_and_freezes_what_it_learnt():
    """The pairs' estimate against the covariance of batch means; 30 pairs a chain, 300 chains.

    An estimate has relative variance 2 / n with n about 22 pairs of weight; the mean of 300 chains
    is then within 2 % (5 standard errors are 9 %).
    """
    posterior = lin.location_posterior()
    backend = lin.make("sghmc", batch_size=lin.BATCH, learning_rate=1e-3).planned(30)
    starts = lin.near_the_mode(chains=300)
    _, _, state = lin.simulate(backend, posterior, starts, SEED, warm=30)
    own = state.now.own
    exact = np.diag(lin.batch_noise(independent=True)[0])
    np.testing.assert_allclose(np.asarray(own.noise).mean(0) / exact, 1.0, atol=0.09)
    assert (np.asarray(own.pairs) == 30).all()
    heated, learnt = 30 * 50 // 4, 30 * 50 - 30 * 50 // 4
    assert (np.asarray(own.heated) == 30 * 50).all() and (np.asarray(own.learnt) == learnt).all()
    assert heated == backend.heating
    # E[g^2] of the mean loss at stationarity: the signal's curvature / N^2 and the batch's noise.
    signal = lin.moments()[1] / lin.ROWS**2
    wanted = signal + exact / lin.ROWS**2
    np.testing.assert_allclose(np.asarray(own.metric).mean(0) / wanted, 1.0, atol=0.1)


def test_springenbergs_window_against_a_naive_loop():
    backend = lin.make("sghmc")
    rng = np.random.default_rng(SEED)
    gradients = rng.normal(size=(50, 3)) + np.array([0.0, 0.5, 5.0])
    with precision("float64"):
        own = backend.begin(lin.location_posterior(), jnp.zeros(3))
        for gradient in gradients:
            own = backend._adapt(own, jnp.asarray(gradient))
    window, mean, square = np.ones(3), np.zeros(3), np.ones(3)
    for gradient in gradients:
        window = window * (1.0 - mean**2 / square) + 1.0
        mean = mean + (gradient - mean) / window
        square = square + (gradient**2 - square) / window
    np.testing.assert_allclose(own.square, square, rtol=1e-10)
    np.testing.assert_allclose(own.window, window, rtol=1e-10)
    assert window[2] < window[0], "a gradient that stands out of its noise has a short memory"


# -- sgnht -------------------------------------------------------------------------------------


def test_sgnht_has_the_targets_law_and_kinetic_temperature_at_a_large_step():
    """BAOAB is exact on Gaussians at any step; the thermostat keeps momenta at 1."""
    for T in TEMPERATURES:
        mean, precisions = lin.moments(T)
        backend = lin.make("sgnht", learning_rate=0.3, thin=16, friction=0.2, coupling=0.002)
        u, stats, _ = lin.simulate(backend, lin.location_posterior(T), lin.near_the_mode(T), SEED)
        lin.check(u, mean, np.diag(1.0 / precisions), f"sgnht, T={T}")
        own = stats["kinetic_temperature"].mean(1)
        assert abs(own.mean() - 1.0) < 5.0 * own.std() / np.sqrt(len(own))


@pytest.mark.validate
def test_sgnht_balances_the_noise_of_batches():
    """Friction rises by what batches bring on average, e n / 2 a step; a fixed one is too hot.

    A coordinate is then off by how its own noise n_i differs from the average alone: its
    temperature is (a + e n_i / 2) / (a + e mean(n) / 2) to first order, held to 10 %.
    """
    mean, precisions = lin.moments()
    brought = 0.5 * 0.01 / lin.ROWS * np.diag(lin.batch_noise(independent=True)[0])
    for friction in (0.1, 0.3):
        backend = lin.make(
            "sgnht",
            learning_rate=0.01,
            thin=64,
            friction=friction,
            coupling=0.002,
            batch_size=lin.BATCH,
        )
        posterior = lin.location_posterior()
        u, stats, _ = lin.simulate(backend, posterior, lin.near_the_mode(), SEED)
        found = ((u - mean) ** 2 * precisions).mean((0, 1))
        wanted = (friction + brought) / (friction + brought.mean())
        more = stats["friction"].mean() - friction
        print(f"friction {friction}: {more:.4f} more, {brought.mean():.4f} brought")
        print(f"temperatures {found}, {wanted} wanted, {1 + brought / friction} uncontrolled")
        own = stats["kinetic_temperature"].mean(1)
        print(f"kinetic {own.mean():.4f}")
        np.testing.assert_allclose(own.mean(), 1.0, atol=0.01)
        np.testing.assert_allclose(more, brought.mean(), rtol=0.1)
        np.testing.assert_allclose(found, wanted, rtol=0.1)


# -- psgld -------------------------------------------------------------------------------------

FLOOR = 0.2


def psgld_ratios(rate, correction, chains=lin.CHAINS):
    """E[(u - m)^2] over the target's, and its standard error, of small batches' draws ``(2,)``."""
    backend = lin.make(
        "psgld",
        learning_rate=rate,
        thin=int(0.2 / rate),
        batch_size=lin.BATCH if correction is None else None,
        average=0.5,
        floor=FLOOR,
        correction=correction is not False,
    )
    mean, precisions = lin.moments()
    u, _, _ = lin.simulate(backend, lin.location_posterior(), lin.near_the_mode(), SEED)
    own = ((u - mean) ** 2 * precisions).mean(1)
    return own.mean(0), own.std(0, ddof=1) / np.sqrt(len(own))


@functools.cache
def uncorrected_limit():
    """Variance ratios of p(u) / G(u) in the limit: (f + 2 a E|z|) / (f + a E|z|), a = sd of g / N.

    The drift (e/2) G grad log p and the noise sqrt(e G) have the stationary density p / G, and
    1 / G = floor + |g| / N. For a standard normal E|z|^3 = 2 E|z|.
    """
    slope = np.sqrt(lin.moments()[1]) / lin.ROWS * np.sqrt(2.0 / np.pi)
    return (FLOOR + 2.0 * slope) / (FLOOR + slope)


def test_psgld_without_its_correction_keeps_its_bias():
    """Full batches at a short step: no correction gives the closed form of p / G, to 5 %."""
    wrong, error = psgld_ratios(0.01, False)
    right, _ = psgld_ratios(0.01, True)
    print(f"without {wrong} (limit {uncorrected_limit()}), with {right}, errors {error}")
    np.testing.assert_allclose(wrong / uncorrected_limit(), 1.0, atol=0.05 + 5.0 * error.max())
    assert (np.abs(right - 1.0) < 0.1 + 5.0 * error).all()
    assert (wrong - 1.0 > 0.4).all()


@pytest.mark.validate
@pytest.mark.parametrize("correction", [True, None], ids=["full", "batches"])
def test_psgld_bias_vanishes_with_the_step_when_corrected(correction):
    """It falls with every halving, to under 0.05 + 5 errors; without, it tends to that of p / G."""
    rates = (0.04, 0.02, 0.01, 0.005)
    found = np.array([psgld_ratios(rate, correction) for rate in rates])
    bias, error = found[:, 0] - 1.0, found[:, 1].max()
    print(f"biases {bias.tolist()}, error {error:.4f}")
    assert (bias[1:, 0] < bias[:-1, 0]).all()
    assert (np.abs(bias[-1]) < 0.07 + 5.0 * error).all()


# -- gg-mc -------------------------------------------------------------------------------------


def pass_by_pass(rate, T, metropolis=True):
    backend = lin.make(
        "gg-mc",
        learning_rate=rate,
        thin=30,
        batch_size=lin.BATCH,
        momentum=0.8,
        metropolis=metropolis,
    )
    u, stats, _ = lin.simulate(backend, lin.location_posterior(T), lin.near_the_mode(T), SEED)
    return u, stats


def test_gg_mc_is_exact_with_minibatches_at_large_steps():
    """And acceptance rises to 1 as the step falls."""
    for T in TEMPERATURES:
        mean, precisions = lin.moments(T)
        rates = np.array([0.1, 0.03, 0.003]) * (1.0 if T > 0.2 else 0.3)
        accepted = []
        for rate in rates if T == 1.0 else rates[1:2]:
            u, stats = pass_by_pass(rate, T)
            accepted.append(stats["acceptance_rate"].mean())
            lin.check(u, mean, np.diag(1.0 / precisions), f"gg-mc, T={T}, {accepted[-1]:.2f}")
        assert (np.diff(accepted) > 0.05).all()
        assert T < 1.0 or (accepted[0] < 0.4 and accepted[-1] > 0.85)


@pytest.mark.validate
def test_gg_mc_without_the_test_is_biased_and_reports_the_acceptance_it_would_have():
    mean, precisions = lin.moments()
    u, stats = pass_by_pass(0.03, 1.0, metropolis=False)
    assert ((u - mean) ** 2 * precisions).mean((0, 1))[0] > 1.3
    assert 0.4 < stats["acceptance_rate"].mean() < 0.8
    accepted = [
        pass_by_pass(r, 1.0, False)[1]["acceptance_rate"].mean() for r in (3e-3, 3e-4, 3e-5)
    ]
    print(f"acceptance {accepted}")
    assert (np.diff(accepted) > 0).all() and accepted[-1] > 0.98


# -- cycles ------------------------------------------------------------------------------------


def test_the_schedules_are_those_of_the_papers():
    k = np.arange(10.0)
    cosine = np.array([step_schedules.cosine(jnp.asarray(i), 10) for i in k])
    np.testing.assert_allclose(cosine, 0.5 * (np.cos(np.pi * np.mod(k, 10) / 10) + 1), atol=1e-6)
    ramp = [float(step_schedules.ramp(jnp.asarray(i), 10, 0.2, 0.6)) for i in k]
    np.testing.assert_allclose(ramp, [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1], atol=1e-6)
    jump = [float(step_schedules.ramp(jnp.asarray(i), 10, 0.3, 0.3)) for i in k]
    np.testing.assert_allclose(jump, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
    fall = step_schedules.polynomial(jnp.asarray([0.0, 10.0, 70.0]), 1.0 / 3.0, 10.0)
    np.testing.assert_allclose(fall, [1.0, 2 ** (-1 / 3), 0.5], rtol=1e-6)


@pytest.mark.parametrize("name", ["cyclical-sgld", "cyclical-sghmc"])
def test_a_draw_is_the_end_of_a_cycle_against_a_naive_loop(name):
    """With the ramp beyond its end a cycle has no noise: steps of length cos, twice over."""
    steps, rate, kept = 7, 0.2, 0.8
    options = {"momentum": kept} if name == "cyclical-sghmc" else {}
    made = lin.make(name, learning_rate=rate, thin=steps, precondition=False, **options)
    backend = dataclasses.replace(made, ramp_begin=1.0, ramp_end=1.0)
    mean, precisions = lin.moments()
    starts = lin.near_the_mode(chains=2)
    draws, stats, _ = lin.simulate(backend, lin.location_posterior(), starts, SEED, 0, 2)
    u, p = starts, np.zeros_like(starts)
    for draw in range(2):
        for k in range(steps):
            e = rate / lin.ROWS * 0.5 * (np.cos(np.pi * k / steps) + 1.0)
            force = precisions * (mean - u)
            p = kept * p + np.sqrt(e) * force
            u = u + (0.5 * e * force if name == "cyclical-sgld" else np.sqrt(e) * p)
        np.testing.assert_allclose(draws[:, draw], u, rtol=1e-6)
        np.testing.assert_allclose(stats["step_size"][:, draw], np.sqrt(e), rtol=1e-6)
    assert (stats["n_steps"] == steps).all()


def two_layers(x, y=None):
    a = numpyro.sample("a", dist.Normal().expand([2]).to_event(1))
    b = numpyro.sample("b", dist.Normal().expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(a.sum() + b.sum(), 1.0).expand([x.shape[0]]), obs=y)


def test_the_layerwise_metric_is_the_root_mean_square_over_the_least():
    posterior = bz.Posterior(two_layers, bz.make_dataset(np.zeros((4, 1)), np.arange(4.0)))
    mass = layerwise(jnp.asarray([4.0, 2.0, 1.0, 0.5, 0.0]), posterior.sites)
    np.testing.assert_allclose(mass, [np.sqrt(3.0 / 0.5)] * 2 + [1.0] * 3, rtol=1e-5)


# -- batches, control variates, failures -------------------------------------------------------


def test_a_pass_takes_every_row_once_and_the_next_another_order():
    rows, size = 10, 3
    at, passes = minibatches.begin(rows), []
    for step in range(9):
        batch, at = minibatches.next_batch(at, size, jax.random.fold_in(jax.random.key(SEED), step))
        passes.append(np.asarray(batch))
    for first in range(0, 9, 3):
        assert len(set(np.concatenate(passes[first : first + 3]))) == 9, "no row twice in a pass"
    assert not np.array_equal(passes[:3], passes[3:6])


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
