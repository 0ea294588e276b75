"""Balanced units: the law on the sphere, the constraints, what they do to a deep network.

Random: 4 comparisons, each failing below 1e-6 (`_tools.ALARM`), and E y^2 of deep networks within
bounds that are said there.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import InputError
from bnnzoo.models import Posterior, make_model
from bnnzoo.models.families import balanced
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import make_prior
from bnnzoo.specs import Component
from tests.models._tools import ALARM, assert_law, key, rng

KERNEL = ParameterInfo("a.kernel", (5, 3), "kernel", 5, 1.5, False)


def prior(**options):
    return make_prior(Component(name="wired", options=options))


def test_draws_follow_the_card():
    drawn = np.asarray(prior(std=0.7).distribution(KERNEL).sample(key(1), (20_000,)))
    r = 0.7 * 1.5
    np.testing.assert_allclose(drawn.sum(1), 0.0, atol=1e-5)
    np.testing.assert_allclose((drawn**2).sum(1), r**2, rtol=1e-5)
    # A coordinate of a uniform direction in n - 1 = 4 dimensions, seen at sqrt((n - 1)/n).
    half = 1.5
    reach = r * math.sqrt(4 / 5)
    law = stats.beta(half, half, loc=-reach, scale=2 * reach)
    assert law.var() == pytest.approx(r**2 / 5)
    assert law.stats("k") + 3 == pytest.approx(3 * 4 / 6)
    for place in ((0, 0), (4, 2)):
        assert_law(drawn[:, *place], law)
    products = drawn[:, 0] * drawn[:, 1]
    z = (products.mean() + r**2 / 20) / (products.std() / np.sqrt(products.size))
    assert 2 * stats.norm.sf(abs(z)) > ALARM
    z = np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1] * np.sqrt(20_000)
    assert 2 * stats.norm.sf(abs(z)) > ALARM, "units are independent"


def test_a_convolutions_filter_is_one_unit():
    made = prior()
    info = ParameterInfo("a.kernel", (3, 2, 4, 6), "kernel", 24, 1.0, False)
    made.check([info])
    drawn = made.distribution(info).sample(key(2))
    np.testing.assert_allclose(drawn.sum((0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose((drawn**2).sum((0, 1, 2)), 1.0, rtol=1e-5)


def data():
    x = rng(5).normal(size=(6, 4))
    return make_dataset(x, x[:, 0], task="regression")


@jax.jit
def everything(post, u):
    value, slope = jax.value_and_grad(post.log_density)(u)
    return value, slope, post.log_likelihood(u), post.constrain(u)


def test_the_kernel_is_made_from_its_base_at_each_temperature():
    model = make_model(prior="wired", network_options={"widths": [3]})
    with jax.enable_x64(True):
        for T in (1.0, 0.3, 0.1):
            post = Posterior(model, data(), T)
            u = jax.random.normal(key(6), (post.dimension,))
            found, slope, likelihood, values = everything(post, u)
            noise = float(values["noise_std"])
            expected = likelihood / T + stats.halfnorm.logpdf(noise) / T + np.log(noise)
            for i in post.model.bound.infos:
                base = np.asarray(values[f"{i.path}.base" if i.role == "kernel" else i.path])
                expected += stats.norm.logpdf(base).sum() / T
                if i.role == "kernel":
                    z = base - base.mean(0)
                    np.testing.assert_allclose(values[i.path], z / np.linalg.norm(z, axis=0))
            np.testing.assert_allclose(found, expected, rtol=1e-10)
            assert jnp.isfinite(slope).all()
            for stretch in (1e6, 1e-6, 0.0):  # the last: bases without a direction
                _, slope, *_ = everything(post, (stretch * u).at[-1].set(0.0))
                assert jnp.isfinite(slope).all()


def test_a_temperature_leaves_the_kernel_uniform():
    """The base at temperature T is N(0, T): brought to length it is what it was."""
    base = jax.random.normal(key(7), (50, 8))
    np.testing.assert_allclose(
        balanced(base, 0.3), balanced(math.sqrt(0.01) * base + 5.0, 0.3), atol=1e-5
    )


SCALED, HE = math.sqrt(2 / (1 - 1 / math.pi)), math.sqrt(2)


def mean_squares(width, balance, alpha, seed):
    """E y^2 of the 20th layer's pre-activations, alpha max(0, .) between, inputs N(0, 1)."""
    made = make_prior(Component(name="wired" if balance else "gaussian"))
    info = ParameterInfo("a.kernel", (width, width), "kernel", width, 1.0, False)
    y = jnp.asarray(rng(seed).normal(size=(8, width)), jnp.float32)
    for layer in range(20):
        h = y if layer == 0 else alpha * jax.nn.relu(y)
        y = h @ made.distribution(info).sample(key(100 * seed + layer))
    return float((y**2).mean())


def limit(balance, alpha):
    """The same at infinite width: a layer passes on second moments, or variances if balanced."""
    return (alpha**2 * (0.5 - 0.5 / math.pi if balance else 0.5)) ** 19


def test_each_constant_belongs_to_its_wiring():
    """Balanced and scaled keeps E y^2; the other pairs of wiring and constant multiply it.

    At width 300 its logarithm has a standard deviation of about sqrt(19 * 5 / 300) = 0.56: a factor
    of 30 is 6 of them.
    """
    for number, (balance, alpha) in enumerate(((True, SCALED), (False, SCALED), (True, HE))):
        found = mean_squares(300, balance, alpha, number) / limit(balance, alpha)
        assert 1 / 30 < found < 30
    assert limit(True, SCALED) == pytest.approx(1.0)
    assert limit(False, SCALED) > 1000 and limit(True, HE) < 0.001


@pytest.mark.validate
@pytest.mark.parametrize(("balance", "alpha"), [(True, SCALED), (False, SCALED), (True, HE)])
def test_twenty_layers_of_a_thousand_units(balance, alpha):
    """E y^2 of twenty networks within 6 of their standard errors (t: 9e-6) of the limit's."""
    found = np.array([mean_squares(1000, balance, alpha, s) for s in range(20)])
    error = found.std(ddof=1) / math.sqrt(found.size)
    expected = limit(balance, alpha)
    print(f"balanced={balance}, {alpha:.3f}: {found.mean():.4g} +- {error:.2g}, {expected:.4g}")
    assert abs(found.mean() - expected) < 6 * error and error < 0.2 * expected


def test_units_of_few_inputs_are_refused():
    few = ParameterInfo("a.kernel", (2, 3), "kernel", 2, 1.0, False)
    with pytest.raises(InputError, match=r"'a\.kernel' has fan-in 2, .*'name': 'gaussian'"):
        prior().check([few])
    with pytest.raises(InputError, match=r"is of kernels, and none is in a\.bias"):
        prior().check([ParameterInfo("a.bias", (3,), "bias", 1, 1.0, False)])
    attention = ParameterInfo("a.kernel", (4, 3, 2), "kernel", 4, 1.0, False)
    with pytest.raises(InputError, match=r"is no dense layer's or convolution's"):
        prior().check([attention])
