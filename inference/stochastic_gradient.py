"""What samplers by stochastic gradients share: steps, minibatches, thermometers, failures.

All kernels are written for the tempered target p = exp(log_density) at unit temperature. With
U = -log p at posterior temperature T, grad log p is -grad U / T, so the usual dynamics
u <- u - (s / 2) grad U + sqrt(s T) noise are u <- u + (e / 2) grad log p + sqrt(e) noise with
e = s T. The learning rate is that of gradient descent on the mean loss of the N rows:
s = learning_rate / N, and e = learning_rate T L / N, since a likelihood temperature L divides the
loss as well. A learning rate that is stable is then so at every N, T and L.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference import control_variates, minibatches, step_schedules
from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.control_variates import Centre
from bnnzoo.inference.minibatches import Batches
from bnnzoo.metrics._montecarlo import mean_with_error
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options, Positive

LEEWAY = 0.1
"""How far a thermometer's mean may be off 1, beyond chance, before a chain is flagged."""

ERRORS = 5.0
"""Standard errors that count as chance."""

THERMOMETERS = {"kinetic_temperature": "momenta", "configurational_temperature": "positions"}


class StochasticOptions(Options):
    """Options of every sampler by stochastic gradients."""

    learning_rate: Positive = Field(
        0.01,
        description="Step of gradient descent on the mean loss of the rows: the squared step of "
        "the dynamics is learning_rate * T / N, stable alike at every N and temperature.",
    )
    batch_size: Count | None = Field(
        None, description="Training rows of a gradient; all if not given."
    )
    thin: Count = Field(100, description="Steps, each with its own batch, of one kept draw.")
    control_variates: bool = Field(
        False,
        description="A batch's gradient is taken as its difference from a centre, found in "
        "warm-up, where the full gradient is known: twice the work, less noise near the centre.",
    )


class DecayOptions(StochasticOptions):
    """Options of samplers whose step may fall for ever."""

    step_schedule: Literal["constant", "polynomial"] = Field(
        "constant",
        description="'polynomial': the step falls as (1 + t / decay_steps)^-decay_power from the "
        "first step of warm-up on, so that the bias vanishes; draws are not weighted.",
    )
    decay_power: Positive = Field(1.0 / 3.0, le=1.0, description="Of the polynomial schedule.")
    decay_steps: Positive = Field(1000.0, description="Of the polynomial schedule.")


Estimate = Callable[[Array], Array]
"""Position to an estimate of the gradient of the log density there."""


class Place(NamedTuple):
    """What a move is told.

    Attributes:
        size: e = h^2, squared step of the dynamics on the tempered target.
        heat: factor of the temperature, below 1 only in the first part of a cycle.
        per_datum: factor from a gradient of the log density to one of the mean loss.
        warming: whether draws are not kept yet.
        first: whether this is the first step of a draw.
    """

    size: Array
    heat: Array
    per_datum: Array
    warming: Array
    first: Array


class Moving(NamedTuple):
    """A position and what the kernel keeps beside it.

    Attributes:
        u: unconstrained position ``(dim,)``.
        own: the kernel's own arrays.
    """

    u: Array
    own: Any


class ChainState(NamedTuple):
    """State of a chain.

    Attributes:
        now: where it is.
        last: where it was when its gradient was last finite, which a failed step goes back to.
        batches: the current pass over the rows; None with the full batch or independent batches.
        centre: of control variates, or None.
        taken: steps so far.
    """

    now: Moving
    last: Moving
    batches: Batches | None
    centre: Centre | None
    taken: Array


class StochasticGradient(Backend):
    """A draw is made of minibatches' gradients; how, subclasses say.

    Here is what they have in common: options, centres of control variates, and what is flagged.
    """

    learning_rate: Leaf
    thin: Leaf
    batch_size: int | None
    control_variates: bool

    splits_rows = True
    stats: tuple[str, ...] = (
        *("lp", "diverging", "step_size", "n_steps", "configurational_temperature"),
    )
    default_warmup = 200
    independent = False
    """Batches are drawn anew each step, where the kernel takes its noise to be white."""
    probes = 1
    """Gradients, or what costs as much, of one look at a batch."""
    warmer = "raise warmup"
    """What helps where draws are too cold."""

    # -- for subclasses ----------------------------------------------------------------------

    @abstractmethod
    def begin(self, posterior: Posterior, u: Array) -> Any:
        """What the kernel keeps beside its position, at the start; traced.

        Args:
            posterior: the target.
            u: unconstrained position ``(dim,)``.
        """

    @abstractmethod
    def draw(
        self, posterior: Posterior, state: ChainState, stage: Array, key: Array
    ) -> tuple[ChainState, Step]:
        """The way to the next kept draw; traced.

        Args:
            posterior: the target.
            state: of the chain.
            stage: what the draw is for.
            key: typed key.
        """

    # -- the contract ------------------------------------------------------------------------

    def schedule(self, warmup: int) -> np.ndarray:
        """Plain steps; with control variates, in the first half the centre climbs (``SLOW``)."""
        stages = np.full(warmup, Stage.FAST, np.int32)
        if self.control_variates:
            stages[: warmup // 2] = Stage.SLOW
            stages[warmup // 2 - 1 : warmup // 2] = Stage.SLOW_END
        return stages

    def check(self, posterior: Posterior) -> None:
        """The batch is no larger than the data, rows are free, and control variates have one."""
        minibatches.check_batch_size(posterior, self.batch_size)
        if self.control_variates and self.batch_size is None:
            raise InputError(
                "inference.control_variates = true needs inference.batch_size: "
                "the full gradient has no noise to take away"
            )

    def init(self, posterior: Posterior, u: Array) -> ChainState:
        """At rest at the starting position."""
        at = Moving(u, self.begin(posterior, u))
        batches = None
        if self.batch_size is not None and not self.independent:
            batches = minibatches.begin(posterior.rows)
        centre = control_variates.begin(posterior, u) if self.control_variates else None
        return ChainState(at, at, batches, centre, jnp.zeros((), jnp.int32))

    def step(
        self, posterior: Posterior, state: ChainState, stage: Array, key: Array
    ) -> tuple[ChainState, Step]:
        """``thin`` steps, or one step of the centre."""
        if not self.control_variates:
            return self.draw(posterior, state, stage, key)
        return jax.lax.cond(
            (stage == Stage.SLOW) | (stage == Stage.SLOW_END),
            lambda: self._climb(posterior, state, stage),
            lambda: self.draw(posterior, state, stage, key),
        )

    def squared_step(self, posterior: Posterior) -> Array:
        """E = learning_rate T L / N; traced."""
        temperature = posterior.posterior_temperature * posterior.likelihood_temperature
        return jnp.asarray(self.learning_rate * temperature / posterior.rows, posterior.x.dtype)

    def _climb(
        self, posterior: Posterior, state: ChainState, stage: Array
    ) -> tuple[ChainState, Step]:
        """One step of the centre, which the chain is put down at in the end."""
        assert state.centre is not None
        centre = control_variates.climb(posterior, state.centre)
        done = stage == Stage.SLOW_END
        u = jnp.where(done, centre.position, state.now.u)
        at = Moving(u, self.begin(posterior, u))
        state = state._replace(now=at, last=at, centre=centre)
        zero = jnp.zeros((), u.dtype)
        stats = dict.fromkeys(self.stats, zero)
        stats |= {"lp": posterior.log_density(u), "n_steps": jnp.ones((), u.dtype)}
        thermometers = {name: jnp.full((), jnp.nan, u.dtype) for name in THERMOMETERS}
        stats |= {name: value for name, value in thermometers.items() if name in self.stats}
        return state, Step(u, stats)

    def _cost(self) -> int:
        return self.probes * (2 if self.control_variates else 1)

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """Gradients of a batch, or of all rows without one; two a step with control variates."""
        return int(np.nansum(stats["n_steps"])) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Steps that were not taken, and temperatures off their target's."""
        found = []
        failed = int(stats["diverging"].sum())
        if failed:
            message = (
                f"{failed} steps met a gradient or position that is not finite and were not taken; "
                f"lower learning_rate = {self.learning_rate:g}"
            )
            found.append(Flag("divergent", message))
        for name, what in THERMOMETERS.items():
            if name in stats:
                found += self._off(name, what, stats[name])
        return found

    def _off(self, name: str, what: str, values: np.ndarray) -> list[Flag]:
        mean, error = mean_with_error(values[None])
        if not abs(mean - 1.0) > LEEWAY + ERRORS * error:
            return []
        hot = "too hot: lower learning_rate, or raise batch_size"
        verdict = hot if mean > 1 else f"too cold: {self.warmer}"
        named = name.replace("_", " ")
        message = f"{named} {mean:.2f} +- {error:.2f} of the target's: {what} are {verdict}"
        return [Flag("warning", message)]


class Stepwise(StochasticGradient):
    """A draw is ``thin`` steps of a kernel, each with a gradient of its own batch.

    Subclasses say what is kept beside a position (:meth:`begin`) and how it moves (:meth:`move`).
    """

    @abstractmethod
    def move(
        self, posterior: Posterior, at: Moving, force: Any, place: Place, noise: Array
    ) -> tuple[Moving, Array]:
        """One step; traced.

        Args:
            posterior: the target, for its sites; its gradient is in ``force``.
            at: where the chain is.
            force: what :meth:`look` gave there.
            place: step and temperature.
            noise: standard normal ``(dim,)``, fresh each step.

        Returns:
            Where the chain is next, and its kinetic temperature (of no meaning without momentum).
        """

    def look(self, estimate: Estimate, u: Array, key: Array) -> Any:
        """The gradient at ``u``, and what else the kernel needs of the same batch; traced.

        Args:
            estimate: of the gradient.
            u: unconstrained position ``(dim,)``.
            key: typed key.
        """
        return estimate(u)

    def gradient_of(self, force: Any) -> Array:
        """The gradient in what :meth:`look` gave."""
        return force

    def settled(self, within: Array) -> Array:
        """Whether temperatures, so late in a draw, should be the target's; traced.

        Args:
            within: steps since this draw began.
        """
        return jnp.ones_like(within, bool)

    def factors(self, taken: Array, within: Array) -> tuple[Array, Array]:
        """Factors of the squared step and of the temperature; traced.

        Args:
            taken: steps so far.
            within: steps since this draw began.
        """
        one = jnp.ones_like(taken)
        return one, one

    def report(self, own: Any) -> dict[str, Array]:
        """Statistics of the kernel's own, at the end of a draw.

        Args:
            own: what is kept beside the position.
        """
        return {}

    def draw(
        self, posterior: Posterior, state: ChainState, stage: Array, key: Array
    ) -> tuple[ChainState, Step]:
        """``thin`` steps, the noise of each drawn at the end of the one before.

        Where a step draws its own, XLA's CPU compiler makes one computation of drawing and moving,
        takes it for heavy and splits it over threads, which for a small network costs more of
        the processor's time than the gradient.
        """
        real = state.now.u.dtype

        def keys(i: Array) -> Array:
            return jax.random.split(jax.random.fold_in(key, i), 3)

        def drawn(i: Array) -> Array:
            return jax.random.normal(keys(i)[2], state.now.u.shape, real)

        def inner(i: Array, carry: Any) -> Any:
            state, sums, _, noise = carry
            state, seen, size = self._inner(posterior, state, stage, i, keys(i), noise)
            return state, sums + seen, size, drawn(i + 1)

        first = jnp.zeros((), jnp.int32)
        begun = (state, jnp.zeros(4, real), jnp.zeros((), real), drawn(first))
        state, sums, size, _ = jax.lax.fori_loop(0, self.thin, inner, begun)
        failed, read, configurational, kinetic = sums
        stats = {
            "lp": posterior.log_density(state.now.u),
            "diverging": failed,
            "step_size": jnp.sqrt(size),
            "n_steps": jnp.asarray(self.thin * self._cost(), real),
            "configurational_temperature": configurational / read,
            "kinetic_temperature": kinetic / read,
            **self.report(state.now.own),
        }
        return state, Step(state.now.u, {name: stats[name] for name in self.stats})

    def _inner(
        self,
        posterior: Posterior,
        state: ChainState,
        stage: Array,
        within: Array,
        keys: Array,
        noise: Array,
    ) -> tuple[ChainState, Array, Array]:
        """One step; failures, readings and both thermometers' ``(4,)``; squared step."""
        key_batch, key_look = keys[0], keys[1]
        estimate, batches = self.estimator(posterior, state, key_batch)
        real = state.now.u.dtype
        within = within.astype(real)
        faster, heat = self.factors(state.taken.astype(real), within)
        size = faster * self.squared_step(posterior)
        temperature = posterior.posterior_temperature * posterior.likelihood_temperature
        per_datum = jnp.asarray(temperature / posterior.rows, real)
        place = Place(size, heat, per_datum, stage != Stage.SAMPLE, within == 0.0)
        # Whole before anything reads it: else each sum puts it together from its layers again.
        force = jax.lax.optimization_barrier(self.look(estimate, state.now.u, key_look))
        gradient = self.gradient_of(force)
        moved, kinetic = self.move(posterior, state.now, force, place, noise)
        configurational = -jnp.sum(state.now.u * gradient) / state.now.u.size
        # The gradient speaks of where the chain is already: where that is no good, it goes back.
        # No gradient that is not finite leaves that sum finite.
        fine = jnp.isfinite(configurational) & jnp.isfinite(moved.u).all()
        back = state.last
        now = jax.tree.map(lambda new, old: jnp.where(fine, new, old), moved, back)
        last = jax.tree.map(lambda new, old: jnp.where(fine, new, old), state.now, back)
        nothing = jnp.zeros(4, real)
        seen = jnp.stack([nothing[0], jnp.ones((), real), configurational, kinetic])
        seen = jnp.where(self.settled(within), seen, nothing)
        seen = jnp.where(fine, seen, nothing.at[0].set(1.0))
        return ChainState(now, last, batches, state.centre, state.taken + 1), seen, size

    def estimator(
        self, posterior: Posterior, state: ChainState, key: Array
    ) -> tuple[Estimate, Batches | None]:
        """The gradient of the next batch, as a function of position; traced.

        Args:
            posterior: the target.
            state: of the chain.
            key: typed key.

        Returns:
            The estimate, and where the pass over the rows is then.
        """
        if self.batch_size is None:
            return jax.grad(posterior.log_density), None
        batches = state.batches
        if batches is None:
            batch = minibatches.independent_batch(posterior.rows, self.batch_size, key)
        else:
            batch, batches = minibatches.next_batch(batches, self.batch_size, key)
        centre = state.centre
        if centre is not None:
            return lambda u: control_variates.estimate(posterior, centre, u, batch), batches
        return lambda u: jax.grad(posterior.log_density)(u, batch), batches


class Decaying(Stepwise):
    """One whose step may fall as a polynomial of the number of steps."""

    step_schedule: str
    decay_power: Leaf
    decay_steps: Leaf

    def factors(self, taken: Array, within: Array) -> tuple[Array, Array]:
        """The polynomial schedule, or ones."""
        one = jnp.ones_like(taken)
        if self.step_schedule == "constant":
            return one, one
        return step_schedules.polynomial(taken, self.decay_power, self.decay_steps), one


COMMON_NUMBERS = ("learning_rate", "thin")
COMMON_STRUCTURE = ("batch_size", "control_variates")
DECAY_NUMBERS = (*COMMON_NUMBERS, "decay_power", "decay_steps")
DECAY_STRUCTURE = (*COMMON_STRUCTURE, "step_schedule")
