"""Our ``mile`` at the settings nearest to sklearn-contrib-bde's."""

from __future__ import annotations

import jax
import numpy as np
from _worker import Clock, answer, job

import bnnzoo as bz

asked, rows = job()
model = bz.make_model(
    network_options={"widths": [asked["width"]], "activation": "relu"},
    prior_options={"std": 1.0, "absolute": True},
    likelihood_options={"noise": "heteroscedastic"},
)
parts = (rows["x"], rows["y"], rows["x_test"], rows["y_test"])
data = bz.make_dataset(*parts, task="regression", scale="none")
# Half of warm-up is blocks of Adam, the other half moves of at most `max_steps` steps.
block, steps = 2, asked["thinning"]
warmup = 2 * max(asked["epochs"] // block, asked["tuning"] // steps)
options = {"metric": "unit", "length": 1.0, "energy_error": 0.1, "max_steps": steps}
options |= {"block": block, "patience": 200, "learning_rate": 1e-3}
sizes = {"chains": asked["members"], "draws": asked["draws"], "seed": asked["seed"]}
sizes["warmup"] = warmup
with Clock().watch_jax() as clock:
    run = bz.fit(model, data, "mile", progress=False, **sizes, **options)

posterior = run.posterior
sites = {s.name: run.tree["posterior"][s.name].to_numpy() for s in posterior.sites}
sites = {name: v.reshape(-1, *v.shape[2:]) for name, v in sites.items()}
x_test = jax.numpy.asarray(rows["x_test"], jax.numpy.float32)
normal = jax.jit(
    jax.vmap(
        lambda w: (lambda d: (d.mean, jax.numpy.sqrt(d.variance)))(
            posterior.predictive(w, x_test).distribution
        )
    )
)
mean, std = (np.asarray(v).reshape(-1, len(rows["y_test"])) for v in normal(sites))
found = clock.figures | {"metrics": run.metrics(), "gradients": int(run.manifest["gradients"])}
answer(found, ("bnnzoo", "blackjax", "jax"), mean=mean, std=std)
