"""NumPyro models: networks, priors, likelihoods, augmentations and the posterior they define."""

from bnnzoo.models.augmentation import Augmentation, AugmentationOptions
from bnnzoo.models.handwritten import HandwrittenModel
from bnnzoo.models.infinite import nngp_kernel
from bnnzoo.models.likelihood import Likelihood
from bnnzoo.models.model import Model, load_model, make_model
from bnnzoo.models.network import BoundNetwork, Network
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.posterior import Posterior, Predictive
from bnnzoo.models.prior import ElementwiseOptions, ElementwisePrior, Prior, PriorOptions
from bnnzoo.models.simulated import draw_dataset

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
