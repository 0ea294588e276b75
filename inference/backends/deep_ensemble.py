"""Ensembles of independently trained networks: plain, anchored, or each an exact draw."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import OptionError
from bnnzoo.inference import anchoring, optimising
from bnnzoo.inference.backend import Flag, Step
from bnnzoo.inference.backends.map import (
    OptimiserOptions,
    WithoutWarmup,
    temperature_is_ignored,
)
from bnnzoo.inference.minibatches import check_batch_size, draw_batch
from bnnzoo.inference.optimising import log_joint
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register

Variant = Literal["plain", "anchored", "sample-then-optimise"]


class DeepEnsembleOptions(OptimiserOptions):
    """Options of ``deep-ensemble``."""

    variant: Variant = Field(
        "plain",
        description="plain: every member goes to a mode; anchored: the prior of each is centred at "
        "a draw from the prior; sample-then-optimise: its targets get noise as well.",
    )
    bootstrap: bool = Field(
        False, description="Each member sees as many rows drawn with replacement (plain only)."
    )


@functools.partial(
    register_dataclass,
    data_fields=("steps", "learning_rate"),
    meta_fields=("batch_size", "variant", "bootstrap"),
)
@dataclass(frozen=True)
class DeepEnsemble(WithoutWarmup):
    """Every draw is one member, optimised from a start of its own; the state counts them."""

    steps: Leaf
    learning_rate: Leaf
    batch_size: int | None
    variant: Variant
    bootstrap: bool

    stats = ("lp", "loss", "n_steps", "refused", "nats_left")
    default_chains = 2
    default_draws = 5

    @property
    def follows_target(self) -> bool:  # type: ignore[override]
        """Members of a plain ensemble are modes; the others claim to spread as the posterior."""
        return self.variant != "plain"

    def check(self, posterior: Posterior) -> None:
        """The batch fits the data, and the model has what the variant needs."""
        check_batch_size(posterior, self.batch_size)
        if self.bootstrap:
            posterior.check_rows_are_free()
        if self.variant != "plain":
            with_noise = self.variant == "sample-then-optimise"
            anchoring.check_anchors(posterior, with_noise, self.variant)

    def remarks(self, posterior: Posterior) -> list[Flag]:
        """T says nothing of modes."""
        return temperature_is_ignored(posterior) if self.variant == "plain" else []

    def init(self, posterior: Posterior, u: Array) -> Array:
        """No member yet."""
        return jnp.zeros((), jnp.int32)

    def step(
        self, posterior: Posterior, state: Array, stage: Array, key: Array
    ) -> tuple[Array, Step]:
        """One member from beginning to end."""
        key_start, key_own, key_loss = jax.random.split(key, 3)
        u = optimising.finite_start(posterior, key_start)
        rows = None
        if self.bootstrap:
            rows = jax.random.randint(key_own, (posterior.rows,), 0, posterior.rows)
        if self.variant == "plain":

            def on(u: Array, batch: Array | None) -> Array:
                return -log_joint(posterior, u, batch)
        else:
            noisy = self.variant == "sample-then-optimise"
            anchors = anchoring.draw_anchors(posterior, noisy, key_own)
            if noisy:
                u = anchoring.anchored_start(posterior, anchors, u)

            def on(u: Array, batch: Array | None) -> Array:
                return anchoring.anchored_loss(posterior, anchors, u, batch)

        def loss(u: Array, key: Array) -> Array:
            batch = draw_batch(posterior, self.batch_size, key)
            if rows is not None:
                batch = rows if batch is None else rows[batch]
            return on(u, batch)

        u, refused = optimising.minimise(loss, u, self.steps, self.learning_rate, key_loss)
        stats = {
            "lp": posterior.log_density(u),
            "loss": on(u, rows),
            "n_steps": jnp.asarray(self.steps + 3),
            "refused": refused,
            "nats_left": optimising.nats_left(lambda u: on(u, rows), u),
        }
        return state + 1, Step(u, stats)


@register(
    "backends",
    "deep-ensemble",
    summary="Networks trained from independent starts: plain, anchored or sample-then-optimise.",
    options=DeepEnsembleOptions,
    references=(
        "Lakshminarayanan, Pritzel & Blundell (2017), Deep Ensembles (plain)",
        "Pearce, Leibfried & Brintrup (2020), Bayesian Ensembling, eq. 9 (anchored)",
        "Matthews, Hron, Turner & Ghahramani (2017), Sample-then-optimise posterior sampling",
        "Osband, Aslanides & Cassirer (2018), Randomized Prior Functions, lemma 3",
    ),
    tags={"exact": False, "family": "ensemble", "gradients": "minibatch"},
    facts={
        "exact for": "linear models with known Gaussian noise (sample-then-optimise)",
        "bias": "plain: modes alone; anchored: too narrow where data decide",
        "a draw costs": "a whole training: steps gradients (5,000)",
        "memory": "four vectors of the parameters",
        "choose it": "a strong baseline; independent draws without a chain",
    },
    notes="A draw is one member, trained from a draw of the prior; 2 chains of 5 are ten members, "
    "and resume(path, draws=...) adds some. sample-then-optimise is exact for models linear in "
    "Gaussian weights with known Gaussian noise, at every temperature: noise and anchors are drawn "
    "with T times their variance (the noise with L as well); of networks it is an approximation. "
    "anchored leaves the noise out and is too narrow where data decide. Both need Gaussian priors "
    "of known scale; positive sites, as a learned noise (anchored alone), go to their mode. plain "
    "is no posterior: members are modes of log p(y|w) / L + log p(w), the parameters as the model "
    "writes them, and T has no effect. Each step is one gradient of batch_size rows. On an "
    "accelerator chains run at once and the members of a chain in turn: prefer chains to draws "
    "there. No evidence.",
)
def deep_ensemble(options: DeepEnsembleOptions) -> DeepEnsemble:
    """The backend of these options.

    Raises:
        OptionError: an option that has no effect.
    """
    if options.bootstrap and options.variant != "plain":
        raise OptionError(
            f"inference.bootstrap has no effect with inference.variant = {options.variant!r}, "
            "whose members differ by their anchors; it belongs to variant = 'plain'"
        )
    return DeepEnsemble(
        options.steps,
        options.learning_rate,
        options.batch_size,
        options.variant,
        options.bootstrap,
    )
