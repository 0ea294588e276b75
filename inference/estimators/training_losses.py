"""The sum of losses along a training run: a heuristic stand-in for the evidence."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError, RunError
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.repeats import repeat
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register


class TrainingLossesOptions(Options):
    """Options of ``training-losses``."""

    learning_rate: Positive = Field(
        0.01, description="Of Adam. Models compare at one learning rate only."
    )
    batch: Count = Field(10, description="Rows of a step.")
    epochs: Count = Field(10, description="Passes over the rows whose losses are summed.")
    repeats: Annotated[int, Field(gt=1)] = Field(8, description="Runs, from draws of the prior.")


@functools.partial(
    register_dataclass,
    data_fields=("learning_rate",),
    meta_fields=("batch", "epochs", "repeats"),
)
@dataclass(frozen=True)
class TrainingLosses(Estimator):
    """Minus the sum of training losses, per pass over the rows."""

    learning_rate: Any
    batch: int
    epochs: int
    repeats: int

    kind = "heuristic"
    needs_draws = True

    def check(self, posterior: Posterior) -> None:
        """Rows make minibatches."""
        posterior.check_rows_are_free()
        jax.eval_shape(posterior.pointwise_log_likelihood, jnp.zeros(posterior.dimension))
        if self.batch > posterior.rows:
            raise InputError(
                f"training-losses: batch = {self.batch}, but there are {posterior.rows} rows"
            )

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The mean over runs."""
        found = repeat(_run, self, posterior, seed, self.repeats, dtype)
        totals = found["epochs"].astype(float).mean(1)
        if not np.isfinite(totals).all():
            raise RunError("training-losses: a run's loss is not finite; lower learning_rate")
        diagnostics = {
            "by_epoch": found["epochs"].astype(float).mean(0).tolist(),
            "runs": totals.tolist(),
        }
        error = float(totals.std(ddof=1) / np.sqrt(self.repeats))
        gradients = self.epochs * self.repeats
        return Estimate(float(totals.mean()), error, gradients, diagnostics)


@jax.jit
def _run(estimator: TrainingLosses, posterior: Posterior, key: Array) -> dict[str, Array]:
    rows, batch = posterior.rows, estimator.batch
    steps = rows // batch
    adam = optax.adam(estimator.learning_rate)
    start, order = jax.random.split(key)

    def loss(u: Array, which: Array) -> Array:
        return -posterior.log_density(u, which) / rows

    def step(carry: Any, which: Array) -> tuple[Any, Array]:
        u, state = carry
        seen = posterior.pointwise_log_likelihood(u, which).sum()  # before it is learned
        update, state = adam.update(jax.grad(loss)(u, which), state, u)
        return (optax.apply_updates(u, update), state), seen

    def epoch(carry: Any, number: Array) -> tuple[Any, Array]:
        own = jax.random.permutation(jax.random.fold_in(order, number), rows)
        carry, seen = jax.lax.scan(step, carry, own[: steps * batch].reshape(steps, batch))
        return carry, seen.sum() * rows / (steps * batch)

    u = posterior.initial(start)
    _, sums = jax.lax.scan(epoch, (u, adam.init(u)), jnp.arange(estimator.epochs))
    return {"epochs": sums}


@register(
    "estimators",
    "training-losses",
    summary="Losses summed along training: ranks networks by speed, and is no evidence.",
    options=TrainingLossesOptions,
    references=(
        "Lyle et al. (2020), A Bayesian Perspective on Training Speed and Model Selection",
        "Ru et al. (2021), Speedy Performance Estimation for Neural Architecture Search",
    ),
    tags={"kind": "heuristic", "family": "optimisation"},
    facts={
        "number": "heuristic",
        "standard error": "over runs from different draws of the prior",
        "wrong when": "it is read as evidence; learning rate, batch or epochs differ between "
        "models; a narrow model learns as fast",
        "choose it": "a quick guess of which of many networks deserve smc",
    },
    notes="Adam on minibatches of the log posterior, from a draw of the prior; every batch's "
    "log-likelihood is taken before the step on it. The value is their sum over a pass through the "
    "rows, averaged over passes. It depends on the learning rate as much as on the model.",
)
def training_losses(options: TrainingLossesOptions) -> TrainingLosses:
    """The estimator of these options."""
    return TrainingLosses(options.learning_rate, options.batch, options.epochs, options.repeats)
