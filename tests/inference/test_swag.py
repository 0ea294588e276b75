"""SWAG against the stationary covariance of SGD at a constant rate, in closed form.

Rows y_i ~ N(B w, diag(s^2)), w ~ N(0, p^2 I): every row has the same Hessian, so the loss a row is
a quadratic with Hessian H = B' S^-1 B + I / (N p^2) and the gradient's noise does not depend on w.
A batch of n of N rows without replacement gives it covariance
C = B' S^-1 Cov(y) S^-1 B (1 - n / N) / n. With momentum m and rate r, (w, v) moves by
v' = m v + H w + noise, w' = w - r v': a linear recursion, whose covariance solves
Z = F Z F' + G C G' (Lyapunov), F = [[I - r H, -r m I], [H, m I]], G = [-r I, I].
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.linalg import solve_discrete_lyapunov

import bnnzoo as bz

sys.path.insert(0, str(Path(__file__).parent))
from _estimates import SEEDS, pooled_errors

ROWS, BATCH, PRIOR = 40, 8, 2.0
NOISE = np.array([0.5, 1.0, 0.8])
MIX = np.array([[1.0, 0.4, 0.0], [0.3, 1.0, -0.5], [0.0, 0.2, 0.7]])
RATE, MOMENTUM = 0.05, 0.5


def mixed(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, PRIOR).expand([3]).to_event(1))
    mean = jnp.broadcast_to(MIX @ w, (len(x), 3))
    numpyro.sample("y", dist.Normal(mean, NOISE).to_event(1), obs=y)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    y = rng.normal(size=(ROWS, 3)) @ (np.diag(NOISE) + 0.2) + [1.0, -1.0, 0.5]
    return bz.make_dataset(np.arange(ROWS)[:, None] / ROWS, y, task="regression")


def closed_form(data, L=1.0):
    """Mode, Hessian of the loss a row, and covariance of SGD's iterates."""
    weight = MIX.T / NOISE**2 / L
    hessian = weight @ MIX + np.eye(3) / (ROWS * PRIOR**2)
    mode = np.linalg.solve(hessian, weight @ data.y.mean(0))
    noise = weight @ np.cov(data.y.T) @ weight.T * (1 - BATCH / ROWS) / BATCH
    eye = np.eye(3)
    forward = np.block([[eye - RATE * hessian, -RATE * MOMENTUM * eye], [hessian, MOMENTUM * eye]])
    gain = np.vstack([-RATE * eye, eye])
    both = solve_discrete_lyapunov(forward, gain @ noise @ gain.T)
    return mode, hessian, both[:3, :3]


def fit(data, model=mixed, **changes):
    settings = {
        "chains": 2, "draws": 20_000, "warmup": 100_000, "seed": 0, "progress": False, "every": 10,
        "rank": 2000, "batch_size": BATCH, "sgd_rate": RATE, "momentum": MOMENTUM,
    }  # fmt: skip
    return bz.fit(model, data, "swag", **settings | changes)


@pytest.mark.parametrize(
    ("T", "L"),
    [
        pytest.param(0.1, 2.0, marks=pytest.mark.validate),
        pytest.param(1.0, 1.0, marks=pytest.mark.validate),
        pytest.param(0.3, 1.0, marks=pytest.mark.validate),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_draws_have_the_covariance_of_the_iterates(data, seed, T, L):
    """T (diag Z + Z) / 2: half diagonal, half of the iterates' own directions (eq. of alg. 1).

    2 x 4,000 iterates ten steps apart, 2,000 of each chain in the low-rank half. The slowest mode
    of the recursion forgets in about 30 steps, so a chain's have some 1,000 independent ones, and
    each entry of either half is known to sqrt(2 / 2,000) = 3 %; the bar of 15 % is five such.
    """
    mode, _, iterates = closed_form(data, L)
    run = fit(data, seed=seed, posterior_temperature=T, likelihood_temperature=L)
    w = run.tree["posterior"]["w"].to_numpy()
    exact = T * 0.5 * (np.diag(np.diag(iterates)) + iterates)
    mean_error, covariance_error = pooled_errors(w, mode, exact)
    print(f"T={T}, L={L}: mean {mean_error:.3f}, covariance {covariance_error:.3f}")
    # The mean is the iterates', in units of the draws: narrower by T, so further in those units.
    assert mean_error < 0.15 / np.sqrt(T) and covariance_error < 0.15
    whole = pooled_errors(w, mode, T * iterates)[1]
    assert whole > 0.15, "the published form is not the iterates' own covariance"


@pytest.mark.validate
def test_the_default_rate_is_a_share_of_what_is_stable(data):
    _, hessian, _ = closed_form(data)
    run = fit(data, sgd_rate=None, rank=20, warmup=2000, draws=10, momentum=0.9)
    rate = run.tree["sample_stats"]["sgd_rate"].to_numpy()
    np.testing.assert_allclose(rate, 0.2 * 0.1 / np.linalg.eigvalsh(hessian)[-1], rtol=1e-3)


@pytest.mark.validate
def test_a_network_with_learned_noise_and_the_defaults():
    data = bz.load_dataset("diabetes")
    model = bz.make_model(network_options={"widths": [10]})
    run = bz.fit(model, data, "swag", chains=2, draws=100, warmup=1000, progress=False)
    assert np.isfinite(run.metrics()["nll"]) and run.metrics()["rmse"] < 65
    assert {f["kind"] for f in run.manifest["flags"]} <= {"virial"}
    assert np.all(run.tree["sample_stats"]["collected"] == 40)


def cliff(x, y=None):
    """No density beyond w = 3, where the likelihood pulls."""
    w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    f = jnp.where(w < 3.0, w, jnp.nan)
    numpyro.sample("y", dist.Normal(jnp.full(len(x), f), 0.1), obs=y)


@pytest.mark.validate
def test_a_loss_that_is_not_finite_is_stepped_back_from():
    data = bz.make_dataset(
        np.arange(20.0)[:, None], np.arange(20.0), task="regression", scale="none"
    )
    run = fit(data, cliff, rank=20, warmup=1000, draws=10, learning_rate=1.0)
    assert np.isfinite(run.tree["posterior"]["w"]).all()
    messages = [f["message"] for f in run.manifest["flags"]]
    assert any("lower sgd_rate or learning_rate" in m for m in messages)


@pytest.mark.validate
def test_fewer_iterates_than_the_rank_are_flagged(data):
    run = fit(data, rank=50, warmup=1000, draws=10)
    flags = [f for f in run.manifest["flags"] if f["kind"] == "unconverged"]
    assert len(flags) == 2 and "40 iterates were collected" in flags[0]["message"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 41}, "batch_size = 41, but there are 40 training rows"),
        ({"batch_size": 40}, "a batch of all 40 training rows has no gradient noise"),
        ({"warmup": 20}, "warmup = 20 collects 0 iterates"),
        ({"rank": 1}, "rank = 1"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(data, tmp_path, options, said):
    with pytest.raises(bz.errors.InputError, match=said):
        fit(data, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
