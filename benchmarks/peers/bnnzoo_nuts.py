"""Our ``nuts``: by ``bz.fit`` with all that it adds to draws, or the draws alone."""

from __future__ import annotations

import jax
import numpy as np
from _worker import Clock, answer, job

import bnnzoo as bz

asked, rows = job()
model = bz.make_model(
    network_options={"widths": [asked["width"]], "activation": "tanh"},
    likelihood_options={"noise": "learned"},
)
parts = (rows["x"], rows["y"], rows["x_test"], rows["y_test"])
data = bz.make_dataset(*parts, task="regression", scale="none")
options = {"target_acceptance": asked["acceptance"]}
sizes = {name: asked[name] for name in ("chains", "draws", "warmup", "seed")}

if asked["method"] == "fit":
    with Clock().watch_jax() as clock:
        run = bz.fit(model, data, "nuts", progress=False, **sizes, **options)
    posterior, extra = run.posterior, {"metrics": run.metrics()}
    sites = {s.name: run.tree["posterior"][s.name].to_numpy() for s in posterior.sites}
    gradients = int(run.manifest["gradients"])
    diverging = int(run.tree["sample_stats"]["diverging"].to_numpy().sum())
else:
    from bnnzoo.inference.loop import run_chains

    with Clock().watch_jax() as clock:
        backend = bz.registry.get("backends", "nuts").build(options)
        posterior = bz.Posterior(model, data)
        chains = run_chains(backend, posterior, dtype="float32", **sizes)
        u = np.asarray(chains.u.all())
        sites = jax.device_get(jax.jit(jax.vmap(jax.vmap(posterior.constrain)))(u))
    extra = {}
    gradients = int(chains.stats["n_steps"].sum() + chains.warmup_stats["n_steps"].sum())
    diverging = int(chains.stats["diverging"].sum())

names = {
    "k0": "layers.0.kernel",
    "b0": "layers.0.bias",
    "k1": "layers.1.kernel",
    "b1": "layers.1.bias",
    "noise": "noise_std",
}
density = []
for point in rows["points"]:
    values, at = {}, 0
    for name in names.values():
        shape = sites[name].shape[2:]
        size = int(np.prod(shape))
        values[name] = point[at : at + size].reshape(shape)
        at += size
    values["noise_std"] = np.exp(values["noise_std"])
    values = {name: np.asarray(v, np.float32) for name, v in values.items()}
    density.append(float(posterior.log_density(posterior.unconstrain(values))))

found = (
    clock.figures
    | extra
    | {
        "gradients": gradients,
        "divergences": diverging,
        "density": density,
    }
)
draws = {name: np.asarray(sites[site]) for name, site in names.items()}
answer(found, ("bnnzoo", "jax", "blackjax"), **draws)
