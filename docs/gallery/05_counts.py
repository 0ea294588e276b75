"""Counts.

A Poisson likelihood takes the targets as they are, whole numbers from 0, and the network gives the
logarithm of their rate. The intervals run from one whole number to another, and so hold more
than the 80 % they are named for. Below, what the model makes of 400 new counts: where a
forecast is right, its probability integral transform is uniform, bars level with the dotted line.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bnnzoo as bz
from bnnzoo import metrics

rng = np.random.default_rng(0)
x, x_new = rng.uniform(0, 6, 150), rng.uniform(0, 6, 400)
y, y_new = (rng.poisson(np.exp(1 + np.sin(2 * at) + 0.15 * at)) for at in (x, x_new))
data = bz.make_dataset(x, y, task="regression")
model = bz.make_model(
    likelihood="poisson",
    network_options={"widths": [20]},
    prior_options={"std": 2.0, "bias_std": 2.0},
)
run = bz.fit(model, data, "hmc", chains=2, draws=400, warmup=300)

grid = np.linspace(0, 6, 120)
forecast = run.predict(grid)
lower, upper = forecast.interval(0.8)
new = run.predict(x_new)
lowest, highest = new.interval(0.8)
coverage = metrics.interval_coverage(lowest, highest, y_new)
distance = metrics.pit_ks_distance(new.pit(y_new))

plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
figure, (top, bottom) = plt.subplots(2, figsize=(5.4, 5), height_ratios=(2, 1))
top.fill_between(grid, lower, upper, step="mid", color="C0", alpha=0.18, lw=0)
top.plot(grid, forecast.mean)
top.plot(x, y, "o", color="k", ms=2)
top.set(xlabel="x", ylabel="count", title="Mean and 80 % interval", yticks=range(0, 19, 3))
bottom.hist(new.pit(y_new), np.linspace(0, 1, 11), density=True, color="C0", alpha=0.6, rwidth=0.95)
bottom.axhline(1, ls=":", color="k", lw=1)
bottom.set(xlabel="probability integral transform of new counts", yticks=[], xlim=(0, 1))
bottom.spines["left"].set_visible(False)
plt.savefig("05_counts.svg", metadata={"Date": None})
