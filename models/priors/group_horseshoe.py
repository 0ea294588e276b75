"""The regularised horseshoe with one local scale a unit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bnnzoo.models.horseshoe import Horseshoe, HorseshoeOptions, make_horseshoe
from bnnzoo.registry import register


class GroupHorseshoeOptions(HorseshoeOptions):
    """Options of ``group-horseshoe``."""

    group: Literal["incoming", "outgoing"] = Field(
        "incoming",
        description="Which weights share a local scale: those into a unit (incoming), or those "
        "out of an input or unit (outgoing).",
    )


@register(
    "priors",
    "group-horseshoe",
    summary="Regularised horseshoe on whole units: all weights of one shrink together.",
    options=GroupHorseshoeOptions,
    references=(
        "Ghosh, Yao & Doshi-Velez (2018), Structured Variational Learning of Bayesian Neural "
        "Networks with Horseshoe Priors",
        "Louizos, Ullrich & Welling (2017), Bayesian Compression for Deep Learning, for scales an "
        "input unit",
        "Piironen & Vehtari (2017), Sparsity information and regularization in the horseshoe and "
        "other shrinkage priors, eq. 2.8",
    ),
    tags={"family": ("heavy-tailed", "sparse", "hierarchical"), "tails": "polynomial"},
    notes="As horseshoe, with one l a unit: of a kernel (..., in, out), one for each of its last "
    "axis (group = incoming: the weights into a unit, a filter of a convolution) or of the axis "
    "before it (outgoing: the weights out of an input or a channel, so that inputs are left out "
    "together). An element's marginal is the horseshoe's. Kernels of other layers (attention) are "
    "refused: give them a prior by a rule. The posterior at temperature T needs T < 2.",
)
def group_horseshoe(options: GroupHorseshoeOptions) -> Horseshoe:
    """The prior of these options, its scale matched."""
    return make_horseshoe(options, options.group)
