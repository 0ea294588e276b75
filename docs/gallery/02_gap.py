"""Where the data end.

Two clusters of points with nothing between them. Each thin line is one network drawn from the
posterior; the band is two standard deviations of those networks, the epistemic part of the
uncertainty. Near the points the lines agree. In the gap, and beyond the outermost points, only the
prior says what happens, and they part.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bnnzoo as bz

data = bz.load_dataset("gap")
model = bz.make_model(network_options={"widths": [50]}, prior_options={"std": 2.0, "bias_std": 2.0})
run = bz.fit(model, data, "hmc", chains=2, draws=1000, warmup=500)

x = np.linspace(-3, 3, 120)
prediction = run.predict(x)
functions = prediction.f[..., 0].reshape(-1, len(x))  # one row a draw
spread = prediction.epistemic
in_gap, at_data = spread[abs(x) < 0.4].mean(), spread[(abs(x) > 0.8) & (abs(x) < 1.9)].mean()

plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
plt.fill_between(
    x, prediction.mean - 2 * spread, prediction.mean + 2 * spread, color="C0", alpha=0.18, lw=0
)
plt.plot(x, functions[::200].T, color="C0", lw=0.6)
plt.plot(data.x, data.y, "o", color="k", ms=2.5)
plt.title(f"The band is {in_gap / at_data:.0f} times as wide in the gap")
plt.xlabel("x")
plt.ylabel("y")
plt.savefig("02_gap.svg", metadata={"Date": None})
