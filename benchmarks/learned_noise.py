"""Evidence with a learned noise: every sampling estimator on one small network.

    python benchmarks/learned_noise.py [--methods smc nested ...] [--scales none standard]

Thirty noisy rows of sin(2 x) and three tanh units, inputs and targets as they are and standardised.
Then a population followed by ``smc`` at each inverse temperature: where the noise is. Writes
``benchmarks/results/learned-noise.json``.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _studies import keep

import bnnzoo as bz
from bnnzoo.inference.backends.smc import SMCOptions, smc
from bnnzoo.models.posterior import Posterior

METHODS = (
    "bridge",
    "nested",
    "ibis",
    "stepping-stone",
    "ais",
    "persistent-smc",
    "smc",
    "thermodynamic",
)
MANY = {"particles": 1024}
"""Options of a second try of estimators by populations."""


def make_data(scale: str) -> bz.Dataset:
    """Noisy rows.

    Args:
        scale: ``none`` or ``standard``.
    """
    random = np.random.default_rng(0)
    x = np.sort(random.uniform(-2, 2, (30, 1)), axis=0)
    y = np.sin(2 * x[:, 0]) + 0.2 * random.normal(size=30)
    return bz.make_dataset(x, y, task="regression", scale=scale, name="sine")


def make_network() -> bz.Model:
    """Three tanh units and a noise of unknown width."""
    return bz.make_model(network_options={"widths": [3], "activation": "tanh"})


def follow(data: bz.Dataset) -> list[dict[str, Any]]:
    """Quantiles of the noise on the way of one population of 1,024 from prior to posterior."""
    posterior = Posterior(make_network(), data)
    sampler = smc(SMCOptions(particles=MANY["particles"]))
    temper = jax.jit(lambda state, key: sampler.temper(posterior, state, jnp.zeros((), bool), key))
    noise = jax.jit(jax.vmap(lambda u: posterior.constrain(u)["noise_std"]))
    state, found = sampler.init(posterior, jnp.zeros(posterior.dimension)), []
    while state.beta < 1.0:
        state, said = temper(state, jax.random.fold_in(jax.random.key(0), int(state.stages)))
        here = np.quantile(np.asarray(noise(state.u)), [0.05, 0.5, 0.95])
        row = {"beta": float(state.beta), "noise": here.tolist(), "rounds": int(said.rounds)}
        found.append(row)
        print(f"  beta {row['beta']:.3f}: noise {np.round(here, 2)}, {row['rounds']} rounds")
    return found


def main() -> None:
    """Run the study and write its numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    scales = ["none", "standard"]
    parser.add_argument("--scales", nargs="+", default=scales, choices=scales)
    given = parser.parse_args()
    found, ways = [], {}
    for scale in given.scales:
        data = make_data(scale)
        runs = [(method, {}) for method in given.methods]
        runs += [(method, MANY) for method in given.methods if "smc" in method]
        for method, options in runs:
            said = bz.log_evidence(make_network(), data, method, **options)
            names = ("value", "standard_error", "gradients", "seconds", "warnings")
            one = {name: getattr(said, name) for name in names}
            found.append({"scale": scale, "method": method, "options": options, **one})
            print(
                f"{scale} {method} {options or ''}: {said}; {'; '.join(said.warnings)}", flush=True
            )
        ways[scale] = follow(data)
    keep("learned-noise", {"rows": found, "way": ways})


if __name__ == "__main__":
    main()
