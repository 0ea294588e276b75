import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import integrate, stats

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.reports.diagnostics import off_target
from bnnzoo.reports.report import collect_block
from bnnzoo.reports.temperature import effective_prior_std, few_draws_bias


def numeric_std(log_density, temperature):
    """Standard deviation of a symmetric density to the power 1/T, by quadrature."""
    mass, _ = integrate.quad(lambda w: np.exp(log_density(w) / temperature), 0, np.inf, limit=500)
    second, _ = integrate.quad(
        lambda w: w**2 * np.exp(log_density(w) / temperature), 0, np.inf, limit=500
    )
    return np.sqrt(second / mass)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.1, 1.5])
@pytest.mark.parametrize("match", ["variance", "scale", "iqr"])
def test_effective_std_equals_quadrature(temperature, match):
    std, df = 1.7, 7.0
    quartile = std * stats.norm.ppf(0.75)
    laplace = {"variance": std / 2**0.5, "scale": std, "iqr": quartile / np.log(2)}[match]
    student = {
        "variance": std * ((df - 2) / df) ** 0.5,
        "scale": std,
        "iqr": quartile / stats.t.ppf(0.75, df),
    }[match]
    unit = stats.gennorm(1.5)
    general = {
        "variance": std / unit.std(),
        "scale": std,
        "iqr": quartile / unit.ppf(0.75),
    }[match]
    for prior, family in (
        ("gaussian", stats.norm(0, std)),
        ("correlated-conv", stats.norm(0, std)),
        ("laplace", stats.laplace(0, laplace)),
        ("student-t", stats.t(df, 0, student)),
        ("generalised-normal", stats.gennorm(1.5, 0, general)),
    ):
        found = effective_prior_std(prior, std, temperature, df, match, beta=1.5)
        assert found == pytest.approx(numeric_std(family.logpdf, temperature), rel=1e-4), prior


@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.1])
def test_effective_std_of_a_hierarchy_equals_quadrature(temperature):
    """The marginal of w over the tempered variance, its conditional variance times T."""
    std, shape, rate, log_v = 1.7, 3.0, 1.4, np.linspace(-12, 12, 20_001)
    logs = stats.invgamma(shape, scale=rate).logpdf(np.exp(log_v)) / temperature + log_v
    mass = np.exp(logs - logs.max())
    expected = std * np.sqrt(temperature * (mass @ np.exp(log_v)) / mass.sum())
    found = effective_prior_std("hierarchical-gaussian", std, temperature, shape=shape, rate=rate)
    assert found == pytest.approx(expected, rel=1e-4)
    mean_one = effective_prior_std("hierarchical-gaussian", std, 1.0, shape=shape)
    assert mean_one == pytest.approx(std)


def test_effective_std_of_a_cauchy():
    """Cold enough it has one: at T = 0.5 a Student-t of 3."""
    found = effective_prior_std("cauchy", 1.7, 0.5, match="scale")
    assert found == pytest.approx(numeric_std(stats.cauchy(0, 1.7).logpdf, 0.5), rel=1e-4)
    assert effective_prior_std("cauchy", 1.0, 1.0, match="iqr") == np.inf
    assert effective_prior_std("cauchy", 1.0, 2.0, match="iqr") is None


def test_effective_std_at_temperature_one_is_the_option():
    for prior in ("gaussian", "laplace", "student-t"):
        assert effective_prior_std(prior, 1.0, 1.0, 5.0) == pytest.approx(1.0)


def test_effective_std_where_there_is_none():
    assert effective_prior_std("student-t", 1.0, 2.5, 5.0) == np.inf  # df' = 1.4
    assert effective_prior_std("student-t", 1.0, 6.5, 5.0) is None  # improper
    assert effective_prior_std("horseshoe", 1.0, 0.5) is None


def test_runs_that_differ_in_one_temperature_alone_form_a_series(fakes):
    runs = [
        fakes.fake_run(T=1.0),
        fakes.fake_run(T=0.1, seed=3, worse=1.5),
        fakes.fake_run(T=1.0, L=0.5),
        fakes.fake_run(T=1.0, prior="laplace"),
        fakes.fake_run(T=0.3, prior="laplace", prior_options={"std": 2.0}),
    ]
    panels = collect_block(runs)["temperature"]
    assert [p["axis"] for p in panels] == ["posterior_temperature", "likelihood_temperature"]
    (cold,), (likelihood,) = panels[0]["series"], panels[1]["series"]
    assert [p["temperature"] for p in cold["points"]] == [0.1, 1.0]
    assert [p["temperature"] for p in likelihood["points"]] == [0.5, 1.0]
    a, b = (runs[k].tree["test_scores"]["log_density"].values for k in (1, 0))
    point = cold["points"][0]
    assert point["difference"] == pytest.approx((a - b).mean())
    assert point["difference_se"] == pytest.approx(np.std(a - b, ddof=1) / len(a) ** 0.5)
    assert point["prior_std"] == pytest.approx(0.1**0.5)
    assert likelihood["points"][0]["prior_std"] == pytest.approx(1.0)
    assert cold["points"][1]["difference"] is None  # the reference
    assert panels[0]["sentence"].startswith(
        "Posterior temperature: of 1 run at T = 0.1, compared with the same prior and backend at "
        "T = 1, none predicts better by 2 standard errors or more and 1 worse."
    )
    assert panels[1]["sentence"].startswith("Likelihood temperature: of 1 run at L = 0.5")
    assert "nats a row worse at T = 0.1 than at T = 1." in panels[0]["sentence"]


def test_the_bias_of_few_draws_is_about_right(fakes):
    """Against the bias seen when the mean is taken over n fresh draws."""
    rng = np.random.default_rng(0)
    logs = rng.normal(0, 0.5, (4, 5000, 3))
    run = fakes.fake_run()
    run.tree["log_likelihood"] = xr.DataTree(xr.Dataset({"y": (("chain", "draw", "row"), logs)}))
    n = 40
    seen = np.mean(np.log(np.exp(rng.normal(0, 0.5, (200_000, n))).mean(1))) - 0.125
    assert few_draws_bias(run, float(n)) == pytest.approx(seen, rel=0.1)
    assert few_draws_bias(run, None) is None


@pytest.mark.validate
def test_a_sampler_that_ignores_its_temperature_is_named_beside_the_effect_it_fakes(tmp_path):
    """HMC that stays at T = 1: the page says of the run at 0.1 that it is not there."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
    from _planted import untempered_hmc

    card = registry.describe("backends", "hmc")
    said = {"summary": "HMC at T = 1", "tags": card.tags, "facts": card.facts}
    registry.register("backends", "untempered-hmc", **said)(lambda options: untempered_hmc())
    try:
        model = bz.make_model(network_options={"widths": [2]})
        data = bz.load_dataset("gap", n=20, seed=0)
        sizes = {"chains": 2, "draws": 400, "warmup": 200, "progress": False}
        runs = [
            bz.fit(model, data, "untempered-hmc", posterior_temperature=T, **sizes)
            for T in (1.0, 0.1)
        ]
        (panel,) = collect_block(runs)["temperature"]
        page = bz.write_report(runs, tmp_path / "report.html").with_suffix(".md").read_text()
    finally:
        registry.unregister("backends", "untempered-hmc")
    (wrong,) = panel["wrong"]
    assert " (T = 0.1) is not at its temperature: virial ratio " in wrong
    assert wrong in page
    cold, warm = panel["series"][0]["points"]
    assert (cold["temperature"], cold["off"], warm["off"]) == (0.1, ["virial"], [])
    assert cold["virial"]["mean"] > 3  # 10, were the chain long
    assert cold["rhat"] > 0.9 and warm["rhat"] > 0.9


def test_a_thermometer_counts_where_it_is_off_by_more_than_chance():
    reads = {"virial": {"mean": 3.0, "se": 0.0}, "kinetic": None}
    assert off_target(reads, []) == []  # of a backend that is not meant to follow the target
    assert off_target(reads, [{"chain": 0, "kind": "virial", "message": ""}]) == ["virial"]
    reads["kinetic"] = {"mean": 0.7, "se": 0.05}
    assert off_target(reads, []) == []  # within five errors and the leeway
    reads["kinetic"] = {"mean": 0.7, "se": 0.01}
    assert off_target(reads, []) == ["kinetic"]


def test_an_effect_that_is_the_bias_of_few_draws_is_undecided(fakes):
    """The run at T = 1 looks worse by less than its few draws cost it."""

    def verdict(spread):
        runs = [fakes.fake_run(T=1.0, worse=0.0), fakes.fake_run(T=0.1, worse=0.0)]
        density = runs[0].tree["test_scores"]["log_density"].values
        fakes.replace(runs[1], "test_scores", log_density=density + 0.05)
        logs = runs[0].tree["log_likelihood"]["y"].values
        noise = spread * np.random.default_rng(0).normal(size=logs.shape)
        fakes.replace(runs[0], "log_likelihood", y=noise)
        (panel,) = collect_block(runs)["temperature"]
        (series,) = panel["series"]
        bias = {p["temperature"]: p["few_draws_bias"] for p in series["points"]}
        return series["verdicts"][0], bias[1.0]

    clear, small = verdict(0.1)
    assert clear["verdict"] == "cold" and abs(small) < 0.01
    unclear, large = verdict(4.0)
    assert unclear["verdict"] == "undecided" and large < -0.05
    assert "draws are too few" in unclear["sentence"]


def test_chains_that_disagree_widen_the_verdict(fakes):
    def block(apart):
        runs = [fakes.fake_run(T=1.0, worse=1.5), fakes.fake_run(T=0.1, seed=1)]
        for run in runs:
            density = run.tree["test_scores"]["log_density"].values
            of_chains = density + apart * np.array([-1.0, 1.0])[:, None]
            scores = run.tree["test_scores"].to_dataset()
            scores["chain_log_density"] = (("chain", "test_row"), of_chains)
            run.tree["test_scores"] = xr.DataTree(scores)
        (panel,) = collect_block(runs)["temperature"]
        return panel["series"][0]

    near, far = block(0.01), block(0.5)
    assert near["points"][0]["chain_error"] == pytest.approx(0.01)
    assert far["points"][0]["chain_error"] == pytest.approx(0.5)
    width = [s["verdicts"][0]["gain_high"] - s["verdicts"][0]["gain_low"] for s in (near, far)]
    assert near["verdicts"][0]["metric"] == "log density" and width[1] > 3 * width[0]


def test_runs_of_other_seeds_are_pooled_and_those_of_other_sizes_are_not(fakes):
    def verdicts(**last):
        runs = [fakes.fake_run(T=T, seed=s) for T in (1.0, 0.1) for s in (0, 1)]
        runs[-1] = fakes.fake_run(T=0.1, seed=1, **last)
        (panel,) = collect_block(runs)["temperature"]
        return panel["series"][0]["verdicts"]

    assert {v["metric"] for v in verdicts()} >= {"log density", "squared error"}
    assert verdicts(draws=120) == []
