"""What variational backends share: the bound's gradient, the optimiser, the verdict on its end.

A family of densities says how to draw and how dense its draws are; everything else is here. The
parameters are a pytree of the family's own, so that a state is a pytree of arrays.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from pydantic import Field

from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.importance import khat_flags
from bnnzoo.inference.minibatches import check_batch_size, draw_batch
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Options, Positive

LOG_2PI = math.log(2.0 * math.pi)

LEAST_STEPS = 200
"""Fewer optimisation steps give no verdict on convergence."""

UNCONVERGED_NATS = 1.0
"""Gain of the bound still in reach above which a fit counts as unconverged."""

MEMORY = 0.02
"""Weight of the newest step in the running mean of the bound: it remembers about 50."""

FALL_NATS = 10.0
FALL_ERRORS = 10.0
"""A bound has fallen where it is so far below its best running mean: nats, and standard errors."""


class VariationalOptions(Options):
    """Options of every backend that climbs the evidence lower bound."""

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


class Family(ABC):
    """Densities q(u) whose draws are a differentiable function of parameters and noise.

    Attributes:
        noise_size: standard normal numbers behind one draw.
    """

    noise_size: int

    @abstractmethod
    def start(self, u: Array, std: Leaf) -> Any:
        """Parameters of a narrow density about a position.

        Args:
            u: the position ``(dim,)``.
            std: standard deviation of every coordinate.
        """

    @abstractmethod
    def draw(self, parameters: Any, noise: Array) -> Array:
        """One draw ``(dim,)``.

        Args:
            parameters: of the density.
            noise: standard normal ``(noise_size,)``.
        """

    @abstractmethod
    def log_density(self, parameters: Any, u: Array) -> Array:
        """Log q at a position, ``()``.

        Args:
            parameters: of the density.
            u: position ``(dim,)``.
        """

    @abstractmethod
    def centre(self, parameters: Any) -> Array:
        """The position ``(dim,)`` that stands for the density during warm-up."""

    def whitened(self, parameters: Any, gradient: Any, us: Array) -> Array:
        """A gradient in coordinates in which q's Fisher information is about the identity.

        At the optimum over a family that holds the posterior the bound's curvature is the Fisher
        information of q, so half the squared length of this vector is what a Newton step gains.
        Here with the diagonal alone, estimated from draws and damped by a tenth of its mean:
        families that know theirs say so.

        Args:
            parameters: of the density.
            gradient: of the bound, the same structure.
            us: draws ``(sample, dim)``.
        """
        scores = jax.vmap(lambda u: jax.grad(self.log_density)(parameters, u))(us)
        information = _flat(jax.tree.map(lambda leaf: jnp.mean(leaf**2, axis=0), scores))
        damped = information + 0.1 * jnp.mean(information)
        return _flat(gradient) / jnp.sqrt(jnp.maximum(damped, jnp.finfo(us.dtype).tiny))


class Fall(NamedTuple):
    """The bound's running moments and the best state so far.

    Attributes:
        mean: running mean of the bound.
        noise: running variance of a single estimate, from differences of neighbours.
        before: the last estimate.
        highest: the largest running mean so far, or the first estimate.
        margin: how far below it the running mean may be.
        best: the parameters there.
        rate: what failed steps have left of the learning rate.
    """

    mean: Array
    noise: Array
    before: Array
    highest: Array
    margin: Array
    best: Any
    rate: Array


class VariationalState(NamedTuple):
    """The approximation, the optimiser, and what its last gradients said.

    Attributes:
        parameters: of the family.
        optimiser: Adam's state.
        done: optimisation steps so far.
        sums: sum and sum of squares of the last tenth's whitened gradients ``(2, size)``.
        seen: their number.
        average: mean of the parameters over those steps, which is what draws come from.
        fall: what is known of a bound that does not rise.
    """

    parameters: Any
    optimiser: Any
    done: Array
    sums: Array
    seen: Array
    average: Any
    fall: Fall


@dataclass(frozen=True)
class Variational(Backend):
    """A family fitted to the tempered posterior by stochastic gradients of the bound.

    ``steps`` is the number of optimisation steps the learning rate's schedule is laid over.
    """

    learning_rate: Leaf
    initial_std: Leaf
    steps: Leaf
    samples: int
    batch_size: int | None

    splits_rows = True
    stats = ("lp", "elbo", "remaining", "gradients")
    default_warmup = 5000

    @classmethod
    def of(cls, options: VariationalOptions, **more: Any) -> Variational:
        """The backend of these options.

        Args:
            options: those that all families share are read.
            **more: what a subclass has besides.
        """
        names = ("learning_rate", "initial_std", "samples", "batch_size")
        shared = {name: getattr(options, name) for name in names}
        return cls(steps=cls.default_warmup, **shared, **more)

    @abstractmethod
    def family(self, posterior: Posterior) -> Family:
        """The densities that are fitted.

        Args:
            posterior: the target.
        """

    def schedule(self, warmup: int) -> np.ndarray:
        """Every warm-up step is one optimisation step; the last tenth's gradients are kept."""
        stages = np.full(warmup, Stage.FAST, np.int32)
        stages[warmup - warmup // 10 :] = Stage.SLOW
        return stages

    def planned(self, warmup: int) -> Variational:
        """The learning rate falls over exactly these steps."""
        return dataclasses.replace(self, steps=max(warmup, 1))

    def check(self, posterior: Posterior) -> None:
        """The batch is no larger than the data, and rows are free of latent sites."""
        check_batch_size(posterior, self.batch_size)

    def init(self, posterior: Posterior, u: Array) -> VariationalState:
        """Centred on the starting position."""
        family = self.family(posterior)
        parameters = family.start(u, jnp.asarray(self.initial_std, u.dtype))
        zero = jnp.zeros((), u.dtype)
        us = jnp.broadcast_to(u, (self.samples, u.size))
        size = jax.eval_shape(family.whitened, parameters, parameters, us).shape
        low = jnp.asarray(-jnp.inf, u.dtype)
        fall = Fall(zero, zero, zero, low, zero, parameters, jnp.ones((), u.dtype))
        sums = jnp.zeros((2, *size), u.dtype)
        adam = _adam().init(parameters)
        return VariationalState(parameters, adam, zero, sums, zero, parameters, fall)

    def step(
        self, posterior: Posterior, state: VariationalState, stage: Array, key: Array
    ) -> tuple[VariationalState, Step]:
        """One gradient step, or one draw once sampling."""
        return jax.lax.cond(
            stage == Stage.SAMPLE,
            lambda: self._draw(posterior, state, key),
            lambda: self._optimise(posterior, state, stage, key),
        )

    def _draw(
        self, posterior: Posterior, state: VariationalState, key: Array
    ) -> tuple[VariationalState, Step]:
        family, fallen = self.family(posterior), _has_fallen(state.fall)
        parameters = _choose(fallen, state.fall.best, state.average)
        real = posterior.x.dtype
        u = family.draw(parameters, jax.random.normal(key, (family.noise_size,), real))
        lp = posterior.log_density(u)
        stats = {
            "lp": lp,
            "elbo": lp - family.log_density(parameters, u),
            "remaining": _remaining(state),
            "gradients": jnp.zeros((), real),
        }
        return state, Step(u, stats)

    def objective(
        self, posterior: Posterior, parameters: Any, batch: Array | None, key: Array
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        """Negative bound for its gradient, with mean log density, bound and draws.

        "Sticking the landing" (Roeder et al. 2017, eq. 7): parameters are held fixed inside log q,
        which removes a term of mean zero that stays noisy at the optimum.

        Args:
            posterior: the target.
            parameters: of the family.
            batch: row numbers; None for all.
            key: typed key.
        """
        family = self.family(posterior)
        noise = jax.random.normal(key, (self.samples, family.noise_size), posterior.x.dtype)
        us = jax.vmap(family.draw, (None, 0))(parameters, noise)
        lp = jax.vmap(lambda u: posterior.log_density(u, batch))(us).mean()
        fixed = jax.lax.stop_gradient(parameters)
        log_q = jax.vmap(family.log_density, (None, 0))(fixed, us).mean()
        return log_q - lp, (lp, lp - log_q, us)

    def _optimise(
        self, posterior: Posterior, state: VariationalState, stage: Array, key: Array
    ) -> tuple[VariationalState, Step]:
        key_noise, key_batch = jax.random.split(key)
        family = self.family(posterior)
        batch = draw_batch(posterior, self.batch_size, key_batch)

        def loss(parameters: Any) -> tuple[Array, tuple[Array, Array, Array]]:
            return self.objective(posterior, parameters, batch, key_noise)

        gradient, (lp, elbo, us) = jax.grad(loss, has_aux=True)(state.parameters)
        good = jnp.isfinite(elbo) & jnp.all(jnp.isfinite(_flat(gradient)))
        gradient = jax.tree.map(lambda leaf: jnp.where(good, leaf, 0.0), gradient)
        direction, optimiser = _adam().update(gradient, state.optimiser)
        rate = cosine(self.learning_rate, state.done, self.steps) * state.fall.rate
        parameters = jax.tree.map(lambda p, d: p - rate * d, state.parameters, direction)
        last = (good & (stage == Stage.SLOW)).astype(lp.dtype)
        # Only where the result is kept: a family may have to estimate its information.
        white = jax.lax.cond(
            last > 0,
            lambda: family.whitened(state.parameters, gradient, us),
            lambda: jnp.zeros_like(state.sums[0]),
        )
        seen = state.seen + last
        # Iterates wander about the optimum by the noise of the gradient; their mean does not.
        average = jax.tree.map(
            lambda a, p: jnp.where(seen > 0, a + last * (p - a) / jnp.maximum(seen, 1.0), p),
            state.average,
            state.parameters,  # whose bound is known to be finite
        )
        fall = _follow(state.fall, elbo, state.parameters, state.done)
        moved = VariationalState(
            parameters,
            optimiser,
            state.done + 1.0,
            state.sums + last * jnp.stack([white, white**2]),
            seen,
            average,
            fall,
        )
        # Where the bound is not finite the last step went too far: back to the best state, and the
        # steps to come are half as long.
        halved = state.fall._replace(rate=0.5 * state.fall.rate)
        stayed = state._replace(parameters=state.fall.best, done=state.done + 1.0, fall=halved)
        state = _choose(good, moved, stayed)
        spent = jnp.asarray(self.samples, lp.dtype)
        stats = {"lp": lp, "elbo": elbo, "remaining": _remaining(state), "gradients": spent}
        return state, Step(family.centre(state.parameters), stats)

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """``samples`` gradients an optimisation step."""
        return int(np.nansum(stats["gradients"])) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """A bound that fell, failed or could still rise; else draws too far from the posterior."""
        found = bound_flags(stats, warmup)
        unfinished = any(flag.kind == "unconverged" for flag in found)
        return found if unfinished else [*found, *khat_flags(stats["elbo"])]


def bound_flags(stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
    """What the optimisation says of itself.

    Args:
        stats: of the draws, ``remaining`` among them.
        warmup: of the optimisation, ``elbo`` among them.
    """
    trace = warmup.get("elbo", np.zeros(0))
    remaining = float(stats["remaining"][-1])
    failed = int(np.sum(~np.isfinite(trace)))
    if np.isinf(remaining):
        return [
            Flag(
                "unconverged",
                "the bound fell far below its best, where the draws are from; lower learning_rate",
            )
        ]
    found = []
    if failed:
        message = (
            f"the bound was not finite at {failed} of {len(trace)} steps, which were not taken; "
            "lower learning_rate or initial_std, or take dtype float64"
        )
        found.append(Flag("unconverged" if failed > 0.01 * len(trace) else "warning", message))
    if len(trace) < LEAST_STEPS:
        message = f"{len(trace)} optimisation steps are too few to judge the bound; raise warmup"
        return [*found, Flag("unconverged", message)]
    if remaining > UNCONVERGED_NATS:
        message = f"the bound could still rise by about {remaining:.3g} nats; raise warmup"
        found.append(Flag("unconverged", message))
    return found


def cosine(rate: Leaf, done: Array, steps: Leaf) -> Array:
    """A learning rate that falls to a hundredth of itself; traced."""
    progress = jnp.minimum(done / steps, 1.0)
    return rate * (0.01 + 0.99 * 0.5 * (1.0 + jnp.cos(jnp.pi * progress)))


def _remaining(state: VariationalState) -> Array:
    """Nats that a Newton step would add to the bound, from the last tenth's mean gradient.

    The learning rate falls to a hundredth, so the trace of the bound is flat at the end whether or
    not it has arrived; the mean gradient is not. Each squared mean is freed of its own sampling
    variance. Infinite where the bound has fallen.
    """
    count = jnp.maximum(state.seen, 2.0)
    mean = state.sums[0] / count
    variance = (state.sums[1] / count - mean**2) / (count - 1.0)
    gain = jnp.maximum(0.5 * jnp.sum(mean**2 - variance), 0.0)
    return jnp.where(_has_fallen(state.fall), jnp.inf, gain)


def _follow(fall: Fall, elbo: Array, parameters: Any, done: Array) -> Fall:
    """Running moments of a bound, and the best parameters so far.

    The first estimate stands for itself until a running mean rests on enough steps; as its noise
    is not known, it counts as fallen from only where the bound has lost as much again.
    """
    first = jnp.isneginf(fall.highest)
    weight = jnp.maximum(MEMORY, 1.0 / (done + 1.0))
    mean = jnp.where(first, elbo, fall.mean + weight * (elbo - fall.mean))
    change = jnp.where(first, 0.0, elbo - fall.before)
    noise = (1.0 - weight) * fall.noise + weight * 0.5 * change**2
    better = first | ((done >= 1.0 / MEMORY) & (mean > fall.highest))
    margin = FALL_NATS + jnp.where(first, jnp.abs(elbo), FALL_ERRORS * jnp.sqrt(MEMORY * noise))
    return Fall(
        mean,
        noise,
        elbo,
        jnp.where(better, mean, fall.highest),
        jnp.where(better, margin, fall.margin),
        _choose(better, parameters, fall.best),
        fall.rate,
    )


def _has_fallen(fall: Fall) -> Array:
    return fall.highest - fall.mean > fall.margin


def _choose(condition: Array, first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), first, second)


def _flat(tree: Any) -> Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _adam() -> optax.GradientTransformation:
    return optax.scale_by_adam()
