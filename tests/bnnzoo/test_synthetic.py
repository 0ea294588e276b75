"""Simulated data against the formula they are defined by, and against scikit-learn.

Random: noise at 6 standard errors, below 2e-9 each; Kolmogorov-Smirnov at 1e-6.
"""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from bnnzoo.datasets import friedman_1, heteroscedastic_sine, load_dataset, two_moons
from bnnzoo.errors import OptionError
from bnnzoo.registry import describe

NAMES = ["friedman-1", "heteroscedastic-sine", "step", "two-moons"]
REGRESSIONS = NAMES[:3]


def rows(data, name):
    """An array of training and test rows together."""
    return np.concatenate([getattr(data, name), getattr(data, f"{name}_test")])


def truth(data, name):
    return np.concatenate([data.truth[name], data.truth[f"{name}_test"]])


@pytest.mark.parametrize("name", NAMES)
def test_truth_goes_with_every_row(name):
    data = load_dataset(name, n=30, n_test=7, seed=3)
    assert (data.rows, data.test_rows) == (30, 7)
    for part, count in (("f", 30), ("noise", 30), ("f_test", 7), ("noise_test", 7)):
        assert data.truth[part].shape == (count,)
    assert data.hash == load_dataset(name, n=30, n_test=7, seed=3).hash
    assert data.hash != load_dataset(name, n=30, n_test=7, seed=4).hash
    assert load_dataset(name, **data.source).scale == "auto"
    assert load_dataset(name, scale="none").scale == "none"


@pytest.mark.parametrize("name", NAMES)
def test_there_need_be_no_test_rows(name):
    data = load_dataset(name, n=10, n_test=0)
    assert data.x_test is None
    assert set(data.truth) == {"f", "noise"}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_the_noise_is_as_large_as_truth_says(name):
    data = load_dataset(name, n=20_000, n_test=20_000, seed=1)
    for y, f, noise in (
        (data.y, data.truth["f"], data.truth["noise"]),
        (data.y_test, data.truth["f_test"], data.truth["noise_test"]),
    ):
        kept = noise > 1e-9
        unit = (y - f)[kept] / noise[kept]
        assert stats.kstest(unit, "norm").pvalue > 1e-6
        np.testing.assert_array_equal(y[~kept], f[~kept])
    doubled = load_dataset(name, n=100, noise=2 * describe_default(name, "noise"), seed=1)
    single = load_dataset(name, n=100, seed=1)
    np.testing.assert_allclose(doubled.truth["noise"], 2 * single.truth["noise"])


def describe_default(name, option):
    (parameter,) = (p for p in describe("datasets", name).parameters if p.name == option)
    return parameter.default


def test_heteroscedastic_sine_is_its_formula():
    data = load_dataset("heteroscedastic-sine", n=30_000, seed=2, noise=1.5)
    x = rows(data, "x")[:, 0]
    np.testing.assert_allclose(truth(data, "f"), 7 * np.sin(x))
    np.testing.assert_allclose(truth(data, "noise"), 1.5 * np.abs(np.cos(x / 2)))
    np.testing.assert_allclose(data.x_test[[0, -1], 0], [-6, 6])

    def cdf(value):
        parts = zip(heteroscedastic_sine.CENTRES, heteroscedastic_sine.SPREADS, strict=True)
        return np.mean([stats.norm.cdf(value, *part) for part in parts], axis=0)

    assert stats.kstest(data.x[:, 0], cdf).pvalue > 1e-6


def test_step_is_its_formula():
    data = load_dataset("step", n=5000, seed=2)
    np.testing.assert_array_equal(truth(data, "f"), rows(data, "x")[:, 0] > 0)
    assert set(truth(data, "noise")) == {0.1}
    assert stats.kstest(data.x[:, 0], stats.uniform(-1, 2).cdf).pvalue > 1e-6
    np.testing.assert_allclose(data.x_test[[0, -1], 0], [-2, 2])


@pytest.mark.parametrize("irrelevant", [0, 5, 20])
def test_friedman_1_is_that_of_scikit_learn(irrelevant):
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(50, 5 + irrelevant, noise=0.0, random_state=0)
    np.testing.assert_allclose(friedman_1.function(x), y)
    data = load_dataset("friedman-1", irrelevant=irrelevant, n=5000)
    assert data.in_shape == (5 + irrelevant,)
    np.testing.assert_allclose(truth(data, "f"), friedman_1.function(rows(data, "x")))
    assert stats.kstest(rows(data, "x").ravel(), stats.uniform.cdf).pvalue > 1e-6


def test_two_moons_have_the_shape_of_scikit_learns():
    from sklearn.datasets import make_moons

    x, label = make_moons(100, shuffle=False, noise=None)
    angle = np.linspace(0, np.pi, 50)
    for number in (0, 1):
        np.testing.assert_allclose(two_moons.moon(angle, number), x[label == number], atol=1e-15)


def test_two_moons_are_gaussian_around_uniform_places_on_their_moon():
    data = load_dataset("two-moons", n=20_000, n_test=10, noise=0.01, seed=5)
    assert abs(data.y.mean() - 0.5) < 6 * 0.5 / np.sqrt(20_000)
    for label in (0, 1):
        x = data.x[data.y == label]
        circle = np.array([1.0, 0.5]) - x if label else x
        radius, angle = np.hypot(*circle.T), np.arctan2(circle[:, 1], circle[:, 0])
        # With noise this small the radius is 1 + N(0, noise^2) up to terms of order noise^2.
        assert abs(radius.std() / 0.01 - 1) < 6 / np.sqrt(2 * len(x)) + 0.01
        inner = angle[(angle > 0.1) & (angle < np.pi - 0.1)]
        assert stats.kstest(inner, stats.uniform(0.1, np.pi - 0.2).cdf).pvalue > 1e-6


@pytest.mark.parametrize("noise", [0.02, 0.2, 1.0])
def test_the_true_log_odds_are_those_of_the_integral(noise):
    data = load_dataset("two-moons", n=6, n_test=4, noise=noise)

    def log_density(point, label):
        def exponent(angle):
            place = two_moons.moon(np.array([angle]), label)[0]
            return -((point - place) ** 2).sum() / (2 * noise**2)

        pieces = np.linspace(0, np.pi, 61)
        largest = max(map(exponent, pieces))  # so that nothing underflows
        parts = [
            integrate.quad(lambda t: np.exp(exponent(t) - largest), a, b, epsabs=0, epsrel=1e-9)[0]
            for a, b in pairwise(pieces)
        ]
        return largest + np.log(sum(parts))

    for point, value in zip(rows(data, "x"), truth(data, "f"), strict=True):
        assert np.isclose(value, log_density(point, 1) - log_density(point, 0), rtol=1e-7)


def test_the_true_log_odds_are_calibrated():
    data = load_dataset("two-moons", n=20_000, n_test=0, noise=0.4, seed=9)
    probability = 1 / (1 + np.exp(-data.truth["f"]))
    for low in np.arange(0, 1, 0.2):
        inside = (probability >= low) & (probability < low + 0.2)
        expected, variance = probability[inside].sum(), (probability * (1 - probability))[inside]
        assert inside.sum() > 500
        assert abs(data.y[inside].sum() - expected) < 6 * np.sqrt(variance.sum())


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("step", "noise", 0.0),
        ("step", "n", 3),
        ("friedman-1", "irrelevant", -1),
        ("two-moons", "n_test", -1),
        ("two-moons", "noise", 0.005),
        ("heteroscedastic-sine", "seed", -1),
    ],
)
def test_impossible_options_are_refused(name, option, value):
    with pytest.raises(OptionError, match=f"data.{option} = {value}"):
        load_dataset(name, **{option: value})
