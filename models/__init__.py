"""NumPyro models: networks, priors, likelihoods, augmentations and the posterior they define.

Names are imported when they are first used: a list of data sets, one of which is drawn from models,
loads no JAX.
"""

import importlib as _importlib
import importlib.util as _util
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from bnnzoo.models.augmentation import Augmentation as Augmentation
    from bnnzoo.models.augmentation import AugmentationOptions as AugmentationOptions
    from bnnzoo.models.handwritten import HandwrittenModel as HandwrittenModel
    from bnnzoo.models.infinite import nngp_kernel as nngp_kernel
    from bnnzoo.models.likelihood import Likelihood as Likelihood
    from bnnzoo.models.model import Model as Model
    from bnnzoo.models.model import load_model as load_model
    from bnnzoo.models.model import make_model as make_model
    from bnnzoo.models.network import BoundNetwork as BoundNetwork
    from bnnzoo.models.network import Network as Network
    from bnnzoo.models.parameters import ParameterInfo as ParameterInfo
    from bnnzoo.models.posterior import Posterior as Posterior
    from bnnzoo.models.posterior import Predictive as Predictive
    from bnnzoo.models.prior import ElementwiseOptions as ElementwiseOptions
    from bnnzoo.models.prior import ElementwisePrior as ElementwisePrior
    from bnnzoo.models.prior import Prior as Prior
    from bnnzoo.models.prior import PriorOptions as PriorOptions
    from bnnzoo.models.simulated import draw_dataset as draw_dataset

__all__ = [
    "Augmentation",
    "AugmentationOptions",
    "BoundNetwork",
    "ElementwiseOptions",
    "ElementwisePrior",
    "HandwrittenModel",
    "Likelihood",
    "Model",
    "Network",
    "ParameterInfo",
    "Posterior",
    "Predictive",
    "Prior",
    "PriorOptions",
    "draw_dataset",
    "load_model",
    "make_model",
    "nngp_kernel",
]

_HOMES = {
    "Augmentation": "bnnzoo.models.augmentation",
    "AugmentationOptions": "bnnzoo.models.augmentation",
    "BoundNetwork": "bnnzoo.models.network",
    "ElementwiseOptions": "bnnzoo.models.prior",
    "ElementwisePrior": "bnnzoo.models.prior",
    "HandwrittenModel": "bnnzoo.models.handwritten",
    "Likelihood": "bnnzoo.models.likelihood",
    "Model": "bnnzoo.models.model",
    "Network": "bnnzoo.models.network",
    "ParameterInfo": "bnnzoo.models.parameters",
    "Posterior": "bnnzoo.models.posterior",
    "Predictive": "bnnzoo.models.posterior",
    "Prior": "bnnzoo.models.prior",
    "PriorOptions": "bnnzoo.models.prior",
    "draw_dataset": "bnnzoo.models.simulated",
    "load_model": "bnnzoo.models.model",
    "make_model": "bnnzoo.models.model",
    "nngp_kernel": "bnnzoo.models.infinite",
}


def __getattr__(name: str) -> _Any:
    if name in _HOMES:
        value: _Any = getattr(_importlib.import_module(_HOMES[name]), name)
    elif not name.startswith("_") and _util.find_spec(f"{__name__}.{name}"):
        value = _importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> _Any:
    return sorted({*__all__, *(n for n in globals() if n.startswith("__"))})
