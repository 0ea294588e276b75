"""Mean-field Gaussian variational inference."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.minibatches import check_batch_size
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register

LOG_SQRT_2PI_E = 0.5 * math.log(2.0 * math.pi * math.e)


LEAST_STEPS = 200
"""Fewer optimisation steps give no verdict on convergence."""

UNCONVERGED_NATS = 1.0
"""Gain of the bound still in reach above which a fit counts as unconverged."""


class MeanFieldOptions(Options):
    """Options of ``mean-field-vi``."""

    learning_rate: Positive = Field(
        0.02, description="Step of Adam at the start; it falls to a hundredth along a cosine."
    )
    samples: Annotated[int, Field(gt=0)] = Field(
        8, description="Draws from the approximation per gradient of the bound."
    )
    initial_std: Positive = Field(
        0.05, description="Standard deviation of the approximation at the start, unconstrained."
    )
    batch_size: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Training rows per gradient, drawn without replacement; all if not given."
    )


class MeanFieldState(NamedTuple):
    """The approximation, the optimiser, and what its last gradients said.

    Attributes:
        parameters: means and log standard deviations ``(2, dim)``.
        optimiser: Adam's state.
        done: optimisation steps so far.
        sums: sum and sum of squares of the last tenth's gradients ``(2, 2, dim)``.
        seen: their number.
        average: mean of the parameters over those steps, which is what draws come from.
    """

    parameters: Array
    optimiser: Any
    done: Array
    sums: Array
    seen: Array
    average: Array


@functools.partial(
    register_dataclass,
    data_fields=("learning_rate", "initial_std", "steps"),
    meta_fields=("samples", "batch_size"),
)
@dataclass(frozen=True)
class MeanField(Backend):
    """q(u) = prod_j N(u_j; m_j, s_j^2), fitted to the tempered posterior by stochastic gradients.

    ``steps`` is the number of optimisation steps the learning rate's schedule is laid over.
    """

    learning_rate: Leaf
    initial_std: Leaf
    steps: Leaf
    samples: int
    batch_size: int | None

    stats = ("lp", "elbo", "remaining")
    default_warmup = 5000

    def schedule(self, warmup: int) -> np.ndarray:
        """Every warm-up step is one optimisation step; the last tenth's gradients are kept."""
        stages = np.full(warmup, Stage.FAST, np.int32)
        stages[warmup - warmup // 10 :] = Stage.SLOW
        return stages

    def planned(self, warmup: int) -> MeanField:
        """The learning rate falls over exactly these steps."""
        return dataclasses.replace(self, steps=max(warmup, 1))

    def check(self, posterior: Posterior) -> None:
        """The batch is no larger than the data, and rows are free of latent sites."""
        check_batch_size(self.batch_size, posterior)

    def init(self, posterior: Posterior, u: Array) -> MeanFieldState:
        """Centred on the starting position."""
        rho = jnp.full_like(u, jnp.log(self.initial_std))
        parameters = jnp.stack([u, rho])
        zero = jnp.zeros((), u.dtype)
        sums = jnp.zeros((2, *parameters.shape), u.dtype)
        adam = _adam().init(parameters)
        return MeanFieldState(parameters, adam, zero, sums, zero, parameters)

    def step(
        self, posterior: Posterior, state: MeanFieldState, stage: Array, key: Array
    ) -> tuple[MeanFieldState, Step]:
        """One gradient step, or one draw once sampling."""
        return jax.lax.cond(
            stage == Stage.SAMPLE,
            lambda: self._draw(posterior, state, key),
            lambda: self._optimise(posterior, state, stage, key),
        )

    def _draw(
        self, posterior: Posterior, state: MeanFieldState, key: Array
    ) -> tuple[MeanFieldState, Step]:
        mean, rho = state.average
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        u = mean + jnp.exp(rho) * noise
        lp = posterior.log_density(u)
        log_q = -jnp.sum(0.5 * noise**2 + rho + 0.5 * math.log(2.0 * math.pi))
        stats = {"lp": lp, "elbo": lp - log_q, "remaining": _remaining(state)}
        return state, Step(u, stats)

    def _optimise(
        self, posterior: Posterior, state: MeanFieldState, stage: Array, key: Array
    ) -> tuple[MeanFieldState, Step]:
        key_noise, key_batch = jax.random.split(key)
        shape = (self.samples, posterior.dimension)
        noise = jax.random.normal(key_noise, shape, state.parameters.dtype)
        batch = None
        if self.batch_size is not None:
            batch = jax.random.choice(key_batch, posterior.rows, (self.batch_size,), replace=False)

        def loss(parameters: Array) -> tuple[Array, tuple[Array, Array]]:
            mean, rho = parameters
            u = mean + jnp.exp(rho) * noise
            lp = jax.vmap(lambda u: posterior.log_density(u, batch))(u).mean()
            # "Sticking the landing" (Roeder et al. 2017, eq. 7): the density of q is held fixed
            # inside log q, which removes a term of mean zero that stays noisy at the optimum.
            fixed_mean, fixed_rho = jax.lax.stop_gradient(parameters)
            z = (u - fixed_mean) / jnp.exp(fixed_rho)
            log_q = -0.5 * jnp.sum(z**2, axis=1).mean()
            entropy = jnp.sum(rho) + rho.size * LOG_SQRT_2PI_E
            return log_q - lp, (lp, lp + entropy)

        gradient, (lp, elbo) = jax.grad(loss, has_aux=True)(state.parameters)
        direction, optimiser = _adam().update(gradient, state.optimiser)
        progress = jnp.minimum(state.done / self.steps, 1.0)
        rate = self.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + jnp.cos(jnp.pi * progress)))
        parameters = state.parameters - rate * direction
        last = (stage == Stage.SLOW).astype(gradient.dtype)
        sums = state.sums + last * jnp.stack([gradient, gradient**2])
        seen = state.seen + last
        # Iterates wander about the optimum by the noise of the gradient; their mean does not.
        average = jnp.where(
            seen > 0,
            state.average + last * (parameters - state.average) / jnp.maximum(seen, 1.0),
            parameters,
        )
        state = MeanFieldState(parameters, optimiser, state.done + 1.0, sums, seen, average)
        stats = {"lp": lp, "elbo": elbo, "remaining": _remaining(state)}
        return state, Step(parameters[0], stats)

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """``samples`` gradients an optimisation step."""
        return self.samples * int(np.isfinite(stats["elbo"]).sum()) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """A bound that one more step could still raise by over a nat."""
        steps = len(warmup.get("elbo", ()))
        if steps < LEAST_STEPS:
            message = f"{steps} optimisation steps are too few to judge the bound; raise warmup"
            return [Flag("unconverged", message)]
        remaining = float(stats["remaining"][-1])
        if remaining > UNCONVERGED_NATS:
            message = f"the bound could still rise by about {remaining:.3g} nats; raise warmup"
            return [Flag("unconverged", message)]
        return []


def _remaining(state: MeanFieldState) -> Array:
    """Nats that a Newton step would add to the bound, from the last tenth's mean gradient.

    The learning rate falls to a hundredth, so the trace of the bound is flat at the end whether or
    not it has arrived; the mean gradient is not. With curvature 1/s^2 in a mean and 2 in a log
    standard deviation (a Gaussian posterior's at the optimum) the gain is
    sum(s^2 g_m^2) / 2 + sum(g_rho^2) / 4; each g^2 is freed of its own sampling variance.
    """
    count = jnp.maximum(state.seen, 2.0)
    mean = state.sums[0] / count
    variance = (state.sums[1] / count - mean**2) / (count - 1.0)
    squares = mean**2 - variance
    scale = jnp.exp(2.0 * state.average[1])
    return jnp.maximum(0.5 * jnp.sum(scale * squares[0]) + 0.25 * jnp.sum(squares[1]), 0.0)


def _adam() -> optax.GradientTransformation:
    return optax.scale_by_adam()


@register(
    "backends",
    "mean-field-vi",
    summary="Independent Gaussians fitted by the evidence lower bound: fast, too narrow.",
    options=MeanFieldOptions,
    references=(
        "Blundell et al. (2015), Weight Uncertainty in Neural Networks",
        "Roeder, Wu & Duvenaud (2017), Sticking the Landing, eq. 7",
    ),
    tags={"exact": False, "family": "variational", "gradients": "minibatch"},
    notes="Fits the tempered posterior in unconstrained coordinates. A chain is an independent "
    "restart; warmup is the number of optimisation steps. Underestimates variances; with many "
    "units the bound prefers weights at the prior.",
)
def mean_field_vi(options: MeanFieldOptions) -> MeanField:
    """The backend of these options."""
    return MeanField(
        options.learning_rate,
        options.initial_std,
        MeanField.default_warmup,
        options.samples,
        options.batch_size,
    )
