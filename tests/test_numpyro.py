"""A zoo model is a NumPyro model: stock NUTS, SVI and Predictive run it unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.optim import Adam

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import InputError
from bnnzoo.models import make_model

ROWS = 30
random = np.random.default_rng(0)
X = jnp.asarray(random.normal(size=(ROWS, 2)), jnp.float32)
LINE = jnp.asarray(X @ jnp.array([1.0, -1.0]) + 0.1 * random.normal(size=ROWS), jnp.float32)
LABELS = jnp.asarray(LINE > 0, jnp.int32) + jnp.asarray(LINE > 1, jnp.int32)

REGRESSION = make_dataset(np.asarray(X), np.asarray(LINE), task="regression")
CLASSES = make_dataset(np.asarray(X), np.asarray(LABELS), task="classification")

KERNELS = {"layers.0.kernel": (2, 3), "layers.0.bias": (3,), "layers.1.kernel": (3, 1)}


def model(likelihood="gaussian", data=None, **options):
    made = make_model(
        "mlp", "laplace", likelihood,
        network_options={"widths": [3]}, likelihood_options=options,
    )  # fmt: skip
    return made if data is None else made.bind(data)


CASES = {
    "regression": (model(data=REGRESSION), LINE, {"noise_std": ()}),
    "unbound regression": (model(), LINE, {"noise_std": ()}),
    "classes": (model("categorical", CLASSES), LABELS, {"layers.1.kernel": (3, 3)}),
    "classes by option": (model("categorical", outputs=3), LABELS, {"layers.1.kernel": (3, 3)}),
}


SLOW = pytest.mark.validate  # seconds of compiling each: one of the two in every run


@pytest.mark.validate
@pytest.mark.parametrize("case", ["regression", pytest.param("classes", marks=SLOW)])
def test_nuts_draws_every_site_and_predictive_takes_the_draws(case):
    made, y, extra = CASES[case]
    mcmc = MCMC(NUTS(made, max_tree_depth=4), num_warmup=20, num_samples=15, progress_bar=False)
    mcmc.run(jax.random.key(0), X, y)
    samples = mcmc.get_samples()
    for name, shape in (KERNELS | extra).items():
        assert samples[name].shape == (15, *shape)
        assert jnp.isfinite(samples[name]).all()
        assert len(np.unique(samples[name], axis=0)) > 3, "the chain moved"
    drawn = Predictive(made, samples)(jax.random.key(1), X[:7])["y"]
    assert drawn.shape == (15, 7)
    if case == "classes":
        assert jnp.issubdtype(drawn.dtype, jnp.integer) and set(np.unique(drawn)) <= {0, 1, 2}


@pytest.mark.parametrize("case", CASES)
def test_predictive_draws_from_the_prior(case):
    made, _, extra = CASES[case]
    drawn = Predictive(made, num_samples=5)(jax.random.key(2), X)
    assert {name: v.shape for name, v in drawn.items() if name in KERNELS | extra} == {
        name: (5, *shape) for name, shape in (KERNELS | extra).items()
    }
    assert drawn["y"].shape == (5, ROWS)
    assert jnp.isfinite(drawn["y"]).all()


@SLOW
@pytest.mark.parametrize("case", ["regression", "classes"])
def test_svi_lowers_its_loss(case):
    made, y, _ = CASES[case]
    guide = AutoNormal(made, init_scale=0.05)
    svi = SVI(made, guide, Adam(0.02), Trace_ELBO())
    result = svi.run(jax.random.key(3), 600, X, y, progress_bar=False)
    losses = np.asarray(result.losses)
    first, last = losses[:60], losses[-60:]
    error = np.sqrt((first.var() + last.var()) / 60)
    assert first.mean() - last.mean() > 5 * error
    draws = Predictive(guide, params=result.params, num_samples=6)(jax.random.key(4))
    assert Predictive(made, draws)(jax.random.key(5), X)["y"].shape == (6, ROWS)


def test_several_outputs_without_binding():
    y = jnp.stack([LINE, -LINE], 1)
    drawn = Predictive(model(outputs=2), num_samples=3)(jax.random.key(6), X)
    assert drawn["y"].shape == (3, ROWS, 2) and drawn["noise_std"].shape == (3, 2)
    seen = handlers.trace(handlers.seed(model(), jax.random.key(7))).get_trace(X, y)
    assert seen["layers.1.kernel"]["value"].shape == (3, 2), "outputs are read off the targets"
    assert seen["y"]["is_observed"] and seen["y"]["fn"].batch_shape == (ROWS,)


def test_an_unbound_categorical_model_names_bind():
    for y in (None, LABELS):
        with pytest.raises(InputError, match=r"does not know its classes: call model\.bind"):
            Predictive(model("categorical"), num_samples=2)(jax.random.key(8), X, y)
