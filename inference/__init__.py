"""Inference: each backend takes a posterior and gives draws, through one loop."""

from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.dropping import drop_chains
from bnnzoo.inference.evidence import Estimate, Estimator, Evidence, log_evidence
from bnnzoo.inference.fitted_process import FittedProcess, fit_process
from bnnzoo.inference.fitting import fit, resume
from bnnzoo.inference.functional_prior import MatchedPrior, match_prior
from bnnzoo.inference.gaussian_process import (
    Conditioned,
    GaussianProcess,
    ProcessPrediction,
    StudentTProcess,
)
from bnnzoo.inference.infinite import InfiniteNetwork
from bnnzoo.inference.kept_evidence import load_evidence
from bnnzoo.inference.laplace_predictive import (
    FunctionMoments,
    function_moments,
    probit_probabilities,
)
from bnnzoo.inference.model_grid import model_grid
from bnnzoo.inference.prediction import Prediction
from bnnzoo.inference.prior_predictive import PriorPredictive, prior_predictive
from bnnzoo.inference.processes import start_distributed
from bnnzoo.inference.run import Run, load_run
from bnnzoo.inference.selection import Candidate, Selection, select
from bnnzoo.inference.temperature_slope import TemperatureSlope, temperature_slope
from bnnzoo.inference.tuning import Tuned, Tuner, tune
from bnnzoo.inference.weight_bootstrap import IntervalEstimate
from bnnzoo.inference.weight_fits import Fit
from bnnzoo.inference.weight_statistics import (
    FilterStatistics,
    ParameterStatistics,
    WeightStatistics,
    weight_statistics,
)

__all__ = [
    "Backend",
    "Candidate",
    "Conditioned",
    "Estimate",
    "Estimator",
    "Evidence",
    "FilterStatistics",
    "Fit",
    "FittedProcess",
    "Flag",
    "FunctionMoments",
    "GaussianProcess",
    "InfiniteNetwork",
    "IntervalEstimate",
    "MatchedPrior",
    "ParameterStatistics",
    "Prediction",
    "PriorPredictive",
    "ProcessPrediction",
    "Run",
    "Selection",
    "Stage",
    "Step",
    "StudentTProcess",
    "TemperatureSlope",
    "Tuned",
    "Tuner",
    "WeightStatistics",
    "drop_chains",
    "fit",
    "fit_process",
    "function_moments",
    "load_evidence",
    "load_run",
    "log_evidence",
    "match_prior",
    "model_grid",
    "prior_predictive",
    "probit_probabilities",
    "resume",
    "select",
    "start_distributed",
    "temperature_slope",
    "tune",
    "weight_statistics",
]
