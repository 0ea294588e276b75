"""My own flax module, my own NumPyro model.

Any flax.nnx module is a network: this one sees x through sines and cosines of the period that we
know, and adds a straight line past them. Any NumPyro function (x, y=None) is a model: the one
below has a trend, a sine and a cosine, and no network at all. Both are fitted by the same call, and
both go on past the last point. The truth (dotted) is no pure sine: the module can bend to it, while
the NumPyro model cannot, and takes what it misses for noise.
"""

from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from flax import nnx

import bnnzoo as bz
from bnnzoo import metrics


class Seasonal(nnx.Module):
    """A straight line, plus a small network of the season."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.line = nnx.Linear(1, out_shape[0], rngs=rngs)
        self.hidden = nnx.Linear(2, 20, rngs=rngs)
        self.last = nnx.Linear(20, out_shape[0], rngs=rngs)

    def __call__(self, x):
        angle = 2 * jnp.pi * x  # x counts years
        season = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], 1)
        return self.line(x) + self.last(jnp.tanh(self.hidden(season)))


def wave(x, y=None):
    """A trend and one sine, with learned noise."""
    level, trend = (numpyro.sample(name, dist.Normal(0, 2)) for name in ("level", "trend"))
    sine, cosine = (numpyro.sample(name, dist.Normal(0, 2)) for name in ("sine", "cosine"))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    angle = 2 * jnp.pi * x[:, 0]
    mean = level + trend * x[:, 0] + sine * jnp.sin(angle) + cosine * jnp.cos(angle)
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Normal(mean, noise), obs=y)


def truth(x):
    """A trend and a season whose rise is steeper than its fall."""
    return 0.5 * x + np.sin(2 * np.pi * x + 0.6 * np.sin(2 * np.pi * x))


rng = np.random.default_rng(0)
x, x_new = np.sort(rng.uniform(0, 3, 80)), np.linspace(0, 5, 120)
data = bz.make_dataset(x, truth(x) + rng.normal(0, 0.2, 80), scale="none")
models = {"flax module": bz.make_model(Seasonal), "NumPyro model": wave}
runs = {
    name: bz.fit(model, data, "hmc", chains=2, draws=500, warmup=500)
    for name, model in models.items()
}

plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
figure, axes = plt.subplots(2, sharex=True, sharey=True, figsize=(5.4, 4.6))
errors = {}
for axis, (name, run) in zip(axes, runs.items(), strict=True):
    prediction = run.predict(x_new)
    lower, upper = prediction.interval(0.9)
    errors[name] = metrics.rmse(prediction.mean[x_new > 3], truth(x_new[x_new > 3]))
    axis.fill_between(x_new, lower, upper, color="C0", alpha=0.18, lw=0)
    axis.plot(x_new, prediction.mean)
    axis.plot(x_new, truth(x_new), ":", color="k", lw=1)
    axis.plot(data.x, data.y, "o", color="k", ms=2.5)
    axis.set(title=f"{name}: {errors[name]:.2f} off beyond the data", ylabel="y")
axes[-1].set_xlabel("x, years")
plt.savefig("10_own.svg", metadata={"Date": None})
