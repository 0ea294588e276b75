"""Our log evidence by Laplace's method at given weights, in three structures."""

from __future__ import annotations

import time

import jax
import numpy as np
from _worker import answer, job

import bnnzoo as bz
from bnnzoo.inference.laplace_structures import Flavour, log_normaliser
from bnnzoo.inference.precision import precision

asked, rows = job()
own = {name.removeprefix(asked["method"] + "_"): value for name, value in rows.items()}
regression = asked["method"] == "diabetes"
task = "regression" if regression else "classification"
data = bz.make_dataset(own["x"], own["y"], task=task, scale="none")
model = bz.make_model(
    network_options={"widths": [own["k0"].shape[1]], "activation": "tanh"},
    likelihood="gaussian" if regression else "categorical",
    likelihood_options=({"noise": "fixed", "noise_std": asked["noise"]} if regression else {}),
)
sites = {"k0": "layers.0.kernel", "b0": "layers.0.bias"}
sites |= {"k1": "layers.1.kernel", "b1": "layers.1.bias"}
# float32 is timed in every turn; float64 only tells values apart, and does not change.
dtypes = ("float32", "float64") if asked["seed"] == 0 else ("float32",)
found = {}
for structure in asked["structures"]:
    flavour = Flavour(structure, "ggn", "expand", 1, 2**29)
    evidence = jax.jit(log_normaliser, static_argnums=2)
    here = {}
    for dtype in dtypes:
        with precision(dtype):
            begun, cpu = time.perf_counter(), time.process_time()
            posterior = bz.Posterior(model, data)
            u = posterior.unconstrain({s: np.asarray(own[n], dtype) for n, s in sites.items()})
            here[dtype] = float(evidence(posterior, u, flavour))
            if dtype == "float64":
                continue
            here["first"] = time.perf_counter() - begun
            here["first_cpu"] = time.process_time() - cpu
            later = []
            for turn in range(asked["repeats"]):
                moved = jax.block_until_ready(u * (1 + 1e-3 * (turn + 1)))
                begun, cpu = time.perf_counter(), time.process_time()
                float(evidence(posterior, moved, flavour))
                later.append((time.perf_counter() - begun, time.process_time() - cpu))
            here["later"], here["later_cpu"] = map(float, np.median(later, axis=0))
    found[structure] = here
answer({"structures": found}, ("bnnzoo", "jax"))
