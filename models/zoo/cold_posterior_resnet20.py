"""The residual network of *How Good is the Bayes Posterior in Deep Neural Networks Really?*."""

from __future__ import annotations

from pydantic import Field

from bnnzoo.models.model import Model, make_model
from bnnzoo.options import Count, Options
from bnnzoo.registry import register


class ColdPosteriorOptions(Options):
    """Options of ``cold-posterior-resnet20``."""

    width: Count = Field(16, description="Filters of the first stage; 16 as published.")


@register(
    "models",
    "cold-posterior-resnet20",
    summary="ReLU ResNet-20 with N(0, 1) weights; BatchNorm replaced, so not comparable.",
    options=ColdPosteriorOptions,
    references=(
        "Wenzel et al. (2020), How Good is the Bayes Posterior in Deep Neural Networks Really?",
    ),
    tags={
        "task": "classification",
        "network": "resnet20",
        "data": "cifar-10",
        "comparable": False,
    },
    notes="Published with BatchNorm, under which the likelihood of an image depends on its batch "
    "and no posterior is defined; here filter response normalisation stands in its place (scales "
    "N(1, 1), shifts N(0, 1), no thresholds), so that its published numbers are not comparable. "
    "Convolutions have no bias, and weights are N(0, 1) whatever their fan-in. Protocol: 1,500 "
    "epochs in batches of 128 with flips and shifts of the images, cycles of 50 epochs, "
    "temperatures 0.0001 to 1; augmentation makes its target no posterior of the images either "
    "(augmentation = 'flip' says of what). On 32 x 32 x 3 images and 10 classes it has 272,474 "
    "parameters.",
)
def cold_posterior_resnet20(options: ColdPosteriorOptions) -> Model:
    """The model of these options."""
    return make_model(
        "resnet20",
        "gaussian",
        "categorical",
        network_options={
            "width": options.width,
            "activation": "relu",
            "threshold": False,
            "bias": False,
        },
        prior_options={"std": 1.0, "absolute": True, "bias_std": 1.0},
    )
