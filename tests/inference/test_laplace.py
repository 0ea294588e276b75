"""The backend `laplace` from end to end, where its answer is known."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multivariate_normal

import bnnzoo as bz
from bnnzoo.cli.main import main
from bnnzoo.errors import InputError
from bnnzoo.inference.laplace_predictive import function_moments, probit_probabilities

sys.path.insert(0, str(Path(__file__).parent))
import _closed_forms as forms
from _estimates import pooled_errors

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
NOISE = 0.5


def fit(model, data, **changes):
    settings = {"chains": 2, "draws": 400, "warmup": 60, "seed": SEED, "dtype": "float64"}
    return bz.fit(model, data, "laplace", progress=False, **settings | changes)


def linear_data():
    random = np.random.default_rng(SEED)
    x = random.normal(size=(25, 3)) @ (np.eye(3) + 0.4)
    y = x @ np.array([1.0, -0.5, 0.2]) + 0.7 + NOISE * random.normal(size=25)
    return bz.make_dataset(x, y, x[:4], y[:4], task="regression", scale="none")


def linear_model(**noise):
    noise = noise or {"noise": "fixed", "noise_std": NOISE}
    return bz.make_model(
        network_options={"widths": []},
        prior_options={"std": 1.5, "bias_std": 0.9},
        likelihood_options=noise,
    )


DESIGN = ("layers.0.kernel", "layers.0.bias")


def exact(data, T, L=1.0):
    """Mean and covariance of (kernel, bias), and the log evidence at temperatures of 1."""
    X = np.column_stack([data.x, np.ones(len(data.x))])
    prior = np.diag([1.5**2 / 3] * 3 + [0.9**2])
    covariance = T * np.linalg.inv(X.T @ X / (NOISE**2 * L) + np.linalg.inv(prior))
    mean = covariance @ X.T @ data.y / (NOISE**2 * T * L)
    marginal = X @ prior @ X.T + NOISE**2 * np.eye(len(X))
    evidence = multivariate_normal(np.zeros(len(X)), marginal).logpdf(data.y)
    return mean, covariance, evidence


def weights(run):
    sites = [run.tree["posterior"][name].to_numpy() for name in DESIGN]
    return np.concatenate([s.reshape(*s.shape[:2], -1) for s in sites], -1)


@pytest.mark.validate
@pytest.mark.parametrize(("T", "L"), [(1.0, 1.0), (0.3, 2.0), (0.1, 1.0)])
def test_a_linear_model_is_its_closed_form(T, L):
    """Mean and covariance to a pooled 3 %, the mode to 1e-6, the evidence to 1e-6 nats.

    With 40,000 independent draws of 4 coordinates the squared pooled errors are chi^2 over 4 n
    (mean) and 2 chi^2 over 4 n: 3 % is passed by chance with probability under 1e-25.
    """
    data = linear_data()
    mean, covariance, evidence = exact(data, T, L)
    run = fit(linear_model(), data, draws=20_000, posterior_temperature=T, likelihood_temperature=L)
    assert max(pooled_errors(weights(run), mean, covariance)) < 0.03
    mode = [run.tree["mode"][name].to_numpy() for name in DESIGN]
    mode = np.concatenate([m.reshape(2, -1) for m in mode], 1)
    np.testing.assert_allclose(mode, np.stack([mean] * 2), atol=1e-6)
    if T == L == 1.0:
        found = run.tree["sample_stats"]["log_normaliser"].to_numpy()
        np.testing.assert_allclose(found, evidence, atol=1e-6)
    assert run.manifest["flags"] == []


@pytest.mark.validate
@pytest.mark.parametrize("what", [pytest.param("prior", marks=pytest.mark.validate), "both"])
def test_refitted_widths_maximise_the_closed_form_evidence(what):
    """A linear model's marginal likelihood, maximised by scipy: factors to 1e-3, value to 1e-5.

    With both, the noise of the mode is where the refit starts from, and must not matter. The draws
    are then those of the model with the new widths.
    """
    data = linear_data()
    run = fit(linear_model(noise="learned"), data, refit=what, draws=10_000, chains=1)
    stats = {k: float(v[0, -1]) for k, v in run.tree["sample_stats"].items()}
    noise_at_mode = float(run.tree["mode"]["noise_std"][0])
    X = np.column_stack([data.x, np.ones(len(data.x))])
    prior = np.diag([1.5**2 / 3] * 3 + [0.9**2])

    def negative(at):
        prior_factor, noise_std = np.exp(at[0]), np.exp(at[1]) if what == "both" else noise_at_mode
        marginal = prior_factor**2 * X @ prior @ X.T + noise_std**2 * np.eye(len(X))
        return -multivariate_normal(np.zeros(len(X)), marginal).logpdf(data.y)

    best = minimize(negative, [0.0, np.log(NOISE)][: 1 + (what == "both")], method="Nelder-Mead",
                    options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 2000})  # fmt: skip
    assert stats["prior_factor"] == pytest.approx(np.exp(best.x[0]), rel=1e-3)
    noise = noise_at_mode * stats["noise_factor"]
    if what == "both":
        assert noise == pytest.approx(np.exp(best.x[1]), rel=1e-3)
        drawn = run.tree["posterior"]["noise_std"].to_numpy()
        np.testing.assert_allclose(drawn, noise, rtol=1e-9)
    else:
        assert stats["noise_factor"] == 1.0
    assert stats["log_normaliser"] == pytest.approx(-best.fun, abs=1e-5)
    precision = X.T @ X / noise**2 + np.linalg.inv(prior) / stats["prior_factor"] ** 2
    covariance = np.linalg.inv(precision)
    mean = covariance @ X.T @ data.y / noise**2
    # 10,000 draws: 5 % is passed by chance with probability under 1e-15.
    assert max(pooled_errors(weights(run), mean, covariance)) < 0.05


@pytest.mark.validate
def test_with_factors_alone_the_mode_is_held():
    """Factors of a linear layer with one output are its curvature: the formula, by numpy."""
    data = linear_data()
    run = fit(linear_model(), data, refit="prior", structure="kron", draws=10_000, chains=1)
    X = np.column_stack([data.x, np.ones(len(data.x))])
    root = np.sqrt([1.5**2 / 3] * 3 + [0.9**2])
    mean, _, _ = exact(data, 1.0)
    S = (X * root).T @ (X * root) / NOISE**2
    x0 = mean / root
    grid = np.exp(np.linspace(-3, 3, 60_001))
    values = np.linalg.eigvalsh(S)
    evidence = 0.5 * (4 * np.log(grid) - grid * (x0 @ x0))
    evidence -= 0.5 * np.log(values[:, None] + grid).sum(0)
    best = grid[np.argmax(evidence)]
    found = float(run.tree["sample_stats"]["prior_factor"][0, -1])
    assert found == pytest.approx(best**-0.5, rel=2e-4)
    covariance = np.linalg.inv(X.T @ X / NOISE**2 + best * np.diag(root**-2))
    assert max(pooled_errors(weights(run), mean, covariance)) < 0.05  # as above


@pytest.fixture(scope="module")
def small():
    random = np.random.default_rng(SEED)
    x = random.normal(size=(18, 1))
    y = np.sin(2 * x[:, 0]) + 0.2 * random.normal(size=18)
    data = bz.make_dataset(x, y, x[:5] + 0.3, y[:5], task="regression")
    model = bz.make_model(
        network_options={"widths": [4]}, likelihood_options={"noise": "fixed", "noise_std": 0.3}
    )
    return model, data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("laplace") / "run"


@pytest.fixture(scope="module")
def run(small, folder):
    return fit(*small, out=folder, warmup=500)


def by_hand(run, x):
    """f of the linearised network at every draw, from the tree alone."""
    sites = {s.name: s for s in run.posterior.sites}
    posterior, mode = run.tree["posterior"], run.tree["mode"]
    scaling = run.posterior.scaling

    def network(w):
        h = scaling.transform_x(x)
        h = jnp.tanh(h @ w["layers.0.kernel"] + w["layers.0.bias"])
        return h @ w["layers.1.kernel"] + w["layers.1.bias"]

    made = []
    with jax.enable_x64(True):
        for chain in range(posterior.sizes["chain"]):
            at = {n: jnp.asarray(mode[n].to_numpy()[chain]) for n in sites}
            J, f = jax.jacobian(network)(at), network(at)
            step = {n: posterior[n].to_numpy()[chain] - mode[n].to_numpy()[chain] for n in sites}
            axes = {n: tuple(range(1, step[n].ndim)) for n in sites}
            moved = sum(
                np.tensordot(step[n], np.asarray(J[n]), (axes[n], [a + 1 for a in axes[n]]))
                for n in sites
            )
            made.append(np.asarray(f) + moved)
    return scaling.inverse_y(np.stack(made))


@pytest.mark.validate
def test_functions_of_draws_are_those_of_the_linearised_network(run, small, folder):
    """By explicit Jacobians, after a fit, read from disk, without a chain, on the command line."""
    _, data = small
    x = np.linspace(-2, 2, 7)[:, None]
    wanted = by_hand(run, x)
    np.testing.assert_allclose(run.predict(x, raw=True), wanted, atol=1e-9)
    np.testing.assert_allclose(
        run.tree["function_draws"]["f"], by_hand(run, data.x_test), atol=1e-9
    )
    loaded = bz.load_run(folder)
    np.testing.assert_allclose(loaded.predict(x, raw=True), wanted, atol=1e-9)
    assert loaded.metrics() == run.metrics()
    kept = bz.drop_chains(loaded, [0])
    np.testing.assert_allclose(kept.predict(x, raw=True), wanted[1:], atol=1e-9)
    np.testing.assert_allclose(
        kept.tree["test_scores"]["mean"],
        by_hand(run, data.x_test)[1:].mean((0, 1))[:, 0],
        atol=1e-9,
    )
    # Likelihoods of the linearised model, in original units.
    f = by_hand(run, data.x)[..., 0]
    std = 0.3 * float(run.posterior.scaling.y_std)
    terms = -0.5 * ((data.y - f) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(run.tree["log_likelihood"]["y"], terms, atol=1e-8)
    # Gaussian in the weights, so that the virial identity holds for what is predicted with.
    assert run.manifest["flags"] == []


@pytest.mark.validate
def test_the_command_line_predicts_with_it(run, folder, tmp_path, capsys):
    table, out = tmp_path / "x.csv", tmp_path / "out.csv"
    table.write_text("x0\n-1.0\n0.5\n")
    assert main(["predict", str(folder), str(table), "--out", str(out)]) == 0
    mean = by_hand(run, np.array([[-1.0], [0.5]])).mean((0, 1))[:, 0]
    lines = out.read_text().splitlines()
    column = lines[0].split(",").index("mean")
    np.testing.assert_allclose([float(r.split(",")[column]) for r in lines[1:]], mean, rtol=1e-4)


@pytest.mark.validate
def test_variances_of_f_are_those_of_the_jacobian(run):
    """var f = J H^-1 J': 800 draws estimate it to 5 % (one s.e.); 6 of them are allowed."""
    x = np.linspace(-2, 2, 7)[:, None]
    f = by_hand(run, x)[..., 0]
    variance = f.var(1)
    posterior = run.posterior
    with jax.enable_x64(True):
        for chain in range(2):
            mode = {s.name: run.tree["mode"][s.name].to_numpy()[chain] for s in posterior.sites}
            u = posterior.unconstrain(mode)
            J = np.asarray(jax.jacobian(lambda u: posterior.predict(u, x)[:, 0])(u))
            K = np.asarray(jax.jacobian(lambda u: posterior.predict(u, posterior.data.x)[:, 0])(u))
            K = K / (0.3 * float(posterior.scaling.y_std))
            prior = np.concatenate(
                [np.full(s.size, 1.0 if "bias" in s.name else s.shape[0]) for s in posterior.sites]
            )
            wanted = np.einsum("ip,pq,iq->i", J, np.linalg.inv(K.T @ K + np.diag(prior)), J)
            np.testing.assert_allclose(variance[chain], wanted, rtol=6 * np.sqrt(2 / 400))


@pytest.mark.validate
def test_more_draws_are_those_of_a_longer_run(run, small, folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "run")
    longer = bz.resume(tmp_path / "run", draws=420, progress=False)
    np.testing.assert_array_equal(weights_of(longer)[:, :400], weights_of(run))
    x = np.zeros((2, 1))
    np.testing.assert_allclose(longer.predict(x, raw=True), by_hand(longer, x), atol=1e-9)


def weights_of(run):
    return run.tree["posterior"]["layers.0.kernel"].to_numpy()


@pytest.mark.validate
def test_sampled_predictive_is_of_the_network_itself(small):
    model, data = small
    run = fit(model, data, predictive="sampled", draws=20)
    assert "mode" not in run.tree.children
    first = {s.name: run.tree["posterior"][s.name].to_numpy()[1, 3] for s in run.posterior.sites}
    with jax.enable_x64(True):
        f = run.posterior.predict(run.posterior.unconstrain(first), data.x_test)
    np.testing.assert_allclose(run.tree["function_draws"]["f"][1, 3], f, atol=1e-9)


@pytest.mark.validate
@pytest.mark.parametrize(
    ("structure", "extra"),
    [
        ("diagonal", {}),
        ("last-layer", {}),
        ("low-rank", {"rank": 4}),
        ("kron", {"sharing": "reduce", "refit": "prior"}),
    ],
)
def test_every_structure_runs(small, structure, extra):
    model, data = small
    run = fit(model, data, structure=structure, dtype="float32", draws=30, **extra)
    assert np.isfinite(list(run.metrics().values())).all()
    assert not [f for f in run.manifest["flags"] if f["kind"] not in ("virial", "unconverged")]
    moves = np.ptp(run.tree["posterior"]["layers.0.kernel"].to_numpy(), axis=1)
    assert (moves > 0).all() == (structure != "last-layer")


def test_a_point_that_is_no_mode_is_flagged(small):
    run = fit(*small, warmup=0, draws=10, chains=1)
    kinds = {f["kind"]: f["message"] for f in run.manifest["flags"]}
    assert "raise warmup" in kinds["unconverged"]


def only_the_sum(x, y=None):
    """Says nothing of a - b, neither by its prior nor by its data."""
    flat = dist.ImproperUniform(dist.constraints.real, (), ())
    a, b = numpyro.sample("a", flat), numpyro.sample("b", flat)
    numpyro.sample("y", dist.Normal((a + b) * x[:, 0], 1.0), obs=y)


@pytest.mark.validate
def test_a_hessian_that_is_not_positive_definite_is_flagged():
    """One direction of two is flat; it gets unit precision, the other that of the data."""
    data = forms.regression_data()
    run = fit(only_the_sum, data, predictive="sampled", curvature="hessian", draws=10_000)
    (message,) = {f["message"] for f in run.manifest["flags"] if f["kind"] == "warning"}
    assert "not positive definite: 1 directions" in message and "curvature='ggn'" in message
    a, b = (run.tree["posterior"][name].to_numpy() for name in "ab")
    # 20,000 draws: a variance has a standard error of 1 %.
    assert (a + b).var() == pytest.approx(1.0 / np.sum(data.x[:, 0] ** 2), rel=0.06)
    assert np.mean([(a - b)[c].var() for c in range(2)]) == pytest.approx(2.0, rel=0.06)


REFUSED = [
    ({}, r"predictive = 'sampled'"),
    ({"predictive": "sampled"}, r"curvature = 'hessian' or 'empirical-fisher'"),
    (
        {"predictive": "sampled", "curvature": "hessian", "structure": "last-layer"},
        r"'full', 'diagonal' or 'low-rank'",
    ),
    ({"predictive": "sampled", "curvature": "hessian", "refit": "prior"}, r"refit = 'none'"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_a_handwritten_model_is_refused_what_needs_a_network(options, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        fit(forms.known_noise, forms.regression_data(), out=tmp_path / "run", **options)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structure": "kron", "curvature": "hessian"}, "'ggn' or 'empirical-fisher'"),
        ({"memory_bytes": 1000}, "dense matrix of 13 coordinates .* 'kron', 'low-rank'"),
        ({"refit": "noise"}, "no learned Gaussian noise.*noise = 'learned'"),
        ({"refit": "prior", "curvature": "hessian"}, "curvature = 'ggn'"),
        ({"refit": "noise", "curvature": "empirical-fisher"}, "curvature = 'ggn'"),
    ],
)
def test_what_does_not_go_together_is_refused(small, options, message):
    with pytest.raises(InputError, match=message):
        fit(*small, **options)


def test_a_prior_without_one_width_is_not_refitted(small):
    model = bz.make_model(prior="hierarchical-gaussian", network_options={"widths": [4]})
    with pytest.raises(InputError, match=r"no fixed Gaussian.*refit = 'none'"):
        fit(model, small[1], refit="both")


@pytest.mark.validate
@pytest.mark.parametrize("curvature", ["hessian", "empirical-fisher"])
def test_handwritten_models_with_what_they_have(curvature):
    """The exact Hessian is the closed form; the Fisher that of explicit gradients. As above."""
    data = forms.regression_data()
    mean, covariance = forms.known_noise_moments(data, 0.3, 1.0)
    if curvature == "empirical-fisher":
        rows = data.x * ((data.y - data.x @ mean) / forms.NOISE**2)[:, None]
        precision = rows.T @ rows / 0.3 + np.eye(forms.FEATURES) / (forms.PRIOR_STD**2 * 0.3)
        covariance = np.linalg.inv(precision)
    run = fit(
        forms.known_noise, data, predictive="sampled", curvature=curvature, draws=20_000,
        posterior_temperature=0.3,
    )  # fmt: skip
    assert max(pooled_errors(forms.known_noise_draws(run), mean, covariance)) < 0.03


def test_closed_form_moments_are_those_of_the_draws(run):
    """800 draws of a Gaussian: a mean to 6 of its standard errors, a variance to 6 of 5 %."""
    x = np.linspace(-2, 2, 7)[:, None]
    found, f = function_moments(run, x), by_hand(run, x)
    variance = found.covariance[..., 0, 0]
    error = np.abs(f.mean(1) - found.mean)[..., 0] / np.sqrt(variance / 400)
    assert error.max() < 6
    np.testing.assert_allclose(f.var(1)[..., 0], variance, rtol=6 * np.sqrt(2 / 400))
    with pytest.raises(InputError, match="no logits to correct"):
        probit_probabilities(run, x)


@pytest.mark.validate
@pytest.mark.parametrize(
    "likelihood", ["bernoulli", pytest.param("categorical", marks=pytest.mark.validate)]
)
def test_probit_probabilities_are_near_the_integral(likelihood):
    """Over N(mean, covariance) of the logits, with 100,000 draws (under 0.0016 s.e.).

    MacKay's correction of one logit is itself off by up to 0.02, and 3 standard errors are left to
    the draws. No bound is known for three classes: there the pairwise form is held to a loop over
    pairs, and to under half the error of no correction.
    """
    random = np.random.default_rng(SEED)
    x = random.normal(size=(12, 1))
    classes = 2 if likelihood == "bernoulli" else 3
    y = (np.argsort(np.argsort(x[:, 0])) * classes) // 12
    data = bz.make_dataset(x, y, task="classification")
    options = {"prior_options": {"std": 8.0, "bias_std": 8.0}}
    model = bz.make_model(likelihood=likelihood, network_options={"widths": []}, **options)
    run = fit(model, data, draws=20, chains=1)
    at = np.linspace(-3, 3, 13)[:, None]
    mean, covariance = (moment[0] for moment in function_moments(run, at))
    wanted, plain = np.zeros((2, 13, classes))
    for row in range(13):
        draws = random.multivariate_normal(mean[row], covariance[row], 100_000)
        for target, logits in ((wanted, draws), (plain, mean[row][None])):
            if classes == 2:
                logits = np.concatenate([np.zeros_like(logits), logits], 1)
            target[row] = softmax(logits, 1).mean(0)
    found = probit_probabilities(run, at)
    error, uncorrected = np.abs(found - wanted).max(), np.abs(plain - wanted).max()
    assert error < 0.5 * uncorrected
    if classes == 2:
        assert error < 0.025
        return
    for row in range(13):
        m, S = mean[row], covariance[row]
        share = np.zeros(3)
        for c in range(3):
            spread = [S[c, c] + S[d, d] - 2 * S[c, d] for d in range(3)]
            terms = [np.exp((m[d] - m[c]) / np.sqrt(1 + np.pi / 8 * spread[d])) for d in range(3)]
            share[c] = 1.0 / sum(terms)
        np.testing.assert_allclose(found[row], share / share.sum(), rtol=1e-9)


@pytest.mark.validate
def test_another_backend_has_no_closed_form(small):
    run = fit(*small, predictive="sampled", draws=5, warmup=5, chains=1)
    with pytest.raises(InputError, match=r"predictive = 'linearised'.*run\.predict"):
        function_moments(run, np.zeros((1, 1)))
