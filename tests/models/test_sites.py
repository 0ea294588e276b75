"""What a model may hold: names, refusals, sites that belong to rows, starting points.

Random: the laws of starting points, each at a false-alarm rate of 1e-6 (`_tools.ALARM`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from flax import nnx
from numpyro.contrib.control_flow import scan
from numpyro.contrib.module import random_nnx_module
from scipy import stats

from bnnzoo.datasets import make_dataset
from bnnzoo.errors import BnnzooError, InputError
from bnnzoo.models import Posterior, make_model
from bnnzoo.models.layout import tree_name
from tests.models._tools import ALARM, Z, assert_law, key, rng

# Eight schools: the standard error is the input.
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SCHOOLS = make_dataset(SIGMA, EFFECT, task="regression")
X = rng(40).normal(size=(8, 2))
DATA = make_dataset(X, X[:, 0], task="regression", scale="none")


def observe(x, y, mean):
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


# -- names -------------------------------------------------------------------------------------


def test_a_slash_becomes_a_dot():
    def model(x, y=None):
        with numpyro.handlers.scope(prefix="net"):
            w = numpyro.sample("w", dist.Normal())
        observe(x, y, w)

    (site,) = Posterior(model, DATA).sites
    assert site.name == "net/w" and tree_name(site.name) == "net.w"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a/b", "a.b"), r"sites 'a/b' and 'a\.b' would both be 'a\.b'"),
        (("chain",), "site 'chain' has the name of a tree's axis"),
        (("w", "draw"), "site 'draw' has the name of a tree's axis"),
        ((), "samples nothing"),
    ],
)
def test_names_a_tree_cannot_hold(names, message):
    def model(x, y=None):
        observe(x, y, sum([numpyro.sample(name, dist.Normal()) for name in names], 0.0))

    with pytest.raises(InputError, match=message):
        Posterior(model, DATA)


# -- refusals ----------------------------------------------------------------------------------


def with_param(x, y=None):
    observe(x, y, numpyro.param("free", 1.0) * numpyro.sample("w", dist.Normal()))


def with_mutable(x, y=None):
    numpyro.primitives.mutable("kept", {"a": 1.0})
    observe(x, y, numpyro.sample("w", dist.Normal()))


def with_discrete(x, y=None):
    observe(x, y, numpyro.sample("k", dist.Poisson(3.0)))


def with_subsampling(x, y=None):
    w = numpyro.sample("w", dist.Normal())
    with numpyro.plate("data", x.shape[0], subsample_size=3) as rows:
        numpyro.sample("y", dist.Normal(w, 1.0), obs=None if y is None else y[rows])


def with_scaled_latent(x, y=None):
    with numpyro.handlers.scale(scale=2.0):
        w = numpyro.sample("w", dist.Normal())
    observe(x, y, w)


def with_scan(x, y=None):
    def step(carry, _):
        carry = numpyro.sample("z", dist.Normal(carry, 1.0))
        return carry, carry

    observe(x, y, scan(step, 0.0, None, length=8)[1])


def with_key(x, y=None):
    noise = jax.random.normal(numpyro.prng_key(), (8,))
    observe(x, y, noise * numpyro.sample("w", dist.Normal()))


def with_numpyros_wrapper(x, y=None):
    module = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    net = random_nnx_module("net", module, {"kernel": dist.Normal()})  # the bias stays unsampled
    observe(x, y, net(x)[:, 0])


def with_a_name_twice(x, y=None):
    observe(x, y, numpyro.sample("w", dist.Normal()) + numpyro.sample("w", dist.Normal()))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (with_a_name_twice, "site 'w' is sampled twice"),
        (with_param, r"site 'free' is a numpyro\.param, which stays unsampled"),
        (with_mutable, r"site 'kept' is a numpyro\.mutable"),
        (with_discrete, "site 'k' is discrete"),
        (with_subsampling, "plate 'data' subsamples: leave subsample_size out"),
        (with_scaled_latent, "latent site 'w' is scaled"),
        (with_scan, "scan and cond hide the sites"),
        (with_key, "random numbers outside numpyro.sample"),
        (with_numpyros_wrapper, r"site 'net\$params' is a numpyro\.param"),
    ],
)
def test_what_has_no_posterior_is_refused_in_one_line(model, message):
    with pytest.raises(BnnzooError, match=message) as caught:
        Posterior(model, DATA)
    assert "\n" not in str(caught.value)


# -- sites that belong to rows -----------------------------------------------------------------


def eight_schools(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", x.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, x[:, 0]), obs=y)


def eight_exactly(x, y=None):
    with numpyro.plate("school", 8):
        theta = numpyro.sample("theta", dist.Normal(0.0, 5.0))
        numpyro.sample("y", dist.Normal(theta, x[:, 0]), obs=y)


def shared(x, y=None):
    w = numpyro.sample("w", dist.Normal(jnp.zeros(x.shape[1]), 5.0).to_event(1))
    observe(x, y, x @ w)


@pytest.mark.parametrize("model", [eight_schools, eight_exactly])
def test_latents_of_rows_refuse_minibatches_and_new_rows(model):
    post = Posterior(model, SCHOOLS)
    assert {s.name: s.shape for s in post.sites}["theta"] == (8,)
    u = post.initial(key(1))
    assert jnp.isfinite(post.log_density(u))
    with pytest.raises(InputError, match="'theta' belongs to the training rows"):
        post.check_rows_are_free()


def test_a_batch_of_one_row_does_not_see_all_schools():
    """Broadcasting would turn 8 effects against 1 row into 8 terms, silently."""
    post = Posterior(eight_schools, SCHOOLS)
    u, new = post.initial(key(1)), jnp.array([[9.0], [10.0]])
    for batch in (jnp.array([0]), jnp.array([0, 3])):
        for refused in (post.log_density, post.log_likelihood, post.pointwise_log_likelihood):
            with pytest.raises(InputError, match="latent site 'theta' has shape"):
                refused(u, batch)
    for x in (new, new[:1]):
        with pytest.raises(InputError, match="latent site 'theta' has shape"):
            post.predict(u, x)
    assert post.predict(u, jnp.asarray(SCHOOLS.x, jnp.float32)).shape == (8, 1)


def test_shared_latents_are_free_of_rows():
    Posterior(shared, SCHOOLS).check_rows_are_free()
    bound = make_model(network_options={"widths": [3]})
    Posterior(bound, SCHOOLS).check_rows_are_free()


def test_eight_schools_density():
    post = Posterior(eight_schools, SCHOOLS)
    values = {"mu": 4.0, "tau": 3.0, "theta": EFFECT / 2}
    u = post.unconstrain(values)
    wanted = (
        stats.norm.logpdf(4.0, 0, 5)
        + stats.halfcauchy.logpdf(3.0, scale=5)
        + np.log(3.0)
        + stats.norm.logpdf(EFFECT / 2, 4.0, 3.0).sum()
        + stats.norm.logpdf(EFFECT, EFFECT / 2, SIGMA).sum()
    )
    assert float(post.log_density(u)) == pytest.approx(wanted, rel=1e-5)


# -- starting points ---------------------------------------------------------------------------


def test_initial_draws_from_the_prior():
    model = make_model(prior="laplace", network_options={"widths": [3]})
    data = make_dataset(X, X[:, 0], task="regression")
    post = Posterior(model, data)
    u = jax.jit(jax.vmap(post.initial))(jax.random.split(key(2), 4000))
    values = jax.vmap(post.constrain)(u)
    noise = stats.kstest(np.asarray(values["noise_std"]), stats.halfnorm.cdf)
    assert noise.pvalue > ALARM
    assert_law(values["layers.0.kernel"], stats.laplace(scale=0.5))  # 1/sqrt(2 fan-in)
    assert_law(values["layers.0.bias"], stats.norm(scale=1.0))


def test_initial_follows_a_hierarchy():
    """A child is drawn given its parent: theta = mu + tau z."""
    post = Posterior(eight_schools, SCHOOLS)
    values = jax.vmap(post.constrain)(jax.vmap(post.initial)(jax.random.split(key(3), 2000)))
    z = (values["theta"] - values["mu"][:, None]) / values["tau"][:, None]
    assert_law(z, stats.norm(scale=1.0))


def test_initial_draws_sites_independently():
    def model(x, y=None):
        a, b = (numpyro.sample(name, dist.Normal().expand((3,)).to_event(1)) for name in "ab")
        observe(x, y, a.sum() + b.sum())

    u = np.asarray(jax.vmap(Posterior(model, DATA).initial)(jax.random.split(key(7), 4000)))
    correlations = np.abs(np.corrcoef(u.T)[np.triu_indices(6, 1)])
    assert correlations.max() < Z / np.sqrt(4000)  # N(0, 1/n) under independence


def test_initial_is_a_function_of_the_key_of_either_style():
    post = Posterior(shared, SCHOOLS)
    assert jnp.array_equal(post.initial(key(4)), post.initial(key(4)))
    assert not jnp.array_equal(post.initial(key(4)), post.initial(key(5)))
    assert post.initial(jax.random.PRNGKey(0)).shape == (post.dimension,)


def test_initial_without_a_prior_to_draw_from():
    def model(x, y=None):
        flat = dist.ImproperUniform(dist.constraints.positive, (), (3,))
        observe(x, y, numpyro.sample("w", flat).sum() * x[:, 0])

    post = Posterior(model, SCHOOLS)
    u = jax.vmap(post.initial)(jax.random.split(key(6), 50))
    assert u.shape == (50, 3) and float(jnp.abs(u).max()) <= 2.0 and len(np.unique(u)) == 150
    assert jnp.isfinite(post.log_density(u[0]))


# -- compiled programs -------------------------------------------------------------------------


def network_posterior(seed=0, width=3, T=1.0, L=1.0, rows=8, **prior):
    x = rng(50 + seed).normal(size=(rows, 2))
    data = make_dataset(x, x[:, 0] + seed, task="regression")
    model = make_model("mlp", "student-t", network_options={"widths": [width]}, prior_options=prior)
    return Posterior(model, data, T, L)


@pytest.mark.validate
def test_one_program_serves_other_data_temperatures_and_scales():
    traces = []

    @jax.jit
    def value_and_gradient(post, u):
        traces.append(post.sites)
        return jax.value_and_grad(post.log_density)(u)

    def value(post):
        found, gradient = value_and_gradient(post, jnp.full(post.dimension, 0.3))
        assert jnp.isfinite(gradient).all()
        return float(found)

    same = [
        network_posterior(),
        network_posterior(seed=1),
        network_posterior(T=0.3),
        network_posterior(L=0.5),
        network_posterior(df=3.0, std=2.0, bias_std=0.1),
        network_posterior(match="iqr"),
    ]
    values = [value(post) for post in same]
    assert len(set(values)) == len(same)
    assert len(traces) == 1
    own = jax.jit(same[4].log_density)(jnp.full(same[4].dimension, 0.3))
    assert float(own) == pytest.approx(values[4], rel=1e-5)
    value(network_posterior(width=4))
    value(network_posterior(rows=9))
    value(network_posterior(absolute=True))
    assert len(traces) == 4
    with jax.enable_x64(True):
        post = network_posterior()
        assert post.x.dtype == jnp.float64
        value_and_gradient(post, jnp.full(post.dimension, 0.3))
    assert len(traces) == 5


def test_double_precision_is_known_to_a_models_own_loops():
    """A carry that starts at a site and meets the data must not change its type."""

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal())
        w = jax.lax.fori_loop(0, 2, lambda i, carry: carry * x[0, 0], w)
        observe(x, y, numpyro.sample("v", dist.Normal(w, 1.0)))

    for wide in (False, True):
        with jax.enable_x64(wide):
            sites = Posterior(model, DATA, 0.5).sites
            assert [s.conditional for s in sites] == [False, True]


def test_a_handwritten_model_is_its_function():
    traces = []
    density = jax.jit(lambda post, u: traces.append(1) or post.log_density(u))
    for y in (EFFECT, EFFECT[::-1].copy()):
        post = Posterior(eight_schools, make_dataset(SIGMA, y, task="regression"))
        density(post, jnp.zeros(10))
    assert len(traces) == 1
    density(Posterior(lambda x, y=None: eight_schools(x, y), SCHOOLS), jnp.zeros(10))
    assert len(traces) == 2


def test_flattening_round_trips():
    post = network_posterior(T=0.3, L=2.0)
    leaves, structure = jax.tree.flatten(post)
    back = jax.tree.unflatten(structure, leaves)
    assert jax.tree.structure(back) == structure and hash(structure) == hash(
        jax.tree.structure(network_posterior(seed=3))
    )
    u = jnp.full(post.dimension, 0.3)
    assert float(back.log_density(u)) == float(post.log_density(u))
