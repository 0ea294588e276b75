"""Monte Carlo dropout: masked weights of one trained network."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference import optimising
from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.dropout_masks import draw_mask, masked_kernels
from bnnzoo.inference.minibatches import check_batch_size, draw_batch
from bnnzoo.inference.optimising import Descent
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register

Rate = Annotated[float, Field(ge=0, lt=1)]

DEFAULT_BATCH = 32
"""Rows of a gradient where nobody says, or all if they are fewer."""


class MCDropoutOptions(Options):
    """Options of ``mc-dropout``."""

    rate: Rate = Field(0.1, description="Probability that a row of a kernel is dropped.")
    input_rate: Rate = Field(0.0, description="The same for the first kernel, hence for inputs.")
    masks: Literal["row", "batch"] = Field(
        "row",
        description="A mask for every training row, as published, in memory batch_size vectors of "
        "parameters; or one for each batch.",
    )
    batch_size: Count | None = Field(
        None,
        description="Training rows per gradient, drawn without replacement; 32, or all if there "
        "are fewer, if not given.",
    )
    learning_rate: Positive = Field(
        0.01, description="Adam's first step; it falls to a hundredth along a cosine."
    )


class MCDropoutState(NamedTuple):
    """The training.

    Attributes:
        descent: Adam's.
        done: steps so far.
        seen: of them in the average.
        average: mean of the last tenth's weights ``(dim,)``, which masks are put on.
    """

    descent: Descent
    done: Array
    seen: Array
    average: Array


@functools.partial(
    register_dataclass,
    data_fields=("rate", "input_rate", "learning_rate", "steps"),
    meta_fields=("masks", "batch_size"),
)
@dataclass(frozen=True)
class MCDropout(Backend):
    """Weights that minimise the expected loss under dropout, times a random mask.

    ``steps`` is the number of Adam's, which its rate is laid over.
    """

    rate: Leaf
    input_rate: Leaf
    learning_rate: Leaf
    steps: Leaf
    masks: str
    batch_size: int | None

    stats = ("lp", "loss", "refused")
    default_warmup = 5000
    follows_target = False

    def schedule(self, warmup: int) -> np.ndarray:
        """Every warm-up step is one of training; the last tenth's weights are averaged."""
        stages = np.full(warmup, Stage.FAST, np.int32)
        stages[warmup - warmup // 10 :] = Stage.SLOW
        return stages

    def planned(self, warmup: int) -> MCDropout:
        """The learning rate falls over exactly these steps."""
        return dataclasses.replace(self, steps=max(warmup, 1))

    def check(self, posterior: Posterior) -> None:
        """A network with kernels of which some are masked, batches that fit, and T = 1."""
        if (T := float(posterior.posterior_temperature)) != 1.0:
            raise InputError(
                f"mc-dropout: posterior_temperature = {T:g} has no meaning for masks, whose spread "
                "is set by rate; only T = 1 is defined (backends that temper: hmc, nuts)"
            )
        check_batch_size(posterior, self._rows(posterior))
        kernels = masked_kernels(posterior)
        rates = [self.input_rate if kernel.first else self.rate for kernel in kernels]
        if not any(rates):
            hidden = "" if len(kernels) > 1 else ": its only kernel is of the inputs"
            raise InputError(
                f"mc-dropout: no weight is ever dropped{hidden}; set rate, or input_rate (a single "
                "point is backend map)"
            )

    def init(self, posterior: Posterior, u: Array) -> MCDropoutState:
        """At the chain's start."""
        zero = jnp.zeros((), u.dtype)
        descent = optimising.start(optax.scale_by_adam(), u)
        return MCDropoutState(descent, zero, zero, u)

    def step(
        self, posterior: Posterior, state: MCDropoutState, stage: Array, key: Array
    ) -> tuple[MCDropoutState, Step]:
        """One step of training, or one mask once sampling."""
        return jax.lax.cond(
            stage == Stage.SAMPLE,
            lambda: self._draw(posterior, state, key),
            lambda: self._train(posterior, state, stage, key),
        )

    def _draw(
        self, posterior: Posterior, state: MCDropoutState, key: Array
    ) -> tuple[MCDropoutState, Step]:
        kernels = masked_kernels(posterior)
        u = state.average * draw_mask(kernels, state.average, self.rate, self.input_rate, key)
        nothing = jnp.zeros((), u.dtype)
        return state, Step(u, {"lp": posterior.log_density(u), "loss": nothing, "refused": nothing})

    def _train(
        self, posterior: Posterior, state: MCDropoutState, stage: Array, key: Array
    ) -> tuple[MCDropoutState, Step]:
        rate = self.learning_rate * optimising.cosine(state.done, self.steps, last=0.01)
        loss = functools.partial(self.loss, posterior)
        adam = optax.scale_by_adam()
        descent, value = optimising.advance(adam, state.descent, loss, rate, key)
        last = (stage == Stage.SLOW).astype(state.seen.dtype)
        seen = state.seen + last
        # Iterates wander about the optimum by the noise of masks and batches; their mean does not.
        average = jnp.where(
            seen > 0,
            state.average + last * (descent.good - state.average) / jnp.maximum(seen, 1.0),
            descent.good,
        )
        made = MCDropoutState(descent, state.done + 1.0, seen, average)
        stats = {
            "lp": posterior.log_density(descent.good),
            "loss": value,
            "refused": descent.refused - state.descent.refused,
        }
        return made, Step(descent.good, stats)

    def loss(self, posterior: Posterior, u: Array, key: Array) -> Array:
        """An unbiased estimate of -E[log p(y|mask w)] / L - log p(w), in nats of all rows.

        Args:
            posterior: the target.
            u: unconstrained vector ``(dim,)``.
            key: typed key, of batch and masks.
        """
        key_batch, key_mask = jax.random.split(key)
        kernels = masked_kernels(posterior)
        size = self._rows(posterior)
        batch = draw_batch(posterior, size if size < posterior.rows else None, key_batch)
        if batch is None:
            batch = jnp.arange(posterior.rows)

        def masked(own: Array) -> Array:
            return u * draw_mask(kernels, u, self.rate, self.input_rate, own)

        if self.masks == "batch":
            likelihood = posterior.log_likelihood(masked(key_mask), batch)
        else:
            each = jax.vmap(lambda own, row: posterior.log_likelihood(masked(own), row[None]))
            likelihood = each(jax.random.split(key_mask, size), batch).mean()
        return -(likelihood / posterior.likelihood_temperature + posterior.log_prior(u))

    def _rows(self, posterior: Posterior) -> int:
        """Rows of a gradient."""
        return min(DEFAULT_BATCH, posterior.rows) if self.batch_size is None else self.batch_size

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """One a step of training."""
        return int(np.sum(stats["loss"] != 0)) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Steps that were not taken."""
        return optimising.refused_flags(warmup, "learning_rate") if warmup else []


@register(
    "backends",
    "mc-dropout",
    summary="Random masks on the weights of one trained network: cheap, and no posterior.",
    options=MCDropoutOptions,
    references=(
        "Gal & Ghahramani (2016), Dropout as a Bayesian Approximation, eqs. 7-8",
        "Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), Dropout, sec. 9.1 "
        "(the ridge it is on a linear model)",
    ),
    tags={"exact": False, "family": "dropout", "gradients": "minibatch"},
    facts={
        "exact for": "no posterior",
        "bias": "a width set by rate, which data do not shrink",
        "a draw costs": "nothing, after the training",
        "memory": "a vector of the parameters for each row of a batch",
        "choose it": "a cheap baseline, at T = 1",
    },
    notes="Exact for nothing: the spread is set by rate, and does not shrink with more data. A "
    "draw is the trained weights with rows of kernels dropped and the others over 1 - rate: the "
    "same mask for all rows it predicts, so that a draw is a function. Rows are units of the layer "
    "below, channels of a convolution; those of the first kernel are inputs (input_rate). Training "
    "minimises -E[log p(y|mask w)] / L - log p(w), the prior in place of weight decay, of the "
    "parameters as the model writes them; only T = 1 is defined. A chain is a training of its own. "
    "Zoo models alone. No evidence.",
)
def mc_dropout(options: MCDropoutOptions) -> MCDropout:
    """The backend of these options."""
    return MCDropout(
        options.rate,
        options.input_rate,
        options.learning_rate,
        MCDropout.default_warmup,
        options.masks,
        options.batch_size,
    )
