"""Bridge sampling: the bridge itself, its domain of arrangements, and its evidences."""

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import bnnzoo as bz
from bnnzoo.inference.bridging import bridge, fit_mixture
from bnnzoo.inference.symmetries import Reference, hidden_layers, nearest

sys.path.insert(0, str(Path(__file__).parent))
from _evidence import linear, linear_model, scores, tanh_unit_pair

SHORT = {"backend": "hmc", "chains": 2, "draws": 600, "warmup": 300, "components": 1}


# -- the bridge ----------------------------------------------------------------------------------


def _pair(seed, shift, draws=400):
    """log p - log q of N(shift, 1) e^3 and N(0, 1), at draws from either."""
    rng = np.random.default_rng(seed)

    def ratio(x):
        return stats.norm.logpdf(x, shift) + 3.0 - stats.norm.logpdf(x)

    return ratio(shift + rng.normal(size=(4, draws // 4))), ratio(rng.normal(size=draws))


def test_the_bridge_between_two_gaussians():
    """z of 200 pairs: mean within 4 / sqrt(200); std within 0.8 to 1.2, four errors of a std."""
    found = [bridge(*_pair(seed, 1.5)) for seed in range(200)]
    z = np.array([(b.log_z - 3.0) / b.standard_error for b in found])
    assert abs(z.mean()) < 4 / math.sqrt(200)
    assert 0.8 < z.std(ddof=1) < 1.2


def test_the_bridge_is_the_fixed_point_of_meng_and_wong():
    target, proposal = _pair(0, 1.0)
    b = bridge(target, proposal)
    effective = min(_ess(target), target.size)
    s1 = effective / (effective + proposal.size)
    r = 1.0
    for _ in range(1000):
        w, v = np.exp(proposal), np.exp(target.ravel())
        r = np.mean(w / (s1 * w + (1 - s1) * r)) / np.mean(1 / (s1 * v + (1 - s1) * r))
    assert b.log_z == pytest.approx(math.log(r), abs=1e-8)


def _ess(values):
    from arviz_stats.base import array_stats

    return float(array_stats.ess(values, method="mean"))


def test_equal_densities_have_no_error():
    b = bridge(np.full((2, 50), 1.5), np.full(100, 1.5))
    assert (b.log_z, b.standard_error, b.overlap) == pytest.approx((1.5, 0.0, 1.0))


def test_density_of_a_mixture():
    rng = np.random.default_rng(0)
    which = rng.random(800) < 0.3
    us = np.where(which[:, None], [-3.0, 10.0], [3.0, 20.0]) + rng.normal(size=(800, 2))
    mixture = fit_mixture(us, 4, 0)
    assert mixture.components >= 2
    expected = sum(
        np.exp(w) * stats.multivariate_normal(m, root @ root.T).pdf(us[:5])
        for w, m, root in zip(*mixture, strict=True)
    )
    np.testing.assert_allclose(np.exp(mixture.log_density(us[:5])), expected, rtol=1e-9)
    drawn = mixture.sample(rng, 4000)
    np.testing.assert_allclose(drawn.mean(0), us.mean(0), atol=0.5)  # 4 errors of std 4.7


# -- arrangements --------------------------------------------------------------------------------


@pytest.mark.validate
def test_one_of_all_equivalent_points_is_nearest():
    """All 384 arrangements of a point go to one, which alone is not moved."""
    widths = [3, 2]
    _, data, _ = linear(2, 0)
    model = bz.make_model("mlp", network_options={"widths": widths, "activation": "tanh"})
    posterior = bz.Posterior(model, data)
    layers = hidden_layers(posterior)
    assert len(layers) == len(widths)
    rng = np.random.default_rng(0)
    dim = posterior.dimension
    reference = Reference(rng.normal(size=dim), rng.uniform(0.5, 2.0, dim))
    copies = [rng.normal(size=dim)]
    for layer in layers:
        copies = [_arranged(layer, u, o, s) for u in copies for o, s in _all(layer.units)]
    assert len(copies) == math.prod(2**w * math.factorial(w) for w in widths)
    found, moved = nearest(layers, np.stack(copies), reference)
    np.testing.assert_array_equal(found, np.broadcast_to(found[0], found.shape))
    assert moved.sum() == len(copies) - 1
    again, still = nearest(layers, found[:1], reference)
    assert not still.any()
    np.testing.assert_array_equal(again, found[:1])


def _all(units):
    orders = itertools.permutations(range(units))
    return itertools.product(map(list, orders), itertools.product([1.0, -1.0], repeat=units))


def _arranged(layer, u, order, signs):
    u = u.copy()
    for index in (layer.ingoing, layer.outgoing):
        u[index] = (np.array(signs)[:, None] * u[index])[order]
    return u


# -- evidences -----------------------------------------------------------------------------------


@pytest.mark.validate
def test_bridges_of_linear_models():
    """z of 3 seeds: a mean of 4 / sqrt(3) is met by one right estimator in 10,000."""
    z, errors = scores("bridge", 5, range(3), **SHORT)
    assert abs(z.mean()) < 4 / math.sqrt(3)
    assert np.all(errors <= 0.1)


@pytest.mark.validate
def test_a_bridge_counts_every_arrangement():
    """Two tanh units, 8 arrangements, by quadrature. Without them log 8 = 2.08 nats are lost."""
    model, data, truth = tanh_unit_pair(0)
    said = bz.log_evidence(model, data, "bridge", seed=0, **SHORT | {"components": 4})
    assert said.diagnostics["log_arrangements"] == pytest.approx(math.log(8))
    assert said.standard_error < 0.15
    assert abs(said.value - truth) < 4 * said.standard_error


@pytest.mark.validate
def test_bridges_are_calibrated_on_a_network(record_property):
    """20 seeds: mean of z within 4 / sqrt(20), std within 0.5 and 1.5, three of its errors."""
    z = []
    for seed in range(20):
        model, data, truth = tanh_unit_pair(seed)
        said = bz.log_evidence(model, data, "bridge", seed=seed)
        z.append((said.value - truth) / said.standard_error)
    record_property("mean z", round(float(np.mean(z)), 3))
    record_property("std z", round(float(np.std(z, ddof=1)), 3))
    assert abs(np.mean(z)) < 4 / math.sqrt(20)
    assert 0.5 < np.std(z, ddof=1) < 1.5


@pytest.mark.validate
@pytest.mark.parametrize("features", [5, 20, 100])
def test_bridges_are_calibrated_on_linear_models(features, record_property):
    """100 seeds. Mean of z within 0.4, four standard errors; std 0.7 to 1.4 is four as well."""
    z, errors = scores("bridge", features, range(100), backend="hmc", draws=1000, warmup=500)
    record_property("mean z", round(float(z.mean()), 3))
    record_property("std z", round(float(z.std(ddof=1)), 3))
    record_property("largest standard error", round(float(errors.max()), 3))
    assert abs(z.mean()) <= 0.4
    assert 0.7 <= z.std(ddof=1) <= 1.4
    assert np.all(errors <= 0.3)


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "nut"}, "did you mean 'nuts'"),
        ({"backend": "map"}, "'map'"),
        ({"chains": 1}, "estimator.chains = 1"),
        ({"draws": 10}, "estimator.draws = 10"),
        ({"options": {"max_depth": 3}}, "unknown option options.max_depth"),
    ],
)
def test_options_that_are_none(options, said):
    _, data, _ = linear(2, 0)
    with pytest.raises(bz.errors.InputError, match=said):
        bz.log_evidence(linear_model(), data, "bridge", **options)
