"""How far matched priors of the three variants are from their process, by another distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import bnnzoo as bz
from bnnzoo.models.process import ProcessOptions
from bnnzoo.models.processes.rbf import RBF
from tests.models._tools import SEED, key

DRAWS = 1000
X = np.linspace(-3, 3, 16)[:, None]
DATA = bz.make_dataset(X, np.sin(X[:, 0]), task="regression", scale="none")


def wasserstein(ours, theirs):
    """Of two sets of draws, exactly: the best pairing."""
    cost = cdist(ours, theirs)
    return cost[linear_sum_assignment(cost)].mean()


def functions(model, number):
    bound = model.bind(DATA)

    def one(own):
        with handlers.seed(rng_seed=own):
            return bound.bound.apply(bound.prior.sample(bound.bound.infos), x)[:, 0]

    x = jnp.asarray(X, jnp.float32)
    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key(number), DRAWS)))


@pytest.mark.validate
def test_matched_variants_are_nearer_than_fixed_widths():
    """2 x 20 tanh units to an RBF process of lengthscale 0.6 at 16 points, by wasserstein.

    Distances of 1,000 draws by optimal pairing, which for two sets of the process itself is 2.16.
    A study orders them flow <= hierarchical <= Gaussian < fixed. Seen here (150 steps): 2.40, 2.49,
    2.39 and 3.67, each known to 0.03: the three matched ones are far nearer than the fixed one, the
    flow is no further than the Gaussian, and the hierarchical one is. What is held is the first
    two: a margin of 0.5 below the fixed one, and of 0.1 beside the Gaussian.
    """
    process = RBF(ProcessOptions(length_scale=0.6))
    theirs = np.asarray(process.draw(key(40), jnp.asarray(X, jnp.float32), DRAWS))
    model = bz.make_model(network_options={"widths": [20, 20]})
    found = {"fixed": wasserstein(functions(model, 41), theirs)}
    for variant in ("gpi-g", "gpi-h", "gpi-nf"):
        matched = bz.match_prior(
            model, DATA, "rbf", variant=variant, method="wasserstein", measure="training",
            count=16, steps=80, critic_steps=60, draws=128, seed=SEED,
            process_options={"length_scale": 0.6},
        )  # fmt: skip
        found[variant] = wasserstein(functions(matched.model, 41), theirs)
    print({name: round(float(value), 3) for name, value in found.items()})
    assert max(found["gpi-g"], found["gpi-h"], found["gpi-nf"]) < found["fixed"] - 0.5
    assert found["gpi-nf"] < found["gpi-g"] + 0.1
