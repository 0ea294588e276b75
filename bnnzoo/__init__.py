"""bnnzoo: a zoo of Bayesian neural networks.

Names are imported when they are first used, so that ``import bnnzoo`` is quick and loads neither
JAX nor anything else heavy. ``bnnzoo.list`` is :func:`bnnzoo.registry.list_names`; it is outside
``__all__`` so that ``from bnnzoo import *`` leaves the built-in ``list`` alone.
"""

import importlib as _importlib
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

_root = _Path(__file__).resolve().parent.parent
if (_root / "models" / "zoo").is_dir() and (_root / "pyproject.toml").is_file():
    # A source checkout: models/, inference/ and reports/ stand beside this folder, and a Python
    # started in the root finds this copy first, whatever is installed.
    __path__.append(str(_root))

if _TYPE_CHECKING:
    from bnnzoo import errors as errors
    from bnnzoo.api import fit_spec as fit_spec
    from bnnzoo.cache import keep_programs as keep_programs
    from bnnzoo.datasets import Dataset as Dataset
    from bnnzoo.datasets import load_dataset as load_dataset
    from bnnzoo.datasets import make_dataset as make_dataset
    from bnnzoo.inference import Evidence as Evidence
    from bnnzoo.inference import Prediction as Prediction
    from bnnzoo.inference import Run as Run
    from bnnzoo.inference import drop_chains as drop_chains
    from bnnzoo.inference import fit as fit
    from bnnzoo.inference import load_evidence as load_evidence
    from bnnzoo.inference import load_run as load_run
    from bnnzoo.inference import log_evidence as log_evidence
    from bnnzoo.inference import match_prior as match_prior
    from bnnzoo.inference import model_grid as model_grid
    from bnnzoo.inference import prior_predictive as prior_predictive
    from bnnzoo.inference import resume as resume
    from bnnzoo.inference import select as select
    from bnnzoo.inference import start_distributed as start_distributed
    from bnnzoo.inference import tune as tune
    from bnnzoo.inference import weight_statistics as weight_statistics
    from bnnzoo.models import Model as Model
    from bnnzoo.models import Posterior as Posterior
    from bnnzoo.models import load_model as load_model
    from bnnzoo.models import make_model as make_model
    from bnnzoo.registry import describe as describe
    from bnnzoo.registry import list_names as list  # noqa: F401
    from bnnzoo.registry import register as register
    from bnnzoo.reports import load_study as load_study
    from bnnzoo.reports import run_study as run_study
    from bnnzoo.reports import write_report as write_report
    from bnnzoo.sklearn import BNNClassifier as BNNClassifier
    from bnnzoo.sklearn import BNNRegressor as BNNRegressor

__all__ = [
    "BNNClassifier",
    "BNNRegressor",
    "Dataset",
    "Evidence",
    "Model",
    "Posterior",
    "Prediction",
    "Run",
    "__version__",
    "describe",
    "drop_chains",
    "errors",
    "fit",
    "fit_spec",
    "keep_programs",
    "load_dataset",
    "load_evidence",
    "load_model",
    "load_run",
    "load_study",
    "log_evidence",
    "make_dataset",
    "make_model",
    "match_prior",
    "model_grid",
    "prior_predictive",
    "register",
    "resume",
    "run_study",
    "select",
    "start_distributed",
    "tune",
    "weight_statistics",
    "write_report",
]

_HOMES = {
    "BNNClassifier": "bnnzoo.sklearn",
    "BNNRegressor": "bnnzoo.sklearn",
    "Dataset": "bnnzoo.datasets",
    "Evidence": "bnnzoo.inference",
    "Model": "bnnzoo.models",
    "Posterior": "bnnzoo.models",
    "Prediction": "bnnzoo.inference",
    "Run": "bnnzoo.inference",
    "describe": "bnnzoo.registry",
    "drop_chains": "bnnzoo.inference",
    "fit": "bnnzoo.inference",
    "fit_spec": "bnnzoo.api",
    "keep_programs": "bnnzoo.cache",
    "load_dataset": "bnnzoo.datasets",
    "load_evidence": "bnnzoo.inference",
    "load_model": "bnnzoo.models",
    "load_run": "bnnzoo.inference",
    "load_study": "bnnzoo.reports",
    "log_evidence": "bnnzoo.inference",
    "make_dataset": "bnnzoo.datasets",
    "make_model": "bnnzoo.models",
    "match_prior": "bnnzoo.inference",
    "model_grid": "bnnzoo.inference",
    "prior_predictive": "bnnzoo.inference",
    "register": "bnnzoo.registry",
    "resume": "bnnzoo.inference",
    "run_study": "bnnzoo.reports",
    "select": "bnnzoo.inference",
    "start_distributed": "bnnzoo.inference",
    "tune": "bnnzoo.inference",
    "weight_statistics": "bnnzoo.inference",
    "write_report": "bnnzoo.reports",
}
_MODULES = {"api", "datasets", "errors", "inference", "metrics", "models", "registry", "reports"}


def __getattr__(name: str) -> _Any:
    if name == "__version__":
        metadata = _importlib.import_module("importlib.metadata")  # slow to import
        try:
            value: _Any = metadata.version("bnnzoo")
        except metadata.PackageNotFoundError:  # a checkout that was never installed
            value = "0+unknown"
    elif name == "list":
        value = _importlib.import_module("bnnzoo.registry").list_names
    elif name in _HOMES:
        value = getattr(_importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = _importlib.import_module(f"bnnzoo.{name}")
    else:
        raise AttributeError(f"module 'bnnzoo' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> _Any:
    return sorted({*__all__, "list", *_MODULES, *(n for n in globals() if n.startswith("__"))})
