"""Where chains start: retried, climbed from, and the site to blame where there is no start."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bnnzoo as bz
from bnnzoo.inference.start import CLIMBERS, climb, climb_best, find_candidates
from bnnzoo.models import Posterior

SMALL = {"chains": 2, "draws": 250, "warmup": 150, "progress": False}


@pytest.fixture(scope="module")
def data():
    return bz.load_dataset("gap", n=20, seed=0)


@pytest.mark.validate
def test_the_best_candidates_climb_and_the_best_end_is_taken(data):
    posterior = Posterior(bz.make_model(network_options={"widths": [3]}), data)
    u, values = find_candidates(posterior, jax.random.key(3))
    assert u.shape == (CLIMBERS, posterior.dimension)
    assert (np.diff(values) <= 0).all(), "best first"
    np.testing.assert_allclose(jax.vmap(posterior.log_density)(u), values, rtol=1e-4)
    before = np.asarray(jax.vmap(posterior.log_likelihood)(u))
    ends = [climb(posterior, start) for start in u]
    after = np.array([float(value) for _, value in ends])
    assert (after >= before).all() and after.max() > before.max() + 5
    best = ends[int(np.argmax(after))][0]
    np.testing.assert_allclose(climb_best(posterior, u), best, rtol=1e-3, atol=1e-4)


def test_a_climb_that_meets_no_finite_density_is_replaced():
    """Half of the line has a NaN likelihood; a climber from there must not be the start."""

    def halved(x, y=None):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(jnp.where(w > 0, w, jnp.nan), 1.0), obs=y)

    data = bz.make_dataset(np.zeros((2, 1)), np.ones(2), task="regression", scale="none")
    posterior = Posterior(halved, data)
    start = climb_best(posterior, jnp.array([[-1.0], [0.5], [-2.0]]))
    assert start[0] > 0 and np.isfinite(posterior.log_density(start))


def test_a_start_of_zero_density_is_an_error(data):
    def impossible(x, y=None):
        numpyro.sample("w", dist.Normal())
        numpyro.factor("never", -jnp.inf)
        numpyro.sample("y", dist.Normal(0.0, 1.0).expand([x.shape[0]]).to_event(0), obs=y)

    with pytest.raises(bz.errors.RunError, match=r"no starting point.*the factor 'never'"):
        bz.fit(impossible, data, "hmc", **SMALL)

    def outside(x, y=None):
        numpyro.sample("w", dist.Normal())
        numpyro.sample("y", dist.HalfNormal(1.0).expand([x.shape[0]]).to_event(0), obs=y)

    rows = int((data.y < 0).sum())
    words = f"observed site 'y' gives {rows} of {data.rows} rows no density under its HalfNormal"
    with pytest.raises(bz.errors.RunError, match=words):
        bz.fit(outside, data, "hmc", **SMALL)


@pytest.mark.validate
def test_a_start_is_looked_for_again():
    """One prior draw in fifty has positive density: of ten sets of ten candidates, some has one."""

    def rare(x, y=None):
        w = numpyro.sample("w", dist.Uniform(0.0, 1.0))
        numpyro.factor("where", jnp.where(w < 0.02, 0.0, -jnp.inf))
        numpyro.sample("y", dist.Normal(w + 0.0 * x[:, 0], 1.0), obs=y)

    data = bz.make_dataset(np.zeros((4, 1)), np.zeros(4), task="regression")
    run = bz.fit(rare, data, "nuts", **{**SMALL, "chains": 4})
    assert (run.tree["posterior"]["w"] < 0.02).all()


def test_what_a_model_has_not_implemented_is_not_taken_for_a_prior_without_draws(data):
    posterior = Posterior(bz.make_model(network_options={"widths": [3]}), data)

    def unfinished(*_, **__):
        raise NotImplementedError("the user's own")

    posterior.model = unfinished
    with pytest.raises(NotImplementedError, match="own"):
        posterior.initial(jax.random.key(0))
