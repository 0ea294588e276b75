"""What the comparison of priors on digits writes anew is what the library has."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from numpyro import handlers
from scipy import stats

import bnnzoo as bz
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.reports.studies._digits_priors import as_mixture
from tests.models._tools import ALARM, key

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "priors_on_digits.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("priors_on_digits", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.validate
@pytest.mark.parametrize(
    ("prior", "options", "T", "law"),
    [
        ("student-t", {"df": 3.0}, 1.0, stats.t(3, scale=math.sqrt(1 / 3))),
        ("laplace", {"match": "scale"}, 1.0, stats.laplace()),
        # (1 + t^2 / df)^(-(df + 1) / 2) to the power 2: 7 degrees, scale^2 df as it was.
        ("student-t", {"df": 3.0, "match": "scale"}, 0.5, stats.t(7, scale=math.sqrt(3 / 7))),
        ("laplace", {}, 0.1, stats.laplace(scale=0.1 * math.sqrt(0.5))),
    ],
)
def test_mixtures_are_the_families(prior, options, T, law):
    """Kolmogorov-Smirnov on 20,000 elements, failing by chance once in 1e6 each."""
    made = as_mixture(bz.make_model(prior=prior, prior_options=options), T).prior
    assert float(made.bias_std) == pytest.approx(math.sqrt(T))
    info = ParameterInfo("k", (200, 100), "kernel", 4, 2.0, False)
    with handlers.trace() as seen, handlers.seed(rng_seed=key(0)):
        made.sample_parameter(info)
    drawn = np.asarray(seen["k"]["value"], float).ravel()
    assert stats.kstest(drawn, law.cdf).pvalue > ALARM


def test_splits_share_their_test_rows_alone(benchmark):
    sets = [benchmark.load("mlp", split) for split in range(benchmark.SPLITS)]
    assert all(np.array_equal(one.x_test, sets[0].x_test) for one in sets)
    rows = np.concatenate([*(one.x for one in sets), sets[0].x_test])
    whole = bz.load_dataset("digits")
    wanted = np.concatenate([whole.x, whole.x_test])
    assert np.array_equal(rows[np.lexsort(rows.T)], wanted[np.lexsort(wanted.T)])
    shuffled, ordered = benchmark.load("cnn-shuffled", 1), benchmark.load("cnn", 1)
    assert np.array_equal(shuffled.y, ordered.y) and not np.array_equal(shuffled.x, ordered.x)
    flat = [np.sort(d.x.reshape(len(d.x), -1), axis=1) for d in (shuffled, ordered)]
    assert np.array_equal(*flat)
