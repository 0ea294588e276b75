"""Weights of trained networks: fits where the answer is known, training without a prior, the prior.

False alarms: a likelihood ratio is chi-squared to this accuracy and fails below 1e-6
(`tests.models._tools.ALARM`), as every other comparison with random numbers; there are about 30 of
them, so the file fails by chance with probability below 1e-4 for any seed.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import bnnzoo as bz
from bnnzoo.errors import InputError, OptionError, TemperatureError
from bnnzoo.inference import filter_statistics as filters
from bnnzoo.inference import weight_fits as fits
from bnnzoo.inference.weight_bootstrap import draw_counts, estimate
from bnnzoo.inference.weight_statistics import parameter_statistics
from bnnzoo.models.model import build_model
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.specs import spec_from_toml
from tests.models._tools import ALARM, SEED, Z, rng

LAWS = {
    "gaussian": lambda scale, shape: stats.norm(scale=scale),
    "laplace": lambda scale, shape: stats.laplace(scale=scale),
    "student-t": lambda scale, shape: stats.t(shape, scale=scale),
    "generalised-normal": lambda scale, shape: stats.gennorm(shape, scale=scale),
}
CASES = [
    ("gaussian", 0.3, None),
    ("laplace", 2.0, None),
    ("student-t", 0.1, 1.5),
    ("student-t", 0.1, 6.0),
    ("generalised-normal", 0.5, 0.7),
    ("generalised-normal", 0.5, 4.0),
]


def log_density(family, scale, shape, x):
    if family == "laplace":  # scipy takes the logarithm of an underflown density
        return -np.abs(x) / scale - math.log(2 * scale)
    return LAWS[family](scale, shape).logpdf(x)


NESTED = {"gaussian": {"student-t", "generalised-normal"}, "laplace": {"generalised-normal"}}
"""Families that hold a simpler one: AIC takes them for it at a rate of about a sixth."""

FREE = {"gaussian": 1, "laplace": 1, "student-t": 2, "generalised-normal": 2}


def drawn(family, scale, shape, size, number):
    return LAWS[family](scale, shape).rvs(size, random_state=rng(number))


@pytest.mark.parametrize(("family", "scale", "shape"), CASES)
def test_fits_recover_families_and_aic_ranks_them(family, scale, shape):
    x = drawn(family, scale, shape, 6000, 1)
    made = {name: fits.fit_family(name, x) for name in fits.FAMILIES}
    for name, fit in made.items():
        if fit.shape != math.inf:
            here = log_density(name, fit.scale, fit.shape, x).sum()
            assert fit.log_likelihood == pytest.approx(here, abs=1e-6 * len(x))
    own = made[family]
    gained = own.log_likelihood - log_density(family, scale, shape, x).sum()
    assert -1e-3 < gained < stats.chi2.isf(ALARM, FREE[family]) / 2
    for name in set(made) - {family}:
        ahead = made[name].aic - own.aic
        if name in NESTED.get(family, ()):
            assert ahead > 2 - stats.chi2.isf(ALARM, 1)
        else:
            # Two families of these shapes differ by 0.004 nats a value or more: 48 in AIC.
            assert ahead > 10, (name, ahead)


def test_a_student_t_and_a_generalised_normal_fit_as_scipys_do():
    x = drawn("student-t", 0.2, 3.0, 3000, 2)
    df, _, scale = stats.t.fit(x, floc=0)
    fit = fits.fit_family("student-t", x)
    np.testing.assert_allclose([fit.shape, fit.scale], [df, scale], rtol=2e-3)
    beta, _, scale = stats.gennorm.fit(x, floc=0)
    fit = fits.fit_family("generalised-normal", x)
    np.testing.assert_allclose([fit.shape, fit.scale], [beta, scale], rtol=2e-3)


@pytest.mark.parametrize("family", fits.FAMILIES)
def test_a_weight_is_how_often_a_number_is_there(family):
    x = drawn("student-t", 1.0, 4.0, 400, 3)
    counts = rng(4).integers(0, 4, 400)
    w = counts.astype(float)
    weighted, repeated = (
        fits.fit_family(family, x, w),
        fits.fit_family(family, x.repeat(counts)),
    )
    np.testing.assert_allclose(weighted.log_likelihood, repeated.log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(weighted.scale, repeated.scale, rtol=1e-5)
    found = fits.excess_kurtosis(x, w), stats.kurtosis(x.repeat(counts))
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_gaussian_numbers_have_no_tail_index():
    # Half of all samples have their highest likelihood at an infinite df; it is above 40 with 6000
    # numbers in all but one of 1e6: 1 / df is half-normal of standard error 0.006.
    assert fits.fit_family("student-t", drawn("gaussian", 1.0, None, 6000, 5)).shape > 30


def filters_of(length, count, number, side=3):
    """Filters ``(count, position)`` of correlation exp(-distance / length), scale 0.3."""
    distance = filters.distances((side, side))
    correlation = np.exp(-distance / length) if length else np.eye(len(distance))
    white = rng(number).normal(size=(count, len(distance)))
    return 0.3 * white @ np.linalg.cholesky(correlation).T, distance


@pytest.mark.parametrize("length", [0.5, 1.5, 6.0])
def test_length_scales_are_found(length):
    w, distance = filters_of(length, 800, 6)
    moments = w.T @ w / len(w)
    found = filters.length_scale(moments, distance)

    def profile(at):
        correlation = np.exp(-distance / at)
        variance = np.trace(np.linalg.solve(correlation, moments)) / len(distance)
        return stats.multivariate_normal(cov=variance * correlation).logpdf(w).sum()

    gained = profile(found) - profile(length)
    assert -1e-3 < gained < stats.chi2.isf(ALARM, 1) / 2
    at, correlation = filters.correlation_by_distance(moments, distance)
    np.testing.assert_allclose(at, [1, 2**0.5, 2, 5**0.5, 8**0.5], atol=1e-5)
    assert np.abs(correlation - np.exp(-at / length)).max() < Z / math.sqrt(len(w))


def test_independent_filters_have_no_length_scale():
    w, distance = filters_of(0, 800, 7)
    moments = w.T @ w / len(w)
    # 12 pairs of neighbours: a correlation of standard error 0.01, so 0.05 is 4.9 of them.
    assert filters.length_scale(moments, distance) < -1 / math.log(0.05)
    _, correlation = filters.correlation_by_distance(moments, distance)
    assert np.abs(correlation).max() < Z / math.sqrt(len(w))


def test_moments_are_those_of_every_filter():
    kernels = rng(8).normal(size=(2, 3, 2, 4, 5))
    found = filters.filter_moments(kernels, 2)
    one = kernels[1].reshape(6, 4, 5)[:, :, 3]
    np.testing.assert_allclose(found[1, 3], one @ one.T / 4)


def simulated(networks, units, number, df=5.0):
    """Kernels ``(network, 20, unit)`` of Student-t weights, a scale of its own a network."""
    random = rng(number)
    scale = np.exp(0.2 * random.normal(size=(networks, 1, 1)))
    return scale * stats.t(df).rvs((networks, 20, units), random_state=random)


INFO = ParameterInfo("layers.0.kernel", (20, 10), "kernel", 20, 1.0, False)


def test_networks_are_what_is_resampled_where_there_are_enough():
    many, few = draw_counts(6, 3, 50, 0), draw_counts(4, 3, 50, 0)
    assert (many == many[:, :, :1]).all() and (many[:, :, 0].sum(1) == 6).all()
    assert (few.sum(2) == 3).all() and not (few == few[:, :, :1]).all()


def test_an_interval_is_that_of_the_mean_of_clusters():
    # Of a mean over networks the bootstrap's error is known: s / sqrt(n), and a t interval. Its
    # estimate from 4000 samples is off by 1.1 %.
    means = rng(9).normal(size=7)
    counts = draw_counts(7, 1, 4000, 1)[:, :, 0]
    found = estimate(means.mean(), counts @ means / 7, 7, 1)
    low, high = stats.t.interval(0.95, 6, means.mean(), stats.sem(means))
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.06 * (high - low))


@pytest.mark.validate
@pytest.mark.parametrize("networks", [4, 10])
def test_intervals_cover(networks):
    """95 % intervals of df, 150 simulations.

    A rate of 95 % gives 133 or more of 150 in all but one of 1,000. Ten networks have a scale of
    their own each, and what is covered is the df of 4,000 such networks: the pooled law is no
    Student-t. Four are resampled by units, so that the interval is about weights of one law.
    """

    def index(values):
        return fits.fit_family("student-t", values.ravel()).shape

    spread = networks >= 5
    truth = index(simulated(4000, 10, 10)) if spread else 5.0
    hits = 0
    for number in range(150):
        w = simulated(networks, 10, 100 + number)
        if not spread:
            w = stats.t(5.0).rvs(w.shape, random_state=rng(1000 + number))
        found = parameter_statistics(INFO, w, w, 100, number)
        hits += found.df.low <= truth <= found.df.high
    print(f"{networks} networks: {hits} of 150 intervals hold {truth:.3f}")
    assert hits >= 133


# -- training --------------------------------------------------------------------------------


X = rng(11).normal(size=(40, 2))
LINE = bz.make_dataset(
    X, X @ [1.0, -2.0] + 3.0 + 0.5 * rng(12).normal(size=40), task="regression", name="line"
)


@pytest.mark.parametrize(
    ("optimiser", "rate"), [("sgd", 0.1), pytest.param("adam", 0.05, marks=pytest.mark.validate)]
)
def test_training_maximises_the_likelihood_and_knows_no_prior(optimiser, rate):
    """A linear network ends at least squares, whatever its prior; biases as kernels."""
    model = bz.make_model(network_options={"widths": []}, prior_options={"std": 0.01})
    found = bz.weight_statistics(
        *(model, LINE, 3),
        optimiser=optimiser,
        steps=400,
        learning_rate=rate,
        batch_size=None,
        resamples=20,
    )
    z = (X - X.mean(0)) / X.std(0)
    y = (LINE.y - LINE.y.mean()) / LINE.y.std()
    wanted = np.linalg.lstsq(np.column_stack([z, np.ones(40)]), y)[0]
    for w, b in zip(found.weights["layers.0.kernel"], found.weights["layers.0.bias"], strict=True):
        np.testing.assert_allclose([*w[:, 0], b[0]], wanted, atol=1e-4)
    rest = y - np.column_stack([z, np.ones(40)]) @ wanted
    least = 0.5 * np.log(2 * np.pi) + 0.5 * (rest**2).mean()
    np.testing.assert_allclose(found.loss[:, 1], least, rtol=1e-5)
    assert (found.initial["layers.0.bias"] == 0).all()
    assert "gaussian" in str(found) and "these networks alone" in str(found)


IMAGES = rng(13).normal(size=(30, 6, 6, 1))
DATA = bz.make_dataset(
    IMAGES, (IMAGES[:, :3].sum((1, 2, 3)) > 0).astype(int), task="classification", name="halves"
)


def cnn(**options):
    shape = {"channels": [12], "kernel": 3, "window": 3, "pool": "average"}
    return bz.make_model("cnn", likelihood="categorical", network_options=shape, **options)


@pytest.fixture(scope="module")
def found():
    return bz.weight_statistics(cnn(), DATA, 6, steps=30, batch_size=10, resamples=20, seed=SEED)


@pytest.mark.validate
def test_networks_are_independent_and_begin_without_tails_or_correlation(found):
    kernel = found.parameters["convs.0.kernel"]
    assert found.weights["convs.0.kernel"].shape == (6, 3, 3, 1, 12)
    first = found.initial["convs.0.kernel"].reshape(6, -1)
    correlations = np.corrcoef(first)[np.triu_indices(6, 1)]
    assert np.abs(correlations).max() < Z / math.sqrt(first.shape[1] - 2)
    size = math.sqrt(2) / 3
    assert stats.kstest(first.ravel() / size, "norm").pvalue > ALARM
    # 648 numbers: 1 / df has standard error 0.03 or less.
    assert kernel.initial_df > 1 / (Z * 0.03)
    assert np.abs(kernel.filters.initial).max() < Z / math.sqrt(72)
    assert (found.loss[:, 1] < found.loss[:, 0]).all()
    assert (found.weights["convs.0.kernel"] != found.initial["convs.0.kernel"]).all()


def test_the_prior_is_scipys_at_every_temperature():
    laws = {
        "layers.0.kernel": {"family": "gaussian", "scale": 9.0},
        "layers.*.kernel": {"family": "student-t", "scale": 1.2, "df": 2.5},  # the last decides
        "layers.0.bias": {"family": "laplace", "scale": 0.4},
        "layers.1.bias": {"family": "gaussian", "scale": 0.7},
        "layers.1.kernel": {"family": "generalised-normal", "scale": 0.8, "beta": 1.5},
    }
    expected_laws = {
        "layers.0.kernel": stats.t(2.5, scale=1.2 / math.sqrt(2)),
        "layers.0.bias": stats.laplace(scale=0.4),
        "layers.1.bias": stats.norm(scale=0.7),
        "layers.1.kernel": stats.gennorm(1.5, scale=0.8 / math.sqrt(3)),
    }
    model = bz.make_model(
        prior="empirical",
        prior_options={"laws": laws},
        network_options={"widths": [3]},
        likelihood_options={"noise": "fixed", "noise_std": 0.5},
    )
    posterior = bz.Posterior(model, LINE)
    values = {
        i.path: rng(14).normal(size=i.shape).astype(np.float32) for i in posterior.network.infos
    }
    u = posterior.unconstrain(values)
    expected = sum(law.logpdf(values[path]).sum() for path, law in expected_laws.items())
    all_of = jax.jit(lambda p, u: (p.log_prior(u), p.log_likelihood(u), p.log_density(u)))
    for T in (1.0, 0.3, 0.1):
        posterior.posterior_temperature = T
        prior, likelihood, density = map(float, all_of(posterior, u))
        assert prior == pytest.approx(expected, rel=1e-5)
        assert density == pytest.approx((likelihood + expected) / T, rel=1e-5)
    with pytest.raises(TemperatureError, match="improper"):
        bz.Posterior(model, LINE, posterior_temperature=3.5)


@pytest.mark.validate
def test_the_fitted_prior_is_saved_and_used_as_any_other(found, tmp_path):
    found.save(tmp_path / "weights.toml")
    text = (tmp_path / "weights.toml").read_text()
    again = build_model(spec_from_toml(text, "weights.toml"))
    assert again.prior == found.model.prior and again.spec.prior == found.model.spec.prior
    options = found.prior_options
    assert cnn(prior="empirical", prior_options=options).prior == found.model.prior
    assert options["fitted_to"] == "6 networks trained on halves, 30 steps of sgd"
    one = found.parameters["convs.0.kernel"]
    assert options["laws"]["convs.0.kernel"]["scale"] == pytest.approx(
        3 * one.fits[one.family].scale
    )
    table = str(found)
    assert "length-scale" in table and all(path in table for path in found.parameters)


@pytest.mark.validate
def test_the_fitted_prior_goes_through_a_run(found, tmp_path):
    path = tmp_path / "run"
    bz.fit(found.model, DATA, "hmc", chains=1, draws=5, warmup=5, out=path, progress=False)
    again = bz.load_run(path)
    assert again.posterior.model.prior == found.model.prior
    assert again.spec.prior == found.model.spec.prior


@pytest.mark.validate
def test_training_on_digits_gives_tails_to_dense_layers_and_correlation_to_filters():
    """Eight networks: the interval of df below the start's df, that of the length-scale above 0.

    The start's correlation of neighbours is 0 with a standard error of 1 / 8, of 64 filters.
    """
    digits = bz.load_dataset("digits")
    model = bz.make_model(
        likelihood="categorical", network_options={"widths": [30, 30], "activation": "relu"}
    )
    dense = bz.weight_statistics(model, digits, 8, steps=1500, resamples=50)
    print(dense)
    first = dense.parameters["layers.0.kernel"]
    assert first.df.high < first.initial_df
    images = bz.make_dataset(
        *(digits.x.reshape(-1, 8, 8, 1), digits.y), task="classification", name="digits"
    )
    shape = {"channels": [8], "activation": "relu", "pool": "average"}
    model = bz.make_model("cnn", likelihood="categorical", network_options=shape)
    conv = bz.weight_statistics(model, images, 8, steps=1000, resamples=50)
    print(conv)
    filters_ = conv.parameters["convs.0.kernel"].filters
    assert filters_.length_scale.low > 0 and filters_.correlation[0] > 0.1
    assert np.abs(filters_.initial).max() < Z / math.sqrt(64)
    assert filters_.correlation[0] > filters_.correlation[2]


class Scales(nnx.Module):
    def __init__(self, in_shape, out_shape, *, rngs):
        self.bias = nnx.Param(jnp.zeros(out_shape))

    def __call__(self, x):
        return jnp.zeros((x.shape[0], 1)) + self.bias[...]


def test_bad_input_of_the_statistics_is_refused_before_training():
    model = bz.make_model(network_options={"widths": []})
    for options, message in (
        ({"networks": 1}, "networks = 1: a whole number of at least 2"),
        ({"optimiser": "sgdd"}, "did you mean 'sgd'"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: a number above 0"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"resamples": 5}, "resamples = 5: a whole number of at least 20"),
        ({"steps": 0}, "steps = 0"),
    ):
        with pytest.raises(OptionError, match=message):
            bz.weight_statistics(model, LINE, **options)
    with pytest.raises(InputError, match="hand-written"):
        bz.weight_statistics(lambda x, y=None: None, LINE)
    with pytest.raises(InputError, match="has no kernel to look at: its parameters are bias"):
        bz.weight_statistics(bz.make_model(Scales), LINE)
    with pytest.raises(InputError, match=r"3 of 3 networks had no finite loss .*now 1e\+30"):
        bz.weight_statistics(model, LINE, 3, steps=9, learning_rate=1e30, batch_size=None)
    still = np.zeros((3, 20, 10))
    with pytest.raises(InputError, match=r"'layers\.0\.kernel' is at 0 in every network"):
        parameter_statistics(INFO, still, still, 20)


@pytest.mark.parametrize(
    ("laws", "error", "message"),
    [
        ({}, OptionError, "needs the laws that bnnzoo.weight_statistics, in Python, finds"),
        ({"*": {"family": "t", "scale": 1.0}}, OptionError, "family = 't'"),
        ({"*": {"family": "student-t", "scale": 1.0}}, OptionError, "'student-t' needs df"),
        ({"*": {"family": "laplace", "scale": 1.0, "df": 3}}, OptionError, "'laplace' has no df"),
        ({"*": {"family": "laplace", "scale": 0.0}}, OptionError, "scale = 0.0"),
        (
            {
                "*": {"family": "laplace", "scale": 1.0},
                "layer.0.*": {"family": "laplace", "scale": 1},
            },
            InputError,
            "'layer.0.\\*' matches no parameter",
        ),
        (
            {"*.kernel": {"family": "laplace", "scale": 1.0}},
            InputError,
            "no law of parameter 'layers.0.bias'",
        ),
    ],
)
def test_laws_that_do_not_fit_are_refused(laws, error, message):
    with pytest.raises(error, match=message):
        model = bz.make_model(
            prior="empirical", prior_options={"laws": laws}, network_options={"widths": []}
        )
        model.bind(LINE)
