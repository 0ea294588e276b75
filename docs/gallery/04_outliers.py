"""Outliers: Gaussian against Student-t noise.

One measurement in eight went wrong, and always upwards. Gaussian noise cannot explain a point ten
standard deviations away, so the function has to bend towards it and the noise has to grow. Under
Student-t noise with learned degrees of freedom such points are merely unlikely, and the function
stays with the others.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bnnzoo as bz
from bnnzoo import metrics

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(-2, 2, 120))
y = np.sin(2 * x) + rng.normal(0, 0.15, 120)
wrong = rng.random(120) < 0.125
y[wrong] += rng.uniform(1.5, 4, wrong.sum())
data = bz.make_dataset(x, y)

grid = np.linspace(-2, 2, 100)
truth = np.sin(2 * grid)
runs, means, errors = {}, {}, {}
for likelihood in ("gaussian", "student-t"):
    model = bz.make_model(likelihood=likelihood, network_options={"widths": [20]})
    runs[likelihood] = bz.fit(model, data, "hmc", chains=2, draws=500, warmup=500)
    means[likelihood] = runs[likelihood].predict(grid).mean
    errors[likelihood] = metrics.rmse(means[likelihood], truth)

plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
plt.plot(grid, truth, ":", color="k", lw=1)
plt.plot(x, y, "o", color="0.45", ms=2.5)
for colour, (likelihood, mean) in zip(("C1", "C0"), means.items(), strict=True):
    plt.plot(grid, mean, color=colour, lw=1.8)
    plt.text(
        2.05, mean[-1], f"{likelihood}\n{errors[likelihood]:.2f} off", color=colour, va="center"
    )
plt.title("Fitted means, the true function dotted")
plt.xlabel("x")
plt.ylabel("y")
plt.savefig("04_outliers.svg", metadata={"Date": None})
