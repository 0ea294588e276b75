"""The network of probabilistic backpropagation."""

from __future__ import annotations

import math

from pydantic import Field

from bnnzoo.models.model import Model, make_model
from bnnzoo.options import Count, Options
from bnnzoo.registry import register

SHAPE = RATE = 6.0
"""Of the gamma law of precisions."""


class PBPOptions(Options):
    """Options of ``pbp-mlp``."""

    width: Count = Field(50, description="Hidden units; 100 for uci/protein.")


@register(
    "models",
    "pbp-mlp",
    summary="1x50 ReLU regressor whose weights have gamma precisions.",
    options=PBPOptions,
    references=(
        "Hernandez-Lobato & Adams (2015), Probabilistic Backpropagation for Scalable Learning of "
        "Bayesian Neural Networks, sec. 2 and 5",
    ),
    tags={"task": "regression", "network": "mlp", "data": "uci/boston"},
    notes="Layers divide by the root of their inputs (network.parameterisation = 'ntk'); "
    "kernels are N(0, 1/p) with one p ~ Gamma(6, rate 6) for all. Two things differ from the "
    "publication: there a bias is the weight of one more constant input, under the same law and "
    "divided with the others, here it is N(0, 1); and there the noise's precision is Gamma(6, "
    "rate 6) as well, here its standard deviation is half normal. Protocol: the 20 standard "
    "splits of the UCI tables (split = 0 to 19), 40 epochs. On 13 features it has 751 "
    "parameters.",
)
def pbp_mlp(options: PBPOptions) -> Model:
    """The model of these options."""
    return make_model(
        "mlp",
        "hierarchical-gaussian",
        "gaussian",
        network_options={
            "widths": [options.width],
            "activation": "relu",
            "parameterisation": "ntk",
        },
        # The published layer has no gain, which that of relu is.
        prior_options={"std": math.sqrt(0.5), "shape": SHAPE, "rate": RATE, "share": "network"},
    )
