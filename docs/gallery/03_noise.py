"""Noise that depends on x.

The likelihood may have a second output: the noise. The uncertainty of a prediction then has two
parts, and they answer to more data differently. Above, 300 rows and the 90 % interval. Below, the
two parts with all 300 rows (solid) and with the first 75 (dashed). The aleatoric part is the noise
itself (dotted: the truth); more rows only make it better known. The epistemic part, on which the
networks disagree, shrinks: to about half with four times the rows.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bnnzoo as bz

all_rows = bz.load_dataset("heteroscedastic-sine", n=300)
model = bz.make_model(
    likelihood_options={"noise": "heteroscedastic"},
    network_options={"widths": [20]},
    prior_options={"std": 2.0, "bias_std": 2.0},
)
x = np.linspace(-5, 5, 120)
runs, predictions, at_data = {}, {}, {}
for rows in (300, 75):
    data = bz.make_dataset(all_rows.x[:rows], all_rows.y[:rows])
    runs[rows] = bz.fit(model, data, "hmc", chains=2, draws=250, warmup=150)
    predictions[rows] = runs[rows].predict(x)
    at_data[rows] = runs[rows].predict(all_rows.x)
shrinks = at_data[75].epistemic.mean() / at_data[300].epistemic.mean()

plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
figure, (top, bottom) = plt.subplots(2, sharex=True, figsize=(5.4, 5))
lower, upper = predictions[300].interval(0.9)
top.fill_between(x, lower, upper, color="C0", alpha=0.18, lw=0)
top.plot(x, predictions[300].mean)
top.plot(all_rows.x, all_rows.y, ".", color="k", ms=1.5, rasterized=True)
top.set(ylabel="y", xlim=(-5, 5))
for rows, dashes in ((300, "-"), (75, "--")):
    bottom.plot(x, predictions[rows].aleatoric, dashes, color="C0")
    bottom.plot(x, predictions[rows].epistemic, dashes, color="C1")
bottom.plot(x, 3 * abs(np.cos(x / 2)), ":", color="k", lw=1)
for part, colour in (("aleatoric", "C0"), ("epistemic", "C1")):
    values = getattr(predictions[75], part)
    bottom.text(x[values.argmax()], values.max() + 0.1, part, color=colour, ha="center")
bottom.set(xlabel="x", ylabel="standard deviation", ylim=(0, 4))
plt.savefig("03_noise.svg", metadata={"Date": None}, dpi=200)
