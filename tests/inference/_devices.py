"""Run by test_devices.py in a process whose CPU counts as four devices; the checks print nothing.

`python _devices.py CHECK [ARGUMENT]`: one of the functions below.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.tree_util import register_dataclass

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.errors import BnnzooError
from bnnzoo.inference import loop
from bnnzoo.inference.backend import Backend, Stage, Step
from bnnzoo.inference.devices import Devices, spell_out
from bnnzoo.inference.loop import run_chains
from bnnzoo.inference.precision import precision
from bnnzoo.specs import InferenceSpec

ROWS = 21
"""Odd: two shards need a row of padding, and four need three."""

ROUNDING = {"pathfinder": 1e-5}
"""How far a backend may be off. Another order of its rows, on one device, moves draws of pathfinder
by 2e-6: an L-BFGS path ends where progress drowns in rounding."""

SIZES = {"smc": {"particles": 16}, "svgd": {"particles": 8}}


@register_dataclass
@dataclass(frozen=True)
class Langevin(Backend):
    """A chain whose program compiles in no time, with as many loops as the key says."""

    splits_rows = True
    stats = ("lp",)

    def schedule(self, warmup):
        return np.full(warmup, Stage.FAST, np.int32)

    def init(self, posterior, u):
        return u

    def step(self, posterior, state, stage, key):
        def move(_, u):
            return u + 1e-4 * jax.grad(posterior.log_density)(u)

        u = jax.lax.fori_loop(0, jax.random.randint(key, (), 1, 5), move, state)
        u = u + 1e-3 * jax.random.normal(key, u.shape, u.dtype)
        return u, Step(u, {"lp": posterior.log_density(u)})

    def gradients(self, stats):
        return 0


def posterior_of(rows=ROWS, model=None, seed=0):
    data = bz.load_dataset("gap", n=rows, seed=seed)
    return bz.Posterior(model or bz.make_model(network_options={"widths": [4]}), data)


def draws_of(chains):
    return chains.u.all()


def quick():
    """Everything about layout and sums, with programs that compile in no time."""

    def line(x, y=None):
        w = numpyro.sample("w", dist.Normal(0, 1).expand((3,)).to_event(1))
        numpyro.sample("y", dist.Normal(w[0] + w[1] * x[:, 0], jnp.exp(w[2])), obs=y)

    with precision("float64"):
        posterior = posterior_of(model=line)
        u = 0.3 * jax.random.normal(jax.random.key(0), (posterior.dimension,))
        batch = jnp.asarray([0, 20, 7, 20])

        @jax.jit
        def everything(posterior, u):
            value, slope = jax.value_and_grad(posterior.log_density)(u)
            terms = posterior.pointwise_log_likelihood
            few = posterior.log_density(u, batch), terms(u, batch)
            return value, slope, posterior.log_likelihood(u), terms(u), few

        plain = everything(posterior, u)
        assert plain[3].shape == (ROWS,)
        for shards in (2, 4):
            placed = Devices(4, shards).place(posterior)
            padding = -ROWS % shards
            for array in (placed.x, placed.y):
                held = [len(part.data) for part in array.addressable_shards]
                assert held == [(ROWS + padding) // shards] * 4
            assert placed.padding == padding and placed.rows == ROWS
        ours = everything(placed, u)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-10), plain, ours)
        loop.find_start = lambda posterior, key, who: jnp.ones(posterior.dimension)
        sizes = {"chains": 3, "draws": 15, "warmup": 5, "seed": 1, "dtype": "float64"}
        alone = run_chains(Langevin(), posterior, **sizes)
        # Three chains on two devices: the third shares its device with a copy of itself.
        laid = Devices(4, 2)
        spread = run_chains(Langevin(), laid.place(posterior), devices=laid, **sizes)
        np.testing.assert_allclose(draws_of(spread), draws_of(alone), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(spread.stats["lp"], alone.stats["lp"], rtol=1e-9)
        assert not np.array_equal(*draws_of(spread)[:2])


def says(expected, function, *arguments):
    try:
        function(*arguments)
    except BnnzooError as error:
        text = str(error)
        assert all(words in text for words in expected), (expected, text)
        assert "\n" not in text
    else:
        raise AssertionError(f"nothing was said where {expected} was due")


def bad_input():
    """Layouts that are none, backends and models that cannot have their rows split."""

    def lay(**given):
        return spell_out(InferenceSpec(**given))

    says(["devices = 5", "there are 4", "device_count=5"], lambda: lay(devices=5, chains=5))
    says(["data_shards = 3", "4 devices", "data_shards = 2"], lambda: lay(devices=4, data_shards=3))
    says(["chains = 2", "4 devices", "devices = 2"], lambda: lay(devices=4, chains=2))
    says(
        ["chains = 1", "2 devices", "devices = 2"], lambda: lay(devices=4, data_shards=2, chains=1)
    )
    assert lay(data_shards=2).devices == 2 and lay(devices=1).devices is None

    tall = Devices(4, 4)
    hmc = registry.get("backends", "hmc").build({})
    laid = Devices(4, 4)
    laid.data_shards = 8  # as on eight devices
    says(["data_shards = 8", "5 training rows"], laid.check, posterior_of(5), "hmc", hmc)
    for name in registry.list_names("backends"):
        backend = registry.get("backends", name).build({})
        if not backend.splits_rows:
            says([repr(name), "nearest that can: "], tall.check, posterior_of(), name, backend)

    def centred(x, y=None):  # a row's mean depends on the others
        w = numpyro.sample("w", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(w * (x[:, 0] - x[:, 0].mean()), 1.0), obs=y)

    offset = np.linspace(0.0, 1.0, ROWS)

    def fixed(x, y=None):  # and this one has as many rows as its offset
        w = numpyro.sample("w", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(w * x[:, 0] + offset, 1.0), obs=y)

    for model in (centred, fixed):
        says(
            ["21 rows do not divide", "data_shards = 3"],
            tall.check, posterior_of(model=model), "hmc", hmc,
        )  # fmt: skip
    # Rows that divide need no padding, and the means of a sharded array are those of the whole.
    even = posterior_of(20, centred)
    tall.check(even, "hmc", hmc)
    u = jnp.asarray([0.7])
    placed = tall.place(even)
    np.testing.assert_allclose(placed.log_density(u), even.log_density(u), rtol=1e-5)


def backend(name):
    """A backend's chains on 2 x 2 devices, with padding, are those of one device."""
    name, _, options = name.partition(":")
    given = {**SIZES.get(name, {}), **json.loads(options or "{}")}
    made = registry.get("backends", name).build(given)
    warmup = 0 if name == "map" else 10
    made = made.planned(warmup)
    assert made.splits_rows
    prior = "hierarchical-gaussian" if name == "gibbs-hmc" else "gaussian"
    with precision("float64"):
        model = bz.make_model(prior=prior, network_options={"widths": [4]})
        posterior, laid = posterior_of(model=model), Devices(4, 2)
        made.check(posterior)
        sizes = {"chains": 2, "draws": 5, "warmup": warmup, "seed": 1, "dtype": "float64"}
        alone = run_chains(made, posterior, **sizes)
        spread = run_chains(made, laid.place(posterior), devices=laid, **sizes)
    off = ROUNDING.get(name, 1e-8)
    np.testing.assert_allclose(draws_of(spread), draws_of(alone), rtol=off, atol=off)
    for stat, values in alone.stats.items():
        loose = 10 * off
        np.testing.assert_allclose(spread.stats[stat], values, rtol=loose, atol=loose, err_msg=stat)


def memory():
    """A device's share of what a gradient takes is halved with the rows."""
    model = bz.make_model(network_options={"widths": [64, 64]})
    posterior = posterior_of(20_000, model)
    u = jnp.zeros(posterior.dimension)
    taken = []
    for shards in (1, 2, 4):
        placed = Devices(shards, shards).place(posterior)
        program = jax.jit(lambda p, u: jax.grad(p.log_density)(u)).lower(placed, u).compile()
        found = program.memory_analysis()
        taken.append((found.temp_size_in_bytes, found.argument_size_in_bytes))
        np.testing.assert_allclose(
            program(placed, u), jax.grad(posterior.log_density)(u), rtol=1e-3, atol=1e-2
        )
    print(json.dumps(taken))


def fits(folder):
    """Whole runs: the tree, the record, and a run that goes on with other devices."""
    model = bz.make_model(network_options={"widths": [4]})
    data = bz.load_dataset("gap", n=ROWS, seed=0)
    common = {
        "chains": 2, "draws": 8, "warmup": 5, "seed": 3, "dtype": "float64", "progress": False
    }  # fmt: skip
    alone = bz.fit(model, data, "hmc", **common)
    spread = bz.fit(model, data, "hmc", devices=4, data_shards=2, out=f"{folder}/a", **common)
    same(alone, spread)
    layout = spread.manifest["layout"]
    assert (layout["chain"], layout["data"], layout["padding"]) == (2, 2, 1)
    assert spread.spec.inference.data_shards == 2 and spread.spec.inference.devices == 4
    assert "layout" not in alone.manifest and "devices" not in alone.spec.to_toml()
    again = bz.fit(model, data, "hmc", devices=4, data_shards=2, out=f"{folder}/a", **common)
    assert again.origin == "reused"
    # More draws on two devices, and then on one: the chain is the same.
    longer = bz.resume(f"{folder}/a", draws=12, devices=2, data_shards=1, progress=False)
    assert longer.manifest["layout"]["chain"] == 2 and longer.manifest["layout"]["data"] == 1
    longer = bz.resume(f"{folder}/a", draws=16, devices=1, data_shards=1, progress=False)
    whole = bz.fit(model, data, "hmc", **{**common, "draws": 16})
    same(whole, longer)
    prediction, other = (run.predict(data.x_test[:3]) for run in (whole, longer))
    np.testing.assert_allclose(prediction.mean, other.mean, rtol=1e-6)


def same(a, b):
    for group in ("posterior", "sample_stats", "log_likelihood", "function_draws"):
        for name in a.tree[group].data_vars:
            x, y = (run.tree[group][name].to_numpy().astype(float) for run in (a, b))
            np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6, err_msg=f"{group}/{name}")


if __name__ == "__main__":
    assert jax.device_count() == 4, jax.devices()
    {f.__name__: f for f in (quick, bad_input, backend, memory, fits)}[sys.argv[1]](*sys.argv[2:])
