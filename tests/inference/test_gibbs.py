"""Gibbs-within-HMC: closed forms and quadrature at several temperatures, conditionals, refusals.

Bounds are 5.5 Monte Carlo standard errors (two-sided 4e-8 each if normal; estimated errors make it
some 1e-7), 27 comparisons of the conjugate model at each of four temperatures, 5 of the hierarchy,
9 of the model in which HMC moves a variance: 2e-5 in all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import bnnzoo as bz
from bnnzoo.errors import InputError
from bnnzoo.inference.backends import gibbs_hmc
from bnnzoo.inference.backends.gibbs_hmc import shape_and_log_rate
from bnnzoo.inference.precision import precision
from bnnzoo.models import Posterior

sys.path.insert(0, str(Path(__file__).parent))

import _closed_forms as forms
from _scores import grid_moments, worst_score

BOUND = 5.5
TEMPERATURES = [(1.0, 1.0), (0.3, 1.0), (0.1, 1.0), (0.3, 2.0)]
GROUPS_Y = np.array([3.1, -2.2, 1.4, 5.0, -4.1, 0.3, 2.7, -1.6])
SIGMA, MU_STD, SHAPE, RATE = 0.8, 5.0, 3.0, 6.0


def sample(model, data, T, L, seed=0, draws=4000, **options):
    return bz.fit(
        model, data, "gibbs-hmc", chains=4, draws=draws, warmup=500, seed=seed,
        posterior_temperature=T, likelihood_temperature=L, dtype="float64", progress=False,
        **options,
    )  # fmt: skip


def hierarchy(x, y=None):
    """theta_j | mu, v ~ N(mu, v): the variance of a group whose mean is sampled too."""
    v = numpyro.sample("v", dist.InverseGamma(SHAPE, RATE))
    mu = numpyro.sample("mu", dist.Normal(0.0, MU_STD))
    with numpyro.plate("group", x.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, jnp.sqrt(v)))
        numpyro.sample("y", dist.Normal(theta, SIGMA), obs=y)


def hierarchy_data():
    x = np.arange(8.0)[:, None]
    return bz.make_dataset(x, GROUPS_Y, task="regression", scale="none")


def hierarchy_moments(T, L):
    """Mean and covariance of (mu, log v): theta integrates out, as it does in ``_closed_forms``."""

    def log_density(mu, log_v):
        v = np.exp(log_v)
        log_p = -0.5 * mu**2 / (T * MU_STD**2)
        log_p += stats.invgamma.logpdf(v, SHAPE, scale=RATE) / T + log_v
        total = T * v + T * L * SIGMA**2
        for y in GROUPS_Y:
            log_p += -0.5 * (y - mu) ** 2 / total - 0.5 * np.log(total)
        return log_p

    return grid_moments(log_density, np.linspace(-12, 12, 1201), np.linspace(-4, 9, 1301))


def hierarchy_draws(run):
    posterior = run.tree["posterior"]
    return np.stack([posterior["mu"].to_numpy(), np.log(posterior["v"].to_numpy())], axis=-1)


@pytest.mark.validate
@pytest.mark.parametrize("seed", range(11))
def test_one_variance_of_weights_and_noise_has_its_closed_form(seed):
    """The normal-inverse-gamma model is accepted: weights and residuals share one conditional."""
    data = forms.regression_data()
    for T, L in TEMPERATURES:
        draws = forms.unknown_noise_draws(sample(forms.unknown_noise, data, T, L, seed))
        score = worst_score(draws, *forms.unknown_noise_moments(data, T, L))
        print(f"normal-inverse-gamma, T={T}, L={L}: worst of 27 scores {score:.2f}")
        assert score < BOUND


@pytest.mark.validate
@pytest.mark.parametrize("seed", range(11))
def test_a_two_level_hierarchy_agrees_with_quadrature(seed):
    for T, L in TEMPERATURES:
        draws = hierarchy_draws(sample(hierarchy, hierarchy_data(), T, L, seed))
        score = worst_score(draws, *hierarchy_moments(T, L))
        print(f"hierarchy, T={T}, L={L}: worst of 5 scores {score:.2f}")
        assert score < BOUND


@pytest.mark.validate
def test_a_naive_power_of_the_conditional_prior_is_seen(monkeypatch):
    """Planted: p(theta | v)^(1/T) not renormalised has shape (a + 1)/T - 1 + d/(2 T)."""

    def naive(log_density, u, places):
        shape, log_rate = shape_and_log_rate(log_density, u, places)
        return shape + 0.5 * len(GROUPS_Y) * (1.0 / 0.3 - 1.0), log_rate

    monkeypatch.setattr(gibbs_hmc, "shape_and_log_rate", naive)
    jax.clear_caches()
    monkeypatch.setattr(gibbs_hmc.GibbsHMC, "check", lambda self, posterior: None)
    draws = hierarchy_draws(sample(hierarchy, hierarchy_data(), 0.3, 1.0))
    jax.clear_caches()
    assert worst_score(draws, *hierarchy_moments(0.3, 1.0)) > 4 * BOUND


# -- the conditional ---------------------------------------------------------------------------


def data_of(rows=15, features=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    return bz.make_dataset(x, x[:, 0] + 0.3 * rng.normal(size=rows), task="regression")


def conditional_of(post, names, u):
    places = np.concatenate(
        [np.arange(s.offset, s.offset + s.size) for s in post.sites if s.name in names]
    )
    shape, log_rate = jax.jit(lambda u: shape_and_log_rate(post.log_density, u, places))(u)
    return np.asarray(shape), np.exp(np.asarray(log_rate))


@pytest.mark.validate
@pytest.mark.parametrize(
    ("T", "L"), [(0.1, 2.0), pytest.param(1.0, 1.0, marks=pytest.mark.validate)]
)
def test_the_conditional_of_a_layer_is_the_formula(T, L):
    model = bz.make_model(
        prior="hierarchical-gaussian",
        prior_options={"shape": 2.5, "rate": 0.7, "std": 1.3},
        network_options={"widths": [4, 3]},
    )
    with precision("float64"):
        post = Posterior(model, data_of(), T, L)
        u = jax.random.normal(jax.random.key(1), (post.dimension,))
        infos = {i.path: i for i in post.model.bound.infos}
        values = post.constrain(u)
        paths = [f"layers.{k}.kernel" for k in range(3)]
        names = [f"{path}.variance" for path in paths]
        assert gibbs_hmc.inverse_gamma_sites(post) == tuple(names)
        for far in (0.0, 12.0, -12.0):  # also where the variance is far from its conditional
            places = [s.offset for s in post.sites if s.name in names]
            moved = u.at[np.array(places)].add(far)
            shape, rate = conditional_of(post, names, moved)
            for k, path in enumerate(paths):
                w, s = np.asarray(values[path]), 1.3 * infos[path].unit
                expected = (2.5 + 1) / T - 1 + w.size / 2, (0.7 + (w**2).sum() / (2 * s**2)) / T
                np.testing.assert_allclose((shape[k], rate[k]), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("share", "T", "L"),
    [
        pytest.param("network", 0.1, 2.0, marks=pytest.mark.validate),
        pytest.param("layer", 1.0, 1.0, marks=pytest.mark.validate),
    ],
)
def test_a_variance_that_parameters_share_counts_all_of_them(share, T, L):
    """Shape (a + 1)/T - 1 + d/2 and rate (b + sum |w|^2 / (2 s^2))/T over a layer or a network."""
    model = bz.make_model(
        prior="hierarchical-gaussian",
        prior_options={"shape": 2.5, "rate": 0.7, "std": 1.3, "bias_std": 0.4, "share": share,
                       "bias_variance": True},
        network_options={"widths": [4]},
    )  # fmt: skip
    with precision("float64"):
        post = Posterior(model, data_of(), T, L)
        backend_of().check(post)
        u = jax.random.normal(jax.random.key(1), (post.dimension,))
        values = post.constrain(u)
        names = [s.name for s in post.sites if s.name.endswith(".variance")]
        assert names == {"layer": ["layers.0.variance", "layers.1.variance"],
                         "network": ["network.variance"]}[share]  # fmt: skip
        shape, rate = conditional_of(post, names, u)
        for k, name in enumerate(names):
            group = name.removesuffix("variance").removeprefix("network.")
            infos = [i for i in post.model.bound.infos if i.path.startswith(group)]
            z = np.concatenate([
                np.ravel(values[i.path]) / (1.3 * i.unit if i.role == "kernel" else 0.4)
                for i in infos
            ])  # fmt: skip
            expected = 3.5 / T - 1 + z.size / 2, (0.7 + 0.5 * (z**2).sum()) / T
            np.testing.assert_allclose((shape[k], rate[k]), expected, rtol=1e-9)


@pytest.mark.validate
def test_noise_and_a_vector_of_variances_are_blocks_too():
    """n residuals count for n/(2 T L); each element of a vector has weights of its own."""

    def model(x, y=None):
        v = numpyro.sample("v", dist.InverseGamma(2.0, 1.0).expand([3]).to_event(1))
        noise = numpyro.sample("noise", dist.InverseGamma(3.0, 0.5))
        w = numpyro.sample("w", dist.Normal(0.0, jnp.sqrt(v) * jnp.ones((2, 3))).to_event(2))
        numpyro.sample("y", dist.Normal(x @ w.sum(0), jnp.sqrt(noise)), obs=y)

    T, L = 0.4, 1.7
    with precision("float64"):
        post = Posterior(model, data_of(), T, L)
        u = jax.random.normal(jax.random.key(2), (post.dimension,))
        values = post.constrain(u)
        shape, rate = conditional_of(post, ["v", "noise"], u)
        w = np.asarray(values["w"])
        residuals = np.asarray(post.y - post.x @ w.sum(0))
    np.testing.assert_allclose(shape[:3], 3.0 / T - 1 + 1.0)
    np.testing.assert_allclose(rate[:3], (1.0 + 0.5 * (w**2).sum(0)) / T)
    np.testing.assert_allclose(shape[3], 4.0 / T - 1 + 15 / (2 * T * L))
    np.testing.assert_allclose(rate[3], 0.5 / T + (residuals**2).sum() / (2 * T * L))
    with precision("float64"):
        backend_of().check(post)


@pytest.mark.validate
@pytest.mark.parametrize("prior", ["ard", "inverse-gamma-scale"])
def test_variances_at_a_networks_ends_are_blocks_too(prior):
    """An input's has the weights out of it, the output layer's its kernel and bias."""
    model = bz.make_model(prior=prior, network_options={"widths": [4]})
    T = 0.3
    with precision("float64"):
        post = Posterior(model, data_of(), T)
        backend_of().check(post)
        u = jax.random.normal(jax.random.key(1), (post.dimension,))
        values = {name: np.asarray(v) for name, v in post.constrain(u).items()}
        (name,) = (s.name for s in post.sites if s.name.endswith("variance"))
        shape, rate = conditional_of(post, [name], u)
    if prior == "ard":
        size, squares = 4, (values["layers.0.kernel"] ** 2).sum(1) / (1 / 3)
    else:
        kernel, bias = values["layers.1.kernel"], values["layers.1.bias"]
        size, squares = 5, (kernel**2).sum() / (1 / 4) + (bias**2).sum()
    np.testing.assert_allclose(shape, 4.0 / T - 1 + size / 2, rtol=1e-9)
    np.testing.assert_allclose(rate, (2.0 + 0.5 * squares) / T, rtol=1e-9)


# -- refusals ----------------------------------------------------------------------------------


def backend_of(**options):
    return bz.registry.get("backends", "gibbs-hmc").build(options)


def non_centred(x, y=None):
    v = numpyro.sample("v", dist.InverseGamma(3.0, 2.0))
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ (jnp.sqrt(v) * z), 0.5), obs=y)


def as_deviation(x, y=None):
    v = numpyro.sample("v", dist.InverseGamma(3.0, 2.0))
    w = numpyro.sample("w", dist.Normal(0.0, v).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def shared(x, y=None):
    v = numpyro.sample("v", dist.InverseGamma(3.0, 2.0))
    r = numpyro.sample("r", dist.InverseGamma(3.0, 2.0))
    w = numpyro.sample("w", dist.Normal(0.0, jnp.sqrt(v * r)).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def heavy_noise(x, y=None):
    v = numpyro.sample("v", dist.InverseGamma(3.0, 2.0))
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    numpyro.sample("y", dist.StudentT(4.0, x @ w, jnp.sqrt(v)), obs=y)


def floored(x, y=None):
    v = numpyro.sample("v", dist.InverseGamma(3.0, 2.0))
    w = numpyro.sample("w", dist.Normal(0.0, jnp.sqrt(v + 0.01)).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


@pytest.mark.parametrize(
    "model",
    [
        non_centred,
        *(
            pytest.param(m, marks=pytest.mark.validate)
            for m in (as_deviation, shared, heavy_noise, floored)
        ),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_conditionals_are_refused_by_name(model, dtype):
    with precision(dtype):
        post = Posterior(model, data_of())
        with pytest.raises(InputError, match="variance 'v' is not inverse-gamma") as caught:
            backend_of().check(post)
    assert "nuts, hmc" in str(caught.value) and "\n" not in str(caught.value)


def test_models_without_a_variance_or_without_anything_else_are_refused():
    def nothing_else(x, y=None):
        v = numpyro.sample("v", dist.InverseGamma(3.0, 2.0))
        numpyro.sample("y", dist.Normal(0.0 * x[:, 0], jnp.sqrt(v)), obs=y)

    post = Posterior(bz.make_model(network_options={"widths": [3]}), data_of())
    with pytest.raises(
        InputError, match=r"no inverse-gamma site.*nuts, hmc.*'hierarchical-gaussian'"
    ):
        backend_of().check(post)
    with pytest.raises(InputError, match="besides its variances"):
        backend_of().check(Posterior(nothing_else, data_of()))
    with pytest.raises(InputError, match=r"variances: 'vv' is no inverse-gamma site.*'v'"):
        backend_of(variances=("vv",)).check(Posterior(forms.unknown_noise, data_of(features=5)))


@pytest.mark.validate
def test_a_variance_that_is_not_named_is_left_to_hmc():
    """Weights' variance by Gibbs, a Student-t noise's scale by HMC, against quadrature."""

    def model(x, y=None):
        v = numpyro.sample("v", dist.InverseGamma(3.0, 2.0))
        noise = numpyro.sample("noise", dist.InverseGamma(3.0, 2.0))
        w = numpyro.sample("w", dist.Normal(0.0, jnp.sqrt(v)))
        numpyro.sample("y", dist.StudentT(4.0, w * x[:, 0], jnp.sqrt(noise)), obs=y)

    data = data_of(rows=6, features=1)
    run = sample(model, data, 0.3, 1.0, variances=("v",))
    x, y = data.scaling_for(True).transform_x(data.x), data.scaling_for(True).transform_y(data.y)

    def log_density(w, log_v, log_noise):
        v, noise = np.exp(log_v), np.exp(log_noise)
        log_p = sum(
            stats.t.logpdf((b - w * a[0]) / np.sqrt(noise), 4.0) - 0.5 * log_noise
            for a, b in zip(x, y, strict=True)
        )
        log_p += stats.invgamma.logpdf(v, 3.0, scale=2.0) + log_v * 0.3
        log_p += stats.invgamma.logpdf(noise, 3.0, scale=2.0) + log_noise * 0.3
        return log_p / 0.3 + stats.norm.logpdf(w, scale=np.sqrt(0.3 * v))

    axes = 3 * (np.linspace(-4, 4, 81),)
    posterior = run.tree["posterior"]
    draws = [posterior["w"], np.log(posterior["v"]), np.log(posterior["noise"])]
    draws = np.stack([d.to_numpy() for d in draws], axis=-1)
    assert worst_score(draws, *grid_moments(log_density, *axes)) < BOUND


@pytest.mark.validate
def test_gradients_are_leapfrogs_and_one_a_step():
    run = sample(hierarchy, hierarchy_data(), 1.0, 1.0, draws=50)
    groups = run.tree["sample_stats"], run.tree["warmup_sample_stats"]
    leapfrogs = sum(int(group["n_steps"].sum()) for group in groups)
    assert run.manifest["gradients"] == leapfrogs + 4 * (500 + 50)


@pytest.mark.validate
@pytest.mark.parametrize("trajectory", [np.pi / 2, "chees"])
def test_a_stopped_run_goes_on_to_the_same_draws(trajectory, tmp_path):
    settings = {"chains": 2, "draws": 150, "warmup": 150, "seed": 3, "trajectory": trajectory}
    data = hierarchy_data()
    whole = bz.fit(hierarchy, data, "gibbs-hmc", progress=False, **settings)
    out = tmp_path / "run"
    with pytest.raises(bz.errors.RunError, match="before the first draw"):
        bz.fit(hierarchy, data, "gibbs-hmc", progress=False, out=out, max_time=0.0, **settings)
    again = bz.resume(out, hierarchy, progress=False)
    for name in ("mu", "v", "theta"):
        a, b = (run.tree["posterior"][name].to_numpy() for run in (whole, again))
        np.testing.assert_array_equal(a, b)
