"""The no-U-turn sampler."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import blackjax
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.hamiltonian import Hamiltonian, HamiltonianOptions
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register


class NUTSOptions(HamiltonianOptions):
    """Options of ``nuts``."""

    max_tree_depth: Annotated[int, Field(gt=0, le=20)] = Field(
        10, description="Most doublings of a trajectory: at most 2^depth - 1 leapfrog steps."
    )


@functools.partial(
    register_dataclass,
    data_fields=("target_acceptance",),
    meta_fields=("max_tree_depth", "dense"),
)
@dataclass(frozen=True)
class NUTS(Hamiltonian):
    """BlackJAX's multinomial NUTS with Stan's warm-up."""

    target_acceptance: Leaf
    max_tree_depth: int
    dense: bool

    def transition(
        self,
        posterior: Posterior,
        state: Any,
        step_size: Array,
        metric: Array,
        stage: Array,
        key: Array,
    ) -> tuple[Any, Any, Array]:
        """One trajectory, doubled until it turns."""
        kernel = blackjax.nuts.build_kernel()
        state, info = kernel(
            key,
            state,
            posterior.log_density,
            step_size,
            metric,
            max_num_doublings=self.max_tree_depth,
        )
        return state, info, info.num_integration_steps


@register(
    "backends",
    "nuts",
    summary="No-U-turn sampler: exact, tunes itself, the reference.",
    options=NUTSOptions,
    references=(
        "Hoffman & Gelman (2014), The No-U-Turn Sampler",
        "Betancourt (2017), A Conceptual Introduction to Hamiltonian Monte Carlo, app. A",
    ),
    tags={"exact": True, "family": "mcmc", "gradients": "full-batch"},
    facts={
        "exact for": "any posterior, any temperature",
        "bias": "none",
        "a draw costs": "a tree of up to 2^max_tree_depth gradients",
        "memory": "a few vectors a level of the tree",
        "choose it": "hierarchies, hand-written models, or as a check of hmc",
    },
    notes="Exact at every temperature. A network's posterior takes 50 to 1000 gradients a draw; "
    "hmc with a fixed trajectory is often several times cheaper.",
)
def nuts(options: NUTSOptions) -> NUTS:
    """The backend of these options."""
    return NUTS(options.target_acceptance, options.max_tree_depth, options.metric == "dense")
