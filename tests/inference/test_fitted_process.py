"""Processes fitted to training targets by exact evidence, and logits matched to a process.

Nothing here is random but data and searches of a fixed seed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

import bnnzoo as bz
from bnnzoo.errors import InputError
from bnnzoo.inference import GaussianProcess, fit_process
from bnnzoo.models.process import ProcessOptions
from bnnzoo.models.processes.matern import Matern, MaternOptions
from bnnzoo.models.processes.rbf import RBF
from tests.models._tools import SEED, rng

X = rng(60).normal(size=(40, 2))
Y = 1.5 * np.sin(2.0 * X[:, 0]) + 0.2 * rng(61).normal(size=40)
"""The second input says nothing."""


def evidence(process, noise_std, y=Y):
    with jax.enable_x64(True):
        covariance = process.covariance(jnp.asarray(X), process.hyper(2))
    return GaussianProcess(covariance, y, noise_std).log_evidence


@pytest.mark.filterwarnings("ignore:The optimal value found for dimension 1")
def test_the_fit_is_scikit_learns():
    """Of an ARD process with a variance and noise, each library from its own starts.

    The evidence agrees to 1e-3 nats and, but for the input without meaning, the numbers to 2 %.
    """
    found = fit_process(RBF(ProcessOptions(hyper="fitted")), X, Y)
    kernel = kernels.ConstantKernel(1.0) * kernels.RBF([1.0, 1.0], (1e-2, 1e3))
    kernel += kernels.WhiteKernel(0.1)
    theirs = GaussianProcessRegressor(kernel, n_restarts_optimizer=1, random_state=0).fit(X, Y)
    assert found.log_evidence == pytest.approx(theirs.log_marginal_likelihood_value_, abs=1e-3)
    product, noise = theirs.kernel_.k1, theirs.kernel_.k2
    options = found.process.options
    assert options.length_scale[0] == pytest.approx(product.k2.length_scale[0], rel=0.02)
    assert options.variance == pytest.approx(product.k1.constant_value, rel=0.02)
    assert found.noise_std**2 == pytest.approx(noise.noise_level, rel=0.02)
    assert options.hyper == "fixed" and options.length_scale[1] > 5 * options.length_scale[0]
    assert evidence(found.process, found.noise_std) == pytest.approx(found.log_evidence, abs=1e-4)


@pytest.mark.validate
def test_known_noise_stays_and_no_neighbour_is_better():
    y = Y + np.cos(X[:, 1])
    found = fit_process(Matern(MaternOptions(hyper="fitted", smoothness="3/2")), X, y, 0.3)
    assert found.noise_std == 0.3
    best, options = evidence(found.process, 0.3, y), found.process.options
    assert best == pytest.approx(found.log_evidence, abs=1e-4)
    first, second = options.length_scale
    for times in (0.9, 1.1):
        for change in (
            {"length_scale": (times * first, second)},
            {"length_scale": (first, times * second)},
            {"variance": times * options.variance},
        ):
            moved = type(found.process)(options.model_copy(update=change))
            assert evidence(moved, 0.3, y) < best


DATA = bz.make_dataset(X, Y, task="regression", name="sine")
LINEAR = {"network_options": {"widths": []}}


def test_a_prior_says_that_it_was_fitted_to_targets():
    options = {"widths": dict.fromkeys(("layers.0.kernel", "layers.0.bias"), 1.0)}
    for fitted in (True, False):
        given = {"prior": "gp-matched", "prior_options": {**options, "fitted_to_targets": fitted}}
        assert bz.make_model(**LINEAR, **given).bind(DATA).prior.fitted_to_targets is fitted
        rule = {"*.bias": {"name": "gp-matched", **given["prior_options"]}}
        ruled = bz.make_model(**LINEAR, prior_options={"rules": rule})
        assert ruled.prior.fitted_to_targets is fitted


@pytest.mark.validate
def test_a_prior_matched_to_a_fitted_process_says_so():
    small = {"steps": 3, "draws": 8, "count": 10, "seed": SEED}
    found = bz.match_prior(
        bz.make_model(**LINEAR), DATA, "rbf", process_options={"hyper": "fitted"}, **small
    )
    options = found.model.spec.prior.options
    assert "hyper fitted) on the inputs and targets of sine" in options["matched_to"]
    assert found.model.prior.fitted_to_targets and found.fitted.process.options.variance > 0
    again = bz.models.model.build_model(found.model.spec)
    assert again.prior.fitted_to_targets
    # The same numbers, given by hand, say nothing of targets and give the same prior.
    given = found.fitted.process.options.model_dump(exclude={"hyper"})
    by_hand = bz.match_prior(bz.make_model(**LINEAR), DATA, "rbf", process_options=given, **small)
    assert by_hand.widths == found.widths and not by_hand.model.prior.fitted_to_targets
    assert by_hand.fitted is None


CLASSES = bz.make_dataset(X, np.arange(40) % 3, task="classification", name="thirds")


@pytest.mark.validate
def test_logits_are_matched_to_draws_of_their_own():
    """Three classes: every logit's second moments come nearer, and the classifier fits."""
    model = bz.make_model(likelihood="categorical", network_options={"widths": [20]})
    found = bz.match_prior(
        model, CLASSES, "rbf", seed=SEED, steps=100, draws=128,
        process_options={"length_scale": 2.0, "variance": 4.0},
    )  # fmt: skip
    print(f"off by {found.error_before:.2f} before, {found.error_after:.2f} after")
    assert found.error_after < 0.5 * found.error_before and 0.8 < found.scale_ratio < 1.25
    drawn = bz.prior_predictive(found.model, CLASSES, draws=4000, seed=SEED).f
    variances = np.var(np.asarray(drawn), axis=0).mean(0)  # of each logit, over draws
    assert variances.shape == (3,)
    np.testing.assert_allclose(variances, variances.mean(), rtol=0.2)
    run = bz.fit(found.model, CLASSES, "hmc", chains=1, draws=20, warmup=20, progress=False)
    said = run.predict(X[:5])
    np.testing.assert_allclose(said.mean.sum(1), 1.0, rtol=1e-5)


def test_what_cannot_be_fitted():
    fitted = {"process_options": {"hyper": "fitted"}}
    with pytest.raises(InputError, match=r"'fitted': targets of likelihood 'categorical'.*'fixed'"):
        bz.match_prior(bz.make_model(likelihood="categorical"), CLASSES, **fitted)
    process = RBF(ProcessOptions(hyper="fitted"))
    with pytest.raises(InputError, match="not known before it is fitted"):
        process.hyper(2)
    with pytest.raises(InputError, match="the targets are all 0"):
        fit_process(process, X, 0 * Y)
    with pytest.raises(InputError, match="exact evidence of 3,001 rows is out of reach"):
        fit_process(process, np.zeros((3001, 1)), np.ones(3001))
    with pytest.raises(InputError, match=r"process.length_scale has 3 numbers.* 2 inputs"):
        fit_process(RBF(ProcessOptions(hyper="fitted", length_scale=(1.0, 1.0, 1.0))), X, Y)
