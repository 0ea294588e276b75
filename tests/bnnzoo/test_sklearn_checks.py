"""scikit-learn's own checks of its estimators' contract: none is expected to fail.

Every shape of data compiles its programs, which is where the time goes: the network is narrow, the
chains are short, the backend is the real one. `make test` runs half of the checks of the regressor
and of those of classes; `make validate` the rest, and all again with the parts that the estimators
come with.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import bnnzoo as bz

SHORT = {"network_options": {"widths": [4]}, "chains": 2, "draws": 20, "warmup": 60}
# Gaussian noise: Student-t's degrees of freedom would double the time to compile.
REGRESSOR = bz.BNNRegressor(likelihood="gaussian", **SHORT)
CLASSIFIER = bz.BNNClassifier(**SHORT)


CHAINS = {"draws": 50, "warmup": 100}


def keeps(estimator, check) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rightly said of so few draws
        warnings.simplefilter("ignore", bz.errors.DataWarning)
        check(estimator)


def of_classifiers(check) -> bool:
    """Whether a check is of classes; the others run what both estimators inherit."""
    name = getattr(check, "func", check).__name__
    return "classif" in name or name in ("check_supervised_y_2d", "check_fit2d_1sample")


LATER = (
    "check_classifier_data_not_an_array",
    "check_classifiers_classes",
    "check_classifiers_train",
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit_check_is_fitted",
    "check_fit2d_predict1d",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
    "check_regressor_data_not_an_array",
    "check_regressor_multioutput",
    "check_regressors_int",
    "check_regressors_no_decision_function",
    "check_supervised_y_2d",
)
"""Checks whose own shapes of data take seconds to compile, of what other checks see as well."""


def later(check) -> bool:
    return getattr(check, "func", check).__name__ in LATER


def check_id(part) -> str:
    return getattr(getattr(part, "func", part), "__name__", type(part).__name__)


REGRESSOR_CHECKS = [
    pytest.param(estimator, check, marks=pytest.mark.validate if later(check) else ())
    for estimator, check in estimator_checks_generator(REGRESSOR)
]


@pytest.mark.parametrize(("estimator", "check"), REGRESSOR_CHECKS, ids=check_id)
def test_contract_of_scikit_learn(estimator, check):
    keeps(estimator, check)


CLASSIFIER_CHECKS = [
    pytest.param(
        estimator,
        check,
        marks=() if of_classifiers(check) and not later(check) else pytest.mark.validate,
    )
    for estimator, check in estimator_checks_generator(CLASSIFIER)
]


@pytest.mark.parametrize(("estimator", "check"), CLASSIFIER_CHECKS, ids=check_id)
def test_contract_of_scikit_learn_for_classes(estimator, check):
    keeps(estimator, check)


@pytest.mark.validate
@parametrize_with_checks([bz.BNNRegressor(**CHAINS), bz.BNNClassifier(**CHAINS)])
def test_contract_with_the_default_parts(estimator, check):
    keeps(estimator, check)


ARRAYS = """
from sklearn.utils.estimator_checks import check_array_api_input
import bnnzoo as bz
for kind in (bz.BNNRegressor, bz.BNNClassifier):
    check_array_api_input(kind.__name__, kind(draws=50, warmup=100), array_namespace="numpy")
print("kept")
"""


@pytest.mark.validate
def test_contract_of_the_array_api():
    """The one check that scikit-learn skips unless SciPy was told so before it was imported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ARRAYS],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "kept", done.stderr


class PlainRegressor(RegressorMixin, BaseEstimator):
    """What tags say where nobody changes them."""


class PlainClassifier(ClassifierMixin, BaseEstimator):
    """What tags say where nobody changes them."""


@pytest.mark.parametrize(
    ("estimator", "plain"), [(REGRESSOR, PlainRegressor()), (CLASSIFIER, PlainClassifier())]
)
def test_no_tag_lets_a_check_off(estimator, plain):
    tags, usual = get_tags(estimator), get_tags(plain)
    usual.target_tags.multi_output = tags.estimator_type == "regressor"  # adds a check
    assert tags == usual
