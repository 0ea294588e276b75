"""Two temperatures.

"Temperature" means two things. At likelihood temperature 0.1 every row counts ten times and the
prior stays as it is: the functions bend to reach the points, and still part in the gap. At
posterior temperature 0.1 the prior is sharpened too: the most probable weights stay what they are,
and the band narrows everywhere, also where nothing was seen. Bands are two standard deviations of
the networks; the page on [temperatures](../temperatures.md) has the formulas.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bnnzoo as bz

data = bz.load_dataset("gap", n=20, noise=0.3)
noise_std = 0.3 / float(data.scaling.y_std)  # the model sees standardised targets
model = bz.make_model(
    network_options={"widths": [50]},
    prior_options={"std": 2.0, "bias_std": 2.0},
    likelihood_options={"noise": "fixed", "noise_std": noise_std},
)
settings = {
    "both 1: Bayes' rule": {},
    "likelihood temperature 0.1": {"likelihood_temperature": 0.1},
    "posterior temperature 0.1": {"posterior_temperature": 0.1},
}
runs = {
    name: bz.fit(model, data, "hmc", chains=2, draws=1000, warmup=500, **temperature)
    for name, temperature in settings.items()
}

x = np.linspace(-3, 3, 60)
at_data, nowhere = (abs(x) > 0.8) & (abs(x) < 1.9), abs(x) < 0.4
plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
figure, axes = plt.subplots(3, sharex=True, sharey=True, figsize=(5.4, 6))
widths = {}
for axis, (name, run) in zip(axes, runs.items(), strict=True):
    prediction = run.predict(x)
    mean, spread = prediction.mean, prediction.epistemic
    widths[name] = spread[at_data].mean(), spread[nowhere].mean()
    axis.fill_between(x, mean - 2 * spread, mean + 2 * spread, color="C0", alpha=0.18, lw=0)
    axis.plot(x, prediction.f[:, ::400, :, 0].reshape(-1, len(x)).T, color="C0", lw=0.6)
    axis.plot(data.x, data.y, "o", color="k", ms=2.5)
    axis.set(title=name, ylabel="y")
axes[-1].set_xlabel("x")
plt.savefig("08_temperatures.svg", metadata={"Date": None})
