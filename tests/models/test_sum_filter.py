"""The sum-filter prior: its covariance, its density, the law of a filter's sum.

Bounds and rates of false alarms are those of test_correlated_priors.py.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from bnnzoo.models.priors.sum_filter import SumTilted, sum_variance
from tests.models._tools import key, rng
from tests.models.test_correlated_priors import (
    CONV,
    DRAWS,
    assert_covariance,
    conv_covariance,
    prior,
)


@pytest.mark.validate
@pytest.mark.parametrize(
    "sum_scale",
    [0.05, *(pytest.param(v, marks=pytest.mark.validate) for v in (0.5, 3.0))],
)
@pytest.mark.parametrize("match", ["variance", "scale"])
def test_sums_of_filters_are_small(sum_scale, match):
    law = prior("sum-filter", std=0.7, sum_scale=sum_scale, match=match).distribution(CONV)
    assert isinstance(law, SumTilted)
    width = 0.7 * 1.5 / math.sqrt(12)
    share = _second_moment_of_the_sum(1 / sum_scale)
    assert sum_variance(1 / sum_scale) == pytest.approx(share, rel=1e-6)
    scale = width * (math.sqrt(6 / (5 + share)) if match == "variance" else 1.0)
    one = scale**2 * (np.eye(6) + (share - 1) / 6)
    drawn = law.sample(key(5), (DRAWS,))
    assert_covariance(drawn, conv_covariance(one))
    if match == "variance":
        np.testing.assert_allclose(law.variance, np.full(CONV.shape, width**2), rtol=1e-5)
    at = 0.3 * rng(6).normal(size=CONV.shape)
    with jax.enable_x64(True):
        made = prior("sum-filter", std=0.7, sum_scale=sum_scale, match=match)
        found = float(made.distribution(CONV).log_prob(jnp.asarray(at)))
    assert found == pytest.approx(_log_tilted(at.reshape(6, 4), scale, sum_scale), rel=1e-8)
    # (JAX's log_ndtr is right to 4e-9 at -20.)
    # The sum's own law, by its density: a Kolmogorov-Smirnov test.
    sums = np.asarray(drawn).reshape(DRAWS, 6, 4)[:, :, 0].sum(1) / (scale * math.sqrt(6))
    tail = stats.norm.sf(1 / sum_scale)
    assert stats.kstest(sums, lambda t: _cdf_of_the_sum(t, 1 / sum_scale, tail)).pvalue > 1e-6


def _second_moment_of_the_sum(tilt):
    def density(t):
        return math.exp(-0.5 * t**2 - tilt * t)

    whole = integrate.quad(density, 0, np.inf, epsabs=0)[0]
    return integrate.quad(lambda t: t**2 * density(t), 0, np.inf, epsabs=0)[0] / whole


def _log_tilted(w, scale, sum_scale):
    total = 0.0
    for column in w.T:
        normaliser = (
            2
            * integrate.quad(
                lambda s: (
                    stats.norm.pdf(s, scale=scale * math.sqrt(6))
                    * math.exp(-s / (sum_scale * scale * math.sqrt(6)))
                ),
                0,
                20 * scale,
                epsabs=0,
                limit=200,
            )[0]
        )
        total += stats.norm(scale=scale).logpdf(column).sum() - math.log(normaliser)
        total -= abs(column.sum()) / (sum_scale * scale * math.sqrt(6))
    return total


def _cdf_of_the_sum(t, tilt, tail):
    beyond = stats.norm.sf(np.abs(t) + tilt) / (2 * tail)
    return np.where(t < 0, beyond, 1 - beyond)
