"""The regression network of *What Are Bayesian Neural Network Posteriors Really Like?*."""

from __future__ import annotations

import math

from pydantic import Field

from bnnzoo.models.model import Model, make_model
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register


class HMCRegressionOptions(Options):
    """Options of ``hmc-uci-mlp``."""

    variance: Positive = Field(
        0.1, description="Prior variance of every weight and bias; the study chose it by data set."
    )


@register(
    "models",
    "hmc-uci-mlp",
    summary="1x50 ReLU regressor with a second output for the noise, one Gaussian for all weights.",
    options=HMCRegressionOptions,
    references=(
        "Izmailov et al. (2021), What Are Bayesian Neural Network Posteriors Really Like?",
    ),
    tags={"task": "regression", "network": "mlp", "data": "uci/concrete"},
    notes="Every weight and bias is N(0, variance), whatever its layer. The noise's standard "
    "deviation is softplus of the second output, plus 0.001 here. Protocol: 90/10 splits of the "
    "UCI tables by random permutations (those of the registry are others), full-batch HMC with "
    "trajectories of pi std / 2. Its temperature of regressions multiplies the noise variance; "
    "here posterior_temperature is the power 1/T of all. On 8 features it has 552 parameters.",
)
def hmc_uci_mlp(options: HMCRegressionOptions) -> Model:
    """The model of these options."""
    std = math.sqrt(options.variance)
    return make_model(
        "mlp",
        "gaussian",
        "gaussian",
        network_options={"widths": [50], "activation": "relu"},
        prior_options={"std": std, "absolute": True, "bias_std": std},
        likelihood_options={"noise": "heteroscedastic"},
    )
