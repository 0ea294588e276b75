"""The mode of the posterior, the highest that a few optimisations find."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import OptionError
from bnnzoo.inference import optimising
from bnnzoo.inference.backend import Backend, Flag, Step
from bnnzoo.inference.minibatches import check_batch_size, draw_batch
from bnnzoo.inference.optimising import log_joint
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register


class OptimiserOptions(Options):
    """Options of every backend whose draws are whole optimisations."""

    steps: Count = Field(5000, description="Steps of Adam of one optimisation.")
    learning_rate: Positive = Field(
        0.02, description="Adam's first step, unconstrained; it falls to nothing along a cosine."
    )
    batch_size: Count | None = Field(
        None, description="Training rows per gradient, drawn without replacement; all if not given."
    )


class MAPOptions(OptimiserOptions):
    """Options of ``map``."""

    restarts: Count = Field(
        3,
        description="Optimisations of which the highest mode is kept: from draws of the prior, and "
        "the first of a chain from its start.",
    )


class Start(NamedTuple):
    """The chain's start ``(dim,)``, and the number of draws so far: the first alone uses it."""

    u: Array
    done: Array


class Best(NamedTuple):
    """The highest point so far, its log joint density, and what the optimisations said."""

    u: Array
    height: Array
    refused: Array


class WithoutWarmup(Backend):
    """A backend whose draws are whole optimisations: it has no warm-up, and ignores T."""

    default_warmup = 0
    follows_target = False

    def schedule(self, warmup: int) -> np.ndarray:
        """No stage at all."""
        return np.zeros(0, np.int32)

    def planned(self, warmup: int) -> Backend:
        """The same; a warm-up would have nothing to do."""
        if warmup:
            raise OptionError(
                f"inference.warmup = {warmup}: this backend has none, as every draw is an "
                "optimisation of its own; leave it out, or raise steps"
            )
        return self

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Steps that were not taken, and draws that are no modes yet."""
        return optimising.optimisation_flags(stats, "steps")

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """One a step, and three for the check at the end."""
        return int(np.nansum(stats["n_steps"])) if stats else 0


def temperature_is_ignored(posterior: Posterior) -> list[Flag]:
    """A remark on a run at T != 1 of a backend that looks for modes."""
    T = float(posterior.posterior_temperature)
    if T == 1.0:
        return []
    message = (
        f"posterior_temperature = {T:g} has no effect: the mode of a density is that of its powers"
    )
    return [Flag("warning", message)]


@functools.partial(
    register_dataclass,
    data_fields=("steps", "learning_rate", "restarts"),
    meta_fields=("batch_size",),
)
@dataclass(frozen=True)
class MAP(WithoutWarmup):
    """The maximum of log p(y|w) / L + log p(w), by Adam, from several starts."""

    steps: Leaf
    learning_rate: Leaf
    restarts: Leaf
    batch_size: int | None

    splits_rows = True
    stats = ("lp", "log_joint", "n_steps", "refused", "nats_left")
    default_chains = 1
    default_draws = 1

    def check(self, posterior: Posterior) -> None:
        """The batch fits the data."""
        check_batch_size(posterior, self.batch_size)

    def remarks(self, posterior: Posterior) -> list[Flag]:
        """T says nothing of a mode."""
        return temperature_is_ignored(posterior)

    def init(self, posterior: Posterior, u: Array) -> Start:
        """The chain's start."""
        return Start(u, jnp.zeros((), jnp.int32))

    def step(
        self, posterior: Posterior, state: Start, stage: Array, key: Array
    ) -> tuple[Start, Step]:
        """The highest mode of ``restarts``."""

        def loss(u: Array, key: Array) -> Array:
            return -log_joint(posterior, u, draw_batch(posterior, self.batch_size, key))

        def attempt(i: Array, best: Best) -> Best:
            key_start, key_loss = jax.random.split(jax.random.fold_in(key, i))
            fresh = optimising.finite_start(posterior, key_start)
            u = jnp.where((i == 0) & (state.done == 0), state.u, fresh)
            u, refused = optimising.minimise(loss, u, self.steps, self.learning_rate, key_loss)
            height = log_joint(posterior, u)
            higher = height > best.height
            return Best(
                jnp.where(higher, u, best.u),
                jnp.where(higher, height, best.height),
                best.refused + refused,
            )

        zero = jnp.zeros((), state.u.dtype)
        best = Best(state.u, zero - jnp.inf, zero)
        best = jax.lax.fori_loop(0, self.restarts, attempt, best)
        stats: dict[str, Any] = {
            "lp": posterior.log_density(best.u),
            "log_joint": best.height,
            "n_steps": jnp.asarray(self.restarts * self.steps + 3),
            "refused": best.refused,
            "nats_left": optimising.nats_left(lambda u: -log_joint(posterior, u), best.u),
        }
        return state._replace(done=state.done + 1), Step(best.u, stats)


@register(
    "backends",
    "map",
    summary="The mode of the posterior by Adam: one point, no uncertainty of the parameters.",
    options=MAPOptions,
    references=("Kingma & Ba (2015), Adam", "Bishop (2006), Pattern Recognition, sec. 5.5"),
    tags={"exact": False, "family": "optimisation", "gradients": "minibatch"},
    facts={
        "exact for": "the mode, as a point",
        "bias": "no width at all",
        "a draw costs": "restarts x steps gradients (15,000)",
        "memory": "four vectors of the parameters",
        "choose it": "a first look, or a baseline",
    },
    notes="The mode of the parameters as the model writes them: log p(y|w) / L + log p(w) without "
    "the Jacobian of unconstrained coordinates, as in Stan's optimising. T has no effect, as the "
    "mode of a power is the mode, and a run at another T says so. A draw is the highest of "
    "restarts optimisations; draws and chains repeat the whole, to see whether they agree. Exact "
    "where a posterior has one mode (ridge regression), as a point. Where a hierarchy has none "
    "(a density that grows without bound in the neck of a funnel) it ends somewhere: see the flag "
    "unconverged. No evidence.",
)
def map_backend(options: MAPOptions) -> MAP:
    """The backend of these options."""
    return MAP(options.steps, options.learning_rate, options.restarts, options.batch_size)
