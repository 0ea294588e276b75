"""Predictions in original units against NumPy, for zoo models and for hand-written ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special, stats

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import InputError
from bnnzoo.models import HandwrittenModel, Posterior, make_model
from bnnzoo.models.handwritten import as_model, source_hash
from tests.models._tools import rng

X = 5 + 2 * rng(70).normal(size=(9, 2))
Y = 100 + 30 * X[:, 0]
NEW = 5 + 2 * rng(71).normal(size=(4, 2))
ONE = make_dataset(X, Y, task="regression")
TWO = make_dataset(X, np.stack([Y, -3 * X[:, 1]], 1), task="regression")
CLASSES = make_dataset(X, np.arange(9) % 3, task="classification")
YES_NO = make_dataset(X, (X[:, 0] > 5).astype(int), task="classification")


def forward(values, x):
    h = np.tanh(x @ values["layers.0.kernel"] + values["layers.0.bias"])
    return h @ values["layers.1.kernel"] + values["layers.1.bias"]


def prepared(data, likelihood="gaussian", T=1.0, scale=True, **options):
    """Posterior, a point, its values, the new rows scaled by hand, and the naive head there."""
    model = make_model(
        "mlp", "gaussian", likelihood,
        network_options={"widths": [3]}, likelihood_options=options,
    )  # fmt: skip
    post = Posterior(model, data, T)
    u = jnp.asarray(rng(72).normal(size=post.dimension), jnp.float32)
    values = {name: np.asarray(v, float) for name, v in post.constrain(u).items()}
    x = (NEW - X.mean(0)) / X.std(0) if scale else NEW
    return post, u, values, jnp.asarray(x, jnp.float32), forward(values, x)


@pytest.mark.parametrize("data", [ONE, TWO])
@pytest.mark.parametrize("noise", ["learned", "fixed", "heteroscedastic"])
@pytest.mark.parametrize("T", [1.0, 0.1])
def test_functions_and_targets_are_the_naive_ones(data, noise, T):
    options = {"noise": noise} | ({"noise_std": 0.3} if noise == "fixed" else {})
    post, u, values, x, head = prepared(data, T=T, **options)
    outputs = 1 if data.y.ndim == 1 else 2
    mean = head[:, :outputs]
    shift, stretch = data.y.mean(0), data.y.std(0)
    f = post.predict(u, jnp.asarray(NEW, jnp.float32))
    assert f.shape == (4, outputs)
    np.testing.assert_allclose(f, mean * stretch + shift, rtol=1e-4, atol=1e-2)
    std = {
        "learned": lambda: values["noise_std"],
        "fixed": lambda: 0.3,
        "heteroscedastic": lambda: np.log1p(np.exp(head[:, outputs:])) + 1e-3,
    }[noise]()
    modelled, target = post.predictive(post.constrain(u), x)
    np.testing.assert_allclose(modelled, mean, rtol=1e-4, atol=1e-5)
    y = rng(73).normal(size=(4, outputs))
    wanted = stats.norm.logpdf(y, mean, std).sum(1)
    assert target.batch_shape == (4,)
    found = target.log_prob(jnp.asarray(y[:, 0] if outputs == 1 else y, jnp.float32))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_data_that_say_so_are_not_scaled():
    plain = make_dataset(X, Y, task="regression", scale="none")
    post, u, _, _, head = prepared(plain, scale=False)
    np.testing.assert_allclose(post.predict(u, jnp.asarray(NEW, jnp.float32)), head, rtol=1e-4)


def test_classes_are_logits_and_softmax():
    post, u, _, x, head = prepared(CLASSES, "categorical", T=0.3)
    f = post.predict(u, jnp.asarray(NEW, jnp.float32))
    np.testing.assert_allclose(f, head, rtol=1e-4, atol=1e-5)
    _, target = post.predictive(post.constrain(u), x)
    np.testing.assert_allclose(target.probs, special.softmax(head, 1), rtol=1e-4)


def test_predictions_are_traced_with_the_posterior_as_an_argument():
    post, u, _, x, _ = prepared(ONE)
    traced = jax.jit(lambda post, values, x: post.predictive(values, x).f)
    direct = post.predictive(post.constrain(u), x).f
    np.testing.assert_allclose(traced(post, post.constrain(u), x), direct, rtol=1e-5)


# -- hand-written models -----------------------------------------------------------------------


def line(x, y=None):
    """The mean of y is the function."""
    w = numpyro.sample("w", dist.Normal(0, 10).expand((2,)).to_event(1))
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def skewed(x, y=None):
    """The mean of y is not the function; its target has another name, and there is a penalty."""
    w = numpyro.sample("w", dist.Normal(0, 10).expand((2,)).to_event(1))
    f = numpyro.deterministic("f", x @ w)
    numpyro.factor("penalty", -jnp.sum(w**2))
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("height", dist.Gumbel(f, 2.0), obs=y)


W = jnp.array([0.5, -2.0])


def test_the_function_of_a_handwritten_model():
    x = jnp.asarray(NEW, jnp.float32)
    for model in (line, skewed):
        found = Posterior(model, ONE).predict(W, x)  # auto: data stay in original units
        np.testing.assert_allclose(found, (NEW @ np.array(W))[:, None], rtol=1e-5)
    _, target = Posterior(skewed, ONE).predictive({"w": W}, x)
    assert isinstance(target, dist.Gumbel)


def test_scaling_is_asked_for_by_a_handwritten_model():
    scaled = make_dataset(X, Y, task="regression", scale="standard")
    found = Posterior(line, scaled).predict(W, jnp.asarray(NEW, jnp.float32))
    wanted = ((NEW - X.mean(0)) / X.std(0)) @ np.array(W) * Y.std() + Y.mean()
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5)


def test_several_targets_need_one_named_y():
    def two_targets(x, y=None):
        w = numpyro.sample("w", dist.Normal())
        numpyro.sample("a", dist.Normal(w, 1.0), obs=0.0)
        numpyro.sample("b", dist.Normal(w, 1.0), obs=0.0)

    post = Posterior(two_targets, ONE)
    with pytest.raises(InputError, match=r"one target site, named 'y'; found \['a', 'b'\]"):
        post.predict(jnp.zeros(1), post.x)


def probabilities(kind):
    """A logistic regression, its target written in one of four ways."""

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal(0, 1).expand((2,)).to_event(1))
        logit = x @ w
        both = jnp.stack([jnp.zeros_like(logit), logit], 1)
        target = {
            "bernoulli logits": lambda: dist.Bernoulli(logits=logit),
            "bernoulli probs": lambda: dist.Bernoulli(probs=jax.nn.sigmoid(logit)),
            "categorical logits": lambda: dist.Categorical(logits=both),
            "categorical probs": lambda: dist.Categorical(probs=jax.nn.softmax(both)),
        }[kind]()
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", target, obs=y)

    return model


@pytest.mark.parametrize(
    "kind", ["bernoulli logits", "bernoulli probs", "categorical logits", "categorical probs"]
)
def test_classes_of_a_handwritten_model_have_logits_and_probabilities(kind):
    """In NumPyro the mean of a categorical is NaN, that of a Bernoulli one number."""
    with jax.enable_x64(True):
        post, w = Posterior(probabilities(kind), YES_NO), jnp.asarray(W, float)
        f, target = post.predictive({"w": w}, jnp.asarray(NEW))
        logit = NEW @ np.array(w)
        assert f.shape == (4, 2)
        np.testing.assert_allclose(f[:, 1] - f[:, 0], logit, rtol=1e-6)
        np.testing.assert_allclose(target.probs[:, 1], special.expit(logit), rtol=1e-6)
        labels = jnp.array([0, 1, 1, 0])
        wanted = special.log_expit(np.where(labels, 1, -1) * logit)
        np.testing.assert_allclose(target.log_prob(labels), wanted, rtol=1e-6, atol=1e-9)
        again = post.predictive({"w": w}, post.x).distribution.log_prob(post.y)
        whole = post.pointwise_log_likelihood(w)
        np.testing.assert_allclose(whole, again, rtol=1e-6, atol=1e-9)


def test_a_base_rate_is_given_for_every_row():
    def model(x, y=None):
        p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", dist.Categorical(probs=p), obs=y)

    p = jnp.array([0.2, 0.3, 0.5])
    f, target = Posterior(model, CLASSES).predictive({"p": p}, jnp.asarray(NEW, jnp.float32))
    np.testing.assert_allclose(f, np.log(np.tile(p, (4, 1))), rtol=1e-5)
    assert target.probs.shape == (4, 3)


def test_logits_are_told_from_a_single_function():
    """One logit a class in `f` is kept; a single `f` for two classes gives way to the logits."""

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal(0, 1).expand((2,)).to_event(1))
        f = numpyro.deterministic("f", x @ w)
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", dist.Bernoulli(logits=f), obs=y)

    f, _ = Posterior(model, YES_NO).predictive({"w": W}, jnp.asarray(NEW, jnp.float32))
    np.testing.assert_allclose(f, np.stack([np.zeros(4), NEW @ np.array(W)], 1), rtol=1e-5)


def regression_with(width, scale=1.0):
    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal(0, scale).expand((width,)).to_event(1))
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)

    return model


def test_the_source_hash_sees_what_a_model_closes_over():
    """Or a folder that holds one model's run would be given back for another."""
    distinct = [
        regression_with(2),
        regression_with(3),
        regression_with(2, scale=2.0),
        regression_with(2, scale=np.array([1.0, 2.0])),
        regression_with(2, scale=np.array([[1.0], [2.0]])),
        regression_with(2, scale=31),  # closed over in the order of names: 31, 2
        regression_with(12, scale=3),
        functools.partial(line, y=None),
        functools.partial(regression_with, 2),
        functools.partial(regression_with, 3),
        *(eval(f"lambda x, y=None: numpyro.deterministic('f', x * {n})") for n in (2, 3)),
    ]
    hashes = [source_hash(fn) for fn in distinct]
    assert len(set(hashes)) == len(distinct)
    assert source_hash(regression_with(2)) == hashes[0]
    assert as_model(functools.partial(line, y=None)).label == "line"


def test_a_handwritten_model_is_recorded_by_name_and_source():
    made = as_model(line)
    assert isinstance(made, HandwrittenModel) and as_model(made) is made
    assert made.label == "line" and made.spec.model.name == "line"
    assert made.spec.model.options["source"] == source_hash(line) != source_hash(skewed)
    assert made.bind(ONE) is made
