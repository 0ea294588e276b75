"""The surrogate network of the study of Bayesian networks for Bayesian optimisation."""

from __future__ import annotations

from bnnzoo.models.model import Model, make_model
from bnnzoo.options import NoOptions
from bnnzoo.registry import register


@register(
    "models",
    "bo-surrogate-mlp",
    summary="3x128 tanh regressor with Gaussian weights and learned noise.",
    references=(
        "Li, Rudner & Wilson (2024), A Study of Bayesian Neural Network Surrogates for BO",
    ),
    tags={"task": "regression", "network": "mlp", "data": "friedman-1"},
    notes="Weights are N(0, 1/fan-in) and biases N(0, 1); the noise is learned, where the "
    "published code passes a fixed variance as a standard deviation. The study optimises test "
    "functions and simulators, 10 starting points and batches of 10; friedman-1 is a function of "
    "ten inputs to try it on.",
)
def bo_surrogate_mlp(options: NoOptions) -> Model:
    """The model."""
    return make_model(
        "mlp",
        "gaussian",
        "gaussian",
        network_options={"widths": [128, 128, 128], "activation": "tanh"},
    )
