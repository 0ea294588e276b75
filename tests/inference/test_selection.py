"""Selection: the order, the probabilities and their errors, and what is said of doubtful ones."""

import dataclasses
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.errors import InputError, OptionError, RunError
from bnnzoo.inference import Evidence
from bnnzoo.inference.evidence import Job
from bnnzoo.inference.selection import doubts, probabilities
from bnnzoo.models.simulated import draw_dataset

sys.path.insert(0, str(Path(__file__).parent))
from _evidence import linear, linear_model

STDS = {"narrow": 0.05, "right": 1.0, "wide": 30.0}


def stds():
    return {name: linear_model(std=std) for name, std in STDS.items()}


def test_the_order_and_the_probabilities_are_those_of_the_closed_forms():
    _, data, _ = linear(5, 0)
    found = bz.select(stds(), data, "exact")
    truth = {n: bz.log_evidence(m, data, "exact").value for n, m in stds().items()}
    total = np.logaddexp.reduce(list(truth.values()))
    assert [c.name for c in found.candidates] == sorted(truth, key=lambda n: -truth[n])
    assert found.candidates[0].name == "right"
    for c in found.candidates:
        assert c.probability == pytest.approx(math.exp(truth[c.name] - total), rel=1e-6)
        assert c.interval == pytest.approx((c.probability, c.probability))
        assert c.behind == pytest.approx(truth["right"] - truth[c.name])
        assert c.distinct == (c.name != "right")
    assert "right" in str(found)


def test_prior_probabilities_weigh_in():
    _, data, _ = linear(5, 0)
    equal = bz.select(stds(), data, "exact")
    weighed = bz.select(
        stds(), data, "exact", prior_probabilities={"narrow": 1.0, "right": 1.0, "wide": 8.0}
    )
    odds = [{c.name: c.probability for c in found.candidates} for found in (equal, weighed)]
    assert odds[1]["wide"] / odds[1]["right"] == pytest.approx(
        8 * odds[0]["wide"] / odds[0]["right"]
    )


def test_errors_widen_the_interval_of_a_probability():
    """Two equal values with errors s: the log-odds are N(0, 2 s^2)."""
    share, interval = probabilities(np.zeros(2), np.array([0.5, 0.5]), np.full(2, 0.5))
    np.testing.assert_allclose(share, 0.5)
    low = 1 / (1 + math.exp(1.96 * 0.5 * math.sqrt(2)))
    # A quantile of 4,000 draws: its standard error is below 0.01 here; five of them.
    np.testing.assert_allclose(interval, [[low, low], [1 - low, 1 - low]], atol=0.05)


def _evidence(**changes):
    made = {"value": 0.0, "standard_error": 0.0, "kind": "exact", "method": "exact"}
    return Evidence(**{**made, "gradients": 0, "seconds": 0.0, **changes})


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({}, {"kind": "approximation"}, r"kinds of numbers are mixed \(approximation, exact\)"),
        (
            {"method": "laplace", "diagnostics": {"log_arrangements": 2.0}},
            {"method": "laplace", "diagnostics": {"log_arrangements": 3.0}},
            "widths differ",
        ),
        ({"kind": "lower-bound"}, {"kind": "lower-bound"}, "its gap is wider"),
        ({"kind": "approximation-bound"}, {"kind": "approximation-bound"}, "its gap is wider"),
        ({"kind": "predictive"}, {"kind": "predictive"}, "no evidences"),
        ({"data_dependent": ("prior",)}, {}, "some models, not all, .* training targets"),
        ({"warnings": ("stuck",)}, {}, r"warnings of their own: 1 \(a\)$"),
    ],
)
def test_what_makes_an_order_doubtful_is_said(first, second, said):
    found = {"a": _evidence(**first), "b": _evidence(**second)}
    assert any(re.search(said, line) for line in doubts(found, {}))
    assert not doubts({"a": _evidence(), "b": _evidence()}, {})


def test_an_estimate_that_went_wrong_is_marked_with_its_reason(monkeypatch, tmp_path):
    _, data, _ = linear(3, 0)
    whole = Job.run

    def run(job, seed):
        stuck = ("it never moved",) if job.posterior.model.prior.scale > 10 else ()
        return dataclasses.replace(whole(job, seed), warnings=stuck)

    monkeypatch.setattr(Job, "run", run)
    found = bz.select(stds(), data, "exact")
    assert found.doubts == {"it never moved": ("wide",)}
    marked = [line for line in str(found).splitlines() if line.endswith(" !")]
    assert [line.split()[0] for line in marked] == ["wide"]
    assert "! wide: it never moved" in str(found)
    found.save(tmp_path / "kept.json")
    kept = json.loads((tmp_path / "kept.json").read_text())["content"]["candidates"]
    assert {c["name"]: c["doubts"] for c in kept}["wide"] == ["it never moved"]
    assert bz.load_evidence(tmp_path / "kept.json").doubts == found.doubts


def test_a_candidate_that_fails_is_kept_and_the_others_ranked(monkeypatch):
    _, data, _ = linear(3, 0)
    whole = Job.run

    def run(job, seed):
        if job.posterior.model.prior.scale > 10:
            raise RunError("no number")
        return whole(job, seed)

    monkeypatch.setattr(Job, "run", run)
    found = bz.select(stds(), data, "exact")
    assert found.candidates[0].name == "right"
    last = found.candidates[-1]
    assert (last.name, last.evidence, last.failure) == ("wide", None, "no number")
    assert sum(c.probability for c in found.candidates[:-1]) == pytest.approx(1.0)
    assert any("1 could not be estimated" in line for line in found.warnings)


# -- grids ---------------------------------------------------------------------------------------


def test_a_grid_is_every_combination():
    models = bz.model_grid(
        {"network.depth": [1, 2], "network.width": [3, 4], "prior.name": ["laplace", "gaussian"]},
        {"network": {"activation": "relu"}},
    )
    assert len(models) == 8
    assert list(models)[:2] == [
        "depth 1, width 3, prior laplace",
        "depth 1, width 3, prior gaussian",
    ]
    spec = models["depth 2, width 4, prior laplace"].spec
    assert spec.network.options["widths"] == [4, 4]
    assert spec.network.options["activation"] == "relu"
    assert spec.prior.name == "laplace"


def test_a_network_with_a_width_of_its_own_is_varied_by_it():
    axes = {"network.width": [8, 16], "network.depth": [1, 2]}
    models = bz.model_grid(axes, {"network": {"name": "transformer"}})
    sizes = [
        (m.spec.network.options["width"], m.spec.network.options["depth"]) for m in models.values()
    ]
    assert sizes == [(8, 1), (8, 2), (16, 1), (16, 2)]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({}, "a grid needs an axis"),
        ({"network.width": 10}, "a list of values"),
        ({"network.width": []}, "a list of values"),
        ({"network.width": [0]}, "a whole number above zero"),
        ({"width": [10]}, "did you mean 'network.width'"),
        ({"network.activation": ["tan"]}, "activation = 'tan'"),
        (
            {"network.widht": [10]},
            r"did you mean 'width'\? \(choices: .* depth, .* width, widths\)",
        ),
        (
            {"network.widths": [10, 20]},
            r"each value should be a list, as network\.widths=\[\[10\], \[20\]\], and "
            r"network\.width=\[10, 20\] varies",
        ),
        ({"network.name": ["cnn"], "network.width": [3]}, r"grid\.network\.width of network 'cnn'"),
        ({"prior.name": ["gausian"]}, "did you mean 'gaussian'"),
    ],
)
def test_grids_that_are_none(axes, said):
    with pytest.raises(InputError, match=said):
        bz.model_grid(axes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": {"a": linear_model()}}, "at least two"),
        ({"models": [linear_model(), linear_model()]}, "two models have one label"),
        ({"method": {"narrow": "exact"}}, "is in only one of models and method"),
        ({"prior_probabilities": {"narrow": 1.0}}, "is in only one of models"),
        (
            {"prior_probabilities": {"narrow": 1.0, "right": -1.0, "wide": 1.0}},
            "a number above zero",
        ),
    ],
)
def test_what_cannot_be_ranked_is_said_before_any_work(change, said, monkeypatch):
    monkeypatch.setattr("bnnzoo.inference.evidence.Job.run", None)
    _, data, _ = linear(3, 0)
    given = {"models": stds(), "method": "exact", **change}
    with pytest.raises((InputError, OptionError), match=said):
        bz.select(given.pop("models"), data, **given)


def test_one_model_that_cannot_be_treated_stops_all_before_any_work(monkeypatch):
    monkeypatch.setattr("bnnzoo.inference.evidence.Job.run", None)
    _, data, _ = linear(3, 0)
    big = bz.make_model(network_options={"widths": [1500]})
    with pytest.raises(InputError, match="need a dense matrix"):
        bz.select({"small": linear_model(), "big": big}, data, "exact")


# -- calibration ---------------------------------------------------------------------------------


def _standing(models, method, draws, **options):
    """Of models drawn at random, data drawn from them: hits, chance, and how probable was said.

    Args:
        models: by name.
        method: estimator.
        draws: how many.
        **options: of the estimator.

    Returns:
        Whether the true model came first ``(draw,)``, the first one's probability, and the
        probability of the true one.
    """
    rng = np.random.default_rng(0)
    names, first, said, truth = list(models), [], [], []
    x = rng.normal(size=(30, 2))
    for draw in range(draws):
        name = names[rng.integers(len(names))]
        data = draw_dataset(models[name], x, seed=draw)
        found = bz.select(models, data, method, seed=draw, progress=False, **options)
        first.append(found.candidates[0].name == name)
        said.append(found.candidates[0].probability)
        truth.append(next(c.probability for c in found.candidates if c.name == name))
    return np.array(first), np.array(said), np.array(truth)


def _network(widths, std):
    return bz.make_model(
        network_options={"widths": widths},
        prior_options={"std": std},
        likelihood_options={"noise": "fixed", "noise_std": 0.2},
    )


@pytest.mark.validate
@pytest.mark.parametrize("kind", ["linear", "network"])
def test_stated_probabilities_are_those_of_being_right(kind, record_property):
    """200 draws. z of hits minus stated probabilities within 4: one false alarm in 16,000.

    The true model has to be first more often than a third of the time, its chance, by 4 standard
    errors of a binomial.
    """
    if kind == "linear":
        models = {f"std {std}": linear_model(std=std) for std in (0.3, 1.0, 3.0)}
        first, said, truth = _standing(models, "exact", 200)
    else:
        models = {
            "linear": _network([], 1.0),
            "3 units": _network([3], 1.0),
            "3 wild units": _network([3], 4.0),
        }
        first, said, truth = _standing(models, "smc", 200, particles=128)
    z = (first - said).sum() / math.sqrt((said * (1 - said)).sum())
    record_property("true model first", round(float(first.mean()), 3))
    record_property("z of calibration", round(float(z), 2))
    record_property("mean probability of the true model", round(float(truth.mean()), 3))
    assert abs(z) < 4
    assert first.mean() > 1 / 3 + 4 * math.sqrt(2 / 9 / 200)
