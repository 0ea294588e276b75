import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bnnzoo.reports import diagnostics


def split(x):
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, -half:]])


def normal_scores(x):
    ranks = stats.rankdata(x).reshape(x.shape)
    return stats.norm.ppf((ranks - 3 / 8) / (x.size + 1 / 4))


def naive_plain_rhat(x):
    """Gelman et al., BDA3 (11.4), of chains in rows."""
    n = x.shape[1]
    within = np.mean([np.var(chain, ddof=1) for chain in x])
    between = n * np.var([chain.mean() for chain in x], ddof=1)
    return np.sqrt(((n - 1) / n * within + between / n) / within)


def naive_rhat(x):
    halves = split(x)
    folded = np.abs(halves - np.median(halves))
    return max(naive_plain_rhat(normal_scores(halves)), naive_plain_rhat(normal_scores(folded)))


def naive_plain_ess(x):
    """Vehtari et al. (2021), (10)-(13), with Geyer's monotone pairs written out."""
    chains, n = x.shape
    centred = x - x.mean(1, keepdims=True)
    autocovariance = np.array(
        [np.mean([np.sum(c[: n - t] * c[t:]) / n for c in centred]) for t in range(n)]
    )
    within = autocovariance[0] * n / (n - 1)
    total = autocovariance[0] + np.var(x.mean(1), ddof=1)
    rho = 1 - (within - autocovariance) / total
    rho[0] = 1.0
    pairs = []
    for t in range(0, n - 3, 2):
        pair = rho[t] + rho[t + 1]
        if pair < 0:
            break
        pairs.append(min([pair, *pairs[-1:]]))
    else:  # never negative: the last pair counts by its first half, as the one after it would
        pairs.pop()
    tau = -1 + 2 * sum(pairs) + max(rho[t], 0.0)
    return chains * n / max(tau, 1 / np.log10(chains * n))


def naive_ess(x):
    halves = split(x)
    low, high = np.quantile(x, [0.05, 0.95])
    return min(
        naive_plain_ess(normal_scores(halves)),
        naive_plain_ess(split((x <= low).astype(float))),
        naive_plain_ess(split((x <= high).astype(float))),
        naive_plain_ess(split((x - x.mean()) ** 2)),
    )


@pytest.fixture
def draws():
    """Three values: well mixed, correlated, and with one chain apart."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 60, 3))
    for t in range(1, 60):
        x[:, t, 1] = 0.7 * x[:, t - 1, 1] + np.sqrt(1 - 0.49) * x[:, t, 1]
    x[2, :, 2] += 2.0
    return x


def test_rhat_equals_a_naive_one(draws):
    expected = [naive_rhat(draws[:, :, k]) for k in range(3)]
    np.testing.assert_allclose(diagnostics.rhat(draws), expected, rtol=1e-10)
    assert expected[2] > 1.2 > expected[0]


def test_ess_equals_a_naive_one(draws):
    expected = [naive_ess(draws[:, :, k]) for k in range(3)]
    np.testing.assert_allclose(diagnostics.ess(draws), expected, rtol=1e-10)


def test_ess_of_an_autoregression_is_the_known_one():
    """AR(1) with correlation r has N (1 - r) / (1 + r) effective draws of its mean; of its square
    r is replaced by r^2, so the smallest is that of the mean."""
    rng, rho = np.random.default_rng(0), 0.6
    x = rng.normal(size=(4, 2000, 8))
    for t in range(1, 2000):
        x[:, t] = rho * x[:, t - 1] + np.sqrt(1 - rho**2) * x[:, t]
    expected = 8000 * (1 - rho) / (1 + rho)
    assert np.mean(diagnostics.ess(x)) == pytest.approx(expected, rel=0.12)
    assert diagnostics.rhat(x).max() < 1.01


def test_slow_tails_are_found():
    """Draws whose scale wanders: the mean mixes at once, the squared deviation does not."""
    rng = np.random.default_rng(1)
    scale = np.exp(np.repeat(rng.normal(size=(4, 10, 1)), 100, axis=1))
    x = scale * rng.normal(size=(4, 1000, 1))
    assert diagnostics.ess(x)[0] < 400


@pytest.mark.parametrize("what", [diagnostics.rhat, diagnostics.ess])
def test_undefined_values_are_nan(draws, what):
    draws[:, :, 0] = 1.5
    draws[1, 3, 1] = np.nan
    found = what(draws)
    assert np.isnan(found[:2]).all() and np.isfinite(found[2])
    assert np.isnan(what(draws[:, :3])).all()


def test_one_chain_has_ess_and_no_rhat(draws):
    assert np.isnan(diagnostics.rhat(draws[:1])).all()
    assert np.isfinite(diagnostics.ess(draws[:1])).all()


def test_stuck_chains_have_no_finite_rhat_near_one():
    stuck = np.repeat(np.arange(4.0)[:, None, None], 50, axis=1)
    assert diagnostics.rhat(stuck)[0] > 1e6


def test_diagnose_takes_the_worst_output_of_each_point(fakes):
    run = fakes.fake_run(task="classification", draws=60)
    made = diagnostics.diagnose(run.tree)
    f = run.tree["function_draws"]["f"].values
    expected = [max(naive_rhat(f[:, :, p, k]) for k in range(2)) for p in range(20)]
    np.testing.assert_allclose(made["function"]["rhat"], expected, rtol=1e-10)
    assert made["function"]["worst_rhat"] == max(made["function"]["rhat"])
    assert made["function"]["worst_ess"] == min(made["function"]["ess"])
    log_likelihood = run.tree["function_draws"]["log_likelihood"].values
    assert made["log_likelihood"]["rhat"] == pytest.approx(naive_rhat(log_likelihood))


def test_diagnose_of_a_sampler(fakes):
    run = fakes.fake_run(divergences=7, draws=60)
    made = diagnostics.diagnose(run.tree)
    stats_ = run.tree["sample_stats"]
    assert (made["divergences"], made["divergent_chains"]) == (7, [0])
    assert made["acceptance"] == pytest.approx(float(stats_["acceptance_rate"].mean()))
    assert made["step_size"] == pytest.approx(stats_["step_size"].values[:, -1].tolist())
    assert made["elbo"] is None
    assert made["weights"]["count"] == 51 and made["weights"]["rhat_max"] > 1.2


def test_diagnose_of_an_optimiser(fakes):
    run = fakes.fake_run(backend="mean-field-vi")
    made = diagnostics.diagnose(run.tree)
    trace = run.tree["warmup_sample_stats"]["elbo"].values
    assert made["elbo"]["steps"] == 2000 and len(made["elbo"]["trace"]) == 4
    np.testing.assert_allclose(made["elbo"]["final"], trace[:, -200:].mean(1))
    assert made["divergences"] is None and made["acceptance"] is None


def test_convergence_is_called_by_the_function_and_not_by_the_weights(fakes):
    good = diagnostics.diagnose(fakes.fake_run().tree)
    assert good["converged"] is True and good["weights"]["rhat_max"] > diagnostics.RHAT_BAD
    bad = diagnostics.diagnose(fakes.fake_run(unmixed=1.0).tree)
    assert bad["converged"] is False and diagnostics.state_of(bad) == "bad"


def test_one_chain_says_what_cannot_be_computed(fakes):
    made = diagnostics.diagnose(fakes.fake_run(chains=1).tree)
    assert made["converged"] is None and diagnostics.state_of(made) == "unknown"
    assert any("One chain: R-hat" in note for note in made["notes"])


def test_an_empty_tree_is_diagnosed_as_unknown():
    made = diagnostics.diagnose(xr.DataTree())
    assert made["converged"] is None and made["chains"] is None
    assert any("cannot be judged" in note for note in made["notes"])


def test_values_that_are_not_finite_are_told(fakes):
    run = fakes.fake_run()
    f = run.tree["function_draws"]["f"].values.copy()
    f[0, 0, 3] = np.nan
    fakes.replace(run, "function_draws", f=f)
    made = diagnostics.diagnose(run.tree)
    assert any("1 function values are not finite" in note for note in made["notes"])
    assert np.isnan(made["function"]["rhat"][3]) and np.isfinite(made["function"]["worst_rhat"])
