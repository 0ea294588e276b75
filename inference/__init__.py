"""Inference: each backend takes a posterior and gives draws, through one loop."""

from bnnzoo.inference.fitting import fit, resume
from bnnzoo.inference.prediction import Prediction
from bnnzoo.inference.run import Run, load_run

__all__ = ["Prediction", "Run", "fit", "load_run", "resume"]
