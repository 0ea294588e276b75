"""NumPyro model definitions: networks, priors, likelihoods and the posterior they define."""

from bnnzoo.models.handwritten import HandwrittenModel
from bnnzoo.models.model import Model, load_model, make_model
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.posterior import Posterior

__all__ = ["HandwrittenModel", "Model", "ParameterInfo", "Posterior", "load_model", "make_model"]
