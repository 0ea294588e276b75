"""Every prior family against its card: draws, densities, scales by parameter, rules.

False alarms: each p-value fails below 1e-6 (`_tools.ALARM`) and there are about 180 of them here,
so the file fails by chance with probability below 2e-4 for any seed.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError, UnknownNameError
from bnnzoo.models.network import Network
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import make_prior
from bnnzoo.specs import Component
from tests.models._tools import ALARM, assert_law, key, law_pvalues

DRAWS = 40_000
T_IQR = 2 * stats.t.ppf(0.75, 5.0)
NORMAL_IQR = 2 * stats.norm.ppf(0.75)


class TwoNormals(stats.rv_continuous):
    """Equal weights, the second a 400th as wide."""

    def _pdf(self, x):
        return 0.5 * (stats.norm.pdf(x) + stats.norm.pdf(x / 0.0025) / 0.0025)

    def _logpdf(self, x):
        narrow = stats.norm.logpdf(x / 0.0025) - math.log(0.0025)
        return np.logaddexp(stats.norm.logpdf(x), narrow) - math.log(2.0)

    def _cdf(self, x):
        return 0.5 * (stats.norm.cdf(x) + stats.norm.cdf(x / 0.0025))

    def _sf(self, x):
        return self._cdf(-x)

    def _stats(self):
        second = 0.5 * (1 + 0.0025**2)
        return 0.0, second, 0.0, 1.5 * (1 + 0.0025**4) / second**2 - 3


TWO_NORMALS = TwoNormals(name="two normals")


def two_normals(scale):
    return TWO_NORMALS(scale=scale)


# What the cards say, written again: an element of std 1, for each family and match.
LAWS = {
    "gaussian": {m: stats.norm(scale=1.0) for m in ("variance", "scale", "iqr")},
    "laplace": {
        "variance": stats.laplace(scale=1 / math.sqrt(2)),
        "scale": stats.laplace(scale=1.0),
        "iqr": stats.laplace(scale=NORMAL_IQR / (2 * math.log(2))),
    },
    "student-t": {
        "variance": stats.t(5.0, scale=math.sqrt(3 / 5)),
        "scale": stats.t(5.0, scale=1.0),
        "iqr": stats.t(5.0, scale=NORMAL_IQR / T_IQR),
    },
    "cauchy": {"scale": stats.cauchy(scale=1.0), "iqr": stats.cauchy(scale=NORMAL_IQR / 2)},
    "generalised-normal": {
        "variance": stats.gennorm(1.5, scale=1 / stats.gennorm(1.5).std()),
        "scale": stats.gennorm(1.5, scale=1.0),
        "iqr": stats.gennorm(1.5, scale=NORMAL_IQR / 2 / stats.gennorm(1.5).ppf(0.75)),
    },
    "gaussian-mixture": {
        "variance": two_normals(1 / math.sqrt(0.5 + 0.5 * 0.0025**2)),
        "scale": two_normals(1.0),
        "iqr": two_normals(NORMAL_IQR / 2 / two_normals(1.0).ppf(0.75)),
    },
}
CASES = [(family, match) for family in LAWS for match in LAWS[family]]


def prior(name, rules=None, **options):
    return make_prior(Component(name=name, options=options | ({"rules": rules} if rules else {})))


def info(role="kernel", shape=(2, 3), fan_in=4, gain=1.5, path=None):
    if role != "kernel":
        fan_in, gain = 1, 1.0
    return ParameterInfo(path or f"layers.0.{role}", shape, role, fan_in, gain, False)


def moved(law, loc, scale):
    """A frozen law, shifted and stretched."""
    return law.dist(*law.args, loc=loc, scale=scale * law.kwds["scale"])


def log_density(law, x):
    if law.dist.name == "cauchy":
        return -np.log(np.pi * law.kwds["scale"]) - np.log1p((x / law.kwds["scale"]) ** 2)
    if law.dist.name == "laplace":  # scipy takes the logarithm of an underflown density
        return -np.abs(x) / law.kwds["scale"] - np.log(2 * law.kwds["scale"])
    return law.logpdf(x)


def sample(distribution, number, count):
    return distribution.sample(key(number), (count,))


def test_every_elementwise_family_is_here():
    assert set(LAWS) == set(registry.list_names("priors", family="elementwise"))


@pytest.mark.parametrize(("family", "match"), CASES)
def test_draws_follow_the_card(family, match):
    law, made = LAWS[family][match], prior(family, std=0.7, match=match, bias_std=0.3)
    number = CASES.index((family, match)) * 4
    kernel = made.distribution(info("kernel"))
    assert kernel.event_shape == (2, 3) and kernel.batch_shape == ()
    assert_law(sample(kernel, number, DRAWS // 6), moved(law, 0.0, 0.7 * 1.5 / math.sqrt(4)))
    embedding = made.distribution(info("embedding", (5, 2)))
    assert_law(sample(embedding, number + 1, DRAWS // 10), moved(law, 0.0, 0.7))
    bias = made.distribution(info("bias", (4,)))
    assert_law(sample(bias, number + 2, DRAWS // 4), stats.norm(scale=0.3))
    scale = made.distribution(info("scale", (4,)))
    assert_law(sample(scale, number + 3, DRAWS // 4), stats.norm(loc=1.0, scale=0.3))


def test_the_draws_of_one_parameter_are_independent():
    # Under independence a correlation is N(0, 1/n) to this accuracy; 4.9 standard errors is 1e-6.
    drawn = np.asarray(
        sample(prior("gaussian").distribution(info(shape=(2, 2), gain=2.0)), 99, 10_000)
    )
    flat = drawn.reshape(10_000, 4)
    correlations = np.abs(np.corrcoef(flat.T)[np.triu_indices(4, 1)])
    assert correlations.max() < 4.9 / math.sqrt(10_000)


@pytest.mark.parametrize(
    "wrong",
    [
        stats.laplace(scale=1.0),  # same scale instead of same variance
        stats.t(5.0, scale=1.0),
        stats.norm(scale=1.05),  # 5 % too wide
        stats.norm(loc=0.05),
        stats.t(5.0, scale=math.sqrt(3 / 5)),  # right variance, wrong shape
    ],
)
def test_a_wrong_law_would_be_caught(wrong):
    drawn = sample(prior("gaussian").distribution(info(gain=2.0)), 77, DRAWS // 6)
    assert min(law_pvalues(drawn, wrong).values()) < ALARM


@pytest.mark.parametrize("family", [f for f in LAWS if "variance" in LAWS[f]])
def test_families_matched_by_variance_have_equal_variance(family):
    made = prior(family, std=1.3).distribution(info())
    np.testing.assert_allclose(made.variance, np.full((2, 3), (1.3 * 1.5) ** 2 / 4), rtol=1e-6)
    assert LAWS[family]["variance"].var() == pytest.approx(1.0)


def test_scale_of_the_older_studies_differs_in_variance():
    families = ("gaussian", "laplace", "student-t")
    variances = [
        float(prior(f, match="scale").distribution(info(shape=())).variance) for f in families
    ]
    np.testing.assert_allclose(np.array(variances) / variances[0], [1.0, 2.0, 5 / 3], rtol=1e-5)


@pytest.mark.parametrize("family", LAWS)
def test_iqr_is_that_of_the_gaussian(family):
    law = LAWS[family]["iqr"]
    assert law.ppf(0.75) - law.ppf(0.25) == pytest.approx(NORMAL_IQR)


@pytest.mark.parametrize(("family", "match"), CASES)
def test_log_density_is_scipys_at_zero_and_far_out(family, match):
    law = moved(LAWS[family][match], 0.0, 2.0 * 1.5 / 2)
    at = np.array([0.0, 0.1, -1.0, 30.0, -1e4])
    with jax.enable_x64(True):
        made = prior(family, match=match, std=2.0).distribution(info(shape=(5,)))
        terms = made.base_dist.log_prob(jnp.asarray(at))
        np.testing.assert_allclose(terms, log_density(law, at), rtol=1e-12)
        np.testing.assert_allclose(made.log_prob(jnp.asarray(at)), terms.sum(), rtol=1e-12)


@pytest.mark.parametrize("family", LAWS)
@pytest.mark.parametrize("point", [0.0, 1e-30, 1.0, -1e4, 1e8])
def test_gradients_are_finite(family, point):
    slope = jax.grad(prior(family).distribution(info(shape=())).log_prob)(jnp.float32(point))
    assert jnp.isfinite(slope)
    assert slope * point <= 0, "pulls towards zero"


@pytest.mark.parametrize("family", [f for f in LAWS if "variance" in LAWS[f]])
def test_absolute_takes_std_as_it_is(family):
    made = prior(family, std=0.2, absolute=True).distribution(info(fan_in=100, gain=3.0))
    np.testing.assert_allclose(made.variance, np.full((2, 3), 0.04), rtol=1e-5)


# -- fan-in, gain and role, read off the modules -----------------------------------------------


class Everything(nnx.Module):
    """One of each: an image of (4, 4, 2) is cut by a convolution and attended over."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.conv = nnx.Conv(2, 6, (3, 2), feature_group_count=2, rngs=rngs)
        self.up = nnx.ConvTranspose(6, 4, (2, 2), transpose_kernel=True, rngs=rngs)
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(3, 4, qkv_features=6, decode=False, rngs=rngs)
        self.mix = nnx.Einsum("nth,oh->nto", (5, 4), (5,), rngs=rngs)
        self.look = nnx.Embed(7, 5, rngs=rngs)
        self.last = nnx.Dict({"0": nnx.Linear(5, out_shape[0], rngs=rngs)})

    def __call__(self, x):
        h = self.norm(self.up(self.conv(x))).reshape(x.shape[0], 16, 4)
        return self.last["0"]((self.mix(self.attend(h)) + self.look(jnp.array(3))).mean(1))


EXPECTED = {
    "conv.kernel": ((3, 2, 1, 6), "kernel", 3 * 2 * 1),
    "conv.bias": ((6,), "bias", 1),
    "up.kernel": ((2, 2, 4, 6), "kernel", 2 * 2 * 6),
    "up.bias": ((4,), "bias", 1),
    "norm.scale": ((4,), "scale", 1),
    "norm.bias": ((4,), "bias", 1),
    "attend.query.kernel": ((4, 3, 2), "kernel", 4),
    "attend.query.bias": ((3, 2), "bias", 1),
    "attend.key.kernel": ((4, 3, 2), "kernel", 4),
    "attend.key.bias": ((3, 2), "bias", 1),
    "attend.value.kernel": ((4, 3, 2), "kernel", 4),
    "attend.value.bias": ((3, 2), "bias", 1),
    "attend.out.kernel": ((3, 2, 4), "kernel", 3 * 2),
    "attend.out.bias": ((4,), "bias", 1),
    "mix.kernel": ((5, 4), "kernel", 4),
    "mix.bias": ((5,), "bias", 1),
    "look.embedding": ((7, 5), "embedding", 1),
    "last.0.kernel": ((5, 2), "kernel", 5),
    "last.0.bias": ((2,), "bias", 1),
}


def test_fan_in_comes_from_the_owning_module():
    bound = Network(Everything, gain=1.5).bind((4, 4, 2), 2)
    assert {i.path: (i.shape, i.role, i.fan_in) for i in bound.infos} == EXPECTED
    made = prior("laplace", std=2.0)
    for i in bound.infos:
        width = {"kernel": 2.0 * 1.5 / math.sqrt(i.fan_in), "embedding": 2.0}.get(i.role, 1.0)
        law = made.distribution(i)
        assert law.event_shape == i.shape
        np.testing.assert_allclose(jnp.sqrt(law.variance), np.full(i.shape, width), rtol=1e-5)
        np.testing.assert_allclose(law.mean, np.full(i.shape, float(i.role == "scale")), atol=0)


# -- options and rules -------------------------------------------------------------------------


@pytest.mark.parametrize("df", [0.5, 2.0])
def test_no_variance_to_match(df):
    with pytest.raises(OptionError, match=f"prior.df = {df:g}: .*no variance.*'iqr'"):
        prior("student-t", df=df)
    for match in ("iqr", "scale"):
        assert prior("student-t", df=df, match=match).scale > 0
    assert prior("student-t", df=2.0001).scale > 0
    with pytest.raises(OptionError, match=r"match = 'variance': a Cauchy has no variance.*'iqr'"):
        prior("cauchy", match="variance")


def test_bad_shapes_are_named():
    with pytest.raises(OptionError, match=r"prior\.beta = 0\.1"):
        prior("generalised-normal", beta=0.1)
    with pytest.raises(OptionError, match=r"prior\.weight = 1\.0"):
        prior("gaussian-mixture", weight=1.0)
    with pytest.raises(OptionError, match=r"prior\.scales\.1 = 0\.0"):
        prior("gaussian-mixture", scales=[1.0, 0.0])


def test_the_generalised_normal_holds_the_gaussian_and_the_laplace():
    at = jnp.linspace(-3.0, 3.0, 13)
    for beta, family in ((2.0, "gaussian"), (1.0, "laplace")):
        wide, other = (
            prior(name, std=0.7, **more).distribution(info(shape=(13,)))
            for name, more in (("generalised-normal", {"beta": beta}), (family, {}))
        )
        np.testing.assert_allclose(wide.log_prob(at), other.log_prob(at), rtol=1e-5)


PATHS = [info("kernel"), info("bias"), info("kernel", path="layers.1.kernel")]


def widths(made):
    made.check(PATHS)
    return [(type(d).__name__, float(d.scale)) for d in (_element(made, i) for i in PATHS)]


def _element(made, i):
    law = made.distribution(i)
    while hasattr(law, "base_dist"):
        law = law.base_dist
    return law


def test_the_last_rule_that_matches_decides():
    first = {"layers.*": {"std": 2.0}, "layers.1.*": {"std": 4.0}}
    assert widths(prior("gaussian", first, absolute=True)) == [
        ("Normal", 2.0),
        ("Normal", 1.0),
        ("Normal", 4.0),
    ]
    swapped = {"layers.1.*": {"std": 4.0}, "layers.*": {"std": 2.0}}
    assert [w for _, w in widths(prior("gaussian", swapped, absolute=True))] == [2.0, 1.0, 2.0]


def test_a_rule_without_a_name_changes_options_and_keeps_the_rest():
    rules = {"layers.0.*": {"bias_std": 0.5}}
    assert widths(prior("laplace", rules, std=3.0, match="scale", absolute=True)) == [
        ("Laplace", 3.0),
        ("Normal", 0.5),
        ("Laplace", 3.0),
    ]


def test_a_rule_that_names_a_prior_holds_for_biases_and_takes_its_own_options():
    rules = {"layers.0.*": {"name": "laplace", "match": "scale", "std": 0.5}}
    found = widths(prior("gaussian", rules, std=3.0, absolute=True))
    assert found[0] == ("Laplace", pytest.approx(0.5 * 1.5 / 2))
    assert found[1:] == [("Laplace", 0.5), ("Normal", 3.0)]


def test_rules_alone_must_cover_every_parameter():
    rules = {"*.kernel": {"name": "gaussian"}}
    with pytest.raises(InputError, match=r"no prior rule matches parameter 'layers\.0\.bias'"):
        prior(None, rules).check(PATHS)
    prior(None, rules | {"*.bias": {"name": "laplace"}}).check(PATHS)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"layer.0.*": {"std": 2.0}}, "prior rule 'layer.0.*' matches no parameter.*layers.0"),
        ({"*.bias": {"std": 2.0}}, r"prior rule '\*.bias' has no effect: .*bias_std"),
    ],
)
def test_a_rule_that_does_nothing_is_an_error(rules, message):
    with pytest.raises(InputError, match=message):
        prior("gaussian", rules).check(PATHS)


@pytest.mark.parametrize(
    ("name", "rules", "message"),
    [
        ("gaussian", {"*": {"stdd": 1.0}}, r'unknown option prior.rules."\*".stdd.*\'std\''),
        ("gaussian", {"*": {"std": -1.0}}, r'prior.rules."\*".std = -1.0'),
        ("gaussian", {"*": {"rules": {}}}, "a rule has no rules of its own"),
        ("gaussian", {"*": 3.0}, "a table of options is expected"),
        (None, {"*": {"std": 1.0}}, "a name is needed"),
        (None, {}, "give a name, or rules"),
    ],
)
def test_bad_rules_are_named(name, rules, message):
    with pytest.raises(OptionError, match=message):
        make_prior(Component(name=name, options={"rules": rules}))


def test_unknown_prior_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match="'gausian'; did you mean 'gaussian'"):
        prior("gausian")


@pytest.mark.parametrize("family", LAWS)
def test_changing_numbers_compiles_nothing(family):
    traces = []

    @jax.jit
    def density(made):
        traces.append(family)
        return sum(made.distribution(i).log_prob(jnp.ones(i.shape)) for i in PATHS)

    changes = [{}, {"std": 2.0}, {"bias_std": 0.1}]
    changes += [{"match": "scale" if family == "cauchy" else "iqr"}]
    if family == "generalised-normal":
        changes += [{"beta": 0.7}]
    if family == "gaussian-mixture":
        changes += [{"weight": 0.3}, {"scales": [1.0, 0.1]}]
    if family == "student-t":
        changes += [{"df": 3.0}, {"df": 0.7, "match": "scale"}]
    made = [prior(family, {"layers.1.*": {"std": 0.5}}, **change) for change in changes]
    values = [float(density(m)) for m in made]
    assert len(traces) == 1
    assert len(set(values)) == len(changes) - (family == "gaussian"), "gaussian ignores match"
    density(prior(family, {"layers.1.*": {"std": 0.5}}, absolute=True))
    assert len(traces) == 2
