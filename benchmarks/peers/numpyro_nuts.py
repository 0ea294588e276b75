"""NumPyro's NUTS: its chains in parallel, a device each, or vectorised on one."""

from __future__ import annotations

import numpyro
import numpyro.distributions as dist
from _worker import Clock, answer, job

asked, rows = job()
if asked["method"] == "parallel":
    numpyro.set_host_device_count(asked["chains"])  # before JAX looks for devices

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from numpyro.infer import MCMC, NUTS  # noqa: E402
from numpyro.infer.util import potential_energy  # noqa: E402

x, y = (jnp.asarray(rows[name], jnp.float32) for name in ("x", "y"))
width = asked["width"]


def model(x, y=None):
    """One hidden layer of tanh units, one learned noise."""
    k0 = numpyro.sample("k0", dist.Normal(0, x.shape[1] ** -0.5).expand([x.shape[1], width]))
    b0 = numpyro.sample("b0", dist.Normal(0, 1).expand([width]))
    k1 = numpyro.sample("k1", dist.Normal(0, width**-0.5).expand([width, 1]))
    b1 = numpyro.sample("b1", dist.Normal(0, 1).expand([1]))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    f = (jnp.tanh(x @ k0 + b0) @ k1 + b1)[:, 0]
    numpyro.sample("y", dist.Normal(f, noise), obs=y)


def sampler():
    """Defaults, but for what is asked."""
    return MCMC(
        NUTS(model, target_accept_prob=asked["acceptance"]),
        num_warmup=asked["warmup"],
        num_samples=asked["draws"],
        num_chains=asked["chains"],
        chain_method=asked["method"],
        progress_bar=False,
    )


key = jax.random.key(asked["seed"])
with Clock().watch_jax() as clock:
    mcmc = sampler()
    mcmc.run(key, x, y, extra_fields=("num_steps", "diverging"))
    samples = jax.device_get(mcmc.get_samples(group_by_chain=True))
fields = jax.device_get(mcmc.get_extra_fields(group_by_chain=True))

gradients = None
if asked["seed"] == 0:
    # `run` does not keep those of a warm-up: the same one once more, off the clock.
    again = sampler()
    again.warmup(key, x, y, extra_fields=("num_steps",), collect_warmup=True)
    gradients = int(fields["num_steps"].sum() + again.get_extra_fields()["num_steps"].sum())

names = ("k0", "b0", "k1", "b1", "noise")
density = []
for point in rows["points"]:
    sizes = [samples[name][0, 0].size for name in names]
    parts = jnp.split(jnp.asarray(point, jnp.float32), list(jnp.cumsum(jnp.array(sizes))[:-1]))
    u = {n: p.reshape(samples[n][0, 0].shape) for n, p in zip(names, parts, strict=True)}
    density.append(-float(potential_energy(model, (x, y), {}, u)))

found = clock.figures | {
    "gradients": gradients,
    "divergences": int(fields["diverging"].sum()),
    "density": density,
}
answer(found, ("numpyro", "jax"), **{name: samples[name] for name in names})
