"""Each likelihood against SciPy or brute force, through the posterior; and what each refuses."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import DataError, InputError, OptionError
from bnnzoo.inference import fit
from bnnzoo.inference.precision import precision
from bnnzoo.models import Posterior, make_model

ROWS = 12
RNG = np.random.default_rng(3)
X = RNG.normal(size=(ROWS, 2))
REAL = 3.0 + 2.0 * X[:, 0] + RNG.normal(size=ROWS)
COUNTS = RNG.poisson(20 * np.exp(0.3 * X[:, 0])).astype(float)
GRADES = np.digitize(X[:, 0], [-0.5, 0.5])


def prepared(likelihood, y, task="regression", scale="auto", **options):
    """Posterior, a constrained point of it and the network's outputs there, in float64."""
    data = make_dataset(X, y, task=task, scale=scale)
    model = make_model(
        network_options={"widths": [3]}, likelihood=likelihood, likelihood_options=options
    )
    post = Posterior(model, data)
    u = post.initial(jax.random.key(1))
    values = post.constrain(u)
    head = np.asarray(post.model.bound.apply(values, post.x))
    return post, u, values, head


def terms(post, u):
    return np.asarray(post.pointwise_log_likelihood(u))


@pytest.fixture(autouse=True)
def doubled():
    with precision("float64"):
        yield


# -- densities ---------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [None, 3.5])
def test_student_t_equals_scipy(df):
    post, u, values, head = prepared("student-t", REAL, **({"df": df} if df else {}))
    known = float(values["df"]) if df is None else df
    assert known > 2
    wanted = stats.t.logpdf(np.asarray(post.y), known, head[:, 0], float(values["scale"]))
    np.testing.assert_allclose(terms(post, u), wanted, rtol=1e-9)


def test_heteroscedastic_student_t_of_several_outputs_equals_scipy():
    y = np.stack([REAL, REAL**2], 1)
    post, u, _, head = prepared("student-t", y, df=4.0, noise="heteroscedastic")
    scale = np.log1p(np.exp(head[:, 2:])) + 1e-3
    wanted = stats.t.logpdf(np.asarray(post.y), 4.0, head[:, :2], scale).sum(1)
    np.testing.assert_allclose(terms(post, u), wanted, rtol=1e-9)


def test_learned_degrees_of_freedom_have_the_gamma_prior():
    post, u, values, _ = prepared("student-t", REAL)
    other, v, fixed, _ = prepared("student-t", REAL, df=5.0)
    weights = {name: value for name, value in values.items() if name != "df"}
    assert set(weights) == set(fixed)
    extra = float(post.log_prior(u) - other.log_prior(other.unconstrain(weights)))
    assert extra == pytest.approx(stats.gamma.logpdf(float(values["df"]) - 2, 2, scale=10))
    assert v.shape == (post.dimension - 1,)


def test_bernoulli_equals_scipy():
    post, u, _, head = prepared("bernoulli", GRADES > 0, task="classification")
    p = expit(head[:, 0])
    wanted = stats.bernoulli.logpmf((GRADES > 0).astype(int), p)
    np.testing.assert_allclose(terms(post, u), wanted, rtol=1e-9)
    predicted = post.predictive(post.constrain(u), post.x)
    np.testing.assert_allclose(predicted.distribution.probs[:, 1], p, rtol=1e-9)
    np.testing.assert_allclose(predicted.f[:, 0], head[:, 0])


def test_poisson_equals_scipy_and_centres_on_the_mean_count():
    post, u, _, head = prepared("poisson", COUNTS)
    rate = np.exp(head[:, 0] + np.log(COUNTS.mean()))
    np.testing.assert_allclose(terms(post, u), stats.poisson.logpmf(COUNTS, rate), rtol=1e-9)
    np.testing.assert_array_equal(post.y, COUNTS)  # counts are never standardised
    np.testing.assert_allclose(post.predict(u, jax.numpy.asarray(X))[:, 0], np.log(rate))


@pytest.mark.parametrize(
    ("scale", "options", "offset"),
    [
        ("none", {}, 0.0),
        ("auto", {"offset": 1.5}, 1.5),
    ],
)
def test_the_poisson_offset_can_be_given(scale, options, offset):
    post, u, _, head = prepared("poisson", COUNTS, scale=scale, **options)
    wanted = stats.poisson.logpmf(COUNTS, np.exp(head[:, 0] + offset))
    np.testing.assert_allclose(terms(post, u), wanted, rtol=1e-9)


def test_poisson_of_several_outputs_sums_them():
    y = np.stack([COUNTS, COUNTS[::-1] // 3], 1)
    post, u, _, head = prepared("poisson", y)
    wanted = stats.poisson.logpmf(y, np.exp(head + np.log(y.mean(0)))).sum(1)
    np.testing.assert_allclose(terms(post, u), wanted, rtol=1e-9)


@pytest.mark.validate
def test_ordinal_is_the_difference_of_cumulative_probabilities():
    post, u, values, head = prepared("ordinal", GRADES, task="classification")
    cuts = np.cumsum(np.asarray(values["base_probabilities"]))[:-1]
    cuts = np.log(cuts) - np.log1p(-cuts)
    below = expit(cuts - head)  # P(y <= k)
    p = np.diff(below, axis=1, prepend=0.0, append=1.0)
    np.testing.assert_allclose(terms(post, u), np.log(p[np.arange(ROWS), GRADES]), rtol=1e-9)
    predicted = post.predictive(values, post.x)
    np.testing.assert_allclose(predicted.distribution.probs, p, rtol=1e-9)
    np.testing.assert_allclose(p.sum(1), 1.0)


@pytest.mark.validate
def test_ordinal_keeps_its_gradient_far_from_the_cuts():
    post, u, _, _ = prepared("ordinal", GRADES, task="classification")
    value, gradient = jax.value_and_grad(post.log_likelihood)(80.0 * u)
    assert value < -500 and np.isfinite(gradient).all() and np.abs(gradient).max() > 0.1


def test_base_probabilities_are_those_at_zero():
    post, _u, values, _ = prepared("ordinal", GRADES, task="classification")
    at_zero = {name: 0.0 * v for name, v in values.items()}
    at_zero["base_probabilities"] = values["base_probabilities"]
    predicted = post.predictive(at_zero, post.x).distribution.probs
    np.testing.assert_allclose(predicted, np.tile(values["base_probabilities"], (ROWS, 1)))


# -- predictions -------------------------------------------------------------------------------


def fitted(likelihood, y, task="regression", x=X, **options):
    data = make_dataset(x, y, task=task)
    model = make_model(
        network_options={"widths": [3]}, likelihood=likelihood, likelihood_options=options
    )
    settings = {"chains": 2, "draws": 60, "warmup": 60, "progress": False, "dtype": "float64"}
    return fit(model, data, "hmc", **settings)


@pytest.mark.validate
def test_parts_of_the_uncertainty_of_numbers():
    run = fitted("student-t", REAL, noise="heteroscedastic")
    prediction = run.predict(X)
    np.testing.assert_allclose(
        prediction.aleatoric**2 + prediction.epistemic**2, prediction.std**2, rtol=1e-9
    )
    f = run.predict(X, raw=True)[..., 0].reshape(-1, ROWS)
    np.testing.assert_allclose(prediction.epistemic, f.std(0), rtol=1e-6)
    np.testing.assert_allclose(prediction.mean, f.mean(0), rtol=1e-9)
    values = {n: v.to_numpy().reshape(120, *v.shape[2:]) for n, v in run.tree["posterior"].items()}
    with precision("float64"):
        head = np.asarray(
            jax.vmap(lambda v: run.posterior.model.bound.apply(v, run.posterior.x))(values)
        )
    scale = np.log1p(np.exp(head[..., 1])) + 1e-3
    df = values["df"][:, None]
    noise = np.sqrt(np.mean(scale**2 * df / (df - 2), 0)) * REAL.std()
    np.testing.assert_allclose(prediction.aleatoric, noise, rtol=1e-6)


@pytest.mark.validate
def test_parts_of_the_uncertainty_of_classes():
    prediction = fitted("ordinal", GRADES, task="classification").predict(X)
    p = prediction.probability_draws.reshape(-1, ROWS, 3)
    expected = stats.entropy(p, axis=2).mean(0)
    np.testing.assert_allclose(prediction.aleatoric, expected, rtol=1e-9)
    total = stats.entropy(prediction.probabilities, axis=1)
    np.testing.assert_allclose(prediction.aleatoric + prediction.epistemic, total, rtol=1e-9)
    for refused in (lambda: prediction.quantile(0.5), lambda: prediction.crps(GRADES)):
        with pytest.raises(InputError, match="classes have no"):
            refused()


@pytest.mark.validate
def test_counts_are_predicted_as_counts():
    """Quantiles are whole numbers, and the randomised PIT is uniform where the model is right."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1))
    y = rng.poisson(np.exp(0.5 + 0.3 * x[:, 0])).astype(float)
    prediction = fitted("poisson", y, x=x).predict(x)
    low, high = prediction.interval(0.9)
    assert (low == np.floor(low)).all() and (high > low).all()
    np.testing.assert_allclose(prediction.quantile(0.05), low)
    # 400 uniform numbers: Kolmogorov-Smirnov rejects at random once in a thousand.
    assert stats.kstest(prediction.pit(y), "uniform").pvalue > 1e-3
    unrandomised = stats.poisson.cdf(y, prediction.mean)
    assert stats.kstest(unrandomised, "uniform").pvalue < 1e-3, "plain P(target <= y) is not"


@pytest.mark.validate
def test_quantiles_and_scores_are_those_of_the_draws_across_blocks_of_rows(monkeypatch):
    """Of more targets than draws where those are few: a mode has quantiles too."""
    run = fitted("gaussian", REAL)
    few = run.predict(X).quantile([0.25, 0.5])
    # 1,080 targets: five standard errors of their share below a quantile.
    reached = np.stack([run.predict(X).pit(q) for q in few])
    assert np.abs(reached - [[0.25], [0.5]]).max() < 5 * np.sqrt(0.25 / 1080)
    monkeypatch.setattr("bnnzoo.inference.prediction.FEWEST_TARGETS", 1)
    x = np.random.default_rng(1).normal(size=(300, 2))
    y = np.random.default_rng(2).normal(size=300)
    prediction = run.predict(x)
    draws = prediction.draws.reshape(-1, 300)
    levels = [0.05, 0.5, 0.95]
    np.testing.assert_allclose(prediction.quantile(levels), np.quantile(draws, levels, axis=0))
    pairs = np.abs(draws[:, None] - draws[None]).mean((0, 1))
    np.testing.assert_allclose(prediction.crps(y), np.abs(draws - y).mean(0) - pairs / 2)
    chains = np.exp(prediction.chain_log_prob(y))
    assert chains.shape == (2, 300) and np.ptp(chains, axis=0).max() > 1e-3
    np.testing.assert_allclose(chains.mean(0), np.exp(prediction.log_prob(y)), rtol=1e-6)
    with pytest.raises(InputError, match="between 0 and 1"):
        prediction.quantile(90.0)
    with pytest.raises(InputError, match="no probability_draws"):
        _ = prediction.probability_draws


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likelihood", "y", "task", "message"),
    [
        ("poisson", -COUNTS, "regression", r"poisson' needs counts .* y of .* is -\d+ in row 0"),
        ("poisson", COUNTS + 0.5, "regression", "needs counts .* of its training rows"),
        ("poisson", COUNTS, "classification", "for classification; task='regression' takes whole"),
        ("bernoulli", GRADES, "classification", "2 classes.* has 3 .nearest: 'categorical'"),
        ("ordinal", REAL, "regression", "for classification, but"),
    ],
)
def test_targets_without_a_density_are_refused(likelihood, y, task, message):
    data = make_dataset(X, y, task=task)
    with pytest.raises((DataError, InputError), match=message) as caught:
        fit(make_model(likelihood=likelihood), data, progress=False)
    assert "\n" not in str(caught.value)


def test_a_negative_count_among_test_rows_is_refused():
    data = make_dataset(X, COUNTS, X[:2], np.array([1.0, -2.0]), task="regression")
    with pytest.raises(DataError, match=r"y_test of data set 'arrays' is -2 in row 1"):
        make_model(likelihood="poisson").bind(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"df": 1.0}, "df"),
        ({"noise": "fixed"}, "give likelihood.scale as well"),
        ({"scale": 1.0}, "likelihood.scale has no effect"),
        ({"noise": "heteroscedastic", "noise_scale": 1.0}, "noise_scale has no effect"),
    ],
)
def test_options_of_student_t(options, message):
    with pytest.raises(OptionError, match=message):
        make_model(likelihood="student-t", likelihood_options=options)


def test_softmax_reference_is_what_it_says():
    """Two independent logits are not one: twice the prior variance of the log odds."""
    logits = np.random.default_rng(0).normal(size=(100_000, 2))
    odds = np.log(softmax(logits, 1)[:, 1] / softmax(logits, 1)[:, 0])
    assert odds.var() == pytest.approx(2.0, rel=0.03)  # 6.7 standard errors
