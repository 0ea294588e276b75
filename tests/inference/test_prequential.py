"""Evidence as prediction: leave-p-out sums, training speed and its bounds, sums of losses."""

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.inference.estimators.training_speed import one_draw
from bnnzoo.inference.gaussian_rows import GaussianRows, gaussian_rows
from bnnzoo.inference.precision import precision

sys.path.insert(0, str(Path(__file__).parent))
from _evidence import NOISE, left_out_truth, linear, linear_model

# -- rows of a linear model ----------------------------------------------------------------------


def _rows(data, **prior):
    with precision("float64"):
        return gaussian_rows(bz.Posterior(linear_model(**prior), data), "this")


def _made(x, y, noise_std, prior_std=1.0):
    """The same without a posterior: a regression on columns, N(0, prior_std^2) weights."""
    dim = x.shape[1]
    return GaussianRows(
        -0.5 * dim * math.log(2 * math.pi * prior_std**2),
        np.zeros(dim),
        np.eye(dim) / prior_std**2,
        -0.5 * (y / noise_std) ** 2 - 0.5 * math.log(2 * math.pi * noise_std**2),
        y[:, None] * x / noise_std**2,
        x[:, :, None] * x[:, None, :] / noise_std**2,
    )


def test_rows_add_up_to_the_evidence_of_every_set():
    _, data, truth = linear(3, 0, rows=12)
    rows = _rows(data)
    assert rows.log_z(np.arange(12)) == pytest.approx(truth, abs=1e-9)
    assert rows.log_z(np.arange(0)) == pytest.approx(0.0, abs=1e-9)
    half = bz.make_dataset(data.x[:6], data.y[:6], task="regression", scale="none")
    assert rows.log_z(np.arange(6)) == pytest.approx(
        bz.log_evidence(linear_model(), half, "exact").value, abs=1e-9
    )
    left = [truth - rows.log_z(np.delete(np.arange(12), i)) for i in range(12)]
    np.testing.assert_allclose(left, left_out_truth(data), atol=1e-9)


def test_leave_p_out_scores_sum_to_the_evidence():
    """Fong & Holmes: over p = 1..n, every test set, every row of it. n = 7."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 2)), rng.normal(size=7)
    rows, everything, total = _made(x, y, 0.5), frozenset(range(7)), 0.0

    def log_z(kept):
        return rows.log_z(np.array(sorted(kept), int))

    for p in range(1, 8):
        scores = [
            log_z(everything - set(held) | {j}) - log_z(everything - set(held))
            for held in itertools.combinations(range(7), p)
            for j in held
        ]
        total += np.mean(scores)
    assert total == pytest.approx(log_z(everything), abs=1e-10)


# -- leave-p-out ---------------------------------------------------------------------------------


def test_leave_p_out_goes_from_leave_one_out_to_the_evidence():
    _, data, truth = linear(3, 0, rows=12)
    one = bz.log_evidence(linear_model(), data, "leave-p-out")
    assert one.value == pytest.approx(left_out_truth(data).mean(), abs=1e-9)
    assert (one.standard_error, one.kind, one.is_evidence) == (0.0, "predictive", False)
    every = bz.log_evidence(linear_model(), data, "leave-p-out", held_out=12)
    assert every.value == pytest.approx(truth, abs=1e-9)
    all_pairs = bz.log_evidence(linear_model(), data, "leave-p-out", held_out=2)
    some = bz.log_evidence(linear_model(), data, "leave-p-out", held_out=2, sets=40)
    assert (all_pairs.diagnostics["sets"], some.diagnostics["sets"]) == (66, 40)
    assert abs(some.value - all_pairs.value) < 4 * some.standard_error


def test_a_wide_prior_costs_evidence_and_no_leave_one_out_score():
    """Prior a thousand times wider: about log 1000 nats a weight, and hundredths of one a row."""
    _, data, _ = linear(3, 0, rows=40)
    scores = [
        {
            method: bz.log_evidence(linear_model(std=std, bias_std=std), data, method).value
            for method in ("exact", "leave-p-out")
        }
        for std in (3.0, 3000.0)
    ]
    fallen = scores[0]["exact"] - scores[1]["exact"]
    assert fallen == pytest.approx(4 * math.log(1000), rel=0.05)
    assert abs(scores[0]["leave-p-out"] - scores[1]["leave-p-out"]) < 0.02


# -- training speed ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_tightens_with_draws_and_is_not_broken(seed):
    """Order of k = 1, 20, 1000 and the evidence: 3 standard errors, one wrong order in 700."""
    _, data, truth = linear(3, seed, rows=12)
    found = [
        bz.log_evidence(linear_model(), data, "training-speed", k=k, groups=groups, seed=seed)
        for k, groups in ((1, 2000), (20, 400), (1000, 20))
    ]
    closed = found[0].diagnostics["one_draw"]
    assert abs(found[0].value - closed) < 4 * found[0].standard_error
    assert found[0].diagnostics["log_evidence"] == pytest.approx(truth, abs=1e-9)
    for low, high in itertools.pairwise(found):
        assert low.value < high.value + 3 * math.hypot(low.standard_error, high.standard_error)
    assert found[0].value < found[1].value - 1.0
    assert all(said.value < truth + 3 * said.standard_error for said in found)
    assert truth - found[2].value < 0.5
    assert found[0].kind == "lower-bound"


def test_the_bound_knows_how_many_features_there_are_and_ranks_the_rest_badly():
    """Lyle et al.: 5 of 40 features are real. Both have their maximum there; the bound of one draw
    ranks 40 features below 1, which the evidence does not."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 40))
    y = x[:, :5] @ rng.normal(size=5) * 2 + math.sqrt(0.1) * rng.normal(size=30)
    counts, order = (1, 2, 5, 10, 20, 40), np.arange(30)
    made = [_made(x[:, :d], y, math.sqrt(0.1)) for d in counts]
    evidence = [rows.log_z(order) for rows in made]
    bound = [one_draw(rows, order) for rows in made]
    assert np.all(np.array(bound) < evidence)
    assert counts[int(np.argmax(evidence))] == counts[int(np.argmax(bound))] == 5
    assert evidence[5] > evidence[0]
    assert bound[5] < bound[0]


@pytest.mark.validate
@pytest.mark.parametrize("features", [5, 20, 100])
def test_the_bound_is_never_broken(features):
    """100 seeds: more than 3 standard errors above the evidence is met by none of 700."""
    over = []
    for seed in range(100):
        _, data, truth = linear(features, seed)
        said = bz.log_evidence(linear_model(), data, "training-speed", seed=seed)
        over.append((said.value - truth) / said.standard_error)
    assert max(over) < 3


# -- sums of losses ------------------------------------------------------------------------------


def test_losses_of_a_model_that_cannot_move():
    """A learning rate of 1e-12 leaves the draws of the prior: their log-likelihood, 12 rows."""
    _, data, _ = linear(3, 0, rows=12)
    said = bz.log_evidence(
        linear_model(std=1e-6, bias_std=1e-6),
        data,
        "training-losses",
        learning_rate=1e-12,
        batch=4,
        epochs=2,
        repeats=2,
    )
    expected = np.sum(-0.5 * (data.y / NOISE) ** 2 - math.log(NOISE * math.sqrt(2 * math.pi)))
    assert said.value == pytest.approx(expected, rel=1e-4)
    assert said.diagnostics["by_epoch"] == pytest.approx([expected] * 2, rel=1e-4)
    assert (said.kind, said.is_evidence) == ("heuristic", False)


def test_losses_fall_and_faster_training_scores_higher():
    _, data, _ = linear(3, 0, rows=12)
    shape = {"batch": 4, "epochs": 5, "repeats": 4}
    slow, fast = (
        bz.log_evidence(linear_model(), data, "training-losses", learning_rate=rate, **shape)
        for rate in (1e-4, 0.05)
    )
    passes = fast.diagnostics["by_epoch"]
    assert passes[-1] > passes[0]
    # Run by run, from the same draws of the prior.
    assert np.all(np.array(fast.diagnostics["runs"]) > slow.diagnostics["runs"])


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["training-speed", "leave-p-out"])
def test_models_that_are_not_linear(method):
    _, data, _ = linear(2, 0, rows=12)
    model = bz.make_model("mlp", network_options={"widths": [2]})
    with pytest.raises(bz.errors.InputError, match=f"{method}: .* is not quadratic"):
        bz.log_evidence(model, data, method)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("leave-p-out", {"held_out": 13}, "held_out = 13, but there are 12 rows"),
        ("leave-p-out", {"sets": 1}, "estimator.sets = 1"),
        ("training-speed", {"k": 0}, "estimator.k = 0"),
        ("training-speed", {"draws": 5}, "unknown option"),
        ("training-losses", {"batch": 13}, "batch = 13, but there are 12 rows"),
        ("training-losses", {"learning_rate": 0.0}, "estimator.learning_rate = 0"),
    ],
)
def test_options_that_are_none(method, options, said):
    _, data, _ = linear(2, 0, rows=12)
    with pytest.raises(bz.errors.InputError, match=said):
        bz.log_evidence(linear_model(), data, method, **options)
