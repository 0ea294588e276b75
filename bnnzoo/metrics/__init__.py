"""Scores of predictions: plain functions of NumPy arrays, in the target's original units.

A NaN among the predictions makes the score NaN: it is never averaged over in silence. Scores that
are means over rows take ``per_row=True`` and then give one number a row, which is what
:func:`paired_difference` compares; rows of several outputs count as one, their mean.
"""

from bnnzoo.metrics._calibration import (
    BrierDecomposition,
    adaptive_ece,
    brier_decomposition,
    classwise_ece,
    ece,
)
from bnnzoo.metrics._classification import accuracy, brier, nll
from bnnzoo.metrics._comparison import agreement, paired_difference, total_variation
from bnnzoo.metrics._crossed import CrossedDifference, crossed_difference
from bnnzoo.metrics._crps import crps, crps_gaussian, crps_gaussian_mixture
from bnnzoo.metrics._density import log_mean_exp, mixture_nll
from bnnzoo.metrics._detection import aupr, auroc, fpr_at_tpr
from bnnzoo.metrics._entropy import expected_entropy, mutual_information, predictive_entropy
from bnnzoo.metrics._pit import coverage, pit, pit_calibration_error, pit_ks_distance
from bnnzoo.metrics._regression import interval_coverage, interval_score, quantile_score, rmse

__all__ = [
    "BrierDecomposition",
    "CrossedDifference",
    "accuracy",
    "adaptive_ece",
    "agreement",
    "aupr",
    "auroc",
    "brier",
    "brier_decomposition",
    "classwise_ece",
    "coverage",
    "crossed_difference",
    "crps",
    "crps_gaussian",
    "crps_gaussian_mixture",
    "ece",
    "expected_entropy",
    "fpr_at_tpr",
    "interval_coverage",
    "interval_score",
    "log_mean_exp",
    "mixture_nll",
    "mutual_information",
    "nll",
    "paired_difference",
    "pit",
    "pit_calibration_error",
    "pit_ks_distance",
    "predictive_entropy",
    "quantile_score",
    "rmse",
    "total_variation",
]
