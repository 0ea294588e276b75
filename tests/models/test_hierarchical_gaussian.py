"""The hierarchical prior: its joint law, its marginal, what has a variance and what has none.

Each p-value fails below 1e-6, and there are 13.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import handlers
from scipy import stats

from bnnzoo.errors import OptionError, TemperatureError
from bnnzoo.models import Posterior, make_model
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import make_prior
from bnnzoo.specs import Component
from tests.models._tools import ALARM, key, rng

DRAWS = 20_000


def prior(**options):
    return make_prior(Component(name="hierarchical-gaussian", options=options))


def info(role, shape=(2, 3)):
    kernel = role == "kernel"
    return ParameterInfo(
        f"a.{role}", shape, role, 4 if kernel else 1, 1.5 if kernel else 1.0, False
    )


INFO = {"kernel": ((2, 3), "kernel", 4, 1.5, False), "bias": ((4,), "bias", 1, 1.0, False)}
PAIR = [info("kernel"), info("bias", (4,))]


def drawn(made, infos):
    """Draws of every site, by name ``(draw, ...)``."""

    def one(own):
        seeded = handlers.seed(lambda: made.sample(infos), own)
        trace = handlers.trace(seeded).get_trace()
        return {name: site["value"] for name, site in trace.items() if site["type"] == "sample"}

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jax.random.split(key(31), DRAWS)))


@pytest.mark.parametrize("options", [{}, {"shape": 1.5, "rate": 4.0, "std": 0.7}])
def test_draws_follow_the_card(options):
    a = options.get("shape", 3.0)
    b = options.get("rate", a - 1.0)
    s = options.get("std", 1.0) * 1.5 / np.sqrt(4)
    made = prior(bias_std=0.3, **options)
    sites = drawn(made, [info("kernel"), info("embedding"), info("bias", (4,))])
    assert set(sites) == {
        "a.kernel", "a.kernel.variance", "a.embedding", "a.embedding.variance", "a.bias",
    }  # fmt: skip
    v, w = sites["a.kernel.variance"], sites["a.kernel"]
    found = {
        "variance": stats.kstest(v, stats.invgamma(a, scale=b).cdf).pvalue,
        "given it": stats.kstest((w / np.sqrt(v)[:, None, None] / s).ravel(), "norm").pvalue,
        "marginal": stats.kstest(w[:, 0, 0], stats.t(2 * a, scale=s * np.sqrt(b / a)).cdf).pvalue,
        "bias": stats.kstest(sites["a.bias"].ravel(), stats.norm(scale=0.3).cdf).pvalue,
    }
    assert min(found.values()) > ALARM, found
    # One variance a kernel: squares of its elements are correlated, those of two kernels are not.
    ranks = stats.spearmanr(w[:, 0, 0] ** 2, w[:, 1, 2] ** 2).pvalue
    apart = stats.spearmanr(w[:, 0, 0] ** 2, sites["a.embedding"][:, 0, 0] ** 2).pvalue
    assert ranks < ALARM < apart
    if not options:
        assert stats.t(2 * a, scale=np.sqrt(b / a)).var() == pytest.approx(1.0), (
            "matched in variance"
        )


def test_normalisation_scales_have_mean_1_and_absolute_takes_std_as_it_is():
    scale = prior(bias_std=0.3).distribution(info("scale", (4,)))
    np.testing.assert_allclose(scale.mean, 1.0)
    np.testing.assert_allclose(scale.variance, 0.09, rtol=1e-6)
    kernel = prior(std=0.2, absolute=True).distribution(info("kernel"), scale=2.0)
    np.testing.assert_allclose(kernel.variance, 0.16, rtol=1e-6)


@pytest.mark.validate
def test_rules_give_each_kernel_the_prior_they_name():
    made = prior(
        rules={
            "*.embedding": {"name": "laplace"},
            "*.bias": {"name": "hierarchical-gaussian"},
            "*.kernel": {"std": 2.0},
        }
    )
    infos = [info("kernel"), info("embedding"), info("bias", (4,))]
    made.check(infos)
    sites = drawn(made, infos)
    assert set(sites) == {
        "a.kernel", "a.kernel.variance", "a.embedding", "a.bias", "a.bias.variance",
    }  # fmt: skip
    z = sites["a.kernel"] / np.sqrt(sites["a.kernel.variance"])[:, None, None]
    assert stats.kstest(z.ravel(), stats.norm(scale=1.5).cdf).pvalue > ALARM
    other = make_prior(
        Component(
            name="gaussian", options={"rules": {"*.kernel": {"name": "hierarchical-gaussian"}}}
        )
    )
    assert set(drawn(other, infos)) == {"a.kernel", "a.kernel.variance", "a.embedding", "a.bias"}


@pytest.mark.parametrize(
    ("share", "names"),
    [
        ("parameter", ("a.kernel", "a.bias", "b.kernel", "b.bias")),
        ("layer", ("a", "a", "b", "b")),
        ("network", ("network",) * 4),
    ],
)
def test_what_shares_a_variance(share, names):
    """Given the variances, every parameter is a Gaussian of its own width and its group's."""
    made = prior(share=share, bias_variance=True, bias_std=0.3)
    infos = [ParameterInfo(f"{m}.{i.role}", *INFO[i.role]) for m in "ab" for i in PAIR]
    variances = {f"{name}.variance": jnp.asarray(0.5 + k) for k, name in enumerate(names)}
    seeded = handlers.seed(lambda: made.sample(infos), key(4))
    sites = handlers.trace(handlers.substitute(seeded, variances)).get_trace()
    assert set(sites) == {i.path for i in infos} | set(variances)
    for i, name in zip(infos, names, strict=True):
        width = 0.75 if i.role == "kernel" else 0.3
        expected = variances[f"{name}.variance"] * width**2
        np.testing.assert_allclose(sites[i.path]["fn"].variance, np.full(i.shape, expected), 1e-6)
        assert sites[f"{name}.variance"]["fn"].concentration == 3.0


def test_rules_have_shared_variances_of_their_own():
    made = prior(
        share="network", bias_variance=True, rules={"b.*": {"shape": 5.0}, "*.bias": {"std": 1.0}}
    )
    infos = [ParameterInfo(f"{m}.{i.role}", *INFO[i.role]) for m in "ab" for i in PAIR]
    made.check(infos)
    trace = handlers.trace(handlers.seed(lambda: made.sample(infos), key(3))).get_trace()
    shapes = {n: site["fn"].concentration for n, site in trace.items() if n.endswith(".variance")}
    assert shapes == {"network.variance": 3.0, "rule0.variance": 5.0, "rule1.variance": 3.0}


def test_a_layer_shares_with_its_bias_or_not_at_all():
    with pytest.raises(OptionError, match=r"share = 'layer': .*bias_variance = true"):
        prior(share="layer")


def test_a_variance_without_mean_needs_a_rate():
    with pytest.raises(OptionError, match=r"shape = 1: .* give prior.rate as well"):
        prior(shape=1.0)
    assert prior(shape=1.0, rate=1.0).rate == 1.0


def test_temperatures_renormalise_the_weights_and_refuse_an_improper_variance():
    from bnnzoo.datasets import make_dataset

    x = rng(5).normal(size=(10, 2))
    data = make_dataset(x, x[:, 0], task="regression")
    model = make_model(prior="hierarchical-gaussian", network_options={"widths": [3]})
    with jax.enable_x64(True):
        T = 0.3
        post = Posterior(model, data, T)
        u = jax.random.normal(key(1), (post.dimension,))
        values = post.constrain(u)
        expected = post.log_likelihood(u) / T
        for i in post.model.bound.infos:
            w = np.asarray(values[i.path])
            if i.role == "kernel":
                v = float(values[f"{i.path}.variance"])
                expected += stats.invgamma.logpdf(v, 3.0, scale=2.0) / T + np.log(v)
                expected += stats.norm.logpdf(w, scale=i.unit * np.sqrt(v * T)).sum()
            else:
                expected += stats.norm.logpdf(w).sum() / T
        noise = float(values["noise_std"])
        expected += stats.halfnorm.logpdf(noise) / T + np.log(noise)
        np.testing.assert_allclose(post.log_density(u), expected, rtol=1e-10)
    with pytest.raises(TemperatureError, match="improper"):
        Posterior(model, data, 4.0)


def test_it_runs_under_stock_numpyro():
    from bnnzoo.datasets import make_dataset

    x = rng(6).normal(size=(10, 2))
    bound = make_model(prior="hierarchical-gaussian", network_options={"widths": [3]}).bind(
        make_dataset(x, x[:, 0], task="regression")
    )
    draws = numpyro.infer.Predictive(bound, num_samples=2)(key(2), jnp.asarray(x))
    assert draws["layers.0.kernel.variance"].shape == (2,)
