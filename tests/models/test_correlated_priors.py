"""Correlated priors against their cards: whole covariances, densities, what they read, refusals.

Covariances are compared element by element with their own Monte Carlo error (from fourth moments);
each fails below 1e-6 and there are about 1,500 of them, so the file fails by chance with
probability below 2e-3 for any seed.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from scipy import integrate, stats

import bnnzoo as bz
from bnnzoo.errors import InputError, OptionError
from bnnzoo.models import Posterior, make_model
from bnnzoo.models.correlated import CorrelatedNormal, CorrelatedStudentT
from bnnzoo.models.filter_covariance import filter_covariance
from bnnzoo.models.network import Network
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import make_prior
from bnnzoo.models.tempering import margin, tempered
from bnnzoo.specs import Component
from tests.models._tools import Z, assert_law, key, rng
from tests.models.test_priors import Everything

DRAWS = 20_000
CONV = ParameterInfo("conv.kernel", (2, 3, 2, 2), "kernel", 12, 1.5, False, filter_axes=2)
DENSE = ParameterInfo("layers.0.kernel", (4, 3), "kernel", 4, 1.5, False)
BIAS = ParameterInfo("layers.0.bias", (3,), "bias", 1, 1.0, False)


def prior(name, **options):
    return make_prior(Component(name=name, options=options))


def equal(n, r):
    return np.full((n, n), r) + (1 - r) * np.eye(n)


def ar1(n, r):
    return r ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def assert_covariance(draws, expected):
    """Second moments of draws ``(draw, ...)`` of mean 0 against a matrix, each to its own error."""
    flat = np.asarray(draws, float).reshape(len(draws), -1)
    found = flat.T @ flat / len(flat)
    error = np.sqrt(((flat**2).T @ flat**2 / len(flat) - found**2) / len(flat))
    score = np.abs(found - expected) / error
    assert score.max() < Z, f"worst score {score.max():.2f}"
    assert (np.abs(flat.mean(0)) < Z * flat.std(0) / math.sqrt(len(flat))).all()


def conv_covariance(correlation):
    """Of a kernel (position, input, output) in C order: filters are independent."""
    return np.kron(correlation, np.eye(4))


GAUSSIAN = {
    "matrix-normal numbers": (
        ("matrix-normal", {"inputs": 0.6, "outputs": -0.3}),
        DENSE,
        np.kron(equal(4, 0.6), equal(3, -0.3)),
    ),
    "matrix-normal matrices": (
        ("matrix-normal", {"inputs": ar1(4, 0.8).tolist(), "outputs": (2 * ar1(3, 0.5)).tolist()}),
        DENSE,
        np.kron(ar1(4, 0.8), 2 * ar1(3, 0.5)),
    ),
    "matrix-normal of a convolution": (
        ("matrix-normal", {"inputs": 0.4}),
        CONV,
        np.kron(equal(12, 0.4), np.eye(2)),
    ),
    **{
        f"correlated-conv {kernel}": (
            ("correlated-conv", {"kernel": kernel, "length_scale": 0.8}),
            CONV,
            conv_covariance(filter_covariance((2, 3), kernel, 0.8)),
        )
        for kernel in ("matern-1/2", "matern-3/2", "matern-5/2", "squared-exponential")
    },
}


@pytest.mark.validate
@pytest.mark.parametrize("case", GAUSSIAN)
def test_every_covariance_is_the_cards(case):
    (name, options), info, expected = GAUSSIAN[case]
    law = prior(name, std=0.7, **options).distribution(info)
    assert isinstance(law, CorrelatedNormal) and law.event_shape == info.shape
    width = 0.7 * 1.5 / math.sqrt(info.fan_in)
    assert_covariance(law.sample(key(1), (DRAWS,)), width**2 * expected)
    flat = np.broadcast_to(law.variance, info.shape).ravel()
    np.testing.assert_allclose(flat, width**2 * np.diag(expected), rtol=1e-5)
    at = rng(2).normal(size=(3, *info.shape))
    with jax.enable_x64(True):
        law = prior(name, std=0.7, **options).distribution(info)
        found = law.log_prob(jnp.asarray(at))
    reference = stats.multivariate_normal(cov=width**2 * expected).logpdf(at.reshape(3, -1))
    np.testing.assert_allclose(found, reference, rtol=1e-8)


def test_filter_correlations_are_the_textbooks():
    # Distances 1 and sqrt(2) on a grid of two by two; Matern functions from Bessel functions.
    from scipy.special import gamma, kv

    def matern(nu, r):
        x = math.sqrt(2 * nu) * r
        return 2 ** (1 - nu) / gamma(nu) * x**nu * kv(nu, x)

    for kernel, nu in {"matern-1/2": 0.5, "matern-3/2": 1.5, "matern-5/2": 2.5}.items():
        found = filter_covariance((2, 2), kernel, 0.7)
        np.testing.assert_allclose(found[0, 1:], [matern(nu, d / 0.7) for d in (1, 1, 2**0.5)])
        np.testing.assert_allclose(np.diag(found), 1.0)
    found = filter_covariance((2, 2), "squared-exponential", 0.7)
    np.testing.assert_allclose(found[0, 3], math.exp(-2 / (2 * 0.7**2)))


@pytest.mark.parametrize("info", [CONV, DENSE], ids=["conv", "dense"])
def test_student_t_vectors(info):
    df, options = 12.0, {"length_scale": 0.8, "kernel": "matern-3/2"}
    law = prior("multivariate-student-t", df=df, std=0.7, **options).distribution(info)
    correlation = filter_covariance((2, 3), "matern-3/2", 0.8) if info is CONV else np.eye(4)
    whole = np.kron(correlation, np.eye(4 if info is CONV else 3))
    width = 0.7 * 1.5 / math.sqrt(info.fan_in)
    drawn = np.asarray(law.sample(key(3), (DRAWS,)))
    assert_covariance(drawn, width**2 * whole)
    scale = width * math.sqrt((df - 2) / df)
    assert_law(drawn[(slice(None), *[0] * (drawn.ndim - 1))], stats.t(df, scale=scale))
    # One mixing variance a vector: squares within it are correlated, those of two vectors not.
    squares = drawn.reshape(DRAWS, *([6] if info is CONV else [4]), -1) ** 2
    assert stats.spearmanr(squares[:, 0, 0], squares[:, -1, 0]).pvalue < 1e-6
    assert stats.spearmanr(squares[:, 0, 0], squares[:, 0, 1]).pvalue > 1e-6
    at = rng(4).normal(size=info.shape)
    with jax.enable_x64(True):
        law = prior("multivariate-student-t", df=df, std=0.7, **options).distribution(info)
        found = float(law.log_prob(jnp.asarray(at)))
    one = stats.multivariate_t(shape=scale**2 * correlation, df=df)
    columns = at.reshape(len(correlation), -1).T
    assert found == pytest.approx(sum(one.logpdf(c) for c in columns), rel=1e-10)


def test_student_t_is_matched_like_the_scalar_one():
    for match in ("variance", "scale", "iqr"):
        scalar = prior("student-t", df=3.0, match=match)
        assert prior("multivariate-student-t", df=3.0, match=match).scale == scalar.scale
    with pytest.raises(OptionError, match=r"prior.df = 1.5: .*no variance"):
        prior("multivariate-student-t", df=1.5)


def test_low_rank_kernels():
    made = prior("low-rank", rank=2, std=0.7)
    wide = ParameterInfo("a.kernel", (3, 4), "kernel", 3, 1.5, False)
    width = 0.7 * 1.5 / math.sqrt(3)
    drawn = np.asarray(made.distribution(wide).sample(key(7), (DRAWS,)))
    assert np.linalg.matrix_rank(drawn[:100], tol=1e-4).max() == 2
    assert_covariance(drawn, width**2 * np.eye(12))
    fourth = (drawn[:, 0, 0] / width) ** 4
    assert abs(fourth.mean() - (3 + 6 / 2)) < Z * fourth.std() / math.sqrt(DRAWS)
    squares = (drawn / width) ** 2 - 1
    for other, expected in ({(0, 1): 1.0, (1, 0): 1.0, (1, 1): 0.0}).items():
        found = squares[:, 0, 0] * squares[(slice(None), *other)]
        assert abs(found.mean() - expected) < Z * found.std() / math.sqrt(DRAWS)
    # By its sites, the same law.
    traced = handlers.trace(handlers.seed(lambda: made.sample([wide, BIAS]), key(8))).get_trace()
    assert traced["a.kernel.left"]["value"].shape == (3, 2)
    whole = traced["a.kernel.left"]["value"] @ traced["a.kernel.right"]["value"] / math.sqrt(2)
    np.testing.assert_allclose(traced["a.kernel"]["value"], width * whole, rtol=1e-5)
    # A kernel that has no more than this rank anyway is Gaussian.
    narrow = ParameterInfo("b.kernel", (3, 2), "kernel", 3, 1.5, False)
    np.testing.assert_allclose(made.distribution(narrow).variance, width**2, rtol=1e-5)
    assert made.distribution(narrow).base_dist.base_dist.__class__.__name__ == "Normal"


# -- read off the training inputs --------------------------------------------------------------


def table(test=3.0):
    x = rng(9).normal(size=(40, 3)) @ np.array([[1.0, 0.9, 0.0], [0.0, 0.3, 0.0], [0, 0, 1e-3]])
    y = x @ np.array([1.0, -1.0, 0.0])
    return bz.make_dataset(x, y, test * x[:5], y[:5], task="regression")


def empirical(data, centred=True, **options):
    options |= {"centred": centred}
    model = make_model(
        prior="empirical-covariance", prior_options=options, network_options={"widths": [4]}
    )
    return model.bind(data)


def test_the_empirical_covariance_is_of_training_inputs_alone():
    data = table()
    model = empirical(data, ridge=0.01, std=0.7)
    info = model.bound.infos[[i.path for i in model.bound.infos].index("layers.0.kernel")]
    law = model.prior.distribution(info)
    x = data.scaling.transform_x(data.x)
    moments = x.T @ x / len(x)
    moments /= np.diag(moments).mean()
    expected = 0.7**2 / 3 * (moments + 0.01 * np.eye(3)) / 1.01
    assert_covariance(law.sample(key(10), (DRAWS,)), np.kron(expected, np.eye(4)))
    assert float(law.variance.mean()) == pytest.approx(0.7**2 / 3, rel=1e-5)
    other = empirical(table(test=-7.0), ridge=0.01, std=0.7)
    np.testing.assert_array_equal(
        other.prior.bound["layers.0.kernel"], model.prior.bound["layers.0.kernel"]
    )
    later = next(i for i in model.bound.infos if i.path == "layers.1.kernel")
    assert model.prior.groups(later) == ()


def test_patches_of_images():
    from bnnzoo.models.priors.empirical_covariance import _second_moments

    x = rng(11).normal(size=(5, 4, 5, 2))
    patches = [
        x[n, i : i + 3, j : j + 2].ravel() for n in range(5) for i in range(2) for j in range(4)
    ]
    expected = np.mean([np.outer(p, p) for p in patches], axis=0)
    np.testing.assert_allclose(_second_moments(x, (3, 2, 2, 6), 2), expected, rtol=1e-12)
    with pytest.raises(InputError, match="no patch inside"):
        _second_moments(x, (6, 2, 2, 6), 2)


def test_without_data_the_prior_says_so():
    model = make_model(prior="empirical-covariance", network_options={"widths": [4]})
    with pytest.raises(InputError, match=r"model\.bind\(data\)"):
        handlers.seed(model, key(0))(jnp.ones((2, 3)))
    with pytest.raises(InputError, match=r"prior.kernel = 'layer.0' matches no kernel; did you"):
        empirical(table(), kernel="layer.0")
    with pytest.raises(InputError, match=r"no kernel takes inputs of shape \(3,\)"):
        empirical(table(), kernel="layers.1.kernel")


# -- in a model --------------------------------------------------------------------------------


@pytest.mark.validate
def test_centred_or_not_is_one_posterior():
    # The density of a kernel, and of what it is made of with the Jacobian of the map, are one.
    data = table()
    with jax.enable_x64(True):
        for T in (1.0, 0.3):
            centred, free = (Posterior(empirical(data, c), data, T) for c in (True, False))
            assert [s.name for s in free.sites if s.name.startswith("layers.0.k")] == [
                "layers.0.kernel.base"
            ]
            gaps = []
            for seed in range(3):
                u = 0.3 * jax.random.normal(key(20 + seed), (free.dimension,))
                values = free.constrain(u)
                whole = free._score(u).deterministic["layers.0.kernel"]
                own = {**values, "layers.0.kernel": whole}
                own.pop("layers.0.kernel.base")
                v = centred.unconstrain(own)
                gaps.append(float(free.log_density(u) - centred.log_density(v)))
                np.testing.assert_allclose(
                    free.predict(u, data.x), centred.predict(v, data.x), rtol=1e-8
                )
            np.testing.assert_allclose(gaps, gaps[0], rtol=1e-9)  # a constant: the log Jacobian


@pytest.mark.validate
def test_every_family_runs():
    data = table()
    for name in ("matrix-normal", "multivariate-student-t", "low-rank", "empirical-covariance"):
        model = make_model(prior=name, network_options={"widths": [3]})
        run = bz.fit(model, data, "hmc", chains=1, draws=3, warmup=3, progress=False)
        assert np.isfinite(run.metrics()["nll"])
        assert run.predict(data.x_test).mean.shape == (5,)


@pytest.mark.validate
@pytest.mark.parametrize("name", ["correlated-conv", "sum-filter", "multivariate-student-t"])
def test_filters_in_a_run(name, tmp_path):
    options = {"channels": [2, 2], "shape": [8, 8], "dense": [4]}
    model = make_model("cnn", name, "categorical", network_options=options)
    size = {"chains": 1, "draws": 10, "warmup": 30, "progress": False, "out": tmp_path / "run"}
    run = bz.fit(model, bz.load_dataset("digits"), "hmc", max_steps=5, **size)
    filters = run.tree["posterior"]["convs.0.kernel"].to_numpy()
    assert filters.shape == (1, 10, 3, 3, 1, 2) and filters.std(1).min() > 0
    x = np.zeros((2, 64))
    again = bz.load_run(tmp_path / "run").predict(x).probabilities
    np.testing.assert_array_equal(again, run.predict(x).probabilities)


def test_filters_are_found_and_biases_left_alone():
    bound = Network(Everything, gain=1.5).bind((4, 4, 2), 2)
    found = {i.path: i.filter_axes for i in bound.infos if i.filter_axes}
    assert found == {"conv.kernel": 2, "up.kernel": 2}
    made = prior("correlated-conv", bias_std=0.3).bind(bound.infos, None)
    assert set(made.bound) == set(found)
    assert made.bind(bound.infos, None) is made, "a bound prior stays as it is"
    for info in bound.infos:
        law = made.distribution(info)
        assert law.event_shape == info.shape
        if info.role in ("bias", "scale"):
            np.testing.assert_allclose(law.variance, 0.09, rtol=1e-5)


def test_another_length_scale_compiles_nothing():
    traces = []

    @jax.jit
    def density(made):
        traces.append(1)
        return made.distribution(CONV).log_prob(jnp.ones(CONV.shape))

    made = [
        prior("correlated-conv", length_scale=ell).bind([CONV], None) for ell in (0.5, 1.0, 2.0)
    ]
    assert len({float(density(m)) for m in made}) == 3 and len(traces) == 1


def test_temperatures():
    law = prior("multivariate-student-t", df=3.0).distribution(DENSE)
    # One vector of 4: by quadrature over its radius, the tempered density integrates to 1.
    with jax.enable_x64(True):
        one = CorrelatedStudentT((4,), 3.0, 0.7, (0,), jnp.eye(4))
        radius = np.geomspace(1e-3, 1e4, 4001)
        along = jnp.asarray(radius)[:, None] * jnp.array([1.0, 0.0, 0.0, 0.0])
        for T in (0.3, 1.5):
            cooled = tempered(one, jnp.asarray(T))
            assert float(margin(one, jnp.asarray(T))) == pytest.approx(7.0 / T - 4.0)
            density = np.asarray(cooled.log_prob(along))
            shells = 2 * math.pi**2 * radius**4 * np.exp(density)  # a measure of log radius
            beyond = shells[-1] / float(margin(one, jnp.asarray(T)))  # the rest of a power law
            whole = integrate.simpson(shells, np.log(radius)) + beyond
            assert whole == pytest.approx(1.0, abs=1e-5)
            gap = density - np.asarray(one.log_prob(along)) / T
            np.testing.assert_allclose(gap, gap[0], rtol=1e-9)
    assert float(margin(law, jnp.asarray(1.75))) == pytest.approx(0.0, abs=1e-6)
    normal = prior("matrix-normal", inputs=0.5).distribution(DENSE)
    drawn = tempered(normal, jnp.asarray(0.25)).sample(key(12), (DRAWS,))
    assert_covariance(drawn, 0.25 * 1.5**2 / 4 * np.kron(equal(4, 0.5), np.eye(3)))


@pytest.mark.parametrize(
    "name", ["matrix-normal", "correlated-conv", "multivariate-student-t", "sum-filter"]
)
def test_gradients_are_finite_at_zero_and_far_out(name):
    law = prior(name).distribution(CONV)
    for at in (0.0, 1e-30, 1.0, -1e4, 1e8):
        slope = jax.grad(law.log_prob)(jnp.full(CONV.shape, jnp.float32(at)))
        assert jnp.isfinite(slope).all(), at


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("correlated-conv", {"length_scale": 0.0}, r"prior.length_scale = 0.0"),
        ("matrix-normal", {"inputs": 1.0}, r"prior.inputs = 1: a correlation below 1"),
        ("matrix-normal", {"inputs": [[1.0, 0.0]]}, "prior.inputs: a square matrix"),
        ("empirical-covariance", {"ridge": 0.0}, "prior.ridge = 0.0"),
        ("low-rank", {"rank": 0}, "prior.rank = 0"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(OptionError, match=message):
        prior(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "infos", "message"),
    [
        ("correlated-conv", {}, [DENSE, BIAS], "no convolution .*'gaussian'"),
        ("sum-filter", {}, [DENSE], "no convolution"),
        ("matrix-normal", {"inputs": -0.4}, [DENSE], r"prior.inputs = -0.4: 4 weights .*-0.333"),
        ("matrix-normal", {"outputs": [[1, 0], [0, 1]]}, [DENSE], "size 2, but .* has 3 outputs"),
    ],
)
def test_what_does_not_fit_a_network(name, options, infos, message):
    with pytest.raises(InputError, match=message):
        refused(prior(name, **options), infos)
    rules = {"*": {"name": name, **options}}
    with pytest.raises(InputError, match=message):
        refused(make_prior(Component(name=None, options={"rules": rules})), infos)


def refused(made, infos):
    made.check(infos)
    made.check_use(infos)


def test_a_rule_without_a_name_is_of_the_same_family():
    # The rule takes the only convolution, and leaves the base a dense kernel.
    made = prior("correlated-conv", rules={"conv.kernel": {"std": 2.0}})
    refused(made, [CONV, DENSE])
    bound = made.bind([CONV, DENSE], None)
    np.testing.assert_allclose(bound.distribution(CONV).variance, 4 * 1.5**2 / 12, rtol=1e-5)


def test_matrices_that_are_not_positive_definite():
    with pytest.raises(InputError, match=r"prior.inputs: .*not positive definite .*-1"):
        prior("matrix-normal", inputs=[[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(InputError, match=r"prior.outputs: the matrix is not symmetric"):
        prior("matrix-normal", outputs=[[1.0, 0.5], [0.2, 1.0]])
    wide = ParameterInfo("conv.kernel", (7, 7, 1, 2), "kernel", 49, 1.0, False, filter_axes=2)
    smooth = prior("correlated-conv", kernel="squared-exponential", length_scale=5.0)
    with pytest.raises(InputError, match=r"length_scale = 5 on the 7x7 filters .*shorter"):
        smooth.bind([wide], None)
