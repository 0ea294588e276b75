import numpy as np
import pytest

from bnnzoo.reports import summary
from bnnzoo.reports.formatting import digits_for, interval, number, numbered, seconds
from bnnzoo.reports.report import collect
from bnnzoo.specs import Component


def with_densities(fakes, *densities, **kwargs):
    """Runs whose test rows have these log densities; priors in order of the zoo."""
    runs = []
    for prior, density in zip(["student-t", "gaussian", "laplace"], densities, strict=False):
        run = fakes.fake_run(prior=prior, test_rows=len(density), **kwargs)
        fakes.replace(run, "test_scores", log_density=np.asarray(density, float))
        runs.append(run)
    return runs


def block_of(runs):
    (block,) = collect(runs)["blocks"]
    return block


@pytest.fixture
def base():
    return np.random.default_rng(0).normal(-5, 1, 100)


def shifted(base, mean, error):
    """A copy whose paired difference to ``base`` has this mean and standard error."""
    noise = np.random.default_rng(1).normal(size=len(base))
    noise = (noise - noise.mean()) / noise.std(ddof=1) * error * len(base) ** 0.5
    return base - mean + noise


def test_a_clear_winner(fakes, base):
    runs = with_densities(fakes, base, shifted(base, 0.021, 0.008), shifted(base, 0.5, 0.01))
    made = block_of(runs)["verdict"]
    assert made["sentence"] == (
        "On diabetes, mlp with a student-t prior sampled by nuts at posterior temperature 1 "
        "predicts best: 0.021 ± 0.008 nats a row better than the next (2.6 standard errors)."
    )
    assert made["decided"] and made["within_two"] == 0
    assert (made["best"], made["next"]) == (1, 2)
    assert made["difference"] == pytest.approx(0.021)
    assert made["standard_error"] == pytest.approx(0.008)


def test_a_tie_is_called_one(fakes, base):
    runs = with_densities(fakes, shifted(base, 0.011, 0.008), base, shifted(base, 0.9, 0.01))
    made = block_of(runs)["verdict"]
    assert made["sentence"] == (
        "On diabetes, no run can be called the best: mlp with a gaussian prior sampled by nuts at "
        "posterior temperature 1 has the highest mean test log density, but only by "
        "0.011 ± 0.008 nats a row over the next (1.4 standard errors)."
    )
    assert not made["decided"] and made["within_two"] == 1
    assert made["detail"] == (
        "The next is run 2 (student-t). 1 of the other 2 runs is within 2 standard errors of it; "
        "the rest predicts clearly worse."
    )


def test_a_noisier_run_may_reach_the_best_where_the_next_does_not(fakes, base):
    runs = with_densities(fakes, base, shifted(base, 0.021, 0.008), shifted(base, 0.05, 0.04))
    made = block_of(runs)["verdict"]
    assert made["decided"] and made["within_two"] == 1
    assert "1 of the other 2 runs is within 2 standard errors" in made["detail"]


def test_equal_runs_are_neither_best(fakes, base):
    made = block_of(with_densities(fakes, base, base))["verdict"]
    assert "predict every test row alike" in made["sentence"] and not made["decided"]


def test_one_run_is_compared_with_nothing(fakes, base):
    made = block_of(with_densities(fakes, base))["verdict"]
    assert "is the only run" in made["sentence"] and "nothing to compare" in made["detail"]


def test_one_run_leads_nobody(fakes):
    (block,) = collect([fakes.fake_run(unmixed=1.5)])["blocks"]
    assert "1 of 1 run did not converge" in texts(block, "warn")
    assert "leading" not in texts(block)


def test_a_prior_that_was_fitted_beforehand_is_named(fakes):
    words = "laplace on the targets of diabetes"
    runs = [fakes.fake_run(), fakes.fake_run(prior="laplace", worse=1.0)]
    runs[1].spec.prior.options["fitted_to"] = words
    said = texts(block_of(runs), "note")
    assert f"Run 2 has a prior that was fitted beforehand ({words})" in said


def test_no_test_rows_no_winner(fakes):
    block = block_of([fakes.fake_run(test_rows=0), fakes.fake_run(test_rows=0, prior="laplace")])
    assert "there are no test rows" in block["verdict"]["sentence"]
    assert "training rows" in block["verdict"]["detail"] and block["verdict"]["best"] is None
    assert block["scored_on"] == "training"


def test_a_single_test_row_decides_nothing(fakes):
    made = block_of(with_densities(fakes, [-1.0], [-2.0]))["verdict"]
    assert "too few to say" in made["sentence"] and not made["decided"]


def test_a_run_that_excludes_what_happened(fakes, base):
    broken = base.copy()
    broken[3] = -np.inf
    made = block_of(with_densities(fakes, base, broken))["verdict"]
    assert "density of zero" in made["sentence"]


def test_words_name_the_approximation_and_both_temperatures(fakes):
    run = fakes.fake_run(backend="mean-field-vi", T=0.1, L=2.0)
    (row,) = block_of([run])["runs"]
    assert summary.words(row) == (
        "mlp with a gaussian prior approximated by mean-field-vi at posterior temperature 0.1 and "
        "likelihood temperature 2"
    )
    assert "mlp with a gaussian prior and a gaussian likelihood approx" in summary.words(row, True)


def test_the_verdict_names_the_likelihood_where_runs_differ_in_it(fakes, base):
    runs = with_densities(fakes, base, base - 1)
    assert "likelihood" not in block_of(runs)["verdict"]["sentence"]
    runs[0].spec = runs[0].spec.model_copy(
        update={"likelihood": Component(name="student-t", options={})}
    )
    sentence = block_of(runs)["verdict"]["sentence"]
    assert " prior and a student-t likelihood sampled by nuts" in sentence


def texts(block, level=None):
    return " ".join(c["text"] for c in block["cautions"] if level in (None, c["level"]))


def test_what_is_wrong_is_said(fakes):
    flags = ({"chain": 1, "kind": "nan", "message": "NaN at step 3"},)
    runs = [
        fakes.fake_run(unmixed=1.5, divergences=12),
        fakes.fake_run(prior="laplace", worse=1.0, chains=1, flags=flags),
        fakes.fake_run(prior="student-t", worse=2.0, backend="mean-field-vi", state="stopped"),
    ]
    block = block_of(runs)
    warned, noted = texts(block, "warn"), texts(block, "note")
    assert "The leading run, run 1, has not converged itself" in warned
    assert "1 of 3 runs did not converge" in warned
    assert "12 in run 1" in warned
    assert "Run 2 met values that are not numbers" in warned
    assert "Run 3 stopped early" in warned
    assert "1 run by mean-field-vi (run 3) is approximate" in noted
    assert "Run 2 has one chain" in noted
    levels = [c["level"] for c in block["cautions"]]
    assert levels == sorted(levels, key=lambda level: level != "warn") and "good" not in levels


def test_restarts_that_disagree_are_not_called_unconverged_chains(fakes):
    block = block_of([fakes.fake_run(backend="mean-field-vi", unmixed=1.5)])
    assert "Restarts disagree in 1 of 1 run:" in texts(block, "warn")


def test_a_run_without_scores_beside_others_is_set_apart(fakes, base):
    runs = with_densities(fakes, base, base - 1)
    lacking = fakes.fake_run(prior="laplace", test_rows=100)
    del lacking.tree["test_scores"]
    block = block_of([*runs, lacking])
    assert "Run 3: no usable test scores" in texts(block, "warn")
    assert block["verdict"]["decided"] and block["runs"][2]["metrics"] == {}


def test_nothing_wrong_is_said_too(fakes):
    block = block_of([fakes.fake_run(backend="mean-field-vi", draws=1000)])
    assert block["cautions"][0]["level"] == "good"
    assert "In every run the chains agree" in block["cautions"][0]["text"]


def test_runs_between_the_strict_and_the_lax_level_are_named(fakes):
    block = block_of([fakes.fake_run(draws=250)])
    worst = block["runs"][0]["convergence"]["function"]["worst_rhat"]
    assert 1.01 < worst < 1.05
    assert block["cautions"][0]["level"] == "note"
    assert "Above the strict level of 1.01: run 1" in block["cautions"][0]["text"]


def test_numbers_as_text():
    assert number(-0.0214, 3) == "−0.021" and number(-0.0001, 3) == "0.000"
    assert number(float("nan")) == "–" and number(float("-inf")) == "−∞"
    assert number(0.25, 1, signed=True) == "+0.2"
    assert interval(1.5, None, 2) == "1.50" and interval(1.5, 0.25, 2) == "1.50 ± 0.25"
    assert numbered([5, 1, 4, 6]) == "runs 1, 4–6" and numbered([2]) == "run 2"
    assert seconds(0.5) == "0.50 s" and seconds(125) == "2 min 05 s" and seconds(None) == "–"
    assert digits_for([0.008]) == 3 and digits_for([0.021]) == 3 and digits_for([4.9]) == 1
