"""Unadjusted microcanonical Langevin Monte Carlo."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from jax.tree_util import register_dataclass

from bnnzoo.inference.microcanonical import Microcanonical, MicrocanonicalOptions, fields
from bnnzoo.models.leaf import Leaf
from bnnzoo.registry import register


@functools.partial(
    register_dataclass,
    data_fields=("energy_error", "length", "draw_length", "max_steps"),
    meta_fields=("unit",),
)
@dataclass(frozen=True)
class MCLMC(Microcanonical):
    """MCLMC, tuned to an energy error at which its bias is small."""

    energy_error: Leaf
    length: Leaf
    draw_length: Leaf
    max_steps: Leaf
    unit: bool


@register(
    "backends",
    "mclmc",
    summary="Microcanonical Langevin: no rejections; a small bias that its energy error bounds.",
    options=MicrocanonicalOptions,
    references=(
        "Robnik, De Luca, Silverstein & Seljak (2023), Microcanonical Hamiltonian Monte Carlo",
        "Robnik & Seljak (2023), Microcanonical Langevin Monte Carlo",
    ),
    tags={"exact": False, "family": "mcmc", "gradients": "full-batch"},
    facts={
        "exact for": "an energy error of zero",
        "bias": "falls with energy_error; 1 % of a standard deviation at its default",
        "a draw costs": "a path of two gradients a step, none rejected",
        "memory": "a few vectors of the parameters",
        "choose it": "many draws of a large network, and a bias of a percent does not matter",
    },
    notes="Exact as the energy error goes to zero, at every temperature; at its default "
    "pooled standard deviations were within one percent of those of nuts (diabetes, 1x50 tanh; row "
    "by row within 3) and of exact ones (conjugate models).",
)
def mclmc(options: MicrocanonicalOptions) -> MCLMC:
    """The backend of these options."""
    return MCLMC(**fields(options))
