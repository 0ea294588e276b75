"""The fully connected network of *Bayesian Neural Network Priors Revisited*."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bnnzoo.models.model import Model, make_model
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register


class FCNNOptions(Options):
    """Options of ``priors-revisited-fcnn``."""

    prior: Literal["gaussian", "laplace", "student-t"] = Field(
        "gaussian", description="Family of the weights."
    )
    std: Positive = Field(1.0, description="Width of the prior, times sqrt(2 / fan-in).")
    match: Literal["variance", "scale"] = Field(
        "scale",
        description="scale as published (Laplace then has twice the variance), or variance.",
    )


@register(
    "models",
    "priors-revisited-fcnn",
    summary="784-50-50-10 ReLU classifier with weights of std sqrt(2/fan-in), biases N(0, 1).",
    options=FCNNOptions,
    references=("Fortuin et al. (2022), Bayesian Neural Network Priors Revisited, sec. 4",),
    tags={"task": "classification", "network": "mlp", "data": "mnist"},
    notes="The published code sets each family's scale parameter, not its standard deviation; "
    "match = scale repeats that. Inputs may have any size.",
)
def priors_revisited_fcnn(options: FCNNOptions) -> Model:
    """The model of these options."""
    return make_model(
        "mlp",
        options.prior,
        "categorical",
        network_options={"widths": [50, 50], "activation": "relu"},
        prior_options={"std": options.std, "match": options.match},
    )
