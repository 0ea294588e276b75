"""Scores of a prediction take one target for each row, and nothing else."""

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.errors import InputError

X = np.random.default_rng(0).normal(size=(12, 2))
SCORES = ("log_prob", "chain_log_prob", "pit")


def prediction(data, **model):
    """Of three rows, by a run whose programs other tests have compiled for such a table."""
    made = bz.make_model(network_options={"widths": [3]}, **model)
    run = bz.fit(made, data, "hmc", chains=1, draws=10, warmup=10, progress=False)
    return run.predict(data.x[:3])


@pytest.fixture(scope="module")
def numbers():
    return prediction(bz.load_dataset("gap", n=20, seed=0))


@pytest.fixture(scope="module")
def classes():
    data = bz.make_dataset(X, np.arange(12) % 3, task="classification")
    return prediction(data, likelihood="categorical")


def test_a_column_is_its_rows(numbers):
    y = np.array([0.1, -0.2, 0.3])
    for score in (*SCORES, "crps"):
        whole, column = getattr(numbers, score)(y), getattr(numbers, score)(y[:, None])
        np.testing.assert_array_equal(whole, column)


@pytest.mark.parametrize("score", [*SCORES, "crps"])
@pytest.mark.parametrize(
    "y", [5.0, [1.0], [1.0, 2.0, 3.0, 4.0], np.ones((3, 2)), np.ones((1, 3)), ["a", "b", "c"]]
)
def test_another_shape_is_refused(numbers, score, y):
    with pytest.raises(InputError, match=r"numbers of shape \(3,\) are needed, a target for each"):
        getattr(numbers, score)(y)


@pytest.mark.parametrize("wrong", [3, -1, 0.5, np.nan])
def test_a_number_that_is_no_class_is_refused(classes, wrong):
    assert np.isfinite(classes.log_prob([0, 1, 2])).all()
    with pytest.raises(InputError, match=r"is no class; choices: 0 to 2"):
        classes.log_prob([0, 1, wrong])


def test_a_level_in_per_cent_is_refused(numbers):
    with pytest.raises(
        InputError, match=r"level = 95.0: a number between 0 and 1 .*; 95 % is 0.95"
    ):
        numbers.interval(95.0)
