"""The residual network of *What Are Bayesian Neural Network Posteriors Really Like?*."""

from __future__ import annotations

import math

from pydantic import Field

from bnnzoo.models.model import Model, make_model
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register


class HMCResNetOptions(Options):
    """Options of ``hmc-resnet20``."""

    variance: Positive = Field(0.2, description="Prior variance of every parameter.")
    width: Count = Field(16, description="Filters of the first stage; 16 as published.")


@register(
    "models",
    "hmc-resnet20",
    summary="ResNet-20 with filter response normalisation and swish, N(0, 1/5) on all parameters.",
    options=HMCResNetOptions,
    references=(
        "Izmailov et al. (2021), What Are Bayesian Neural Network Posteriors Really Like?, table 3",
    ),
    tags={"task": "classification", "network": "resnet20", "data": "cifar-10"},
    notes="As in the released code: projections where a stage begins, normalised as every "
    "convolution is, biases in all of them, thresholded linear units before swish, and the prior "
    "N(0, 1/5) on every parameter, scales of normalisations included (mean 0, not 1). Protocol: "
    "40,960 training images without augmentation, HMC of step 1e-5 and about 70,000 leapfrog "
    "steps a trajectory, 3 chains. On 32 x 32 x 3 images and 10 classes it has 274,042 parameters.",
)
def hmc_resnet20(options: HMCResNetOptions) -> Model:
    """The model of these options."""
    std = math.sqrt(options.variance)
    return make_model(
        "resnet20",
        "gaussian",
        "categorical",
        network_options={"width": options.width},
        prior_options={"std": std, "absolute": True, "bias_std": std, "scale_mean": 0.0},
    )
