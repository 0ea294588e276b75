"""Data simulated from models: the model is right and its weights are known, so fits can be judged.

Files here without a leading underscore are data sets of the registry.
"""

from bnnzoo.models.simulated._draw import draw_dataset

__all__ = ["draw_dataset"]
