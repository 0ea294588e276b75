"""What the two studies of priors compute themselves, against what is known."""

import math

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.reports.studies import functional_prior as functional
from bnnzoo.reports.studies import priors_revisited as revisited
from bnnzoo.reports.study import Results
from bnnzoo.reports.study_runner import make_study
from tests.models._tools import SEED, key


def test_the_distance_of_moved_draws_is_how_far_they_moved():
    """Of all pairings of points and their translates none is shorter than the translation."""
    random = np.random.default_rng(SEED)
    draws, move = random.normal(size=(60, 3)), np.array([0.3, -0.4, 1.2])
    found = functional._distance(draws, random.permutation(draws + move))
    assert found == pytest.approx(1.3, rel=1e-12)
    one = np.sort(random.normal(size=(60, 1)), axis=0), np.sort(random.normal(size=(60, 1)), axis=0)
    shuffled = random.permutation(one[1])
    assert functional._distance(one[0], shuffled) == pytest.approx(np.abs(one[0] - one[1]).mean())


def test_functions_of_the_line_have_the_covariance_of_the_process():
    """Each of the 100 mean products of 20,000 draws within 5.6 errors: false once in 5e5."""
    x = np.linspace(-2, 2, 10)
    f = functional._functions(np.random.default_rng(SEED), x, 20_000)
    K = np.exp(-0.5 * (np.subtract.outer(x, x) / 0.6) ** 2)
    error = np.sqrt((np.outer(np.diag(K), np.diag(K)) + K**2) / len(f))
    assert (np.abs(f.T @ f / len(f) - K) < 5.6 * error).all()


@pytest.mark.validate
def test_lines_are_functions_with_the_noise_that_is_said():
    """New targets about the same function: over 200 sets their covariance is K + 0.1 I."""
    rows = np.array([functional._line_data(seed).y_test[::10] for seed in range(200)])
    variance = (rows**2).mean()  # 2,000 numbers, neighbours' correlation below 0.14
    assert abs(variance - 1.1) < 5.6 * 1.1 * math.sqrt(2 / 1000)


def test_tails_and_lengths_become_measurements():
    study = make_study("priors-revisited", "smoke")
    cells = study.cells()
    told = {
        "weights-mlp": {"kernels": {"layers.0.kernel": {"df": [8.0, 4.0, math.inf]}}},
        "weights-cnn": {"filters": {"convs.0.kernel": {"length_scale": [1.0, 0.0, 2.0]}}},
    }
    results = Results(cells, told)
    tail = revisited._tail("layers.0.kernel")(results)
    assert (tail.value, tail.low, tail.high) == (0.125, 0.0, 0.25)
    near = revisited._neighbours("convs.0.kernel")(results)
    assert (near.low, near.value) == (0.0, math.exp(-1)) and near.high == math.exp(-0.5)


def test_splits_are_compared_pair_by_pair_with_their_overlap():
    study = make_study("functional-prior", "smoke")
    told = {
        f"diabetes-{kind}-{split}": {"nll": loss, "overlap": 0.25}
        for kind, losses in (("fixed", (5.0, 6.0)), ("matched", (4.0, 5.5)))
        for split, loss in enumerate(losses)
    }
    found = functional._better("diabetes", "nll", "matched", "fixed")(Results(study.cells(), told))
    # Gains 1 and 0.5: mean 0.75, error sqrt(0.125 * (1 / 2 + 0.25)), t of one degree of freedom.
    half = 12.7062047 * math.sqrt(0.125 * 0.75)
    assert found.value == 0.75 and found.high - found.value == pytest.approx(half, rel=1e-6)


@pytest.mark.validate
def test_fixed_priors_share_the_form_of_those_they_are_compared_with():
    """Widths of 1 are N(0, 1) in the network's own units; filters of no length are independent."""
    data = functional._line_data(0)
    plain = bz.load_model("gpi-mlp", widths=[4, 3])
    images = revisited.digits(0, rows=20, images=True)
    filters = revisited._model("cnn", "gaussian", "small")
    independent = bz.make_model(filters.network.factory, "gaussian", "categorical",
                                network_options={"gain": math.sqrt(2.0)})  # fmt: skip
    pairs = [
        (functional.fixed(plain, data), plain, data),
        (filters, independent, images),
    ]
    for ours, known, rows in pairs:
        ours, known = ours.bind(rows), known.bind(rows)
        for info in known.bound.infos:
            a, b = (m.prior.distribution(info) for m in (ours, known))
            x = b.sample(key(1))
            assert float(a.log_prob(x)) == pytest.approx(float(b.log_prob(x)), rel=1e-5)
