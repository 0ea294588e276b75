"""Two classes, two kinds of doubt.

On the left the probability of the orange class: pale where the model cannot say which of the two it
is. On the right why: the mutual information is high where the networks contradict each other, and
more data there would help. Between the half circles the classes overlap, the networks agree that it
may be either, and the mutual information stays low. Where the border leaves the data, they part.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import bnnzoo as bz

data = bz.load_dataset("two-moons", n=150, n_test=1000)
model = bz.make_model(
    likelihood="bernoulli",
    network_options={"widths": [30]},
    prior_options={"std": 5.0, "bias_std": 5.0},
)
run = bz.fit(model, data, "hmc", chains=2, draws=1000, warmup=300)
accuracy = run.metrics()["accuracy"]

across, up = np.meshgrid(np.linspace(-3, 4, 90), np.linspace(-3, 3.5, 80))
prediction = run.predict(np.stack([across.ravel(), up.ravel()], 1))
doubt_at_data = run.predict(data.x).epistemic.mean()
doubt_highest = prediction.epistemic.max()

plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
colours = LinearSegmentedColormap.from_list("", ["C0", "white", "C1"])
maps = (
    ("probability of orange", prediction.probabilities[:, 1], colours, [0.1, 0.5, 0.9]),
    ("mutual information, nats", prediction.epistemic, "Greys", [0.1, 0.2, 0.3, 0.4]),
)
figure, axes = plt.subplots(1, 2, sharey=True, figsize=(5.4, 3))
for axis, (title, values, cmap, ticks) in zip(axes, maps, strict=True):
    extent = (-3, 4, -3, 3.5)
    image = axis.imshow(
        values.reshape(across.shape), cmap, origin="lower", extent=extent, interpolation="none"
    )
    figure.colorbar(image, ax=axis, orientation="horizontal", shrink=0.9, label=title, ticks=ticks)
    for k in (0, 1):
        axis.plot(*data.x[data.y == k].T, "o", color=f"C{k}", mec="white", mew=0.3, ms=2.8)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
plt.savefig("06_classes.svg", metadata={"Date": None})
