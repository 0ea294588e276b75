"""Nested sampling: volumes from births and deaths, plateaus, and its evidences."""

import itertools
import math
import sys
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

import bnnzoo as bz
from bnnzoo.inference.nested_volumes import Deaths, evidence

sys.path.insert(0, str(Path(__file__).parent))
from _evidence import linear, linear_model, scores, tanh_unit_pair

METHODS = ("smc", "nested", "bridge")

SMALL = {"live": 100, "batch": 20}


# -- volumes -------------------------------------------------------------------------------------


def _ideal(likelihood, volume_above, rng, live=50, batch=10, steps=60):
    """A run on a prior that is uniform on (0, 1), with perfect draws above every contour.

    Args:
        likelihood: log-likelihood at points, falling.
        volume_above: prior volume where it exceeds a contour.
        rng: of the draws.
        live: points.
        batch: deaths at a time.
        steps: batches.
    """
    points = likelihood(rng.uniform(size=live))
    births = np.full(live, np.nan)
    dead = [np.zeros((2, 0))]
    for _ in range(steps):
        order = np.argsort(points, kind="stable")[:batch]
        level = points[order].max()
        if not np.any(points > level):
            break
        dead.append(np.stack([points[order], births[order]]))
        points[order] = likelihood(volume_above(level) * rng.uniform(size=batch))
        births[order] = level
    return Deaths(*np.concatenate([*dead, np.stack([points, births])], axis=1))


def _slope(x):
    return -10.0 * x


def _step(x):
    """Zero likelihood on 70 % of the prior, a plateau on 10 %, a slope on the rest."""
    return np.where(x > 0.3, -np.inf, np.where(x > 0.2, -3.0, -10.0 * x))


def _above(level):
    return 0.3 if np.isneginf(level) else min(-level / 10.0, 0.2)


@pytest.mark.parametrize(
    ("likelihood", "above", "truth"),
    [
        (_slope, lambda level: -level / 10.0, math.log((1 - math.exp(-10)) / 10)),
        (_step, _above, math.log(0.1 * math.exp(-3) + (1 - math.exp(-2)) / 10)),
    ],
    ids=["slope", "plateaus"],
)
def test_volumes_of_ideal_runs(likelihood, above, truth):
    """z of 100 runs: mean within 4 / sqrt(100), std within 0.72 to 1.28, four errors of a std."""
    rng = np.random.default_rng(0)
    found = [evidence(_ideal(likelihood, above, rng), rng, 100) for _ in range(100)]
    z = np.array([(v.log_z - truth) / v.standard_error for v in found])
    assert abs(z.mean()) < 0.4
    assert 0.72 < z.std(ddof=1) < 1.28


def test_merged_runs_are_one_with_all_their_points():
    rng = np.random.default_rng(0)
    runs = [_ideal(_slope, lambda level: -level / 10.0, rng) for _ in range(4)]
    merged = evidence(Deaths(*(np.concatenate(v) for v in zip(*runs, strict=True))), rng)
    single = np.mean([evidence(run, rng).standard_error for run in runs])
    # Four times the live points; each error is known to 5 %, by 200 simulations.
    assert merged.standard_error == pytest.approx(single / 2, rel=0.25)
    assert merged.log_z == pytest.approx(math.log(0.1), abs=4 * merged.standard_error)


# -- likelihoods with holes and plateaus ---------------------------------------------------------


def _cut(x, y=None):
    """A mean that is no number below a threshold: x holds threshold and slope."""
    w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    loc = jnp.where(w > x[0, 0], x[0, 1] * w, jnp.inf)
    numpyro.sample("y", dist.Normal(jnp.broadcast_to(loc, (x.shape[0],)), 1.0), obs=y)


Y = np.array([0.3, 1.2, 1.9])


def _cut_evidence(threshold, slope, **options):
    x = np.tile([threshold, slope], (3, 1))
    data = bz.make_dataset(x, Y, task="regression", scale="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bz.errors.DataWarning)  # columns that are constant
        return bz.log_evidence(_cut, data, "nested", **SMALL, **options)


@pytest.mark.validate
@pytest.mark.parametrize("seed", range(3))
def test_a_region_without_likelihood_has_its_volume(seed):
    """84 % of the prior has none: 200 live points, 4 errors; one run in 16,000 fails."""

    def density(w):
        return stats.norm.pdf(w) * np.prod(stats.norm.pdf(Y - w))

    truth = math.log(integrate.quad(density, 1.0, 8.0)[0])
    said = _cut_evidence(1.0, 1.0, seed=seed)
    assert abs(said.value - truth) < 4 * said.standard_error
    assert said.standard_error < 0.3


@pytest.mark.validate
def test_a_constant_likelihood_is_the_evidence():
    """Nothing to climb: the plateau is seen, and Z is its height."""
    said = _cut_evidence(-50.0, 0.0)
    assert said.value == pytest.approx(stats.norm.logpdf(Y).sum(), abs=1e-5)
    assert said.standard_error < 1e-6
    assert said.diagnostics["iterations"] == 0


@pytest.mark.validate
def test_no_likelihood_at_any_draw_is_an_error():
    with pytest.raises(bz.errors.RunError, match="likelihood is 0 at all 100 draws"):
        _cut_evidence(50.0, 1.0)


# -- evidences -----------------------------------------------------------------------------------


@pytest.mark.validate
def test_nested_sampling_of_linear_models():
    """z of 4 seeds: a mean of 4 / sqrt(4) is met by one right estimator in 10,000."""
    z, errors = scores("nested", 5, range(4), **SMALL)
    assert abs(z.mean()) < 2.0
    assert np.all(np.abs(z) < 5)
    assert np.all(errors <= 0.3)


@pytest.mark.validate
def test_too_few_slices_are_seen():
    """One slice in 21 dimensions leaves a new point beside its copy: ranks and runs tell."""
    model, data, truth = linear(20, 1)
    said = bz.log_evidence(model, data, "nested", slices=1)
    assert abs(said.value - truth) > 5 * said.standard_error
    runs = said.diagnostics["log_z"]
    assert said.standard_error >= 0.999 * np.std(runs, ddof=1) / math.sqrt(len(runs))
    assert any("not spread over the live ones" in line for line in said.warnings)
    assert any("new points are not independent" in line for line in said.warnings)


@pytest.mark.validate
@pytest.mark.parametrize(("features", "seeds"), [(5, 100), (20, 100), (100, 4)])
def test_nested_sampling_is_calibrated_on_linear_models(features, seeds, record_property):
    """Mean of z within 4 / sqrt(seeds); std of 100 z within 0.7 and 1.4, four errors as well.

    A hundred features are four minutes of two cores each, whence 4 seeds and no bound on their std.
    """
    z, errors = scores("nested", features, range(seeds))
    record_property("mean z", round(float(z.mean()), 3))
    record_property("std z", round(float(z.std(ddof=1)), 3))
    record_property("largest standard error", round(float(errors.max()), 3))
    assert abs(z.mean()) <= 4 / math.sqrt(seeds)
    assert seeds < 100 or 0.7 <= z.std(ddof=1) <= 1.4
    assert np.all(errors <= 0.3)


@pytest.mark.validate
def test_nested_sampling_is_calibrated_on_a_network(record_property):
    """50 seeds: mean of z within 4 / sqrt(50), std within 0.6 and 1.4, four of its errors."""
    z = []
    for seed in range(50):
        model, data, truth = tanh_unit_pair(seed)
        said = bz.log_evidence(model, data, "nested", seed=seed)
        z.append((said.value - truth) / said.standard_error)
    record_property("mean z", round(float(np.mean(z)), 3))
    record_property("std z", round(float(np.std(z, ddof=1)), 3))
    assert abs(np.mean(z)) < 4 / math.sqrt(50)
    assert 0.6 < np.std(z, ddof=1) < 1.4


@pytest.mark.validate
@pytest.mark.parametrize("seed", range(3))
def test_three_roads_lead_to_one_evidence(seed, record_property):
    """1x3 tanh with biases and learned noise on 20 points: smc, nested and bridge, pair by pair.

    Four standard errors of the difference: one of the nine pairs is apart by chance in 1,700.
    """
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-2, 2, 20))
    y = np.sin(2 * x) + 0.2 * rng.normal(size=20)
    data = bz.make_dataset(x[:, None], y, task="regression")
    model = bz.make_model("mlp", network_options={"widths": [3], "activation": "tanh"})
    found = {name: bz.log_evidence(model, data, name, seed=seed) for name in METHODS}
    for name, said in found.items():
        record_property(name, str(said))
        assert said.standard_error <= 0.3
    for a, b in itertools.combinations(found.values(), 2):
        error = math.hypot(a.standard_error, b.standard_error)
        assert abs(a.value - b.value) < 4 * error


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"live": 1}, "estimator.live = 1"),
        ({"live": 100, "batch": 60}, "batch = 60 is more than half of live = 100"),
        ({"remaining": 2.0}, "estimator.remaining = 2"),
        ({"point": 3}, "unknown option"),
    ],
)
def test_options_that_are_none(options, said):
    _, data, _ = linear(2, 0)
    with pytest.raises(bz.errors.InputError, match=said):
        bz.log_evidence(linear_model(), data, "nested", **options)
