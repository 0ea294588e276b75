"""The convolutional network of *Bayesian Neural Network Priors Revisited*."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bnnzoo.models.model import Model, make_model
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register

WINDOW = 3


class CNNOptions(Options):
    """Options of ``priors-revisited-cnn``."""

    prior: Literal["gaussian", "laplace", "student-t", "correlated-conv"] = Field(
        "gaussian", description="Family of the weights."
    )
    std: Positive = Field(1.0, description="Width of the prior, times sqrt(2 / fan-in).")
    match: Literal["variance", "scale"] = Field(
        "scale",
        description="scale as published (Laplace then has twice the variance), or variance.",
    )
    length_scale: Positive = Field(
        1.0, description="Of correlated-conv, in positions of a filter; the study took 0.5 and 1."
    )
    fan_in: Literal["channels", "window"] = Field(
        "channels",
        description="What a filter's width is divided by the root of: the channels below it, as "
        "published, or those times its nine pixels, as everywhere else here.",
    )
    shape: tuple[int, ...] | None = Field(
        None, description="Height, width and channels, where inputs are flat rows of pixels."
    )


@register(
    "models",
    "priors-revisited-cnn",
    summary="Two convolutions of 50 filters, max-pooled, and a linear classifier.",
    options=CNNOptions,
    references=("Fortuin et al. (2022), Bayesian Neural Network Priors Revisited, sec. 4",),
    tags={"task": "classification", "network": "cnn", "data": "mnist"},
    notes="Filters of 3 x 3, ReLU, weights of scale sqrt(2 / channels below), that is three times "
    "what the fan-in of a filter asks for, biases N(0, 1); fan_in = 'window' undoes the factor. As "
    "in the published code std sets each family's scale parameter, not its standard deviation. "
    "Protocol: 60 cycles of 45 + 5 epochs of SG-MCMC in batches of 128, 5 seeds, temperatures "
    "0.001 to 1. On 28 x 28 x 1 images and 10 classes it has 47,560 parameters.",
)
def priors_revisited_cnn(options: CNNOptions) -> Model:
    """The model of these options."""
    wider = WINDOW if options.fan_in == "channels" else 1
    family: dict[str, Any]
    if options.prior == "correlated-conv":
        family = {"length_scale": options.length_scale}
    else:
        family = {"match": options.match}
    return make_model(
        "cnn",
        options.prior,
        "categorical",
        network_options={"channels": [50, 50], "kernel": WINDOW, "shape": options.shape},
        prior_options={
            "std": options.std,
            **family,
            "rules": {"convs.*.kernel": {"std": options.std * wider}},
        },
    )
