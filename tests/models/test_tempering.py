"""Tempered conditional priors against numerical integration, closed forms and each other.

Nothing here is random but the points that densities are compared at.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import integrate, special

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import TemperatureError
from bnnzoo.models import Posterior
from bnnzoo.models.families import GeneralisedNormal
from bnnzoo.models.tempering import margin, tempered
from tests.models._tools import rng

GRID = (0.1, 0.3, 0.7, 1.5)

# Distribution, as a function so that float64 is on when it is made; where it is integrated over.
REAL, POSITIVE, UNIT = (-np.inf, np.inf), (0.0, np.inf), (0.0, 1.0)
RULES = {
    "Normal": (lambda: dist.Normal(0.4, 1.3), REAL),
    "HalfNormal": (lambda: dist.HalfNormal(1.3), POSITIVE),
    "LogNormal": (lambda: dist.LogNormal(0.3, 0.8), POSITIVE),
    "Laplace": (lambda: dist.Laplace(0.4, 1.3), REAL),
    "GeneralisedNormal": (lambda: GeneralisedNormal(0.8, 0.4, 1.3), REAL),
    "Exponential": (lambda: dist.Exponential(1.7), POSITIVE),
    "StudentT": (lambda: dist.StudentT(2.5, 0.4, 1.3), REAL),
    "Cauchy": (lambda: dist.Cauchy(0.4, 1.3), REAL),
    "HalfCauchy": (lambda: dist.HalfCauchy(1.3), POSITIVE),
    "Gamma": (lambda: dist.Gamma(2.2, 1.7), POSITIVE),
    "Chi2": (lambda: dist.Chi2(3.0), POSITIVE),
    "InverseGamma": (lambda: dist.InverseGamma(2.2, 1.7), POSITIVE),
    "Beta": (lambda: dist.Beta(2.2, 1.4), UNIT),
    "BetaProportion": (lambda: dist.BetaProportion(0.4, 4.0), UNIT),
    "Uniform": (lambda: dist.Uniform(-0.5, 2.0), (-0.5, 2.0)),
}


def log_power_integral(density, temperature, support):
    """log of the integral of p^(1/T), by substitution onto a finite interval and quadrature."""
    low, high = support

    def onto(t):  # t in (-1, 1): value and log |d value / d t|
        if support == REAL:
            return t / (1 - t**2), np.log((1 + t**2) / (1 - t**2) ** 2)
        if support == POSITIVE:
            return (1 + t) / (1 - t), np.log(2 / (1 - t) ** 2)
        return low + (high - low) * (1 + t) / 2, np.log((high - low) / 2)

    def integrand(t):
        x, log_slope = onto(t)
        return np.exp(density(x) / temperature + log_slope)

    total, error = integrate.quad(integrand, -1, 1, limit=500, epsabs=0, epsrel=1e-10)
    assert error < 1e-6 * total
    return np.log(total)


@pytest.mark.parametrize("name", RULES)
def test_rules_are_the_normalised_power(name):
    make, support = RULES[name]
    at = np.array([0.05, 0.3, 0.45, 0.9] if support == UNIT else [0.05, 0.4, 1.1, 1.9])
    with jax.enable_x64(True):
        d = make()
        evaluate = jax.jit(d.log_prob)
        for T in GRID:
            if not margin(d, jnp.asarray(T)) > 0:
                assert name in ("BetaProportion", "Beta", "Chi2", "Gamma")
                continue
            log_z = log_power_integral(lambda x: float(evaluate(x)), T, support)
            found = tempered(d, jnp.asarray(T)).log_prob(jnp.asarray(at))
            np.testing.assert_allclose(found, d.log_prob(jnp.asarray(at)) / T - log_z, rtol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_rules_change_nothing_at_one(name):
    d = RULES[name][0]()
    at = jnp.array([0.05, 0.3, 0.9])
    np.testing.assert_array_equal(tempered(d, jnp.asarray(1.0)).log_prob(at), d.log_prob(at))


def test_a_tiny_shape_survives_rounding():
    # (a - 1)/T + 1 would give 9.5e-7 for 1e-6 in float32.
    assert float(tempered(dist.Gamma(1e-6, 1.0), jnp.asarray(1.0)).concentration) == np.float32(
        1e-6
    )


@pytest.mark.parametrize("T", GRID)
def test_multivariate_normal_in_closed_form(T):
    with jax.enable_x64(True):
        covariance = jnp.array([[1.0, 0.4], [0.4, 0.5]])
        d = dist.MultivariateNormal(jnp.array([0.3, -1.0]), covariance)
        at = jnp.asarray(rng(1).normal(size=(5, 2)))
        # log of the integral of p^(1/T): |2 pi S|^(-1/(2T)) |2 pi T S|^(1/2)
        log_det = float(jnp.linalg.slogdet(2 * np.pi * covariance)[1])
        log_z = -log_det / (2 * T) + (log_det + 2 * np.log(T)) / 2
        found = tempered(d, jnp.asarray(T)).log_prob(at)
        np.testing.assert_allclose(found, d.log_prob(at) / T - log_z, rtol=1e-12)


def test_wrappers_are_looked_through():
    T, at = jnp.asarray(0.3), jnp.asarray(rng(2).normal(size=(3, 2)))
    scale = jnp.array([0.5, 2.0])
    wanted = dist.Laplace(0.0, scale * T).log_prob(at)
    wide = dist.Laplace(0.0, scale).expand((3, 2))
    np.testing.assert_allclose(tempered(wide, T).log_prob(at), wanted, rtol=1e-6)
    event = wide.to_event(1)
    assert tempered(event, T).event_shape == (2,)
    np.testing.assert_allclose(tempered(event, T).log_prob(at), wanted.sum(-1), rtol=1e-6)
    mask = jnp.array([True, False])
    found = tempered(wide.mask(mask), T).log_prob(at)
    np.testing.assert_allclose(found, jnp.where(mask, wanted, 0.0), rtol=1e-6)


# -- where the power cannot be normalised ------------------------------------------------------

# Family, and the T at which it stops being proper; above ("hot") or below ("cold") it is not.
EDGES = {
    "student-t": (lambda: dist.StudentT(0.5), 1.5, "hot"),
    "cauchy": (lambda: dist.Cauchy(), 2.0, "hot"),
    "half-cauchy": (lambda: dist.HalfCauchy(3.0), 2.0, "hot"),
    "inverse-gamma": (lambda: dist.InverseGamma(0.5, 1.0), 1.5, "hot"),
    "pareto": (lambda: dist.Pareto(1.0, 0.5), 1.5, "hot"),
    "levy": (lambda: dist.Levy(0.0, 1.0), 1.5, "hot"),
    # On the plane (1 + r^2)^-(df + 2)/(2T) r dr: finite while (df + 2)/T > 2.
    "multivariate-t": (
        lambda: dist.MultivariateStudentT(1.0, jnp.zeros(2), jnp.eye(2)),
        1.5,
        "hot",
    ),
    "gamma": (lambda: dist.Gamma(0.75, 1.0), 0.25, "cold"),
    "chi2": (lambda: dist.Chi2(1.5), 0.25, "cold"),
    "weibull": (lambda: dist.Weibull(1.0, 0.75), 0.25, "cold"),
    "beta": (lambda: dist.Beta(3.0, 0.75), 0.25, "cold"),
    "kumaraswamy": (lambda: dist.Kumaraswamy(3.0, 0.75), 0.25, "cold"),
    "dirichlet": (lambda: dist.Dirichlet(jnp.array([3.0, 0.75, 1.0])), 0.25, "cold"),
    "lkj": (lambda: dist.LKJ(3, 0.75), 0.25, "cold"),
    "lkj-cholesky": (lambda: dist.LKJCholesky(3, 0.75), 0.25, "cold"),
    "truncated": (lambda: dist.TruncatedDistribution(dist.StudentT(0.5), low=0.0), 1.5, "hot"),
    "wrapped": (
        lambda: dist.StudentT(jnp.array([0.5, 9.0])).expand((3, 2)).to_event(1),
        1.5,
        "hot",
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_improper_exactly_beyond_the_edge(name):
    make, edge, side = EDGES[name]
    with jax.enable_x64(True):
        beyond, within = (1.001, 0.999) if side == "hot" else (0.999, 1.001)
        assert margin(make(), jnp.asarray(edge * within)) > 0
        assert margin(make(), jnp.asarray(edge * beyond)) < 0
        assert abs(margin(make(), jnp.asarray(edge))) < 1e-12


def test_light_tails_are_proper_at_every_temperature():
    for name in ("Normal", "HalfNormal", "LogNormal", "Laplace", "Exponential", "Uniform"):
        assert min(margin(RULES[name][0](), jnp.asarray(T)) for T in (1e-3, 1e3)) > 0


# -- hierarchies -------------------------------------------------------------------------------

X = rng(3).normal(size=(6, 2))
DATA = make_dataset(X, X[:, 0] - X[:, 1], task="regression", scale="none")


def target(x, y, mean):
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def with_weights(prior_of_weights, hyper=None):
    """Linear regression with w ~ prior_of_weights(h), h ~ hyper."""

    def model(x, y=None):
        h = numpyro.sample("h", hyper) if hyper is not None else None
        w = numpyro.sample("w", prior_of_weights(h))
        target(x, y, x @ w if jnp.ndim(w) else x[:, 0] * w)

    return model


@pytest.mark.parametrize("T", [0.1, 0.7, 1.5])
def test_inverse_gamma_hierarchy_stays_conjugate(T):
    a, b, d = 2.0, 1.5, 2
    model = with_weights(
        lambda v: dist.Normal(0, jnp.sqrt(v)).expand((d,)).to_event(1), dist.InverseGamma(a, b)
    )
    with jax.enable_x64(True):
        post = Posterior(model, DATA, T)
        w = np.array([0.6, -1.1])
        v = np.array([0.2, 0.9, 3.0])

        def tempered_prior(v):
            u = post.unconstrain({"h": v, "w": w})
            values = {"h": jnp.asarray(v), "w": jnp.asarray(w)}
            assert jnp.allclose(post.constrain(u)["h"], v)
            likelihood = post.log_likelihood(u) / T
            return float(post.log_density(u) - likelihood - jnp.log(values["h"]))  # exp's Jacobian

        found = np.array([tempered_prior(value) for value in v])
    shape, rate = (a + 1) / T - 1 + d / 2, (b + w @ w / 2) / T
    wanted = -(shape + 1) * np.log(v) - rate / v
    np.testing.assert_allclose(found - found[0], wanted - wanted[0], rtol=1e-9)


@pytest.mark.parametrize("T", [0.1, 0.7, 1.5])
@pytest.mark.parametrize(
    "family", [dist.Normal, dist.Laplace, lambda m, s: dist.StudentT(4.0, m, s)]
)
def test_centred_and_non_centred_forms_agree(T, family):
    """p(log s, w) = p(log s, w / s) / s^2 for two weights, likelihood and temperature included."""

    def centred(x, y=None):
        s = numpyro.sample("s", dist.LogNormal(0.2, 0.5))
        target(x, y, x @ numpyro.sample("w", family(0.0, s).expand((2,)).to_event(1)))

    def non_centred(x, y=None):
        s = numpyro.sample("s", dist.LogNormal(0.2, 0.5))
        target(x, y, x @ (s * numpyro.sample("z", family(0.0, 1.0).expand((2,)).to_event(1))))

    with jax.enable_x64(True):
        one, other = (Posterior(m, DATA, T, 0.8) for m in (centred, non_centred))
        assert [s.conditional for s in one.sites] == [False, True]
        assert [s.conditional for s in other.sites] == [False, False]
        gaps = []
        for u in rng(4).normal(size=(4, 3)):
            s, w = np.exp(u[0]), u[1:]
            shifted = np.concatenate([u[:1], w / s])
            there = float(other.log_density(jnp.asarray(shifted))) - 2 * np.log(s)
            gaps.append(float(one.log_density(jnp.asarray(u))) - there)
    # The centred form is normalised and the other, having nothing above it, is not: a constant.
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-9)


def test_a_naive_power_would_disagree():
    """What the test above is for: without renormalising, the gap moves by d (1 - 1/T) log s."""
    T, s = 0.1, np.array([0.5, 2.0])
    naive = 2 * (1 - 1 / T) * np.log(s)
    assert abs(naive[1] - naive[0]) > 10


def test_gamma_conditional_is_normalised_over_its_own_rate():
    """p(w | h) with h a rate: the tempered density integrates to one for every h."""
    model = with_weights(lambda h: dist.Gamma(2.0, h), dist.LogNormal(0.0, 1.0))
    T = 0.4
    with jax.enable_x64(True):
        post = Posterior(model, DATA, T)

        @jax.jit
        def integrand(log_w, log_h):
            u = jnp.array([log_h, log_w])
            return jnp.exp(post.log_density(u) - post.log_likelihood(u) / T)

        masses = [
            integrate.quad(integrand, -12, 6, args=(log_h,), epsrel=1e-7)[0]
            / np.exp(float(dist.LogNormal(0.0, 1.0).log_prob(np.exp(log_h)) / T + log_h))
            for log_h in (-1.0, 1.5)
        ]
    np.testing.assert_allclose(masses, 1.0, rtol=1e-5)


class HiddenScale(dist.Distribution):
    """A user's distribution that does not tell a pytree of its parameters."""

    support = dist.constraints.real

    def __init__(self, scale):
        self.scale = scale
        super().__init__(jnp.shape(scale))

    def log_prob(self, value, intermediates=None):
        return dist.Normal(0, self.scale).log_prob(value)

    def sample(self, key, sample_shape=()):
        return self.scale * jax.random.normal(key, sample_shape + self.batch_shape)


@pytest.mark.parametrize(
    "unknown",
    [
        lambda h: dist.Gumbel(0.0, h),
        lambda h: dist.MixtureSameFamily(
            dist.Categorical(jnp.array([0.5, 0.5])), dist.Normal(jnp.array([-1.0, 1.0]), h)
        ),
        lambda h: dist.TruncatedNormal(0.0, h, low=0.0),
        HiddenScale,
    ],
)
def test_a_conditional_prior_without_a_rule_is_refused_unless_t_is_one(unknown):
    model = with_weights(unknown, dist.HalfNormal(1.0))
    with pytest.raises(TemperatureError, match="conditional prior of site 'w' has no known normal"):
        Posterior(model, DATA, 0.5)
    assert jnp.isfinite(Posterior(model, DATA, 1.0, 0.5).log_density(jnp.zeros(2)))
    fixed = with_weights(lambda _: unknown(jnp.asarray(2.0)))
    assert jnp.isfinite(Posterior(fixed, DATA, 0.5).log_density(jnp.zeros(1)))


@pytest.mark.parametrize(
    ("T", "model", "words"),
    [
        (1.5, with_weights(lambda _: dist.StudentT(0.2)), r"is improper; .* need T < 1.2$"),
        (8.0, with_weights(lambda _: dist.StudentT(5.0)), r"is improper; .* need T < 6$"),
        (0.2, with_weights(lambda _: dist.Chi2(1.0)), r"is improper; .* need T > 0.5$"),
        (99.0, with_weights(lambda _: dist.Cauchy()), r"is improper; .* need T < 2$"),
        (1.5, with_weights(dist.StudentT, dist.Gamma(2.0, 1.0)), "is improper for some values"),
        (
            0.5,
            with_weights(lambda h: dist.Gamma(h, 1.0), dist.HalfNormal(1.0)),
            "is improper for some values",
        ),
    ],
)
def test_an_improper_tempered_prior_is_refused_naming_the_site(T, model, words):
    with pytest.raises(TemperatureError, match=f"= {T:g}: the tempered prior of site 'w' {words}"):
        Posterior(model, DATA, T)
    Posterior(model, DATA, 1.0)


def test_nothing_is_improper_at_one():
    """Not even a margin that cannot be computed at the origin."""
    model = with_weights(lambda h: dist.Gamma(jnp.sqrt(h - 1.5), 1.0), dist.LogNormal(0.0, 1.0))
    Posterior(model, DATA)
    with pytest.raises(TemperatureError, match=r"site 'w' is improper \(a Student-t needs"):
        Posterior(model, DATA, 0.5)


def test_proper_for_every_value_is_allowed():
    """df + 1 > T and shape > 1 - T wherever the other site goes."""
    Posterior(with_weights(dist.StudentT, dist.Gamma(2.0, 1.0)), DATA, 0.2)
    shape_above_one = with_weights(lambda h: dist.Gamma(1.0 + h, 1.0), dist.HalfNormal(1.0))
    Posterior(shape_above_one, DATA, 0.2)


@pytest.mark.parametrize(("T", "L"), [(0.5, 1.0), (1.0, 0.5)])
def test_a_factor_is_refused_at_any_other_temperature(T, L):
    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal())
        numpyro.factor("penalty", -(w**2))
        target(x, y, w)

    with pytest.raises(TemperatureError, match=r"site 'penalty' is a numpyro\.factor"):
        Posterior(model, DATA, T, L)
    at_one = Posterior(model, DATA)
    wanted = float(at_one.log_likelihood(jnp.ones(1)) + at_one.log_prior(jnp.ones(1)))
    assert float(at_one.log_density(jnp.ones(1))) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["posterior_temperature", "likelihood_temperature"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_a_positive_number(name, value):
    with pytest.raises(TemperatureError, match=f"{name} = .*positive finite number"):
        Posterior(with_weights(lambda _: dist.Normal()), DATA, **{name: value})


@pytest.mark.validate
def test_beta_function_of_the_reference():
    """The quadrature above against a known integral, so that two wrongs do not agree."""
    with jax.enable_x64(True):
        d = dist.Beta(2.2, 1.4)
        T = 0.7
        p, q = 1.2 / T + 1, 0.4 / T + 1
        wanted = special.betaln(p, q) - special.betaln(2.2, 1.4) / T
        found = log_power_integral(lambda x: float(d.log_prob(x)), T, UNIT)
    assert found == pytest.approx(wanted, rel=1e-8)
