"""Data sets: arrays in original units, checked once, with scaling fitted on training rows alone.

Files here without a leading underscore are entries of the registry; see
:func:`bnnzoo.registry.register`.
"""

from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._file import load_inputs
from bnnzoo.datasets._load import load_dataset
from bnnzoo.datasets._make import make_dataset
from bnnzoo.datasets._scaling import Scaling

__all__ = ["Dataset", "Scaling", "load_dataset", "load_inputs", "make_dataset"]
