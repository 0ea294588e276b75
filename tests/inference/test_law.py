"""One suite for the stationary law: every exact backend, three kinds of target, T = 1, 0.3, 0.1.

The targets are a correlated Gaussian (20 dimensions, condition number 100), a skewed one, and a
two-level hierarchy with a constrained scale; `gibbs-hmc`, which needs a scale to draw, has the
normal-inverse-gamma model in place of the first two. With at least 10,000 effective draws of x and
of its square, the mean squared Mahalanobis distance from the exact mean is compared with the
dimension, and every first and second moment of whitened coordinates with its exact value.

Budget of false alarms: under 1e-3 for the suite. Moments are compared with ``BOUND`` = 5.4 standard
errors, two-sided 7e-8 each; there are fewer than 5,000, so 3.5e-4 in all. A distance off by 2 % is
a failure, and its standard error is under 0.4 % (asserted), so that chance has p < 6e-7: under 100
comparisons, 6e-5 in all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import arviz_stats
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import bnnzoo as bz
from bnnzoo import registry

sys.path.insert(0, str(Path(__file__).parent))
import _closed_forms as forms
from _estimates import effective_draws
from _scores import grid_moments, worst_score

BOUND = 5.4
BAR, BAR_ERROR = 0.02, 0.004
ENOUGH = 10_000
TEMPERATURES = (1.0, 0.3, 0.1)
AXES = {"chain_axis": 0, "draw_axis": 1}
_stats = arviz_stats.base.array_stats


class Target(NamedTuple):
    """A model with data, and what is known of it.

    Attributes:
        model: a NumPyro model.
        data: a function, so that nothing is made before it is needed.
        exact: mean and covariance at a temperature.
        extract: ``(chain, draw, coordinate)`` from a tree's ``posterior`` group.
    """

    model: Callable[..., Any]
    data: Callable[[], Any]
    exact: Callable[[Any, float], tuple[np.ndarray, np.ndarray]]
    extract: Callable[[Any], np.ndarray]


# -- a correlated Gaussian ---------------------------------------------------------------------

DIMENSION, ROWS, NOISE = 20, 40, 0.5


def correlated_data():
    """Inputs that give the posterior's covariance the eigenvalues 1/100 to 1 at T = 1."""
    rng = np.random.default_rng(7)
    left = np.linalg.qr(rng.normal(size=(ROWS, DIMENSION)))[0]
    right = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))[0]
    precisions = np.geomspace(1.0 + 1e-9, 100.0, DIMENSION)
    x = left @ np.diag(NOISE * np.sqrt(precisions - 1.0)) @ right.T
    y = x @ rng.normal(size=DIMENSION) + NOISE * rng.normal(size=ROWS)
    return bz.make_dataset(x, y, task="regression", scale="none")


def correlated(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([DIMENSION]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


def correlated_moments(data, T):
    precision = (data.x.T @ data.x / NOISE**2 + np.eye(DIMENSION)) / T
    covariance = np.linalg.inv(precision)
    assert np.linalg.cond(covariance) == pytest.approx(100.0, rel=1e-6)
    return covariance @ (data.x.T @ data.y) / NOISE**2 / T, covariance


# -- a skewed target ---------------------------------------------------------------------------

WAITS = np.array([0.02, 0.3, 1.0, 4.0, 30.0])
SPREAD = 2.0


def skewed_data():
    return bz.make_dataset(np.arange(5.0)[:, None], WAITS, task="regression", scale="none")


def skewed(x, y=None):
    """One exponential waiting time for each log rate: a log-gamma tail on one side."""
    w = numpyro.sample("w", dist.Normal(0.0, SPREAD).expand([5]).to_event(1))
    numpyro.sample("y", dist.Exponential(jnp.exp(w)), obs=y)


def skewed_moments(data, T):
    grid = np.linspace(-25.0, 25.0, 200_001)
    moments = []
    for wait in data.y:
        log_p = (grid - wait * np.exp(grid) - 0.5 * (grid / SPREAD) ** 2) / T
        weight = np.exp(log_p - log_p.max())
        weight /= weight.sum()
        mean = (weight * grid).sum()
        moments.append((mean, (weight * (grid - mean) ** 2).sum()))
    means, variances = np.array(moments).T
    return means, np.diag(variances)


# -- a hierarchy -------------------------------------------------------------------------------

GROUPS_Y = np.array([3.1, -2.2, 1.4, 5.0, -4.1, 0.3, 2.7, -1.6])
SIGMA, MU_STD, SHAPE, RATE = 0.8, 5.0, 3.0, 6.0


def hierarchy_data():
    return bz.make_dataset(np.arange(8.0)[:, None], GROUPS_Y, task="regression", scale="none")


def hierarchy(x, y=None):
    v = numpyro.sample("v", dist.InverseGamma(SHAPE, RATE))
    mu = numpyro.sample("mu", dist.Normal(0.0, MU_STD))
    with numpyro.plate("group", x.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, jnp.sqrt(v)))
        numpyro.sample("y", dist.Normal(theta, SIGMA), obs=y)


def hierarchy_moments(data, T):
    """Of (mu, log v): tempered, theta is N(mu, T v) and integrates out."""

    def log_density(mu, log_v):
        v = np.exp(log_v)
        log_p = -0.5 * mu**2 / (T * MU_STD**2)
        log_p += stats.invgamma.logpdf(v, SHAPE, scale=RATE) / T + log_v
        total = T * (v + SIGMA**2)
        for y in data.y:
            log_p += -0.5 * (y - mu) ** 2 / total - 0.5 * np.log(total)
        return log_p

    return grid_moments(log_density, np.linspace(-12, 12, 1201), np.linspace(-4, 9, 1301))


def weights(posterior):
    return posterior["w"].to_numpy()


def mean_and_scale(posterior):
    return np.stack([posterior["mu"].to_numpy(), np.log(posterior["v"].to_numpy())], axis=-1)


def weights_and_scale(posterior):
    log_v = np.log(posterior["v"].to_numpy())[..., None]
    return np.concatenate([posterior["w"].to_numpy(), log_v], axis=-1)


TARGETS = {
    "correlated": Target(correlated, correlated_data, correlated_moments, weights),
    "skewed": Target(skewed, skewed_data, skewed_moments, weights),
    "hierarchy": Target(hierarchy, hierarchy_data, hierarchy_moments, mean_and_scale),
    "one scale": Target(
        forms.unknown_noise,
        forms.regression_data,
        lambda data, T: forms.unknown_noise_moments(data, T, 1.0),
        weights_and_scale,
    ),
}


# -- samplers ----------------------------------------------------------------------------------

DRAWS = {"correlated": 15_000, "skewed": 30_000, "hierarchy": 70_000, "one scale": 20_000}
CHEES = "hmc with ChEES"
OPTIONS = {
    CHEES: {"trajectory": "chees"},
    "elliptical-slice": {"sweeps": 200},
    "gg-mc": {"learning_rate": 0.3, "thin": 20},
}
SHARE = {"smc": 0.4}
"""Of those draws: each of `smc` is five trajectories of a particle."""
NAMES = [*registry.list_names("backends", exact=True), CHEES]


def applies(name, target):
    """What a backend can treat: Gaussian priors, or a scale to draw."""
    if name == "elliptical-slice":
        return target in ("correlated", "skewed")
    if name == "gibbs-hmc":
        return target in ("hierarchy", "one scale")
    return target != "one scale"


def draws_of(name, target, T, **sizes):
    backend = "hmc" if name == CHEES else name
    settings = {
        "chains": 4,
        "draws": int(DRAWS[target] * SHARE.get(name, 1)),
        "warmup": 1000,
        **sizes,
    }
    run = bz.fit(
        TARGETS[target].model,
        TARGETS[target].data(),
        backend,
        seed=1,
        posterior_temperature=T,
        dtype="float64",
        progress=False,
        **settings,
        **OPTIONS.get(name, {}),
    )
    return TARGETS[target].extract(run.tree["posterior"])


def squared_distance(draws, mean, covariance):
    """Mean over draws of (x - m)' C^-1 (x - m) / d, exactly 1, and its standard error."""
    z = (draws - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    distances = (z**2).mean(-1, keepdims=True)
    return distances.mean(), float(_stats.mcse(distances, method="mean", **AXES)[0])


def compare(draws, exact, said):
    effective = effective_draws(draws)
    distance, error = squared_distance(draws, *exact)
    score = worst_score(draws, *exact)
    said += (
        f": {effective:.0f} effective draws, distance {distance:.4f} +- {error:.4f}, "
        f"worst score {score:.2f}"
    )
    print(said)
    assert effective >= ENOUGH and error < BAR_ERROR, said
    assert abs(distance - 1.0) < BAR and score < BOUND, said


@pytest.mark.validate
@pytest.mark.parametrize(
    ("name", "target"), [(n, t) for n in NAMES for t in TARGETS if applies(n, t)]
)
def test_the_law_at_every_temperature(name, target):
    data = TARGETS[target].data()
    for T in TEMPERATURES:
        compare(
            draws_of(name, target, T), TARGETS[target].exact(data, T), f"{name}, {target}, T={T}"
        )


def test_the_law_holds_and_a_temperature_that_is_ignored_is_caught():
    """The draws of T = 0.3; planted: those compared with T = 0.1, as if it had been ignored."""
    draws = draws_of("hmc", "correlated", 0.3)
    compare(draws, correlated_moments(correlated_data(), 0.3), "hmc, correlated, T=0.3")
    exact = correlated_moments(correlated_data(), 0.1)
    assert abs(squared_distance(draws, *exact)[0] - 1.0) > 100 * BAR
    with pytest.raises(AssertionError):
        compare(draws, exact, "planted")


@pytest.mark.validate
def test_the_backends_named_are_those_that_can():
    posteriors = {name: bz.Posterior(t.model, t.data()) for name, t in TARGETS.items()}
    for name in registry.list_names("backends", exact=True):
        backend = registry.get("backends", name).build({})
        for target, posterior in posteriors.items():
            if applies(name, target):
                backend.check(posterior)
