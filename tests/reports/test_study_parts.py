"""What single studies are made of, against closed forms and hand-made cells."""

from __future__ import annotations

import numpy as np
import pytest

from bnnzoo.reports.studies import _bounds, hmc_posteriors
from bnnzoo.reports.studies._corrupted import KINDS, LEVELS, corrupted
from bnnzoo.reports.studies._digits import difference, digits
from bnnzoo.reports.study import Cell, Results


def test_corruption_is_drawn_once_and_grows_with_its_level():
    data = digits(0)
    made = corrupted(data.x_test)
    assert list(made) == [(kind, level) for level in LEVELS for kind in KINDS]
    again = corrupted(data.x_test)
    for key, images in made.items():
        assert images.shape == data.x_test.shape and images.min() >= 0.0 and images.max() <= 16.0
        np.testing.assert_array_equal(images, again[key])
    for kind in KINDS:
        far = [np.abs(made[kind, level] - data.x_test).mean() for level in LEVELS]
        assert 0.0 < far[0] < far[1] < far[2]


def test_a_shift_moves_the_image_by_its_length():
    """The centre of a blot in the middle of an empty image, which linear interpolation keeps."""
    image = np.zeros((50, 8, 8))
    image[:, 3:5, 3:5] = 8.0
    made = corrupted(image.reshape(50, 64))
    places = np.arange(8.0)
    for level, length in zip(LEVELS, (0.25, 0.5, 0.75), strict=True):
        moved = made["shift", level].reshape(50, 8, 8)
        mass = moved.sum((1, 2))
        down = (moved.sum(2) * places).sum(1) / mass - 3.5
        right = (moved.sum(1) * places).sum(1) / mass - 3.5
        np.testing.assert_allclose(np.hypot(down, right), length, atol=1e-6)
        np.testing.assert_allclose(mass, 32.0, rtol=1e-6)


def cells(away):
    """Two training sets, five rows; a method's probabilities lie so far from HMC's."""
    listed, measured = [], {}
    for method, by_split in away.items():
        for split, tv in enumerate(by_split):
            cell = Cell(f"{method}-{split}", {"method": method, "split": split})
            listed.append(cell)
            measured[cell.name] = {"probabilities": [[0.7 - tv, 0.3 + tv]] * 5}
    return Results(listed, measured)


def test_ranking_counts_pairs_in_the_published_order():
    order = hmc_posteriors.PUBLISHED
    inner = [0.05, 0.1, 0.15, 0.3]
    found = cells({"hmc": [0.0, 0.0]} | {m: [v, v] for m, v in zip(order, inner, strict=True)})
    assert hmc_posteriors._ranked(found).value == 1.0
    # In the second set the order is reversed: none of its six pairs is right.
    turned = dict(zip(order, zip(inner, inner[::-1], strict=True), strict=True))
    found = cells({"hmc": [0.0, 0.0]} | {m: list(v) for m, v in turned.items()})
    assert hmc_posteriors._ranked(found).value == 0.5
    np.testing.assert_allclose(hmc_posteriors._distance(found, order[0]).mean(1), [0.05, 0.3])


def test_a_difference_names_what_it_covers():
    a = np.random.default_rng(0).normal(size=(3, 40))
    said = difference(a + 1.0, a)
    assert said.value == pytest.approx(1.0) and said.low <= said.value <= said.high
    assert said.covers == "training sets and test rows"


@pytest.mark.validate
@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_gaps_of_linear_models_are_those_of_the_closed_form(correlation):
    """Mean field: half of sum log P_jj - log det P, P the precision (Bishop 2006, sec. 10.1.2).

    4,000 draws of a log ratio whose standard deviation is below 4: five errors are 0.32 nats.
    """
    stds = [0.3, 1.0, 3.0]
    found = _bounds.linear(5, correlation, stds, 3000)
    random = np.random.default_rng([1, 5])
    spread = correlation * np.ones((10, 10)) + (1 - correlation) * np.eye(10)
    x = random.normal(size=(30, 10)) @ np.linalg.cholesky(spread).T
    for k, std in enumerate(stds):
        precision = x.T @ x / 0.25 + np.eye(10) / std**2
        gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
        assert found["evidence"][k] - found["mean-field-vi"][k] == pytest.approx(gap, abs=0.32)
        assert found["evidence"][k] - found["full-rank-vi"][k] == pytest.approx(0.0, abs=1e-3)
        assert found["mean-field-vi"][k] - 0.32 < found["low-rank-vi"][k]
        assert found["low-rank-vi"][k] < found["evidence"][k] + 0.32
