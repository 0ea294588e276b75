"""The network that *All You Need is a Good Functional Prior* matches to Gaussian processes."""

from __future__ import annotations

import math

from pydantic import Field

from bnnzoo.models.model import Model, make_model
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register


class GPiOptions(Options):
    """Options of ``gpi-mlp``."""

    widths: tuple[Count, ...] = Field(
        (100,), description="Units of each hidden layer; (50, 50, 50) in the 1-D demonstrations."
    )
    noise_variance: Positive = Field(
        0.1, description="Known variance of the noise, of the standardised target."
    )


@register(
    "models",
    "gpi-mlp",
    summary="1x100 tanh regressor: N(0, 1) weights over sqrt(fan-in), noise variance 0.1.",
    options=GPiOptions,
    references=(
        "Tran, Rossi, Milios & Filippone (2022), All You Need is a Good Functional Prior for "
        "Bayesian Deep Learning, sec. 5",
    ),
    tags={"task": "regression", "network": "mlp", "data": "uci/boston"},
    notes="The study's fixed Gaussian prior, which its matched priors start from: every weight and "
    "bias N(0, 1), layers W x / sqrt(inputs) + b (network.parameterisation = 'ntk'). Protocol: "
    "splits 0 to 9, inputs and target standardised by the training rows, SGHMC with 4 chains. On "
    "Boston it published RMSE 3.13 +- 1.06 and NLL 2.567 +- 0.302, the latter of a normal with the "
    "mixture's moments. On 13 features it has 1,501 parameters.",
)
def gpi_mlp(options: GPiOptions) -> Model:
    """The model of these options."""
    return make_model(
        "mlp",
        "gaussian",
        "gaussian",
        network_options={
            "widths": list(options.widths),
            "activation": "tanh",
            "parameterisation": "ntk",
        },
        prior_options={"std": 1.0, "bias_std": 1.0},
        likelihood_options={"noise": "fixed", "noise_std": math.sqrt(options.noise_variance)},
    )
