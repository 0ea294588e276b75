"""The tabular network of microcanonical Langevin ensembles."""

from __future__ import annotations

from bnnzoo.models.model import Model, make_model
from bnnzoo.options import NoOptions
from bnnzoo.registry import register


@register(
    "models",
    "mile-mlp",
    summary="4x16 ReLU regressor with N(0, 1) weights and a second output for the noise.",
    references=(
        "Sommer et al. (2025), Microcanonical Langevin Ensembles: advancing the sampling of "
        "Bayesian neural networks",
    ),
    tags={"task": "regression", "network": "mlp", "data": "uci/airfoil"},
    notes="Weights and biases are N(0, 1) whatever their layer, as in sklearn-contrib-bde, the "
    "authors' package. The second output is softplus to the noise's standard deviation, plus 0.001 "
    "here. Protocol: ten members, 50,000 warm-up steps, 1,000 draws of which every tenth is kept, "
    "one 80/20 split; published on airfoil: RMSE 0.1215 and NLL -0.913 of the standardised target. "
    "The backend mile samples it. On 5 features it has 946 parameters.",
)
def mile_mlp(options: NoOptions) -> Model:
    """The model."""
    return make_model(
        "mlp",
        "gaussian",
        "gaussian",
        network_options={"widths": [16] * 4, "activation": "relu"},
        prior_options={"std": 1.0, "absolute": True, "bias_std": 1.0},
        likelihood_options={"noise": "heteroscedastic"},
    )
