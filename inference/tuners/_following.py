"""Tuning by an evidence at a mode that follows the hyper-parameters."""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.inference.climbing import ascend
from bnnzoo.inference.curvature import prior_widths
from bnnzoo.inference.hyper_parameters import NOISE, Groups, Hyper, placed
from bnnzoo.inference.implicit import pull_on_mode
from bnnzoo.inference.progress import through
from bnnzoo.inference.start import find_start
from bnnzoo.inference.tuning import ADAM, FARTHEST, Found, Tuner, falling
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options, Positive

NOISES = (1.0, 1 / 3, 1 / 9)
"""Where restarts begin the noise, in turn, over where the search would: the mode of a network that
began with little noise has fitted it, and keeps it small."""

FALL = 0.1
"""Nats by which the end may lie below the best of the way, and is taken nevertheless."""


class Objective(ABC):
    """What is climbed, in nats; hashable, for it is compiled in."""

    def inverse(self, posterior: Posterior, u: Array) -> Callable[[Array], Array]:
        """About the inverse curvature of minus the log density times a vector ``(dim,)``; traced.

        Here the prior's variances.

        Args:
            posterior: of a model with prior ``grouped-gaussian``.
            u: about where ``(dim,)``.
        """
        variances = prior_widths(posterior, u) ** 2
        return lambda v: variances * v

    def hold(self, posterior: Posterior, u: Array, once: Any) -> Any:
        """What stays the same at a point whatever the widths are; traced.

        It may depend on a tuned noise, and is then differentiated by it.

        Args:
            posterior: of a model with prior ``grouped-gaussian``.
            u: the point ``(dim,)``.
            once: of :meth:`Following.once`; None to do without.
        """
        return None

    @abstractmethod
    def __call__(self, posterior: Posterior, u: Array, key: Array, held: Any) -> Array:
        """Nats; traced, differentiable by the posterior.

        Args:
            posterior: of a model with prior ``grouped-gaussian``.
            u: the point ``(dim,)``.
            key: of what is random in it.
            held: of :meth:`hold`.
        """


class Moving(Objective):
    """An objective whose gradient goes through the mode.

    Attributes:
        solves: steps of conjugate gradients in which it is found where the mode moves to; 0 leaves
            that out.
    """

    solves: int

    @abstractmethod
    def shape(self, posterior: Posterior, u: Array) -> Array:
        """The part that a move of the mode changes, but for the density there; traced.

        Args:
            posterior: of a model with prior ``grouped-gaussian``.
            u: the mode ``(dim,)``, by which it is differentiated.
        """


def moves(objective: Objective) -> TypeGuard[Moving]:
    """Whether the gradient of an objective goes through the mode."""
    return isinstance(objective, Moving) and objective.solves > 0


class FollowingOptions(Options):
    """Options of tuners whose mode follows."""

    restarts: Count = Field(3, description="Searches from modes of their own; the best is kept.")
    rounds: Count = Field(60, description="Times the mode is found again.")
    steps: Count = Field(100, description="Steps of L-BFGS to it, from where it was.")
    hyper_steps: Count = Field(3, description="Steps of Adam on the hyper-parameters at each mode.")
    learning_rate: Positive = Field(
        0.2, description="Of Adam, on logarithms; it falls to a tenth along a cosine."
    )


class Following(Tuner):
    """An objective's gradient with the mode held, and the mode found anew."""

    options: Any

    @abstractmethod
    def objective(self, last: bool) -> Objective:
        """What is climbed.

        Args:
            last: at the end, for the value by which restarts are compared.
        """

    def once(self, posterior: Posterior) -> Any:
        """What objectives need that neither weights nor hyper-parameters move; None for nothing.

        Args:
            posterior: of a model with prior ``grouped-gaussian``.
        """
        return None

    def search(
        self, posterior: Posterior, groups: Groups, hyper: Hyper, seed: int, progress: bool
    ) -> Found:
        """The restart of highest evidence."""
        given = self.options
        keys = jax.random.split(jax.random.key(seed), given.restarts)
        once = self.once(posterior)
        rates = falling(given.learning_rate, given.rounds)
        rounds = through(rates.tolist() * len(keys), "tune", progress)
        found = []
        for number, key in enumerate(keys):
            start = dict(hyper)
            if NOISE in start:
                start[NOISE] = hyper[NOISE] + np.log(NOISES[number % len(NOISES)])
            own = itertools.islice(rounds, given.rounds)
            found.append(self._from(posterior, groups, start, key, once, own))
        next(rounds, None)  # the bar goes
        values = np.array([one.trace[-1] for one in found])
        best = found[int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))]
        return best._replace(gradients=sum(one.gradients for one in found))

    def _from(
        self,
        posterior: Posterior,
        groups: Groups,
        hyper: Hyper,
        key: Array,
        once: Any,
        rates: Iterable[float],
    ) -> Found:
        """Modes and steps on the logarithms in turn; the best hyper-parameters on the way."""
        given = self.options
        u = find_start(posterior, key, "tune")
        objective, last = self.objective(False), self.objective(True)
        state = ADAM.init(hyper)
        start, trace, spent = hyper, [], 0
        best, highest, rounds = (hyper, u), -np.inf, 0
        for number, rate in enumerate(rates):
            u, used = _mode(posterior, groups, hyper, u, objective, given.steps)
            here, own = hyper, jax.random.fold_in(key, number)
            values, hyper, state = _improve(
                posterior, groups, hyper, start, u, state, rate, own, objective, given.hyper_steps,
                once,
            )  # fmt: skip
            trace.append(float(values[0]))
            spent += int(used) + given.hyper_steps
            spent += 2 * objective.solves if moves(objective) else 0
            if trace[-1] > highest:
                best, highest, rounds = (here, u), trace[-1], number
        u, used = _mode(posterior, groups, hyper, u, objective, given.steps)
        value, slope = _at(posterior, groups, hyper, u, last, once)
        spent += int(used) + 1
        warnings: tuple[str, ...] = ()
        if not value >= highest:
            # A mode jumps, and the gradient may leave out where it moves to: the evidence may fall.
            kept, _ = _at(posterior, groups, *best, last, once)
            spent += 1
            if not value >= kept - FALL:
                if not value >= kept - 1.0:
                    warnings = (
                        f"the evidence fell by {kept - value:.1f} nats from round {rounds} of "
                        f"{given.rounds} on: the widths of that round are kept",
                    )
                return Found(best[0], np.asarray([*trace, kept]), spent, warnings)
        steep = max(float(jnp.max(jnp.abs(s))) for s in slope.values())
        if steep > 1.0 and not trace[-1] <= value <= trace[-1] + 0.1:
            warnings = (f"the evidence still rises by {steep:.2g} nats a log-width; raise rounds",)
        return Found(hyper, np.asarray([*trace, value]), spent, warnings)


def slope_through_mode(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, pull: Array
) -> Hyper:
    """What the gradient by the logarithms lacks where the mode is held; traced.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        groups: which parameters share a width.
        hyper: logarithms.
        u: the mode ``(dim,)``.
        pull: of :func:`pull_of_mode`.
    """

    def shifted(now: Hyper) -> Array:
        return pull @ jax.grad(placed(posterior, groups, now).log_density)(u)

    return jax.grad(shifted)(hyper)


def _at(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, objective: Objective, once: Any
) -> tuple[float, Hyper]:
    """Value and whole gradient at a mode."""
    value, slope = value_and_slope(posterior, groups, hyper, u, jax.random.key(0), objective, once)
    if moves(objective):
        slope = jax.tree.map(jnp.add, slope, _moved(posterior, groups, hyper, u, objective))
    return float(value), slope


@functools.partial(jax.jit, static_argnames=("groups", "objective"))
def _moved(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, objective: Moving
) -> Hyper:
    pull = pull_of_mode(posterior, groups, hyper, u, objective)
    return slope_through_mode(posterior, groups, hyper, u, pull)


@functools.partial(jax.jit, static_argnames=("groups", "objective"))
def value_and_slope(
    posterior: Posterior,
    groups: Groups,
    hyper: Hyper,
    u: Array,
    key: Array,
    objective: Objective,
    once: Any = None,
) -> tuple[Array, Hyper]:
    """An objective and its gradient by the logarithms with the point held.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        groups: which parameters share a width.
        hyper: logarithms.
        u: the mode ``(dim,)``.
        key: of what is random in the objective.
        objective: what is climbed.
        once: of :meth:`Following.once`; None to do without.
    """
    return _slopes(posterior, groups, hyper, u, objective, once)(hyper, key)


def _slopes(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, objective: Objective, once: Any
) -> Callable[[Hyper, Array], tuple[Array, Hyper]]:
    """Value and gradient at other hyper-parameters, what can be held found before; traced."""
    held = objective.hold(placed(posterior, groups, hyper), u, once)

    def value(now: Hyper, key: Array) -> Array:
        target = placed(posterior, groups, now)
        # A noise moves the curvature in the outputs, and what is held with it.
        known = objective.hold(target, u, once) if groups.noise else held
        return objective(target, u, key, known)

    return jax.value_and_grad(value)


def pull_of_mode(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, objective: Moving
) -> Array:
    """How much the objective rises where the mode's gradient is shifted, each coordinate; traced.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        groups: which parameters share a width.
        hyper: logarithms.
        u: the mode ``(dim,)``.
        objective: what is climbed.

    Returns:
        The vector w ``(dim,)`` of :func:`bnnzoo.inference.implicit.pull_on_mode`, the shape of the
        objective for S.
    """
    target = placed(posterior, groups, hyper)
    slope = jax.grad(lambda v: objective.shape(target, v))(u)
    inverse = objective.inverse(target, u)
    return pull_on_mode(target.log_density, u, slope, inverse, objective.solves)


@functools.partial(jax.jit, static_argnames=("groups", "objective", "steps"))
def _mode(
    posterior: Posterior,
    groups: Groups,
    hyper: Hyper,
    u: Array,
    objective: Objective,
    steps: int,
) -> tuple[Array, Array]:
    target = placed(posterior, groups, hyper)
    return ascend(target.log_density, u, steps, objective.inverse(target, u))


@functools.partial(jax.jit, static_argnames=("groups", "objective", "steps"))
def _improve(
    posterior: Posterior,
    groups: Groups,
    hyper: Hyper,
    start: Hyper,
    u: Array,
    state: Any,
    rate: Array,
    key: Array,
    objective: Objective,
    steps: int,
    once: Any,
) -> tuple[Array, Hyper, Any]:
    slopes = _slopes(posterior, groups, hyper, u, objective, once)
    pull = pull_of_mode(posterior, groups, hyper, u, objective) if moves(objective) else None

    def step(carry: Any, own: Array) -> tuple[Any, Array]:
        hyper, state = carry
        value, slope = slopes(hyper, own)
        if pull is not None:
            slope = jax.tree.map(
                jnp.add, slope, slope_through_mode(posterior, groups, hyper, u, pull)
            )
        slope = jax.tree.map(lambda s: jnp.where(jnp.isfinite(s), s, 0.0), slope)
        update, state = ADAM.update(slope, state)
        moved = jax.tree.map(
            lambda h, d, s: jnp.clip(h + rate * d, s - FARTHEST, s + FARTHEST).astype(h.dtype),
            hyper,
            update,
            start,
        )
        return (moved, state), value

    # XLA's products of large matrices take many times as long within a loop on a CPU.
    keys = jax.random.split(key, steps)
    (hyper, state), values = jax.lax.scan(step, (hyper, state), keys, unroll=min(steps, 8))
    return values, hyper, state
