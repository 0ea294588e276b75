"""The bench of peers, without its peers: scores of draws, and spans of compiling."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks" / "peers"))

import work_sampling
from _worker import union

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))


@pytest.mark.parametrize(
    ("spans", "length"),
    [
        ([], 0.0),
        ([(1.0, 2.0), (1.2, 1.5)], 1.0),  # one in the other
        ([(3.0, 4.0), (1.0, 2.0), (1.5, 3.5)], 3.0),  # overlapping, in no order
        ([(-5.0, 1.0), (9.0, 20.0)], 2.0),  # cut at both ends of [0, 10]
        ([(-3.0, -1.0), (11.0, 12.0)], 0.0),
    ],
)
def test_the_union_of_spans(spans, length):
    assert union(spans, 0.0, 10.0) == pytest.approx(length)


def test_scores_are_those_of_every_draw_and_row_by_itself():
    random = np.random.default_rng([SEED, 8])
    chains, draws, rows, inputs, width = 2, 6, 5, 3, 4
    shapes = {"k0": (inputs, width), "b0": (width,), "k1": (width, 1), "b1": (1,)}
    given = {n: random.normal(size=(chains, draws, *s)) for n, s in shapes.items()}
    given["noise"] = random.uniform(0.5, 1.5, size=(chains, draws))
    x, y, scale = random.normal(size=(rows, inputs)), random.normal(size=rows), 7.0
    data = {"x_test": x, "y_test": y, "y_std": np.asarray(scale)}
    found = work_sampling.score({"wall": 1.0}, given, data)
    means, logs = [], []
    for row, target in zip(x, y, strict=True):
        density, mean = 0.0, 0.0
        for c in range(chains):
            for d in range(draws):
                w = {name: value[c, d] for name, value in given.items()}
                f = float((np.tanh(row @ w["k0"] + w["b0"]) @ w["k1"] + w["b1"])[0])
                z, noise = (target - f) * scale, w["noise"] * scale  # in original units
                normal = math.exp(-0.5 * (z / noise) ** 2) / (noise * math.sqrt(2 * math.pi))
                density += normal / (chains * draws)
                mean += f / (chains * draws)
        logs.append(math.log(density))
        means.append(mean)
    assert found["log_likelihood"] == pytest.approx(np.mean(logs), rel=1e-12)
    right = scale * math.sqrt(np.mean((np.asarray(means) - y) ** 2))
    assert found["rmse"] == pytest.approx(right, rel=1e-12)
    assert found["wall"] == 1.0
    assert found["ess"] > 0 and math.isfinite(found["rhat"])
