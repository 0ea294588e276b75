"""Priors that differ in shape, not in scale.

Functions drawn from three priors before any data are seen. The standard deviation of every weight
is the same in all three, since bnnzoo matches families by variance; only the tails differ. In a
Gaussian network a hundred units share the work. Heavier tails let single units stand out: most
Student-t functions are flat, and a few are as steep as any, in one place. Orange is the function
that is steeper than 99 of 100 of its kind. The titles say which part of the squared output weights
the largest of the hundred units has, in the median.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import bnnzoo as bz

x = np.linspace(-3, 3, 80)
data = bz.make_dataset(x, np.zeros(80), scale="none")  # gives the shapes; its y is not used
keys = jax.random.split(jax.random.key(1), 1000)
functions, shares, steepness = {}, {}, {}
for prior, more in (("gaussian", {}), ("laplace", {}), ("student-t", {"df": 2.2})):
    model = bz.make_model(
        prior=prior,
        prior_options={"std": 5.0, "bias_std": 5.0, **more},
        network_options={"widths": [100]},
    )
    posterior = bz.Posterior(model, data)
    weights = jax.vmap(posterior.initial)(keys)  # before any data: draws from the prior
    drawn = jax.vmap(partial(posterior.predict, x=jnp.asarray(x)[:, None]))(weights)[..., 0]
    steepest = abs(np.diff(drawn, axis=1)).max(1)
    functions[prior] = drawn[np.argsort(steepest)[[0, 200, 400, 600, 800, 990]]]
    steepness[prior] = np.quantile(steepest, (0.5, 0.99))
    last = jax.vmap(posterior.constrain)(weights)["layers.1.kernel"][..., 0] ** 2
    shares[prior] = np.median(last.max(1) / last.sum(1))

plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
figure, axes = plt.subplots(3, sharex=True, sharey=True, figsize=(5.4, 5.4))
for axis, (prior, drawn) in zip(axes, functions.items(), strict=True):
    centred = (drawn - drawn.mean(1, keepdims=True)).T
    axis.plot(x, centred[:, :-1], color="C0", lw=0.8)
    axis.plot(x, centred[:, -1], color="C1")
    axis.set(title=f"{prior}: {100 * shares[prior]:.0f} % in one unit", ylabel="f(x)")
axes[-1].set_xlabel("x")
plt.savefig("07_priors.svg", metadata={"Date": None})
