"""Horseshoes and gated weights: sites, the function of them that a kernel is, marginals, tempering.

Random: 8 comparisons of draws, each failing below 1e-6 (`_tools.ALARM`).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from scipy import integrate, special, stats

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import InputError, OptionError, TemperatureError
from bnnzoo.models import Posterior, make_model, score
from bnnzoo.models.horseshoe import horseshoe_unit
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import NORMAL_IQR, make_prior
from bnnzoo.specs import Component
from tests.models._tools import ALARM, Z, key, rng

DRAWS = 20_000
KERNEL = ParameterInfo("a.kernel", (2, 3), "kernel", 2, 1.5, False)
BIAS = ParameterInfo("a.bias", (3,), "bias", 1, 1.0, False)
FILTERS = ParameterInfo("a.kernel", (3, 2, 4, 5), "kernel", 24, 1.5, False)
ATTENTION = ParameterInfo("a.kernel", (4, 3, 2), "kernel", 4, 1.5, False)

CASES = {
    "horseshoe": {},
    "group-horseshoe": {},
    "group-horseshoe outgoing": {"group": "outgoing"},
    "spike-and-slab": {},
    "spike-and-slab incoming": {"group": "incoming"},
    "spike-and-slab outgoing": {"group": "outgoing"},
}


def prior(case, **options):
    return make_prior(Component(name=case.partition(" ")[0], options=CASES.get(case, {}) | options))


def traced(made, infos, values=None):
    seeded = handlers.seed(lambda: made.sample(infos), key(1))
    return handlers.trace(handlers.substitute(seeded, values or {})).get_trace()


# -- a kernel is this function of sites of these laws ------------------------------------------


def law(site):
    base = score.base(site["fn"])
    return type(base), base


@pytest.mark.parametrize("info", [KERNEL, FILTERS])
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_is_made_as_the_card_says(case, info):
    """Written out in NumPy from the values of the sites, whose laws are looked at too."""
    random, group = rng(1), case.partition(" ")[2] or CASES[case].get("group")
    group = "incoming" if case == "group-horseshoe" else group
    shape = {None: info.shape, "incoming": info.shape[-1:], "outgoing": info.shape[-2:-1]}[group]
    spread = (lambda s: s[:, None]) if group == "outgoing" else (lambda s: s)
    made, z = prior(case, std=0.7, bias_std=0.3), random.normal(size=info.shape)
    s = 0.7 * 1.5 / np.sqrt(info.fan_in)
    if "horseshoe" in case:
        local, tau, c2 = np.exp(random.normal(size=shape)), 1.7, 2.5
        values = {"local": local, "global": tau, "slab": c2}
        bounded = np.sqrt(c2 * local**2 / (c2 + tau**2 * local**2))  # eq. 2.8
        factor = spread(tau * bounded) * horseshoe_unit(1.0, 4.0, 2.0)
    else:
        values = {"gate_logit": 2 * random.normal(size=shape)}
        factor = spread(special.expit(values["gate_logit"])) * made.std / 0.7
    values = {f"a.kernel.{name}": jnp.asarray(v) for name, v in (values | {"base": z}).items()}
    sites = traced(made, [info, BIAS], values)
    assert set(sites) == {"a.kernel", "a.bias", *values}
    assert sites["a.kernel"]["type"] == "deterministic"
    np.testing.assert_allclose(sites["a.kernel"]["value"], s * factor * z, rtol=2e-5)
    np.testing.assert_allclose(sites["a.bias"]["fn"].variance, 0.09, rtol=1e-6)
    assert law(sites["a.kernel.base"])[0] is dist.Normal
    if "horseshoe" in case:
        assert (
            law(sites["a.kernel.local"])[0] is law(sites["a.kernel.global"])[0] is dist.HalfCauchy
        )
        kind, slab = law(sites["a.kernel.slab"])
        assert kind is dist.InverseGamma and (slab.concentration, slab.rate) == (2.0, 8.0)
    else:
        kind, gate = law(sites["a.kernel.gate_logit"])
        assert kind is dist.Logistic and (gate.loc, gate.scale) == (0.0, 2.0)


def test_options_reach_the_sites():
    sites = traced(prior("horseshoe", global_scale=0.1, slab_df=6.0, slab_scale=0.5), [KERNEL])
    slab = law(sites["a.kernel.slab"])[1]
    assert law(sites["a.kernel.global"])[1].scale == 0.1
    assert (slab.concentration, slab.rate) == (3.0, pytest.approx(0.75))
    gate = law(traced(prior("spike-and-slab", inclusion=0.2), [KERNEL])["a.kernel.gate_logit"])[1]
    assert gate.cdf(0.0) == pytest.approx(0.8, rel=1e-5), "a gate is half open or more: p"
    absolute = prior("horseshoe", match="scale", absolute=True, std=0.2)
    assert absolute.distribution(KERNEL).variance[0, 0] == pytest.approx(0.04)


def test_a_rule_that_names_the_prior_holds_for_biases_and_scales():
    made = make_prior(Component(name=None, options={"rules": {"*": {"name": "group-horseshoe"}}}))
    norm = ParameterInfo("a.scale", (3,), "scale", 1, 1.0, False)
    made.check([KERNEL, BIAS, norm])
    sites = traced(made, [KERNEL, BIAS, norm], {"a.scale.base": jnp.zeros(3)})
    assert sites["a.bias.local"]["value"].shape == (3,)
    np.testing.assert_array_equal(sites["a.scale"]["value"], 1.0)


# -- marginals: width and shape ----------------------------------------------------------------


def naive_horseshoe(random, count, global_scale, slab_df, slab_scale):
    tau, local = global_scale * np.abs(random.standard_cauchy((2, count)))[0], None
    local = np.abs(random.standard_cauchy(count))
    c2 = slab_df * slab_scale**2 / random.chisquare(slab_df, count)
    return random.normal(size=count), (1 / (tau * local) ** 2 + 1 / c2) ** -0.5


@pytest.mark.parametrize("given", [(1.0, 12.0, 2.0), (0.01, 12.0, 1.0), (20.0, 12.0, 0.5)])
def test_the_horseshoes_width_is_that_of_plain_draws(given):
    """NumPy's draws of the hierarchy, a million: the mean of their variances, and a quartile."""
    z, scale = naive_horseshoe(rng(2), 1_000_000, *given)
    squares = (scale * horseshoe_unit(*given)) ** 2
    assert abs(squares.mean() - 1) < Z * squares.std() / 1000
    within = np.abs(z * scale * horseshoe_unit(*given, "iqr")) < NORMAL_IQR / 2
    assert stats.binomtest(int(within.sum()), within.size, 0.5).pvalue > ALARM


@pytest.mark.parametrize(("p", "r"), [(0.5, 0.5), (0.1, 0.3), (0.9, 2.0)])
def test_the_gates_width_is_its_integral(p, r):
    """E g^2, and the quartile of g z, by adaptive quadrature over the uniform that makes g."""

    def gate(v):
        return special.expit((special.logit(p) + special.logit(v)) / r)

    def mean(f):
        return integrate.quad(lambda v: f(gate(v)), 0, 1, limit=500, epsabs=1e-11)[0]

    unit = prior("spike-and-slab", inclusion=p, relaxation=r).std
    assert unit**-2 == pytest.approx(mean(np.square), rel=1e-8)
    if p >= 0.5:
        unit = prior("spike-and-slab", inclusion=p, relaxation=r, match="iqr").std
        quartile = NORMAL_IQR / 2 / unit
        within = mean(lambda g: special.ndtr(quartile / g) if g > 0 else 1.0)
        assert within == pytest.approx(0.75, rel=1e-8)


@pytest.mark.parametrize("case", ["horseshoe", "spike-and-slab"])
def test_draws_are_those_of_the_plain_hierarchy(case):
    """One element a draw, by the two-sample Kolmogorov-Smirnov test; the kurtosis of gated ones."""
    made = prior(case)

    @jax.jit
    @jax.vmap
    def draw(own):
        return handlers.seed(lambda: made.sample([KERNEL]), own)()["a.kernel"][0, 0]

    found = np.asarray(draw(jax.random.split(key(2), DRAWS))) / (1.5 / np.sqrt(2))
    random = rng(3)
    if case == "horseshoe":
        z, scale = naive_horseshoe(random, DRAWS, 1.0, 4.0, 2.0)
        plain = z * scale * horseshoe_unit(1.0, 4.0, 2.0)
    else:
        v = random.uniform(size=DRAWS)
        gates = v**2 / (v**2 + (1 - v) ** 2)  # relaxation 1/2, inclusion 1/2
        plain = gates * random.normal(size=DRAWS) * made.std

        def moment(k):
            return integrate.quad(lambda v: (v**2 / (v**2 + (1 - v) ** 2)) ** k, 0, 1)[0]

        kurtosis = 3 * moment(4) / moment(2) ** 2
        fourth = found**4
        assert abs(fourth.mean() - kurtosis) < 6 * fourth.std() / np.sqrt(DRAWS)
    assert stats.ks_2samp(found, plain).pvalue > ALARM


# -- densities ---------------------------------------------------------------------------------


@functools.cache
def data():
    x = rng(5).normal(size=(6, 2))
    return make_dataset(x, x[:, 0], task="regression")


@jax.jit
def log_density(post, u):
    return post.log_density(u), post.log_likelihood(u), post.constrain(u)


def expected_log_prior(values, T):
    """Every site's density to 1/T, and the Jacobian of positive ones once."""
    total = 0.0
    for name, v in values.items():
        site = name.rpartition(".")[2]
        v = np.asarray(v)
        if site in ("local", "global"):
            total += (np.log(2 / np.pi) - np.log1p(v**2)).sum() / T + np.log(v).sum()
        elif site == "slab":
            total += stats.invgamma.logpdf(v, 2.0, scale=8.0) / T + np.log(v)
        elif site == "gate_logit":
            total += stats.logistic.logpdf(v, 0.0, 2.0).sum() / T
        elif site in ("base", "bias"):
            total += stats.norm.logpdf(v).sum() / T
        elif site == "noise_std":
            total += stats.halfnorm.logpdf(v) / T + np.log(v)
        else:
            assert site == "kernel", name
    return total


@pytest.mark.parametrize("case", ["horseshoe", "spike-and-slab"])
def test_the_target_at_each_temperature_is_written_out(case):
    model = make_model(prior=case, network_options={"widths": [2]})
    with jax.enable_x64(True):
        for T in (1.0, 0.3, 0.1):
            post = Posterior(model, data(), T)
            u = jax.random.normal(key(6), (post.dimension,))
            found, likelihood, values = log_density(post, u)
            np.testing.assert_allclose(
                found, likelihood / T + expected_log_prior(values, T), rtol=1e-10
            )
    assert [i.path for i in post.derived] == ["layers.0.kernel", "layers.1.kernel"]
    if case == "horseshoe":
        with pytest.raises(TemperatureError, match="improper"):
            Posterior(model, data(), 2.0)


@pytest.mark.parametrize("case", ["horseshoe", "spike-and-slab"])
def test_gradients_are_finite_far_out(case):
    """In float32, in the coordinates that samplers move: scales from e^-40 to e^40."""
    made, seen = prior(case), {}

    def run(supply):
        return score.run(lambda x, y: made.sample([KERNEL]), None, None, supply)

    run(lambda name, fn: (seen.setdefault(name, fn.sample(key(7))), jnp.zeros(())))

    def density(free):
        def supply(name, fn):
            transform = dist.biject_to(fn.support)
            value = transform(free[name])
            return value, jnp.sum(transform.log_abs_det_jacobian(free[name], value))

        out = run(supply)
        terms = sum(jnp.sum(fn.log_prob(out.values[n])) for n, fn in out.fns.items())
        return terms + out.log_jacobian, out.deterministic["a.kernel"]

    def both(free):
        density_slope = jax.grad(lambda free: density(free)[0])(free)
        kernel_slope = jax.grad(lambda free: density(free)[1].sum())(free)
        return density(free), density_slope, kernel_slope

    shapes = {n: jnp.shape(v) for n, v in seen.items()}
    ways = [-40.0, 0.0, 40.0]
    points = [
        {n: jnp.full(s, base if n.endswith("base") else scale) for n, s in shapes.items()}
        for scale in ways
        for base in (0.0, 1e3, -1e6)
    ]
    stacked = jax.tree.map(lambda *p: jnp.stack(p), *points)
    for leaf in jax.tree.leaves(jax.jit(jax.vmap(both))(stacked)):
        assert jnp.isfinite(leaf).all()


# -- refusals ----------------------------------------------------------------------------------


def test_bad_input_is_named():
    with pytest.raises(OptionError, match=r"slab_df = 2: .*match to 'iqr'"):
        prior("horseshoe", slab_df=2.0)
    assert prior("horseshoe", slab_df=2.0, match="iqr").std > 0
    with pytest.raises(OptionError, match=r"match = 'iqr': half of the weights.*'variance'"):
        prior("spike-and-slab", inclusion=0.1, match="iqr")
    with pytest.raises(OptionError, match=r"prior\.inclusion = 1\.0"):
        prior("spike-and-slab", inclusion=1.0)
    with pytest.raises(OptionError, match=r"prior\.group = 'rows'.*'incoming' or 'outgoing'"):
        prior("group-horseshoe", group="rows")
    with pytest.raises(InputError, match=r"'a\.kernel' of shape \(4, 3, 2\).*'name': 'gaussian'"):
        prior("group-horseshoe").check([ATTENTION])
    rules = {"*.kernel": {"name": "gaussian"}}
    ruled = make_prior(Component(name="group-horseshoe", options={"rules": rules}))
    ruled.check([ATTENTION, BIAS])
