"""Unadjusted microcanonical Langevin dynamics, tuned one step at a time.

A particle of unit speed moves through position space along the gradient, and its direction is
lost over a decoherence length. Nothing is rejected: the change of energy in a step, zero for exact
dynamics, says how far the discrete dynamics are from them. Lengths (steps, decoherence) are in
units of sqrt(dim) in the metric, so that a whitened coordinate has length 1, as in ``hmc``.

Tuning follows the published scheme (Robnik et al. 2023, sec. 5; its form in BlackJAX): a step size
at which the mean squared energy error per dimension is a target, a diagonal metric, then the
decoherence length from the autocorrelation length. It differs in that a failed step never enters
an average, that memory grows with the window, and that windows are Stan's.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.mass_matrix import mass_matrix_adaptation, welford_algorithm
from blackjax.mcmc import mclmc
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference import adaptation
from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.isokinetic import mclachlan
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options, Positive

GRADIENTS_PER_STEP = 2
"""The McLachlan integrator moves the position twice a step."""

INITIAL_STEP_SIZE = 0.25

LARGEST_ERROR = 1.0
"""A step whose squared energy error per dimension is larger is taken back: the energy itself varies
by half a unit of it from draw to draw."""

TAIL = 100.0
"""The same in units of the target, where that is large: errors have heavy tails, and a chain that
turns round at each of them stays where it is (airfoil, 4x16 ReLU, target 0.1: 20,000 steps a
member then brought a log density of 0.66, and 0.79 with this)."""

PROMISED = 3.0
"""Kept draws may exceed the target by this factor: their mean is an estimate, as warm-up's was."""

BIASED = 1e-3
"""Energy error above which no target is a good one: a Gaussian of condition number 100 then had a
standard deviation 5 % too small, and at ten times as much 28 %."""

TRUST = 9.0
"""Width, in the log of error over target, within which a step teaches the step size (published)."""

ORDER = 6
"""The squared energy error of a second-order integrator grows with this power of the step."""

PRIOR_STEPS = 3.0
"""Weight of the step size before a window, in steps: one lucky small error must not undo it."""

MEMORY = 50.0
"""Fewest steps the step size is averaged over; later it is half of those since the last metric."""

BATCH = 10
"""Steps of the loop in a batch mean, from which the autocorrelation length is read."""

LEAST_BATCHES = 10
"""With fewer batches in a window the decoherence length stays as it was."""

PER_AUTOCORRELATION = 0.4
"""Decoherence length over autocorrelation length (published)."""

LOST = 20.0
"""Decoherence lengths after which nothing of a direction is left."""

LENGTHS = (0.25, 10.0)
"""Bounds of a tuned decoherence length; in between, efficiency hardly depends on it."""


class MicrocanonicalOptions(Options):
    """Options the unadjusted microcanonical backends share."""

    energy_error: Positive = Field(
        1e-5,
        description="Variance of the energy error of one integrator step, per dimension, that the "
        "step size is tuned to. Bias falls with it.",
    )
    metric: Literal["diagonal", "unit"] = Field(
        "diagonal",
        description="Scales of the coordinates: estimated in warm-up, or 1, where chains are to "
        "cross a posterior that they cannot know yet.",
    )
    length: Positive | None = Field(
        None,
        description="Path, in units of sqrt(dim) in the metric, over which the direction is lost; "
        "tuned to 0.4 autocorrelation lengths if not given.",
    )
    draw_length: Positive = Field(
        1.0, description="Path between kept draws, in units of that length."
    )
    max_steps: Count = Field(
        1000, description="Most integrator steps, of two gradients each, from a draw to the next."
    )


class StepSize(NamedTuple):
    """A running estimate of the step size at which the energy error is the target.

    Attributes:
        value: the estimate.
        reference: the step size before this window, the unit of ``total``.
        weight, total: decayed sums of weights, and of weighted error / target / (step / unit)^6.
        taken: steps since this window began.
        failures: steps without a finite energy in a row; each halves the next attempt.
    """

    value: Array
    reference: Array
    weight: Array
    total: Array
    taken: Array
    failures: Array

    @staticmethod
    def start(value: Array) -> StepSize:
        """A new window that begins with the step size ``value``."""
        one, zero = jnp.ones_like(value), jnp.zeros_like(value)
        return StepSize(value, value, PRIOR_STEPS * one, PRIOR_STEPS * one, zero, zero)

    def attempt(self) -> Array:
        """The step size to try next."""
        return self.value * 0.5**self.failures

    def update(self, error: Array, finite: Array) -> StepSize:
        """After an attempt.

        A step that failed is only retried shorter: where the density ends, steps of any size fail.

        Args:
            error: squared energy error over its target.
            finite: whether the attempt had a finite energy.
        """
        error = jnp.clip(error, 1e-8, 1e12)
        seen = jnp.where(finite, jnp.exp(-0.5 * (jnp.log(error) / TRUST) ** 2), 0.0)
        keep = jnp.where(finite, 1.0 - 1.0 / (MEMORY + 0.5 * self.taken), 1.0)
        weight = keep * self.weight + seen
        total = keep * self.total + seen * error * (self.reference / self.attempt()) ** ORDER
        return StepSize(
            self.reference * (total / weight) ** (-1.0 / ORDER),
            self.reference,
            weight,
            total,
            self.taken + finite,
            jnp.where(finite, 0.0, jnp.minimum(self.failures + 1.0, 20.0)),
        )


class Window(NamedTuple):
    """Positions of one slow window: what metric and decoherence length are read from.

    Attributes:
        moments: BlackJAX's estimate of the metric, from the position after each step of the loop.
        batch: sum of the positions of the batch that is being filled ``(dim,)``.
        batches: Welford's moments of batch means.
        path: summed length.
    """

    moments: Any
    batch: Array
    batches: Any
    path: Array

    @staticmethod
    def start(moments: Any) -> Window:
        """An empty window; ``moments`` are BlackJAX's, empty."""
        zeros = jnp.zeros_like(moments.inverse_mass_matrix)
        batches = welford_algorithm(True)[0](zeros.size)
        return Window(moments, zeros, batches, jnp.zeros((), zeros.dtype))

    def add(self, position: Array, path: Array) -> Window:
        """Take in a position ``(dim,)`` and the path to it."""
        moments = mass_matrix_adaptation(True)[1](self.moments, position)
        batch = self.batch + position
        full = moments.wc_state.sample_size % BATCH == 0
        filled = welford_algorithm(True)[1](self.batches, batch / BATCH)
        batches = jax.tree.map(lambda new, old: jnp.where(full, new, old), filled, self.batches)
        return Window(moments, jnp.where(full, 0.0, batch), batches, self.path + path)

    def autocorrelation(self) -> Array:
        """Mean integrated autocorrelation length of the coordinates; NaN from too few batches."""
        seen = self.moments.wc_state
        variance = seen.m2 / (seen.sample_size - 1)
        of_means = self.batches.m2 / (self.batches.sample_size - 1)
        steps = jnp.mean(BATCH * of_means / variance)
        enough = self.batches.sample_size >= LEAST_BATCHES
        return jnp.where(enough, steps * self.path / seen.sample_size, jnp.nan)


class Tuning(NamedTuple):
    """What warm-up has learned so far.

    Attributes:
        step: the step size.
        length: decoherence length.
        inverse_mass_matrix: diagonal ``(dim,)``.
        window: the slow window in progress.
    """

    step: StepSize
    length: Array
    inverse_mass_matrix: Array
    window: Window


class MicrocanonicalState(NamedTuple):
    """Position, direction and gradient, and what warm-up has learned."""

    chain: Any
    tuning: Tuning


class Microcanonical(Backend):
    """A backend that follows unadjusted microcanonical Langevin dynamics.

    A step of the loop, and so a kept draw, is many steps of the integrator.
    """

    splits_rows = True
    stats: tuple[str, ...] = (
        *("lp", "diverging", "step_size", "length", "n_steps", "energy_error"),
    )

    energy_error: Leaf
    length: Leaf
    draw_length: Leaf
    max_steps: Leaf
    unit: bool

    def schedule(self, warmup: int) -> np.ndarray:
        """Stan's windows."""
        return adaptation.window_schedule(warmup)

    def check(self, posterior: Posterior) -> None:
        """A direction needs two dimensions."""
        check_dimension(posterior)

    def init(self, posterior: Posterior, u: Array) -> Any:
        """Gradient and some direction at the start, unit metric."""
        chain = mclmc.init(u, posterior.log_density, jax.random.key(0))
        moments = mass_matrix_adaptation(True)[0](posterior.dimension)
        tuning = Tuning(
            StepSize.start(jnp.asarray(INITIAL_STEP_SIZE, u.dtype)),
            jnp.asarray(1.0 if self.length is None else self.length, u.dtype),
            moments.inverse_mass_matrix,
            Window.start(moments),
        )
        return MicrocanonicalState(chain, tuning)

    def step(self, posterior: Posterior, state: Any, stage: Array, key: Array) -> tuple[Any, Step]:
        """Some way along the path; in warm-up the step size follows every step of it."""
        chain, tuning = state
        metric, length = tuning.inverse_mass_matrix, tuning.length
        warming = stage != Stage.SAMPLE
        wanted = jnp.ceil(self.draw_length * length / tuning.step.value)
        steps = jnp.clip(wanted, 1, self.max_steps).astype(jnp.int32)

        def learned(size: StepSize, error: Array, finite: Array) -> StepSize:
            return jax.lax.cond(warming, size.update, lambda *_: size, error, finite)

        def one(i: Array, carry: Any) -> Any:
            chain, size, path, errors, failed = carry
            own = jax.random.fold_in(key, i)
            stride = size.attempt()  # what warm-up left behind, once sampling
            chain, error, finite = self._move(posterior, chain, stride, length, metric, own)
            taken = finite & (error <= self._largest_error())
            size = learned(size, error / self.energy_error, finite)
            errors = errors + jnp.where(taken, error, 0.0)
            return chain, size, path + stride, errors, failed + ~taken

        zero = jnp.zeros((), chain.position.dtype)
        begin = (chain, tuning.step, zero, zero, jnp.zeros((), jnp.int32))
        chain, size, path, errors, failed = jax.lax.fori_loop(0, steps, one, begin)
        stats = {
            "lp": chain.logdensity,
            "diverging": failed > 0,
            "step_size": path / steps,
            "length": length,
            "n_steps": GRADIENTS_PER_STEP * steps,
            "energy_error": errors / jnp.maximum(steps - failed, 1),
        }
        tuning = self._tune(tuning._replace(step=size), stage, chain.position, path)
        return MicrocanonicalState(chain, tuning), Step(chain.position, stats)

    def _move(
        self,
        posterior: Posterior,
        chain: Any,
        stride: Array,
        length: Array,
        metric: Array,
        key: Array,
    ) -> tuple[Any, Array, Array]:
        """One step of the integrator; taken back, with a new direction, where its error is huge.

        The noise is drawn once a step: it turns the direction after the step, or is the new one.
        (BlackJAX's kernel draws four times: half a turn before and after, and twice a direction for
        steps that fail. With ours beside it a run on a small table took 1.4 times as long.)

        Returns:
            The chain, the squared energy error per dimension, and whether it was finite.
        """
        unit = jnp.sqrt(jnp.asarray(posterior.dimension, stride.dtype))
        noise = jax.random.normal(key, chain.position.shape, chain.position.dtype)
        noise = jax.lax.optimization_barrier(noise)  # drawn once, not by each sum that reads it
        moved, kinetic_change = mclachlan(posterior.log_density, chain, stride * unit, metric)
        error = (kinetic_change - moved.logdensity + chain.logdensity) ** 2 / posterior.dimension
        finite = jnp.isfinite(error)  # and with it position, direction and gradient
        error = jnp.where(finite, error, 0.0)
        taken = finite & (error <= self._largest_error())
        there = jax.tree.map(lambda new, old: jnp.where(taken, new, old), moved, chain)
        turned = turn(moved.momentum, noise, stride / length)
        anew = jnp.where(taken, turned, noise)
        return there._replace(momentum=anew / jnp.linalg.norm(anew)), error, finite

    def _largest_error(self) -> Array:
        return jnp.maximum(LARGEST_ERROR, TAIL * self.energy_error)

    def _tune(self, tuning: Tuning, stage: Array, position: Array, path: Array) -> Tuning:
        slow = (stage == Stage.SLOW) | (stage == Stage.SLOW_END)
        window = jax.lax.cond(
            slow, lambda: tuning.window.add(position, path), lambda: tuning.window
        )

        def end() -> Tuning:
            fresh = mass_matrix_adaptation(True)[2](window.moments)
            metric = tuning.inverse_mass_matrix if self.unit else fresh.inverse_mass_matrix
            # Lengths in the new metric are shorter where it takes scales for larger than the old.
            shorter = jnp.sqrt(jnp.mean(metric / tuning.inverse_mass_matrix))
            length = tuning.length
            if self.length is None:
                found = PER_AUTOCORRELATION * window.autocorrelation() / shorter
                length = jnp.where(jnp.isfinite(found), jnp.clip(found, *LENGTHS), length)
            step = StepSize.start(tuning.step.value / shorter)
            return Tuning(step, length, metric, Window.start(fresh))

        def go_on() -> Tuning:
            return tuning._replace(window=window)

        return jax.lax.cond(stage == Stage.SLOW_END, end, go_on)

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """``n_steps`` counts gradients: two a step of the integrator."""
        return int(np.nansum(stats["n_steps"])) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Steps taken back, a chain that stands still, a broken promise, cut paths."""
        found = []
        divergent = int(stats["diverging"].sum())
        if divergent:
            message = (
                f"{divergent} of {len(stats['diverging'])} draws had a step taken back for its "
                "energy error"
            )
            found.append(Flag("divergent", message))
        if len(stats["lp"]) > 1 and np.ptp(stats["lp"]) == 0:
            found.append(Flag("stuck", "the chain stands still: every step was taken back"))
        error = float(stats["energy_error"].mean())
        if error > BIASED:
            message = (
                f"energy error {error:.1e} per dimension, above {BIASED:g}: draws are biased; "
                "lower energy_error, raise warmup, or take adjusted-mclmc"
            )
            found.append(Flag("warning", message))
        elif error > PROMISED * self.energy_error:
            message = (
                f"energy error {error:.1e} per dimension, aimed at {self.energy_error:g}: the bias "
                "is larger than asked for; raise warmup, or take adjusted-mclmc"
            )
            found.append(Flag("warning", message))
        return found + cut_flag(stats["n_steps"], self.max_steps)


def turn(direction: Array, noise: Array, path: Array) -> Array:
    """Where a unit vector points after a path on which it loses itself; not of unit length.

    Args:
        direction: it, before.
        noise: standard normal.
        path: in units of the decoherence length; the mean cosine of the angle is about exp(-path).

    Source:
        Robnik & Seljak (2023), Microcanonical Langevin Monte Carlo: its partial refreshment.
    """
    # Of a longer path float32 has no exponential, and the direction is long lost.
    spread = jnp.sqrt(jnp.expm1(2.0 * jnp.minimum(path, LOST)) / direction.size)
    return direction + spread * noise


def fields(options: MicrocanonicalOptions) -> dict[str, Any]:
    """The fields that :class:`Microcanonical` names."""
    return {
        "energy_error": options.energy_error,
        "length": options.length,
        "draw_length": options.draw_length,
        "max_steps": options.max_steps,
        "unit": options.metric == "unit",
    }


def check_dimension(posterior: Posterior) -> None:
    """Raise ``InputError`` for a model of one parameter, in which no direction can turn."""
    if posterior.dimension < 2:
        raise InputError(
            "microcanonical dynamics need two parameters or more, and this model has one; take hmc "
            "or nuts"
        )


def cut_flag(n_steps: np.ndarray, max_steps: Leaf) -> list[Flag]:
    """A warning where most paths were cut at ``max_steps``, which makes draws more alike.

    Args:
        n_steps: gradients behind each draw.
        max_steps: most steps of the integrator.
    """
    cut = float((n_steps >= GRADIENTS_PER_STEP * max_steps).mean())
    if cut <= 0.5:
        return []
    return [Flag("warning", f"{cut:.0%} of trajectories were cut at max_steps = {max_steps:g}")]
