"""Planar flows and the prior gpi-nf: densities, draws, gradients, posteriors at every temperature.

False alarms: two Kolmogorov-Smirnov p-values, each failing below 1e-6; the rest is deterministic.
Sampled posteriors are in `make validate`.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import optimize, stats

import bnnzoo as bz
from bnnzoo.errors import InputError, OptionError
from bnnzoo.models.planar import FLOOR, Flow, PlanarNormal, invertible, pulled, pushed
from tests.inference._estimates import effective_draws
from tests.models._tools import ALARM, SEED, key, rng


def random_flow(number, steps, size, stretch=1.0):
    r = rng(number)
    w = r.normal(size=(steps, size)) * stretch
    u = np.asarray(invertible(jnp.asarray(r.normal(size=(steps, size)) * stretch), jnp.asarray(w)))
    return Flow(u, w, r.normal(size=steps))


TWO = Flow(
    np.array([[1.5, -0.4], [0.3, 1.2]]),
    np.array([[0.9, 0.2], [-0.8, 1.4]]),
    np.array([0.5, -0.7]),
)
"""Steps of a plane that bend it visibly."""


def reference(flow, w, centre, scale):
    """Log density of one vector: the inverse by scipy's bracketing root finder."""
    y, total = (np.asarray(w, float).ravel() - centre) / scale, 0.0
    for u, v, b in reversed(list(zip(*flow, strict=True))):
        c, r = u @ v, v @ y + b
        wide = abs(r) + abs(c) + 1.0
        t = optimize.brentq(lambda t, c=c, r=r: t + c * np.tanh(t) - r, -wide, wide, xtol=1e-14)
        y = y - u * np.tanh(t)
        total += np.log1p(c / np.cosh(t) ** 2)
    return stats.norm.logpdf(y).sum() - total - len(y) * np.log(scale)


@pytest.mark.validate
@pytest.mark.parametrize("stretch", [pytest.param(0.3, marks=pytest.mark.validate), 3.0])
def test_the_density_is_the_change_of_variables(stretch):
    """Against the dense Jacobian by automatic differentiation, in float64, to 1e-9."""
    with jax.enable_x64(True):
        flow = random_flow(1, 3, 6, stretch)
        assert (np.einsum("kn,kn->k", flow.u, flow.w) > -1 + FLOOR).all()
        law = PlanarNormal((2, 3), 1.0, 0.7, flow)
        z = jnp.asarray(rng(2).normal(size=(20, 6)) * 2)
        y = pushed(flow, z)
        found = law.log_prob(1.0 + 0.7 * y.reshape(20, 2, 3))
        jacobians = np.asarray(jax.vmap(jax.jacfwd(lambda v: pushed(flow, v)))(z))
        expected = stats.norm.logpdf(z).sum(1) - np.linalg.slogdet(jacobians)[1] - 6 * np.log(0.7)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(pulled(flow, y)[0], z, atol=1e-9)
    single = PlanarNormal((2, 3), 1.0, 0.7, flow).log_prob(
        jnp.asarray(1.0 + 0.7 * y.reshape(20, 2, 3), jnp.float32)
    )
    np.testing.assert_allclose(single, expected, rtol=2e-4, atol=2e-3)


@pytest.mark.validate
def test_gradients_are_those_of_differences_and_finite_far_out():
    with jax.enable_x64(True):
        law = lambda w, flow: PlanarNormal((2,), 0.0, 1.3, flow).log_prob(jnp.asarray(w))  # noqa: E731
        at, flow = jnp.array([0.4, -1.1]), Flow(*map(jnp.asarray, TWO))
        check_grads(law, (at, flow), order=1, modes=("rev",), rtol=1e-6)
    slope = jax.jit(jax.grad(lambda w: law(w, TWO)))
    for w in ([0.0, 0.0], [1e-30, 0.0], [300.0, -1e4]):
        assert jnp.isfinite(slope(jnp.array(w, jnp.float32))).all()


def marginal(flow):
    """Distribution function of the first element, by integrating the density over a grid."""
    edges = np.linspace(-9, 9, 601)
    plane = np.stack(np.meshgrid(edges, edges, indexing="ij"), -1)
    with jax.enable_x64(True):
        density = np.exp(
            np.asarray(PlanarNormal((2,), 0.0, 1.0, flow).log_prob(jnp.asarray(plane)))
        )
    cell = edges[1] - edges[0]
    cumulative = np.cumsum(density.sum(1)) * cell**2
    return edges + cell / 2, cumulative


def test_draws_have_the_density():
    """Mass 1 on a grid, and the marginals of 20,000 draws by Kolmogorov-Smirnov."""
    drawn = np.asarray(PlanarNormal((2,), 0.0, 1.0, TWO).sample(key(3), (20_000,)), float)
    swapped = Flow(TWO.u[:, ::-1], TWO.w[:, ::-1], TWO.b)
    for element, flow in enumerate((TWO, swapped)):
        edges, cumulative = marginal(flow)
        assert cumulative[-1] == pytest.approx(1.0, abs=1e-6)
        law = lambda v, e=edges, c=cumulative: np.interp(v, e, c)  # noqa: E731
        assert stats.kstest(drawn[:, element], law).pvalue > ALARM
    assert stats.kstest(drawn[:, 0], "norm").pvalue < ALARM, "the flow moves something"


# -- the prior ----------------------------------------------------------------------------------

X = rng(5).normal(size=(6, 2))
DATA = bz.make_dataset(X, np.sin(2 * X[:, 0]) + X[:, 1], task="regression", scale="none")
FLOWS = {"layers.0.kernel": {"u": TWO.u.tolist(), "w": TWO.w.tolist(), "b": TWO.b.tolist()}}
WIDTH = 1.7


def flow_model(**options):
    given = {"variant": "gpi-nf", "widths": {"layers.0.kernel": WIDTH}, "flows": FLOWS} | options
    return bz.make_model(
        network_options={"widths": [], "bias": False},
        likelihood_options={"noise": "fixed", "noise_std": 0.8},
        prior="gp-matched",
        prior_options=given,
    )


def target(w, temperature):
    """Tempered log posterior of the two weights, written out."""
    lp = reference(TWO, w, 0.0, WIDTH / math.sqrt(2))
    return (stats.norm.logpdf(DATA.y, X @ np.ravel(w), 0.8).sum() + lp) / temperature


@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.1])
def test_the_posterior_is_tempered_in_the_weights(temperature):
    """The power is that of the density of w, not of z behind it."""
    post = bz.Posterior(flow_model(), DATA, temperature)
    (site,) = post.sites
    assert site.name == "layers.0.kernel" and site.free and not site.conditional
    us = rng(6).normal(size=(4, 2)) * 2
    found = [float(post.log_density(jnp.asarray(u, jnp.float32))) for u in us]
    np.testing.assert_allclose(found, [target(u, temperature) for u in us], rtol=1e-4)


def test_a_flow_that_moves_nothing_is_gpi_g():
    unmoved = {"layers.0.kernel": {**FLOWS["layers.0.kernel"], "u": np.zeros((2, 2)).tolist()}}
    models = flow_model(flows=unmoved), flow_model(variant="gpi-g", flows={})
    u = jnp.array([0.3, -2.0])
    plain, ours = (bz.Posterior(model, DATA).log_prior(u) for model in models)
    np.testing.assert_allclose(plain, ours, rtol=1e-6)


def test_other_flows_compile_nothing():
    traces = []

    @functools.partial(jax.jit, static_argnums=1)
    def density(prior, info, w):
        traces.append(info)
        return prior.distribution(info).log_prob(w)

    other = {"layers.0.kernel": {**FLOWS["layers.0.kernel"], "b": [0.0, 1.0]}}
    values = []
    for model in (flow_model(), flow_model(flows=other)):
        bound = model.bind(DATA)
        values.append(density(bound.prior, bound.bound.infos[0], jnp.ones((2, 1))))
    assert len(traces) == 1 and values[0] != values[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flows": {"layers.0.kernel": {"u": [[1.0, 0.0]], "w": [[-2.0, 0.0]], "b": [0.0]}}},
         r"w \. u of step 0 is -2: it has to be above -1"),
        ({"flows": {"layers.0.kernel": {"u": [[1.0]], "w": [[1.0, 2.0]], "b": [0.0]}}},
         "a row of one length for every number of b"),
        ({"flows": {"layers.0.kernel": {"u": [], "w": [], "b": []}}}, "at least 1 item"),
        ({"flows": {"layers.0.kernel": {"u": [[1.0]], "w": [[1.0]], "b": [0.0], "c": 1}}},
         "unknown option prior.flows.layers.0.kernel.c"),
        ({"variant": "gpi-g"}, "flows has no effect with prior.variant = 'gpi-g'.*'gpi-nf'"),
        ({"shapes": {"layers.0.kernel": 2.0}}, "shapes has no effect.*'gpi-nf'.*'gpi-h'"),
    ],
)  # fmt: skip
def test_bad_flows(options, message):
    with pytest.raises(OptionError, match=message):
        flow_model(**options)


def test_flows_of_another_network():
    with pytest.raises(InputError, match=r"no flows of parameter 'layers.0.kernel'"):
        flow_model(flows={}).bind(DATA)
    three = {"u": [[1.0] * 3], "w": [[1.0] * 3], "b": [0.0]}
    with pytest.raises(InputError, match=r"vectors of 3, but the parameter has 2 elements"):
        flow_model(flows={"layers.0.kernel": three}).bind(DATA)


@pytest.mark.validate
@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.1])
def test_nuts_samples_the_tempered_posterior(temperature):
    """Means and second moments of 8,000 draws against a grid, at 5 standard errors by ESS.

    Ten comparisons a temperature: 6e-6 by chance, were errors known exactly; ESS makes it 1e-4.
    """
    edges = np.linspace(-6, 6, 301)
    plane = np.stack(np.meshgrid(edges, edges, indexing="ij"), -1).reshape(-1, 2)
    with jax.enable_x64(True):
        law = PlanarNormal((2,), 0.0, WIDTH / math.sqrt(2), TWO)
        lp = np.asarray(law.log_prob(jnp.asarray(plane)))
    logs = (stats.norm.logpdf(DATA.y, plane @ X.T, 0.8).sum(1) + lp) / temperature
    mass = np.exp(logs - logs.max())
    mass /= mass.sum()
    run = bz.fit(
        flow_model(), DATA, "nuts", chains=2, draws=4000, warmup=500, progress=False, seed=SEED,
        posterior_temperature=temperature,
    )  # fmt: skip
    drawn = run.tree["posterior"]["layers.0.kernel"].to_numpy().reshape(2, -1, 2)
    for i, j in ((0, None), (1, None), (0, 0), (0, 1), (1, 1)):
        pick = lambda w, i=i, j=j: w[..., i] * (1.0 if j is None else w[..., j])  # noqa: E731
        values = pick(drawn)
        error = values.std() / math.sqrt(effective_draws(values[..., None]))
        exact = float(mass @ pick(plane))
        print(f"T = {temperature:g}: {values.mean():.4f} ({exact:.4f}), error {error:.4f}")
        assert abs(values.mean() - exact) < 5 * error
