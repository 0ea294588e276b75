"""sklearn-contrib-bde's regressor: Adam to a member, then MCLMC from it."""

from __future__ import annotations

import os

from _worker import Clock, answer, job

asked, rows = job()
# Members are spread over devices, of which its own documentation makes as many as cores.
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={os.cpu_count()}"

import jax  # noqa: E402
import numpy as np  # noqa: E402
from bde import BdeRegressor  # noqa: E402
from bde.loss import loss  # noqa: E402

with Clock().watch_jax() as clock:
    model = BdeRegressor(
        n_members=asked["members"],
        hidden_layers=[asked["width"]],
        activation="relu",
        seed=asked["seed"],
        loss=loss.GaussianNLL(),
        epochs=asked["epochs"],
        patience=20,
        lr=1e-3,
        warmup_steps=asked["tuning"],
        n_samples=asked["draws"] * asked["thinning"],
        n_thinning=asked["thinning"],
        desired_energy_var_start=0.5,
        desired_energy_var_end=0.1,
    )
    model.fit(rows["x"], rows["y"])
    raw = np.asarray(jax.device_get(model.predict(rows["x_test"], raw=True)))
raw = raw.reshape(-1, len(rows["y_test"]), 2)
draws = {"mean": raw[..., 0], "std": np.logaddexp(raw[..., 1], 0.0) + 1e-6}
answer(clock.figures, ("sklearn-contrib-bde", "blackjax", "jax"), **draws)
