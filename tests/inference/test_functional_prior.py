"""Matched priors: both objectives, what they find where the answer is known, files, bad input.

The 1-D demonstration of Tran et al. (2022) with its figures is in `make validate`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import bnnzoo as bz
from bnnzoo.errors import InputError, OptionError
from bnnzoo.inference import matching
from bnnzoo.models.process import ProcessOptions
from bnnzoo.models.processes.matern import Matern, MaternOptions
from bnnzoo.models.processes.periodic import Periodic, PeriodicOptions
from bnnzoo.models.processes.rbf import RBF
from tests.models._tools import SEED, Z, key, rng

X = rng(0).normal(size=(40, 2))
DATA = bz.make_dataset(X, X[:, 0] - X[:, 1], task="regression", scale="none", name="plane")


def linear(**options):
    """f = w . x / sqrt(2) + b: its covariance is (s^2 x . z / 2 + t^2), in closed form."""
    return bz.make_model(network_options={"widths": []}, **options)


class Linear(RBF):
    """The process of a linear network with widths 0.5 and 2."""

    def correlation(self, x, z, hyper):
        return 0.25 * x @ z.T / 2 + 4.0


LINEAR = Linear(ProcessOptions())


def points(inside=30, uniform=10):
    low, high = jnp.asarray(X.min(0)), jnp.asarray(X.max(0))
    return matching.Points(jnp.asarray(X, jnp.float32), low, high, inside, uniform)


@pytest.fixture(scope="module")
def bound():
    return linear().bind(DATA).bound


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (RBF(ProcessOptions(length_scale=(0.5, 2.0))), lambda d: np.exp(-0.5 * (d**2).sum(-1))),
        (
            Matern(MaternOptions(length_scale=(0.5, 2.0), smoothness="3/2", variance=3.0)),
            lambda d: 3 * (1 + np.sqrt(3 * (d**2).sum(-1))) * np.exp(-np.sqrt(3 * (d**2).sum(-1))),
        ),
    ],
    ids=["rbf", "matern"],
)
def test_processes_have_their_covariance_and_draws(process, expected):
    with jax.enable_x64(True):
        x = jnp.asarray(X[:6])
        d = (X[:6, None] - X[None, :6]) / np.array([0.5, 2.0])
        found = process.covariance(x, process.hyper(2))
        np.testing.assert_allclose(found, expected(d), rtol=1e-5)
        drawn = np.asarray(process.draw(key(1), x, 20_000))
    moments = drawn.T @ drawn / len(drawn)
    error = np.sqrt(np.outer(np.diag(found), np.diag(found)) + np.asarray(found) ** 2)
    assert np.abs(moments - found).max() < Z * (error / np.sqrt(len(drawn))).max()


def test_periodic_functions_repeat():
    process = Periodic(PeriodicOptions(period=1.5))
    x = jnp.array([[0.2], [1.7], [0.9]])
    found = process.covariance(x, process.hyper(1))
    np.testing.assert_allclose(found[0, 1], 1.0, rtol=1e-5)
    np.testing.assert_allclose(found[0, 2], np.exp(-2 * np.sin(np.pi * 0.7 / 1.5) ** 2), rtol=1e-5)


def test_random_hyperparameters_widen_the_second_moment():
    process = RBF(ProcessOptions(hyper="log-normal"))
    # E[variance] = exp(0.1 + 1/2); 4,000 log-normals of sigma 1: the mean to 6 standard errors.
    moments = np.asarray(process.second_moment(key(2), jnp.asarray(X[:3], jnp.float32), 4000))
    mean, error = np.exp(0.6), np.exp(0.6) * np.sqrt((np.e - 1) / 4000)
    assert abs(moments[0, 0] - mean) < 6 * error
    drawn = np.asarray(process.draw(key(3), jnp.asarray(X[:3], jnp.float32), 4000))
    assert stats_excess(drawn[:, 0]) > 1, "a mixture of Gaussians has heavier tails than one"


def stats_excess(x):
    return float((x**4).mean() / (x**2).mean() ** 2 - 3)


def test_moment_distance_is_unbiased(bound):
    # At the process's own widths the expected distance is 0: the mean of 400 estimates is
    # within 5 standard errors of it. The naive square of one half would not be.
    widths = matching.Widths({"layers.0.kernel": jnp.log(0.5), "layers.0.bias": jnp.log(2.0)}, {})
    x = jnp.asarray(X[:8], jnp.float32)
    target = LINEAR.covariance(x, LINEAR.hyper(2))

    def one(own):
        halves = [matching.draw_functions(bound, widths, k, x, 20) for k in jax.random.split(own)]
        return (
            matching.moment_distance(*halves, target),
            matching.moment_distance(halves[0], halves[0], target),
        )

    fair, naive = map(np.asarray, jax.vmap(one)(jax.random.split(key(4), 400)))
    assert abs(fair.mean()) < 5 * fair.std() / 20
    assert naive.mean() > 10 * naive.std() / 20


@pytest.mark.validate
@pytest.mark.parametrize(
    "method", ["moments", pytest.param("wasserstein", marks=pytest.mark.validate)]
)
def test_both_objectives_find_the_widths_of_a_linear_process(bound, method):
    begin = matching.start(bound, "gpi-g")
    if method == "moments":
        found = matching.match_moments(bound, LINEAR, points(), begin, key(5), 200, 256, 0.1)
        tolerance = 0.1  # 20 averaged steps of 2 x 256 draws: 2 % of noise
    else:
        found = matching.match_wasserstein(
            bound, LINEAR, points(12, 4), begin, key(6), 80, 64, 0.1, 40
        )
        tolerance = 0.25  # a critic of 40 steps
    widths = {path: float(np.exp(v)) for path, v in found.widths.log_width.items()}
    assert widths["layers.0.kernel"] == pytest.approx(0.5, rel=tolerance)
    assert widths["layers.0.bias"] == pytest.approx(2.0, rel=tolerance)


def test_functions_of_gpi_h_are_those_of_its_prior(bound):
    # f at one point given both variances is Gaussian; its variance has mean a/(a-1) each.
    widths = matching.Widths(
        {"layers.0.kernel": jnp.log(0.5), "layers.0.bias": jnp.log(2.0)},
        {path: jnp.log(jnp.asarray(7.0)) for path in ("layers.0.kernel", "layers.0.bias")},
    )
    assert float(matching.shape_of(jnp.log(jnp.asarray(7.0)))) == pytest.approx(8.0)
    x = jnp.asarray([[1.0, 1.0]])
    f = np.asarray(matching.draw_functions(bound, widths, key(7), x, 20_000)).ravel()
    expected = (0.25 + 4.0) * 8 / 7
    assert abs((f**2).mean() - expected) < 6 * (f**2).std() / np.sqrt(len(f))


@pytest.fixture(scope="module")
def matched():
    model = linear(likelihood_options={"noise": "fixed", "noise_std": 0.3})
    return bz.match_prior(
        model, DATA, "rbf", steps=150, draws=64, seed=SEED, process_options={"length_scale": 30.0}
    )


@pytest.mark.validate
def test_a_matched_prior_is_a_prior_like_any_other(matched, tmp_path):
    # Functions of a very long lengthscale are constants of standard deviation 1.
    assert matched.widths["layers.0.bias"] == pytest.approx(1.0, rel=0.2)
    assert matched.widths["layers.0.kernel"] < 0.25
    assert matched.error_after < 0.3 * matched.error_before
    assert 0.8 < matched.scale_ratio < 1.25 and not matched.warnings
    assert matched.objective.shape == (150,) and matched.after.shape == matched.target.shape
    assert (
        "rbf (length_scale 30, variance 1, hyper fixed) on the inputs of plane"
        in matched.model.spec.prior.options["matched_to"]
    )

    path = tmp_path / "matched.toml"
    matched.save(path)
    spec = path.read_text()
    tree = {"data": {"name": "gap"}, **bz.api.read_tree(path)}
    assert tree["prior"]["widths"] == matched.widths and "gp-matched" in spec
    run = bz.fit(matched.model, DATA, "hmc", chains=1, draws=5, warmup=5, progress=False)
    again = bz.load_run(run.path)
    np.testing.assert_array_equal(again.predict(X[:3]).mean, run.predict(X[:3]).mean)
    post = bz.Posterior(matched.model, DATA)
    laws = {i.path: post.model.prior.distribution(i) for i in post.network.infos}
    width = matched.widths["layers.0.kernel"] / np.sqrt(2)
    np.testing.assert_allclose(laws["layers.0.kernel"].variance, width**2, rtol=1e-5)


@pytest.mark.validate
def test_a_picture(matched, tmp_path):
    from bnnzoo.reports.matched import plot_matched_prior

    plot_matched_prior(matched, tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()
    with pytest.raises(InputError, match=r"one of .svg, .png, .pdf"):
        plot_matched_prior(matched, tmp_path / "a.txt")


@pytest.mark.validate
def test_a_scale_out_of_reach_is_said():
    # tanh units of one layer cannot bend within a hundredth of the box.
    model = bz.make_model(network_options={"widths": [3]})
    found = bz.match_prior(model, DATA, "rbf", steps=2, draws=8, process_options={"variance": 1e4})
    assert "times the standard deviation" in found.warnings[0]


@pytest.mark.validate
def test_gpi_h_has_shapes():
    found = bz.match_prior(
        linear(), DATA, "rbf", variant="gpi-h", steps=3, draws=8, critic_steps=3, count=10
    )
    assert set(found.shapes) == set(found.widths) == {"layers.0.bias", "layers.0.kernel"}
    sites = {site.name for site in bz.Posterior(found.model, DATA).sites}
    assert "layers.0.kernel.variance" in sites and "layers.0.bias.variance" in sites


@pytest.mark.validate
@pytest.mark.parametrize("method", ["moments", "wasserstein"])
def test_gpi_nf_is_matched_saved_and_used(method, tmp_path):
    """Both objectives come nearer, and flows move; a file and a run give the same prior back."""
    small = {"steps": 40, "draws": 32, "count": 12, "critic_steps": 20, "flow_steps": 2}
    length = {"length_scale": 30.0}
    found = bz.match_prior(
        linear(), DATA, "rbf", variant="gpi-nf", method=method, seed=SEED,
        process_options=length, **small,
    )  # fmt: skip
    assert found.error_after < 0.6 * found.error_before
    assert set(found.flows) == set(found.widths) == {"layers.0.bias", "layers.0.kernel"}
    kernel = found.flows["layers.0.kernel"]
    assert np.shape(kernel["u"]) == np.shape(kernel["w"]) == (2, 2) and np.shape(kernel["b"]) == (
        2,
    )
    assert all(np.abs(flow["u"]).max() > 1e-3 for flow in found.flows.values())
    assert found.widths["layers.0.kernel"] != 1.0

    path = tmp_path / "matched.toml"
    found.save(path)
    again = bz.models.model.build_model(bz.specs.spec_from_tree(bz.api.read_tree(path)))
    laws = [m.bind(DATA).prior.distribution for m in (found.model, again)]
    infos = found.model.bind(DATA).bound.infos
    for info in infos:
        at = jnp.ones(info.shape)
        assert laws[0](info).log_prob(at) == laws[1](info).log_prob(at)


@pytest.mark.validate
def test_functions_of_gpi_nf_are_those_of_its_prior(bound):
    """20,000 values at a row, of the search and of the prior itself, by a two-sample KS test."""
    raw = matching.start(bound, "gpi-nf", 2, key(20))
    flows = {
        p: f._replace(u=3.0 * jax.random.normal(key(21), f.u.shape), b=f.b + 0.7)
        for p, f in raw.flow.items()
    }
    widths = raw._replace(flow=flows, log_width={p: jnp.log(0.5) for p in flows})
    x = jnp.asarray([[1.0, -0.5]])
    f = np.asarray(matching.draw_functions(bound, widths, key(22), x, 20_000)).ravel()
    options = {
        "variant": "gpi-nf",
        "widths": {p: 0.5 for p in flows},
        "flows": {
            p: {k: np.asarray(v, float).tolist() for k, v in matching.flow_of(r)._asdict().items()}
            for p, r in flows.items()
        },
    }
    prior = linear(prior="gp-matched", prior_options=options).bind(DATA).prior
    drawn = {
        i.path: prior.distribution(i).sample(k, (20_000,))
        for i, k in zip(bound.infos, jax.random.split(key(23)), strict=True)
    }
    ours = drawn["layers.0.kernel"][..., 0] @ x[0] + drawn["layers.0.bias"][:, 0]
    assert stats.ks_2samp(f, np.asarray(ours)).pvalue > 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "gpi-fn"}, "variant = 'gpi-fn'; did you mean 'gpi-nf'"),
        ({"flow_steps": 2}, "flow_steps has no effect with variant = 'gpi-g'"),
        ({"variant": "gpi-nf", "flow_steps": 0}, "flow_steps = 0: a whole number above 0"),
        ({"variant": "gpi-nf", "flow_steps": 10**6}, "6,000,000 numbers.*more than the 1,000,000"),
        ({"process": "rfb"}, "unknown process 'rfb'; did you mean 'rbf'"),
        ({"process_options": {"length_scale": 0.0}}, "process.length_scale = 0.0"),
        ({"process_options": {"length_scale": (1.0, 2.0, 3.0)}}, "3 numbers, but there are 2"),
        ({"method": "moment"}, "method = 'moment'; did you mean 'moments'"),
        ({"method": "moments", "variant": "gpi-h"}, "says nothing of the tails"),
        ({"steps": 1}, "steps = 1: a whole number above 1"),
        ({"steps": 0}, "steps = 0: a whole number above 1"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: a number above 0"),
        ({"points": np.zeros((3, 5))}, r"points have shape \(3, 5\), where \(row, 2\)"),
        ({"points": np.full((3, 2), np.nan)}, "not a finite number"),
        (
            {"points": np.array([[0.0, 0.0], [9.0, 0.0]]), "measure": "box"},
            "row 1 lies outside the box",
        ),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        bz.match_prior(linear(), DATA, **options)


def test_priors_that_were_not_matched_for_this_network():
    with pytest.raises(OptionError, match=r"bnnzoo\.match_prior finds"):
        bz.make_model(prior="gp-matched")
    wide = {"prior": "gp-matched", "prior_options": {"widths": {"layers.0.kernel": 1.0}}}
    with pytest.raises(InputError, match=r"no widths of parameter 'layers.0.bias'"):
        linear(**wide).bind(DATA)
    wide["prior_options"] = {"widths": {"layer.0.kernel": 1.0}}
    with pytest.raises(InputError, match=r"names 'layer.0.kernel', .*layers.0.kernel"):
        linear(**wide).bind(DATA)

    def own(x, y=None):
        pass

    with pytest.raises(InputError, match="'own' is a hand-written model"):
        bz.match_prior(own, DATA)


@pytest.mark.validate
def test_the_one_dimensional_demonstration(record_property):
    """3 x 50 tanh to an RBF process of lengthscale 0.6 on [-6, 6], 64 points; 20,000 draws.

    The relative Frobenius error is at most a third of that of widths 1, by both objectives, and
    wasserstein's within 10 % of that of moments.
    """
    x = np.linspace(-6, 6, 64)[:, None]
    data = bz.make_dataset(x, np.sin(x[:, 0]), task="regression", scale="none")
    model = bz.make_model(network_options={"widths": [50, 50, 50]})
    network = model.bind(data).bound
    target = np.asarray(
        RBF(ProcessOptions(length_scale=0.6)).covariance(
            jnp.asarray(x, jnp.float32), RBF(ProcessOptions(length_scale=0.6)).hyper(1)
        )
    )

    def error(log_widths):
        widths = matching.Widths(log_widths, {})
        total = np.zeros((64, 64))
        for k in jax.random.split(key(8), 20):
            f = matching.draw_functions(network, widths, k, jnp.asarray(x, jnp.float32), 1024)
            total += np.einsum("dro,dso->rs", f, f)
        return float(np.linalg.norm(total / 20_480 - target) / np.linalg.norm(target))

    found = {"widths of 1": error(matching.start(network, "gpi-g").log_width)}
    for method in ("moments", "wasserstein"):
        made = bz.match_prior(
            model,
            data,
            "rbf",
            method=method,
            measure="training",
            count=64,
            seed=SEED,
            process_options={"length_scale": 0.6},
        )
        found[method] = error({p: jnp.log(w) for p, w in made.widths.items()})
        print(f"{method}: off by {found[method]:.3f}, {made.seconds:.0f} s")
    print(f"widths of 1: off by {found['widths of 1']:.3f}")
    assert found["moments"] < found["widths of 1"] / 3
    assert found["wasserstein"] < 1.1 * found["moments"]
