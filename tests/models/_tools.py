"""Seeds, and tests of samples against a law with a stated rate of false alarms."""

import os

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
"""Moves every random number of these tests: for trying other seeds by hand."""

ALARM = 1e-6
"""Rate of false alarms of each single comparison; there are about 300 in tests/models."""

Z = float(stats.norm.isf(ALARM / 2))


def key(number: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(SEED), number)


def rng(number: int) -> np.random.Generator:
    return np.random.default_rng([SEED, number])


def law_pvalues(sample: ArrayLike, law: stats.rv_continuous) -> dict[str, float]:
    """P-values of independent draws from a symmetric law.

    The Kolmogorov-Smirnov statistic and the tail counts (binomial) have exact distributions, so
    they hold for heavy tails too. Mean and variance are used where eight moments exist: their
    errors are then normal enough at 4.9 standard errors with the 1e4 draws and more used here.
    """
    x = np.asarray(sample, float).ravel()
    assert x.size >= 10_000
    found = {"ks": stats.kstest(x, law.cdf).pvalue}
    for tail in (0.1, 0.003):
        beyond = np.abs(x - law.median()) > law.isf(tail / 2) - law.median()
        found[f"tail {tail}"] = stats.binomtest(int(beyond.sum()), x.size, tail).pvalue
    if law.dist.name != "t" or law.args[0] > 8:
        mean, variance, _, excess = (float(m) for m in law.stats("mvsk"))
        z_mean = (x.mean() - mean) / np.sqrt(variance / x.size)
        z_variance = (((x - mean) ** 2).mean() / variance - 1) / np.sqrt((excess + 2) / x.size)
        found |= {"mean": 2 * stats.norm.sf(abs(z_mean))}
        found |= {"variance": 2 * stats.norm.sf(abs(z_variance))}
    return found


def assert_law(sample: ArrayLike, law: stats.rv_continuous) -> None:
    """Draws come from ``law``; each p-value below ``ALARM`` fails."""
    found = law_pvalues(sample, law)
    assert min(found.values()) > ALARM, found


def assert_variance(sample: ArrayLike, variance: float) -> None:
    """Second moment about 0 of draws whose eighth moment exists: 6 standard errors.

    2e-9 under normality; excess kurtosis of the squares leaves it below 1e-6 with 1e4 draws.
    """
    squares = np.asarray(sample, float).ravel() ** 2
    error = squares.std(ddof=1) / np.sqrt(squares.size)
    assert abs(squares.mean() - variance) < 6 * error, (squares.mean(), variance, error)
