"""How many arrangements a Gaussian tells apart, against sums over all of them."""

from __future__ import annotations

import itertools
import math
import os

import numpy as np
import pytest
from scipy.special import logsumexp

from bnnzoo.inference.symmetries import HiddenLayer
from bnnzoo.inference.told_apart import log_told_apart

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
DRAWS = 2000


def layer_of(units, odd):
    """Units of two ingoing weights and one outgoing, in that order."""
    ingoing = np.arange(2 * units).reshape(units, 2)
    return HiddenLayer(ingoing, 2 * units + np.arange(units).reshape(units, 1), odd)


def gaussian(units, apart, random):
    """A centre and draws about it, correlated between units, whose widths differ by weight."""
    centre = apart * random.normal(size=3 * units)
    root = np.diag(random.uniform(0.5, 1.5, 3 * units)) + 0.2 * random.normal(
        size=(3 * units, 3 * units)
    )
    return centre, root, centre + random.normal(size=(DRAWS, 3 * units)) @ root.T


def found_of(layer, centre, root, draws):
    widths = np.sqrt(np.diag(root @ root.T))
    return log_told_apart((layer,), centre, widths, draws)


def information(layer, centre, root, draws):
    """Of a point about the copy it was drawn of: all copies' densities, and its error."""
    units, precision = layer.units, np.linalg.inv(root @ root.T)
    index = np.concatenate([layer.ingoing, layer.outgoing], axis=1)
    signs = itertools.product([1, -1] if layer.odd else [1], repeat=units)
    logs, home = [], None
    for order, sign in itertools.product(itertools.permutations(range(units)), list(signs)):
        copy = np.empty_like(draws)
        copy[:, index] = np.asarray(sign)[:, None] * draws[:, index[list(order)]]
        away = copy - centre
        logs.append(-0.5 * np.einsum("ni,ij,nj->n", away, precision, away))
        if order == tuple(range(units)) and min(sign) == 1:
            home = logs[-1]
    each = math.log(len(logs)) + home - logsumexp(logs, axis=0)
    return each.mean(), each.std(ddof=1) / math.sqrt(len(each))


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("units", [1, 2, 3])
@pytest.mark.parametrize("apart", [0.2, 0.8, 3.0])
def test_it_is_at_most_what_a_point_tells_of_its_copy(units, apart, odd):
    """The mutual information by all copies' true densities is passed by at most 4.5 of its errors:
    once in 3e5 by chance for each of the 18, were the bound tight in all of them."""
    random = np.random.default_rng([SEED, units, odd])
    layer = layer_of(units, odd)
    centre, root, draws = gaussian(units, apart, random)
    exact, error = information(layer, centre, root, draws)
    found = found_of(layer, centre, root, draws)
    assert 0.0 <= found.log_count <= layer.log_count
    assert found.log_count <= exact + 4.5 * math.hypot(error, found.standard_error)


def test_one_units_sign_is_told_as_well_as_can_be():
    """A unit of independent weights: q is the true posterior of the sign, so that the bound is the
    information, here by quadrature along the one direction that tells; within 4.5 errors."""
    random = np.random.default_rng(SEED)
    centre, layer = np.array([0.6, -0.3, 0.4]), layer_of(1, True)
    draws = centre + random.normal(size=(20_000, 3))
    found = log_told_apart((layer,), centre, np.ones(3), draws)
    grid = np.linspace(-10, 10, 4001)
    m = np.linalg.norm(centre)
    density = np.exp(-0.5 * (grid - m) ** 2) / math.sqrt(2 * math.pi)
    lost = np.trapezoid(density * np.log1p(np.exp(-2 * m * grid)), grid)
    assert found.log_count == pytest.approx(math.log(2) - lost, abs=4.5 * found.standard_error)
    assert found.standard_error < 0.01


def test_modes_that_are_far_apart_count_all_and_equal_units_none():
    """Exactly all where another copy has no density, and nothing where units have one Gaussian."""
    random = np.random.default_rng(SEED)
    layer = layer_of(4, True)
    centre = 100.0 * (1 + np.arange(12.0))
    far = log_told_apart((layer,), centre, np.ones(12), centre + random.normal(size=(64, 12)))
    assert far.log_count == pytest.approx(math.lgamma(5) + 4 * math.log(2))
    none = log_told_apart((layer,), np.zeros(12), np.ones(12), random.normal(size=(64, 12)))
    assert none.log_count == 0.0


def test_layers_add_up_and_a_later_one_does_not_tell_of_an_earlier():
    """Weights between two layers are rearranged by both: the first is told by what comes in."""
    random = np.random.default_rng(SEED)
    first = HiddenLayer(np.arange(3)[:, None], 3 + np.arange(6).reshape(3, 2), False)
    second = HiddenLayer(first.outgoing.T, 9 + np.arange(2)[:, None], False)
    centre = np.concatenate([np.zeros(3), 50.0 * np.arange(1, 9)])
    draws = centre + random.normal(size=(64, 11))
    found = log_told_apart((first, second), centre, np.ones(11), draws)
    # Ingoing weights of the first are all alike: only the second's two units are told.
    assert found.log_count == pytest.approx(math.log(2))


@pytest.mark.parametrize("apart", [0.8, 1.5, 3.0])
def test_of_independent_units_little_is_lost(apart):
    """Where the Gaussians of q are the true ones, what is lost is that places are given one by one:
    at least four fifths of the information of three units with signs is left, and never more."""
    random = np.random.default_rng(SEED)
    layer, centre = layer_of(3, True), apart * random.normal(size=9)
    root = np.diag(random.uniform(0.5, 1.5, 9))
    draws = centre + random.normal(size=(DRAWS, 9)) @ root.T
    exact, _ = information(layer, centre, root, draws)
    found = found_of(layer, centre, root, draws)
    print(apart, found, exact)
    assert 0.8 * exact < found.log_count < exact + 4.5 * found.standard_error


def test_widths_of_few_draws_tell_nothing_of_units_that_are_alike():
    """Five hundred weights a unit and 64 draws for the widths: nothing, of 2^20 20!."""
    random = np.random.default_rng(SEED)
    ingoing, outgoing = np.arange(20 * 499).reshape(20, 499), 20 * 499 + np.arange(20)[:, None]
    layer, size = HiddenLayer(ingoing, outgoing, True), 20 * 500
    widths = np.sqrt(np.mean(random.normal(size=(64, size)) ** 2, axis=0))
    found = log_told_apart((layer,), np.zeros(size), widths, random.normal(size=(64, size)))
    assert found.log_count == 0.0
