"""The augmentation slot and the curated likelihood: each target against a NumPy computation."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, logsumexp

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import DataError, InputError, UnknownNameError
from bnnzoo.inference import fit
from bnnzoo.inference.precision import precision
from bnnzoo.models import Posterior, make_model

SIDE, ROWS = 4, 6
RNG = np.random.default_rng(5)
X = RNG.uniform(0, 16, size=(ROWS, SIDE * SIDE))
LABELS = np.arange(ROWS) % 3
REAL = RNG.normal(size=ROWS)
WAYS = [
    "averaged-logits",
    "averaged-probabilities",
    "average-log-likelihood",
    "summed-log-likelihood",
]


@pytest.fixture(autouse=True)
def doubled():
    with precision("float64"):
        yield


def prepared(combine, likelihood="categorical", y=LABELS, x=X, name="shift", **options):
    task = "regression" if y.dtype.kind == "f" else "classification"
    data = make_dataset(x, y, task=task, scale="pooled")
    model = make_model(
        network_options={"widths": [3]},
        likelihood=likelihood,
        augmentation=name,
        augmentation_options={"combine": combine, "shape": [SIDE, SIDE]} | options,
    )
    post = Posterior(model, data)
    u = post.initial(jax.random.key(2))
    return post, u, post.constrain(u)


def shifted(x, down, right, fill=0.0):
    """One image moved, pixel by pixel."""
    image = x.reshape(SIDE, SIDE)
    made = np.full_like(image, fill)
    for i in range(SIDE):
        for j in range(SIDE):
            if 0 <= i - down < SIDE and 0 <= j - right < SIDE:
                made[i, j] = image[i - down, j - right]
    return made.ravel()


def heads(post, values, moves=((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)), fill=0.0):
    """Network outputs ``(copy, row, head)``: moved in original units, then scaled."""
    copies = [np.stack([shifted(row, *move, fill) for row in X]) for move in moves]
    scaled = [(c - X.mean()) / X.std() for c in copies]
    return np.stack([post.model.bound.apply(values, jnp.asarray(c)) for c in scaled])


def wanted(combine, f):
    log_p = log_softmax(f, -1)[:, np.arange(ROWS), LABELS]
    return {
        "averaged-logits": log_softmax(f.mean(0), -1)[np.arange(ROWS), LABELS],
        "averaged-probabilities": logsumexp(log_p, 0) - np.log(len(f)),
        "average-log-likelihood": log_p.mean(0),
        "summed-log-likelihood": log_p.sum(0),
    }[combine]


@pytest.mark.parametrize("combine", WAYS)
def test_each_way_of_combining_copies_of_images(combine):
    post, u, values = prepared(combine)
    terms = post.pointwise_log_likelihood(u)
    np.testing.assert_allclose(terms, wanted(combine, heads(post, values)), rtol=1e-9)


def test_the_ways_differ():
    made = [np.asarray(prepared(c)[0].log_likelihood(prepared(c)[1])) for c in WAYS]
    assert len({round(float(v), 6) for v in made}) == len(WAYS)
    # Jensen: the mean of logs is below the log of the mean; and K copies are K times as sure.
    assert made[2] < made[1] and made[3] == pytest.approx(5 * made[2])


@pytest.mark.parametrize("combine", WAYS)
def test_predictions_use_copies_where_they_are_the_model(combine):
    post, _, values = prepared(combine)
    predicted = post.predictive(values, post.x).distribution.probs
    f = heads(post, values)
    p = np.exp(log_softmax(f, -1))
    expected = {
        "averaged-logits": np.exp(log_softmax(f.mean(0), -1)),
        "averaged-probabilities": p.mean(0),
    }.get(combine, p[0])
    np.testing.assert_allclose(predicted, expected, rtol=1e-9)


def test_more_directions_more_pixels_and_another_fill():
    post, u, values = prepared("averaged-logits", directions=8, pixels=2, fill=7.0)
    moves = [(2 * a, 2 * b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    f = heads(post, values, moves, fill=7.0)
    np.testing.assert_allclose(
        post.pointwise_log_likelihood(u), wanted("averaged-logits", f), rtol=1e-9
    )


@pytest.mark.parametrize("combine", WAYS)
def test_flips(combine):
    post, u, values = prepared(combine, name="flip")
    mirrored = X.reshape(ROWS, SIDE, SIDE)[:, :, ::-1].reshape(ROWS, -1)
    scaled = [(c - X.mean()) / X.std() for c in (X, mirrored)]
    f = np.stack([post.model.bound.apply(values, jnp.asarray(c)) for c in scaled])
    np.testing.assert_allclose(post.pointwise_log_likelihood(u), wanted(combine, f), rtol=1e-9)


def test_images_need_no_shape():
    flat, u, _values = prepared("averaged-logits")
    images, _v, _ = prepared("averaged-logits", x=X.reshape(ROWS, SIDE, SIDE, 1), shape=None)
    np.testing.assert_allclose(images.log_likelihood(u), flat.log_likelihood(u))


@pytest.mark.validate
@pytest.mark.parametrize("combine", WAYS)
def test_regression(combine):
    post, u, values = prepared(combine, "gaussian", REAL)
    f, std = heads(post, values)[..., 0], float(values["noise_std"])
    y = np.asarray(post.y)
    terms = stats.norm.logpdf(y, f, std)
    expected = {
        "averaged-logits": stats.norm.logpdf(y, f.mean(0), std),
        "averaged-probabilities": logsumexp(terms, 0) - np.log(5),
        "average-log-likelihood": terms.mean(0),
        "summed-log-likelihood": terms.sum(0),
    }[combine]
    np.testing.assert_allclose(post.pointwise_log_likelihood(u), expected, rtol=1e-9)
    predicted = post.predictive(values, post.x)
    if combine == "averaged-probabilities":
        np.testing.assert_allclose(predicted.distribution.mean, f.mean(0))
        np.testing.assert_allclose(predicted.distribution.variance, std**2 + f.var(0))
        drawn = predicted.distribution.sample(jax.random.key(0), (40_000,))
        # Standard errors of a mean and of a variance; 5 of them for 12 comparisons.
        spread = np.sqrt(std**2 + f.var(0))
        assert (np.abs(drawn.mean(0) - f.mean(0)) < 5 * spread / 200).all()
        assert (np.abs(drawn.var(0) / spread**2 - 1) < 5 * 0.01).all()


@pytest.mark.parametrize(
    "likelihood", ["bernoulli", pytest.param("ordinal", marks=pytest.mark.validate)]
)
def test_averaged_probabilities_of_other_classes(likelihood):
    y = LABELS if likelihood == "ordinal" else LABELS % 2
    post, u, values = prepared("averaged-probabilities", likelihood, y)
    p = post.predictive(values, post.x).distribution.probs
    np.testing.assert_allclose(np.asarray(p).sum(1), 1.0)
    terms = post.pointwise_log_likelihood(u)
    np.testing.assert_allclose(terms, np.log(p)[np.arange(ROWS), y], rtol=1e-6)


@pytest.mark.parametrize("combine", [pytest.param(way, marks=pytest.mark.validate) for way in WAYS])
def test_a_run_of_each_way(combine, tmp_path):
    _post, _, _ = prepared(combine)
    data = make_dataset(X, LABELS, X[:4], LABELS[:4], task="classification", scale="pooled")
    model = make_model(
        network_options={"widths": [3]},
        likelihood="categorical",
        augmentation="shift",
        augmentation_options={"combine": combine, "shape": [SIDE, SIDE]},
    )
    run = fit(model, data, chains=1, draws=5, warmup=5, progress=False, out=tmp_path / "run")
    assert combine in run.label
    assert np.isfinite(run.tree["log_likelihood"]["y"]).all()
    from bnnzoo.inference import load_run

    again = load_run(tmp_path / "run")
    np.testing.assert_array_equal(again.predict(X).mean, run.predict(X).mean)
    kept = pickle.loads(pickle.dumps(run))
    np.testing.assert_array_equal(kept.predict(X).mean, run.predict(X).mean)


def test_an_augmented_posterior_shares_its_program():
    one, other = prepared("averaged-logits")[0], prepared("averaged-logits", fill=3.0)[0]
    assert jax.tree.structure(one) == jax.tree.structure(other)


# -- curation ----------------------------------------------------------------------------------


def curated(**options):
    data = make_dataset(X, LABELS, task="classification")
    shape = {"widths": [3]}
    model = make_model(likelihood="curated", network_options=shape, likelihood_options=options)
    plain = make_model(likelihood="categorical", network_options=shape)
    return Posterior(model, data), plain, data


def test_curation_is_a_likelihood_temperature_in_training():
    post, plain, data = curated(labellers=4.0)
    u = post.initial(jax.random.key(0))
    cold = Posterior(plain, data, likelihood_temperature=0.25)
    np.testing.assert_allclose(post.log_density(u), cold.log_density(u), rtol=1e-12)


@pytest.mark.parametrize(("predict", "power"), [("label", 1.0), ("consensus", 4.0)])
def test_curation_predicts_a_label_or_a_consensus(predict, power):
    post, _, _ = curated(labellers=4.0, predict=predict)
    values = post.constrain(post.initial(jax.random.key(0)))
    f = np.asarray(post.model.bound.apply(values, post.x))
    p = np.exp(log_softmax(f, -1)) ** power
    predicted = post.predictive(values, post.x).distribution.probs
    np.testing.assert_allclose(predicted, p / p.sum(1, keepdims=True), rtol=1e-9)


def test_agreement_and_disagreement_add_up():
    """Sum over labels of p_y^S, plus the probability of any other set of answers, is one."""
    p = np.array([0.5, 0.3, 0.2])
    answers = np.random.default_rng(0).choice(3, size=(200_000, 3), p=p)
    agree = (answers == answers[:, :1]).all(1)
    # 5 binomial standard errors.
    assert abs(agree.mean() - (p**3).sum()) < 5 * np.sqrt(0.16 * 0.84 / 200_000)


# -- what is refused ---------------------------------------------------------------------------


def test_bad_input_is_one_line():
    data = make_dataset(X, LABELS, task="classification")

    def bound(**given):
        return make_model(likelihood=given.pop("likelihood", "categorical"), **given).bind(data)

    cases = [
        (dict(augmentation="shfit"), UnknownNameError, "did you mean 'shift'"),
        (dict(augmentation="shift"), DataError, r"give augmentation.shape = \[4, 4\]"),
        (
            dict(augmentation="flip", augmentation_options={"shape": [3, 4]}),
            DataError,
            "has 12 values, an input of data set 'arrays' has 16",
        ),
        (
            dict(augmentation="shift", augmentation_options={"shape": [4, 4]}),
            DataError,
            "standardised pixel by pixel: load it with scale = 'pooled'",
        ),
        (dict(augmentation_options={"pixels": 1}), InputError, "has options and no name"),
        (
            dict(
                augmentation="flip",
                likelihood="curated",
                augmentation_options={"combine": "averaged-probabilities"},
            ),
            InputError,
            "cannot be averaged",
        ),
    ]
    for given, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            bound(**given)
        assert "\n" not in str(caught.value)
