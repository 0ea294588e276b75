"""A table in, intervals out.

A CSV file is a data set: name the column to predict. The text column becomes two features, a fifth
of the rows is held out, and the fit gives every new row a distribution. The picture shows the rents
that were held out, sorted by their predicted mean: about nine in ten of the 90 % intervals should
hold the true rent, and the orange ones miss it.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bnnzoo as bz
from bnnzoo import metrics

rng = np.random.default_rng(1)
area, floor, oil = rng.uniform(25, 120, 500), rng.integers(0, 6, 500), rng.random(500) < 0.4
rent = 300 + 9 * area + 250 * np.exp(-(((area - 60) / 15) ** 2)) + 15 * floor - 120 * oil
rent += rng.normal(0, 60, 500)
table = Path(tempfile.mkdtemp()) / "flats.csv"
with table.open("w") as file:
    file.write("area,floor,heating,rent\n")
    for row in zip(area, floor, np.where(oil, "oil", "gas"), rent, strict=True):
        file.write("{:.1f},{},{},{:.0f}\n".format(*row))

data = bz.load_dataset(table, target="rent", task="regression", test_size=0.2)
model = bz.make_model(network_options={"widths": [20]})
run = bz.fit(model, data, "hmc", chains=2, draws=300, warmup=300)

prediction = run.predict(data.x_test)
lower, upper = prediction.interval(0.9)
coverage = metrics.interval_coverage(lower, upper, data.y_test)

order = np.argsort(prediction.mean)
inside = ((lower <= data.y_test) & (data.y_test <= upper))[order]
place = np.arange(len(order))
plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
for kind, colour in ((inside, "C0"), (~inside, "C1")):
    plt.vlines(place[kind], lower[order][kind], upper[order][kind], colour, alpha=0.45)
    plt.plot(place[kind], data.y_test[order][kind], "o", color=colour)
plt.title(f"{inside.sum()} of {len(order)} flats lie inside their 90 % interval")
plt.xlabel("flats held out, by predicted rent")
plt.ylabel("rent")
plt.xticks([])
plt.savefig("01_table.svg", metadata={"Date": None})
