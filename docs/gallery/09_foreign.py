"""Knowing what it does not know.

The training digits are 0 to 4. What does the model say of a 7? It has to name one of its five
classes, but it need not be sure of it. The entropy of the prediction is low for most new digits of
the kinds it knows and close to its largest value, log 5, for most of the others. AUROC is the
probability that of a random pair, one of each, the foreign digit has the higher entropy.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bnnzoo as bz
from bnnzoo import metrics

digits = bz.load_dataset("digits", test_size=0.5)
known = digits.y < 5
data = bz.make_dataset(digits.x[known][:300], digits.y[known][:300], task="classification")
model = bz.make_model(
    likelihood="categorical", network_options={"widths": [20]}, prior_options={"std": 3.0}
)
run = bz.fit(model, data, "hmc", chains=2, draws=500, warmup=200)

prediction = run.predict(digits.x_test)
home = digits.y_test < 5
accuracy = metrics.accuracy(prediction.probabilities[home], digits.y_test[home])
entropy = metrics.predictive_entropy(prediction.probabilities)
auroc = metrics.auroc(entropy[home], entropy[~home])

plt.style.use(Path(__file__).with_name("gallery.mplstyle"))
figure, (top, bottom) = plt.subplots(2, figsize=(5.4, 4), height_ratios=(5, 1))
bins = np.linspace(0, np.log(5), 25)
for rows, colour, name, place in ((home, "C0", "0 to 4", 0.25), (~home, "C1", "5 to 9", 0.66)):
    top.hist(entropy[rows], bins, density=True, color=colour, alpha=0.6)
    top.text(place, 0.7, name, color=colour, transform=top.transAxes)
top.set(title=f"AUROC {auroc:.2f}; accuracy on 0 to 4 {100 * accuracy:.0f} %", yticks=[])
top.set_xlabel("entropy of the prediction, nats")
foreign = digits.x_test[~home][np.argsort(entropy[~home])].reshape(-1, 8, 8)
bottom.imshow(np.hstack(foreign[:: len(foreign) // 11]), "Greys")
bottom.set(xticks=[], yticks=[], xlabel="digits never seen, from the surest answer to the least")
top.spines["left"].set_visible(False)
bottom.spines[:].set_visible(False)
plt.savefig("09_foreign.svg", metadata={"Date": None})
