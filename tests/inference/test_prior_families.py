"""Every prior in a run: fitted, kept, read again, predicted with."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo import registry

# Those that need a convolution, or a match to one network, have runs in files of their own.
PRIORS = [p for p in registry.list_names("priors") if "needs" not in bz.describe("priors", p).tags]


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(15, 4))
    y = x[:, 0] - 0.5 * x[:, 2] + 0.1 * rng.normal(size=15)
    return bz.make_dataset(x[:12], y[:12], x[12:], y[12:], task="regression")


@pytest.mark.validate  # their programs take seconds to compile
@pytest.mark.parametrize("prior", PRIORS)
def test_a_run_with_each_prior(prior, tmp_path):
    card = bz.describe("priors", prior)
    assert card.references and card.notes and card.tags["family"]
    model = bz.make_model(prior=prior, network_options={"widths": [3]})
    settings = {"chains": 2, "draws": 30, "warmup": 30, "progress": False, "seed": 1}
    run = bz.fit(model, data(), "hmc", posterior_temperature=0.3, out=tmp_path / "run", **settings)
    group = run.tree["posterior"]
    infos = {info.path: info for info in run.posterior.network.infos}
    assert set(infos) <= set(group.data_vars), "every parameter, whole, under its path"
    for path, info in infos.items():
        drawn = group[path].to_numpy()
        assert drawn.shape == (2, 30, *info.shape) and np.isfinite(drawn).all()
        assert drawn.reshape(60, -1).std(0).min() > 0, "it moves"
    # Read again: predictions need none but the latent sites, and are those of the parameters kept.
    again = bz.load_run(tmp_path / "run")
    found = again.predict(data().x_test, raw=True)
    np.testing.assert_allclose(found, run.predict(data().x_test, raw=True), rtol=1e-5)
    one = {path: jnp.asarray(group[path].to_numpy()[1, 7]) for path in infos}
    scaling = run.posterior.scaling
    f = run.posterior.network.apply(one, jnp.asarray(scaling.transform_x(data().x_test)))
    f = np.asarray(f) * scaling.y_std + scaling.y_mean
    np.testing.assert_allclose(np.asarray(found)[1, 7], f, rtol=1e-3, atol=1e-4)
