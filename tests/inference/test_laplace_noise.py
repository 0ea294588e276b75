"""A learned noise of `laplace` at the mode of its own marginal."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

import bnnzoo as bz
from bnnzoo.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
ROWS = 12
PRIOR = np.array([1.5**2 / 3] * 3 + [0.9**2])


def linear_data(outputs=1):
    random = np.random.default_rng(SEED)
    x = random.normal(size=(ROWS, 3)) @ (np.eye(3) + 0.4)
    noise = 0.5 * random.normal(size=(ROWS, outputs)) * 0.3 ** np.arange(outputs)
    y = (x @ np.array([1.0, -0.5, 0.2]))[:, None] + 0.7 + noise
    y = y[:, 0] if outputs == 1 else y
    return bz.make_dataset(x, y, x[:4], y[:4], task="regression", scale="none")


def linear_model():
    return bz.make_model(
        network_options={"widths": []}, prior_options={"std": 1.5, "bias_std": 0.9}
    )


def log_integral(data, y, log_noise, T=1.0, L=1.0):
    """log of the weights' integral of the tempered target, at a noise; the noise's prior in it."""
    X = np.column_stack([data.x, np.ones(ROWS)])
    s = math.exp(log_noise)
    precision = (X.T @ X / (s**2 * L) + np.diag(1 / PRIOR)) / T
    mean = np.linalg.solve(precision * T, X.T @ y / (s**2 * L))
    likelihood = -0.5 * np.sum((y - X @ mean) ** 2) / s**2 - ROWS * (log_noise + LOG_ROOT)
    prior = -0.5 * np.sum(mean**2 / PRIOR + np.log(PRIOR)) - 4 * LOG_ROOT
    of_noise = math.log(2) - LOG_ROOT - 0.5 * s**2
    volume = 4 * LOG_ROOT - 0.5 * np.linalg.slogdet(precision)[1]
    return (likelihood / L + prior + of_noise) / T + log_noise + volume


LOG_ROOT = 0.5 * math.log(2 * math.pi)


def fitted(model, data, **changes):
    settings = {"chains": 1, "draws": 10, "warmup": 100, "seed": SEED, "dtype": "float64"}
    return bz.fit(model, data, "laplace", progress=False, **settings | changes)


@pytest.mark.parametrize(
    ("T", "L", "structure"),
    [
        pytest.param(1.0, 1.0, "full", marks=pytest.mark.validate),
        (0.5, 2.0, "full"),
        pytest.param(1.0, 1.0, "kron", marks=pytest.mark.validate),
        pytest.param(0.3, 1.0, "full", marks=pytest.mark.validate),
        pytest.param(1.0, 0.4, "kron", marks=pytest.mark.validate),
    ],
)
def test_of_a_linear_model_it_is_the_closed_forms(T, L, structure):
    """The noise of the highest integral over weights, by scipy, to 1e-5; deterministic. Of one
    layer with one output a Kronecker product is the whole matrix."""
    data = linear_data()
    run = fitted(
        linear_model(),
        data,
        structure=structure,
        posterior_temperature=T,
        likelihood_temperature=L,
    )
    best = minimize_scalar(
        lambda at: -log_integral(data, data.y, at, T, L),
        bounds=(-4, 2),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert math.log(float(run.tree["mode"]["noise_std"][0])) == pytest.approx(best.x, abs=1e-5)
    assert run.manifest["flags"] == []


def test_the_evidence_is_nearer_than_that_of_the_joint_mode():
    """Twelve rows and four weights: the integral over the noise, by quadrature, is met to 0.05
    nats; the joint mode's noise is a fifth too small and its evidence further off. Deterministic;
    what is left is that a posterior of a log noise is no Gaussian."""
    data = linear_data()
    exact = math.log(quad(lambda at: math.exp(log_integral(data, data.y, at)), -4, 2)[0])
    options = {"modes": 1, "steps": 100, "seed": SEED, "dtype": "float64"}
    marginal = bz.log_evidence(linear_model(), data, "laplace", **options)
    joint = bz.log_evidence(linear_model(), data, "laplace", noise="joint", **options)
    assert marginal.value == pytest.approx(exact, abs=0.05)
    assert abs(joint.value - exact) > 2 * abs(marginal.value - exact)


@pytest.mark.validate
def test_every_output_has_its_own():
    """Two outputs whose noises differ by a factor of three, each as if alone, to 2 %: their shares
    of the determined weights are taken as equal, and are so nearly."""
    data = linear_data(outputs=2)
    run = fitted(linear_model(), data)
    found = np.log(np.asarray(run.tree["mode"]["noise_std"][0]))
    for output, noise in enumerate(found):
        y = data.y[:, output]
        best = minimize_scalar(
            lambda at, y=y: -log_integral(data, y, at), bounds=(-4, 2), method="bounded"
        )
        assert noise == pytest.approx(best.x, abs=0.02)


@pytest.mark.validate
def test_a_network_that_could_follow_every_row_does_not():
    """Fifty units and thirty noisy rows: the marginal's noise is within 40 % of the true 0.3 (its
    own error is about 20 % of it), the joint mode's is smaller, its evidence lower."""
    random = np.random.default_rng(SEED)
    x = random.uniform(-2, 2, (30, 1))
    y = np.sin(2 * x[:, 0]) + 0.3 * random.normal(size=30)
    data = bz.make_dataset(x, y, task="regression", scale="none")
    model = bz.make_model(network_options={"widths": [50]}, prior_options={"std": 4.0})
    runs = {noise: fitted(model, data, noise=noise, warmup=400) for noise in ("marginal", "joint")}
    found = {name: float(run.tree["mode"]["noise_std"][0]) for name, run in runs.items()}
    height = {
        name: float(run.tree["sample_stats"]["log_normaliser"][0, -1]) for name, run in runs.items()
    }
    assert found["joint"] < 0.95 * found["marginal"]
    assert 0.18 < found["marginal"] < 0.42
    assert height["marginal"] > height["joint"]


def test_copies_count_as_asked():
    """The value is one mode's, and what the diagnostics say of its copies where they are asked."""
    data = bz.load_dataset("diabetes")
    model = bz.make_model(network_options={"widths": [3]})
    options = {"modes": 1, "steps": 200, "seed": SEED}
    one, told, every = (
        bz.log_evidence(model, data, "laplace", copies=copies, **options)
        for copies in ("one", "told-apart", "all")
    )
    said = one.diagnostics
    assert every.value == pytest.approx(one.value + math.lgamma(4) + 3 * math.log(2), abs=1e-4)
    assert told.value == pytest.approx(one.value + said["log_told_apart"], abs=1e-4)
    assert one.value < told.value <= every.value
    assert told.value == pytest.approx(said["with_those_told_apart"], abs=1e-4)
    assert one.standard_error == every.standard_error == 0.0
    assert told.standard_error > 0.0
    with pytest.raises(InputError, match=r"last-layer.*estimator\.copies = 'one'"):
        bz.log_evidence(
            model, data, "laplace", structure="last-layer", copies="told-apart", **options
        )


@pytest.mark.validate
def test_with_copies_told_apart_it_is_below_and_nearer_to_smc():
    """Ten units on diabetes: `smc` (about -440, its error under 0.5 nats) lies above Laplace's
    (about -466, -456 and -446) and six nats below that with all copies."""
    data = bz.load_dataset("diabetes")
    model = bz.make_model(network_options={"widths": [10]})
    truth = bz.log_evidence(model, data, "smc", particles=64, repeats=4, seed=SEED)
    joint = bz.log_evidence(model, data, "laplace", noise="joint", modes=8, seed=SEED)
    marginal = bz.log_evidence(model, data, "laplace", modes=8, seed=SEED)
    said = marginal.diagnostics
    print(truth, joint, marginal, said)
    assert truth.standard_error < 0.5
    assert joint.value < marginal.value < said["with_those_told_apart"] < truth.value
    assert said["with_all_arrangements"] > truth.value
