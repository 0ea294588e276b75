"""BlackJAX's NUTS by hand: window adaptation, then a scan; the log density in plain JAX.

``vmap`` runs the chains in one program, as BlackJAX's first example of several chains does;
``pmap`` gives each a device.
"""

from __future__ import annotations

import os

from _worker import Clock, answer, job

asked, rows = job()
if asked["method"] == "pmap":  # before JAX looks for devices
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={asked['chains']}"

import blackjax  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.scipy.stats import norm  # noqa: E402

x, y = (jnp.asarray(rows[name], jnp.float32) for name in ("x", "y"))
inputs, width = x.shape[1], asked["width"]


def log_density(w):
    """Log posterior density of the weights and of the logarithm of the noise."""
    noise = jnp.exp(w["log_noise"])
    f = (jnp.tanh(x @ w["k0"] + w["b0"]) @ w["k1"] + w["b1"])[:, 0]
    prior = (
        norm.logpdf(w["k0"], 0, inputs**-0.5).sum()
        + norm.logpdf(w["b0"]).sum()
        + norm.logpdf(w["k1"], 0, width**-0.5).sum()
        + norm.logpdf(w["b1"]).sum()
        + jnp.log(2.0)  # half-normal
        + norm.logpdf(noise)
        + w["log_noise"]  # Jacobian
    )
    return norm.logpdf(y, f, noise).sum() + prior


def start(key):
    """A draw from the prior."""
    keys = jax.random.split(key, 5)
    return {
        "k0": jax.random.normal(keys[0], (inputs, width)) * inputs**-0.5,
        "b0": jax.random.normal(keys[1], (width,)),
        "k1": jax.random.normal(keys[2], (width, 1)) * width**-0.5,
        "b1": jax.random.normal(keys[3], (1,)),
        "log_noise": jnp.log(jnp.abs(jax.random.normal(keys[4]))),
    }


def chain(key):
    """Warm-up and draws of one chain, with its gradients and divergences."""
    first, second, third = jax.random.split(key, 3)
    warmup = blackjax.window_adaptation(
        blackjax.nuts, log_density, target_acceptance_rate=asked["acceptance"]
    )
    (state, tuned), adapted = warmup.run(second, start(first), num_steps=asked["warmup"])
    kernel = blackjax.nuts(log_density, **tuned).step

    def step(state, key):
        state, info = kernel(key, state)
        return state, (state.position, info.num_integration_steps, info.is_divergent)

    keys = jax.random.split(third, asked["draws"])
    _, (draws, steps, diverging) = jax.lax.scan(step, state, keys)
    spent = steps.sum() + adapted.info.num_integration_steps.sum()
    return draws, spent, diverging.sum()


with Clock().watch_jax() as clock:
    keys = jax.random.split(jax.random.key(asked["seed"]), asked["chains"])
    over = jax.pmap(chain) if asked["method"] == "pmap" else jax.jit(jax.vmap(chain))
    draws, spent, diverging = jax.device_get(over(keys))

names = ("k0", "b0", "k1", "b1", "log_noise")
density = []
for point in rows["points"]:
    w, at = {}, 0
    for name in names:
        shape = draws[name].shape[2:]
        size = draws[name][0, 0].size
        w[name] = jnp.asarray(point[at : at + size], jnp.float32).reshape(shape)
        at += size
    density.append(float(log_density(w)))

found = clock.figures | {
    "gradients": int(spent.sum()),
    "divergences": int(diverging.sum()),
    "density": density,
}
kept = {name: draws[name] for name in names[:-1]} | {"noise": jnp.exp(draws["log_noise"])}
answer(found, ("blackjax", "jax"), **kept)
