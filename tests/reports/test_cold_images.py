"""The part of the study of cold posteriors that needs a GPU, on few small images."""

import numpy as np
import pytest

from bnnzoo.reports.studies import _cold_images as images
from bnnzoo.reports.studies._digits import digits
from bnnzoo.reports.study import Results
from bnnzoo.reports.study_runner import make_study

SMALL = {"cnn": {"channels": [3, 3]}, "resnet20": {"width": 2, "depth": 8}}


@pytest.mark.validate
@pytest.mark.parametrize("kind", ["cnn", "resnet20"])
def test_a_network_is_sampled_scored_and_claimed(kind, monkeypatch):
    """At two temperatures and two seeds, as at scale paper but for its sizes."""
    data = digits(0, rows=40, test=30, images=True)
    monkeypatch.setattr(images, "load_dataset", {"mnist": data, "cifar-10": data}.__getitem__)
    monkeypatch.setitem(
        images.KINDS, kind, images.KINDS[kind] | {"network_options": SMALL[kind], "passes": 5}
    )
    monkeypatch.setattr(images, "SEEDS", 2)
    sizes = {"warmup": 1, "draws": 5, "batch_size": 20}
    monkeypatch.setattr(images, "SAMPLER", images.SAMPLER | sizes)
    study = make_study("cold-posterior", "paper")
    cells = [c for c in images.cells((1.0, 0.1)) if c.settings["kind"] == kind]
    assert {c.name for c in cells} <= {c.name for c in study.cells()}
    measured = {c.name: study.run(**c.settings) for c in cells}
    for found in measured.values():
        assert len(found["log_density"]) == 30 and np.isfinite(found["log_density"]).all()
    assert len({tuple(found["log_density"]) for found in measured.values()}) == 4
    (claim,) = (c for c in study.claims() if c.name.endswith(kind))
    gained = claim.measure(Results(cells, measured))
    by_T = {
        T: np.mean([measured[c.name]["log_density"] for c in cells if c.settings["T"] == T])
        for T in (1.0, 0.1)
    }
    assert gained.value == pytest.approx(by_T[0.1] - by_T[1.0])
    assert gained.low < gained.value < gained.high
