"""SWAG: a Gaussian from the iterates of stochastic gradient descent at a constant rate."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError, OptionError
from bnnzoo.inference import optimising
from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.minibatches import check_batch_size, draw_batch
from bnnzoo.inference.optimising import Descent
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register

SEARCH, FORGET = 0.5, 0.1
"""Shares of the warm-up: Adam to a mode, then SGD whose iterates are not collected yet."""

STABLE = 0.2
"""Default step, in units of (1 - momentum) over the largest curvature: from 2 on plain SGD blows
up, and a batch's curvature is often several times that of all rows."""

POWER_STEPS = 30
"""Products of Hessian and vector that find the largest curvature."""

DEFAULT_BATCH = 100
"""Rows of a gradient where nobody says, or a tenth of them if that is fewer."""


class SWAGOptions(Options):
    """Options of ``swag``."""

    rank: Annotated[int, Field(gt=1)] = Field(
        20, description="Collected iterates that span the low-rank half of the covariance."
    )
    every: Count = Field(
        10,
        description="Steps of SGD from one collected iterate to the next; an epoch in the paper.",
    )
    sgd_rate: Positive | None = Field(
        None,
        description="Constant step of SGD on the loss a row, which decides how wide draws spread; "
        "if not given a fifth of (1 - momentum) over the largest curvature at the mode.",
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Of SGD.")
    batch_size: Count | None = Field(
        None,
        description="Training rows per gradient, drawn without replacement; 100, or a tenth of "
        "the rows where that is fewer, if not given.",
    )
    learning_rate: Positive = Field(
        0.02, description="Adam's first step on the way to the mode; it falls to nothing."
    )


class SWAGState(NamedTuple):
    """The optimisation, and moments of what was collected.

    Attributes:
        adam: on the way to the mode.
        sgd: its iterates.
        done: steps of Adam so far.
        walked: steps of SGD so far.
        rate: SGD's step.
        seen: iterates collected.
        mean: of them ``(dim,)``.
        squares: their summed squared deviations from the mean ``(dim,)``.
        deviations: the last ones' from the mean at their time ``(rank, dim)``, in a ring.
    """

    adam: Descent
    sgd: Descent
    done: Array
    walked: Array
    rate: Array
    seen: Array
    mean: Array
    squares: Array
    deviations: Array


@functools.partial(
    register_dataclass,
    data_fields=("every", "sgd_rate", "momentum", "learning_rate", "steps", "forgets"),
    meta_fields=("rank", "batch_size"),
)
@dataclass(frozen=True)
class SWAG(Backend):
    """N(mean, T (diagonal + low rank) / 2) of SGD's iterates on the loss at T = 1.

    ``steps`` is the number of Adam's, which its rate is laid over, ``forgets`` of SGD's first ones,
    which are not collected.
    """

    every: Leaf
    sgd_rate: Leaf
    momentum: Leaf
    learning_rate: Leaf
    steps: Leaf
    forgets: Leaf
    rank: int
    batch_size: int | None

    stats = ("lp", "loss", "refused", "collected", "sgd_rate")
    default_warmup = 5000

    def schedule(self, warmup: int) -> np.ndarray:
        """Adam (``FAST``), the step in which SGD sets off (``SLOW_END``), and SGD (``SLOW``)."""
        stages = np.full(warmup, Stage.SLOW, np.int32)
        stages[: int(SEARCH * warmup)] = Stage.FAST
        stages[int(SEARCH * warmup) : int(SEARCH * warmup) + 1] = Stage.SLOW_END
        return stages

    def planned(self, warmup: int) -> SWAG:
        """Adam's rate falls over exactly its own steps.

        Raises:
            OptionError: too short to collect two iterates.
        """
        steps, forgets = int(SEARCH * warmup), int(FORGET * warmup)
        collected = (warmup - steps - forgets) // int(self.every)
        if collected < 2:
            raise OptionError(
                f"inference.warmup = {warmup} collects {collected} iterates, one every "
                f"{self.every} steps of its last two fifths; a spread needs 2, and rank of them "
                "are wanted"
            )
        return dataclasses.replace(self, steps=steps, forgets=forgets)

    def check(self, posterior: Posterior) -> None:
        """A batch is smaller than the data: all rows at once have no gradient noise."""
        check_batch_size(posterior, self._rows(posterior))
        if self._rows(posterior) == posterior.rows:
            raise InputError(
                f"swag: a batch of all {posterior.rows} training rows has no gradient noise, which "
                "the draws are made of; give a smaller batch_size (backends that need none: hmc, "
                "nuts)"
            )

    def init(self, posterior: Posterior, u: Array) -> SWAGState:
        """At the chain's start."""
        zero = jnp.zeros((), u.dtype)
        adam = optimising.start(optax.scale_by_adam(), u)
        sgd = optimising.start(optax.trace(0.0), u)
        columns = jnp.zeros((self.rank, u.size), u.dtype)
        return SWAGState(adam, sgd, zero, zero, zero, zero, u, jnp.zeros_like(u), columns)

    def step(
        self, posterior: Posterior, state: SWAGState, stage: Array, key: Array
    ) -> tuple[SWAGState, Step]:
        """A step of Adam or of SGD, or a draw."""
        which = jnp.where(stage == Stage.SAMPLE, 2, jnp.where(stage == Stage.FAST, 0, 1))
        branches = (self._search, self._wander, self._draw)
        return jax.lax.switch(
            which, [lambda b=b: b(posterior, state, stage, key) for b in branches]
        )

    def _search(
        self, posterior: Posterior, state: SWAGState, stage: Array, key: Array
    ) -> tuple[SWAGState, Step]:
        rate = self.learning_rate * optimising.cosine(state.done, self.steps)
        loss = self._loss(posterior)
        adam, value = optimising.advance(optax.scale_by_adam(), state.adam, loss, rate, key)
        made = state._replace(adam=adam, done=state.done + 1.0)
        return made, self._report(posterior, made, adam.u, value, adam.refused - state.adam.refused)

    def _wander(
        self, posterior: Posterior, state: SWAGState, stage: Array, key: Array
    ) -> tuple[SWAGState, Step]:
        trace = optax.trace(self.momentum)
        loss = self._loss(posterior)
        # By the stage, which chains in one program share: it then is no select of both.
        sgd, rate = jax.lax.cond(
            stage == Stage.SLOW_END,
            lambda: self._set_off(posterior, state, key),
            lambda: (state.sgd, state.rate),
        )
        moved, value = optimising.advance(trace, sgd, loss, rate, key)
        state = state._replace(sgd=moved, rate=rate, walked=state.walked + 1.0)
        late = state.walked - self.forgets
        state = _collect(state, (late > 0) & (jnp.mod(late, self.every) == 0))
        refused = moved.refused - sgd.refused
        return state, self._report(posterior, state, moved.good, value, refused)

    def _set_off(self, posterior: Posterior, state: SWAGState, key: Array) -> tuple[Descent, Array]:
        """SGD at Adam's end, and its rate."""
        begun = optimising.start(optax.trace(self.momentum), state.adam.good)
        if self.sgd_rate is not None:
            return begun, jnp.asarray(self.sgd_rate, begun.u.dtype)
        curvature = _largest_curvature(_whole_loss(posterior), begun.u, key)
        return begun, STABLE * (1.0 - self.momentum) / curvature

    def _draw(
        self, posterior: Posterior, state: SWAGState, stage: Array, key: Array
    ) -> tuple[SWAGState, Step]:
        key_diagonal, key_columns = jax.random.split(key)
        kept = jnp.minimum(state.seen, self.rank)
        z = jax.random.normal(key_diagonal, state.mean.shape, state.mean.dtype)
        spread = jnp.sqrt(state.squares / jnp.maximum(state.seen, 1.0)) * z
        # Columns not filled yet are zero.
        z = jax.random.normal(key_columns, (self.rank,), state.mean.dtype)
        spread += z @ state.deviations / jnp.sqrt(jnp.maximum(kept - 1.0, 1.0))
        half = jnp.sqrt(0.5 * jnp.asarray(posterior.posterior_temperature, spread.dtype))
        u = state.mean + half * spread
        nothing = jnp.zeros((), u.dtype)
        return state, self._report(posterior, state, u, nothing, nothing)

    def _report(
        self, posterior: Posterior, state: SWAGState, u: Array, loss: Array, refused: Array
    ) -> Step:
        stats = {
            "lp": posterior.log_density(u),
            "loss": loss * posterior.rows,
            "refused": refused,
            "collected": state.seen,
            "sgd_rate": state.rate,
        }
        return Step(u, stats)

    def _rows(self, posterior: Posterior) -> int:
        """Rows of a gradient."""
        if self.batch_size is not None:
            return self.batch_size
        return max(1, min(DEFAULT_BATCH, posterior.rows // 10))

    def _loss(self, posterior: Posterior) -> optimising.Loss:
        """Minus the log density at T = 1, from a batch of rows and for each row."""
        target = optimising.untempered(posterior)

        def loss(u: Array, key: Array) -> Array:
            batch = draw_batch(posterior, self._rows(posterior), key)
            return -target.log_density(u, batch) / posterior.rows

        return loss

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """One a step of warm-up, those of the curvature left out."""
        return int(np.sum(stats["loss"] != 0)) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Steps that were not taken, and fewer iterates than the rank."""
        found = optimising.refused_flags(warmup, "sgd_rate or learning_rate")
        collected = int(stats["collected"][-1])
        if collected < self.rank:
            message = (
                f"{collected} iterates were collected, fewer than rank = {self.rank}; raise "
                "warmup, or lower every"
            )
            found.append(Flag("unconverged", message))
        return found


def _collect(state: SWAGState, due: Array) -> SWAGState:
    """Where due, one more iterate: running moments (Welford), and its deviation from the mean."""
    u, seen = state.sgd.good, state.seen + due
    first = state.seen == 0
    before = jnp.where(due, u - jnp.where(first, u, state.mean), 0.0)
    mean = jnp.where(due & first, u, state.mean + before / jnp.maximum(seen, 1.0))
    squares = state.squares + before * jnp.where(due, u - mean, 0.0)
    slot = jnp.mod(state.seen, state.deviations.shape[0]).astype(jnp.int32)
    column = jnp.where(due, u - mean, state.deviations[slot])
    deviations = state.deviations.at[slot].set(column)
    return state._replace(seen=seen, mean=mean, squares=squares, deviations=deviations)


def _whole_loss(posterior: Posterior) -> Callable[[Array], Array]:
    target = optimising.untempered(posterior)
    return lambda u: -target.log_density(u) / posterior.rows


def _largest_curvature(loss: Callable[[Array], Array], u: Array, key: Array) -> Array:
    """The Hessian's eigenvalue of largest size, by power iteration."""

    def turn(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        v, _ = carry
        _, product = jax.jvp(jax.grad(loss), (u,), (v,))
        size = jnp.linalg.norm(product)
        return product / size, size

    v = jax.random.normal(key, u.shape, u.dtype)
    start = (v / jnp.linalg.norm(v), jnp.ones((), u.dtype))
    return jax.lax.fori_loop(0, POWER_STEPS, turn, start)[1]


@register(
    "backends",
    "swag",
    summary="A Gaussian from the iterates of SGD at a constant rate, diagonal plus low rank.",
    options=SWAGOptions,
    references=(
        "Maddox, Garipov, Izmailov, Vetrov & Wilson (2019), A Simple Baseline for Bayesian "
        "Uncertainty in Deep Learning, alg. 1",
        "Mandt, Hoffman & Blei (2017), Stochastic Gradient Descent as Approximate Bayesian "
        "Inference, sec. 3 (the iterates' covariance)",
    ),
    tags={"exact": False, "family": "variational", "gradients": "minibatch"},
    facts={
        "exact for": "no posterior",
        "bias": "SGD's covariance, times T; correlations halved",
        "a draw costs": "nothing, after the training",
        "memory": "rank + 10 vectors of the parameters",
        "choose it": "a cheap width for one training on many rows",
    },
    notes="Exact for nothing: the covariance is that of SGD, which follows the noise of its "
    "gradients, its rate and batch size, not the posterior. Half of it is diagonal, half of low "
    "rank, so that correlations are halved. Iterates are of the loss at T = 1 in unconstrained "
    "coordinates (L counts), and draws have T times their covariance. Of the warm-up half is "
    "Adam's way to a mode, a tenth SGD that is forgotten, the rest collected every so many steps. "
    "A chain is an independent run: several are multi-SWAG, one is the paper's. Memory: rank + 10 "
    "vectors of parameters a chain. No evidence.",
)
def swag(options: SWAGOptions) -> SWAG:
    """The backend of these options."""
    return SWAG(
        options.every,
        options.sgd_rate,
        options.momentum,
        options.learning_rate,
        int(SEARCH * SWAG.default_warmup),
        int(FORGET * SWAG.default_warmup),
        options.rank,
        options.batch_size,
    )
