"""Stochastic gradient Hamiltonian Monte Carlo, its metric and noise found in warm-up."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference.backend import Flag, Stage, Step
from bnnzoo.inference.stochastic_gradient import (
    COMMON_NUMBERS,
    COMMON_STRUCTURE,
    ChainState,
    Moving,
    Place,
    Stepwise,
    StochasticOptions,
)
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Fraction, Positive
from bnnzoo.registry import register


class SGHMCOptions(StochasticOptions):
    """Options of ``sghmc``."""

    thin: Count = Field(50, description="Steps, each with its own batch, of one kept draw.")

    learning_rate: Positive = Field(
        1e-4,
        description="Squared step per datum in the metric of root mean squared gradients, the "
        "paper's epsilon^2: its epsilon is 0.01.",
    )
    friction: Fraction = Field(0.05, description="Share of the momentum lost at each step.")
    noise_correction: bool = Field(
        True,
        description="Inject less noise by what the batches bring, which warm-up measures by pairs "
        "of batches.",
    )


class Adaptive(NamedTuple):
    """Momentum, and what warm-up has learnt; frozen once draws are kept.

    Attributes:
        velocity: displacement a step ``(dim,)``.
        heated: warm-up steps so far.
        window: steps that the averages remember ``(dim,)``.
        mean: average gradient of the mean loss ``(dim,)``.
        square: average of its square ``(dim,)``.
        metric: running mean of ``square``, whose root steps are measured in ``(dim,)``.
        learnt: steps behind it.
        noise: variance of a batch's gradient of the log density ``(dim,)``.
        pairs: pairs of batches behind it.
        starved: share of coordinates whose batches bring more noise than the friction takes.
    """

    velocity: Array
    heated: Array
    window: Array
    mean: Array
    square: Array
    metric: Array
    learnt: Array
    noise: Array
    pairs: Array
    starved: Array


@functools.partial(
    register_dataclass,
    data_fields=(*COMMON_NUMBERS, "friction", "heating"),
    meta_fields=(*COMMON_STRUCTURE, "noise_correction"),
)
@dataclass(frozen=True)
class SGHMC(Stepwise):
    """Springenberg's scale-adapted SGHMC.

    The paper takes the whole second moment of a gradient for its noise, whence its -epsilon^4. That
    is right for small batches far from flat and wrong for large ones, where the chain then freezes;
    so the noise is measured here, as half the squared difference of two batches' gradients at one
    place. With all rows there is none. Batches are independent, as the correction supposes: noise
    that cancels within a pass over the data must not be taken off.

    ``heating`` steps of warm-up come before the averages: a chain starts at rest near a mode, where
    gradients are far below what they are among draws, and a metric of those is unstable. The metric
    is the mean of the paper's average over the rest of warm-up: where batches have little noise the
    paper's window is a step or two, and its last value may be next to nothing.
    """

    learning_rate: Leaf
    thin: Leaf
    friction: Leaf
    heating: Leaf
    batch_size: int | None
    control_variates: bool
    noise_correction: bool

    stats = (*Stepwise.stats, "kinetic_temperature", "starved")
    independent = True

    def planned(self, warmup: int) -> SGHMC:
        """A quarter of the warm-up's plain steps only heats."""
        plain = int(np.sum(self.schedule(warmup) == Stage.FAST))
        return dataclasses.replace(self, heating=plain * self.thin // 4)

    def begin(self, posterior: Posterior, u: Array) -> Any:
        """At rest, with averages of weight one."""
        zero, one = jnp.zeros_like(u), jnp.ones_like(u)
        none = jnp.zeros((), u.dtype)
        return Adaptive(zero, none, one, zero, one, one, none, zero, none, none)

    def move(
        self, posterior: Posterior, at: Moving, force: Any, place: Place, noise: Array
    ) -> tuple[Moving, Array]:
        """Springenberg et al. (2016), eqs. 9 to 12, with the measured noise in place of V."""
        own = at.own
        adapted = self._adapt(own, place.per_datum * force)
        learns = place.warming & (own.heated >= self.heating)
        own = jax.tree.map(lambda new, old: jnp.where(learns, new, old), adapted, own)
        own = own._replace(heated=own.heated + place.warming)
        tiny = jnp.finfo(at.u.dtype).tiny
        scaled = place.size / jnp.sqrt(jnp.maximum(own.metric, tiny))
        injected = 2.0 * self.friction * scaled - scaled**2 * own.noise
        velocity = (1.0 - self.friction) * own.velocity + scaled * force
        velocity = velocity + jnp.sqrt(jnp.maximum(injected, 0.0)) * noise
        # A free particle's mean square is 2 / (2 - friction) of its temperature in these steps.
        kinetic = (1.0 - 0.5 * self.friction) * jnp.mean(velocity**2 / scaled)
        starved = jnp.mean((injected <= 0.0).astype(at.u.dtype))
        own = own._replace(velocity=velocity, starved=starved)
        return Moving(at.u + velocity, own), kinetic

    def _adapt(self, own: Adaptive, gradient: Array) -> Adaptive:
        """Eqs. 10 to 12: a window that is short where the mean gradient tells from its noise."""
        tiny = jnp.finfo(gradient.dtype).tiny
        told = jnp.clip(own.mean**2 / jnp.maximum(own.square, tiny), 0.0, 1.0)
        window = own.window * (1.0 - told) + 1.0
        mean = own.mean + (gradient - own.mean) / window
        square = own.square + (gradient**2 - own.square) / window
        learnt = own.learnt + 1.0
        metric = own.metric + (square - own.metric) * 2.0 / (learnt + 1.0)
        return own._replace(window=window, mean=mean, square=square, metric=metric, learnt=learnt)

    def draw(
        self, posterior: Posterior, state: ChainState, stage: Array, key: Array
    ) -> tuple[ChainState, Step]:
        key_pair, key_steps = jax.random.split(key)
        measured = self.batch_size is not None and self.noise_correction
        if measured:
            state = jax.lax.cond(
                stage == Stage.SAMPLE,
                lambda: state,
                lambda: self._measure(posterior, state, key_pair),
            )
        state, step = super().draw(posterior, state, stage, key_steps)
        pair = 2.0 * self._cost() * (stage != Stage.SAMPLE) if measured else 0.0
        return state, Step(step.u, step.stats | {"n_steps": step.stats["n_steps"] + pair})

    def report(self, own: Any) -> dict[str, Array]:
        """Share of parameters without injected noise."""
        return {"starved": own.starved}

    def _measure(self, posterior: Posterior, state: ChainState, key: Array) -> ChainState:
        """Half the squared difference of two batches' gradients, averaged over warm-up."""

        def gradient(own: Array) -> Array:
            return self.estimator(posterior, state, own)[0](state.now.u)

        first, second = jax.lax.map(gradient, jax.random.split(key))
        seen = 0.5 * (first - second) ** 2
        own = state.now.own
        pairs = own.pairs + 1.0
        # The later half weighs three quarters: the chain has yet to arrive in the earlier one.
        noise = own.noise + (seen - own.noise) * 2.0 / (pairs + 1.0)
        fine = jnp.isfinite(noise).all()
        learnt = own._replace(
            noise=jnp.where(fine, noise, own.noise), pairs=jnp.where(fine, pairs, own.pairs)
        )
        return state._replace(now=Moving(state.now.u, learnt))

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Also noise of the batches beyond what friction can take, and a warm-up too short."""
        found = super().flags(stats, warmup)
        starved = float(np.mean(stats["starved"]))
        if starved > 0.01:
            message = (
                f"the batches' noise exceeds what friction = {self.friction:g} takes in "
                f"{starved:.0%} of parameters: they are too hot; lower learning_rate, or raise "
                "batch_size or friction"
            )
            found.append(Flag("warning", message))
        if len(warmup.get("lp", ())) == 0:
            message = "no warm-up: the metric is that of the first guess; raise warmup"
            found.append(Flag("warning", message))
        return found


@register(
    "backends",
    "sghmc",
    summary="Momentum with friction, a metric from warm-up's gradients, corrected batch noise.",
    options=SGHMCOptions,
    references=(
        "Chen, Fox & Guestrin (2014), Stochastic Gradient Hamiltonian Monte Carlo",
        "Springenberg, Klein, Falkner & Hutter (2016), Bayesian Optimization with Robust Bayesian "
        "Neural Networks, sec. 4.1",
    ),
    tags={"exact": False, "family": "sgmcmc", "gradients": "minibatch", "order": "1"},
    facts={
        "exact for": "a step of zero",
        "bias": "first order in learning_rate; the noise of batches is corrected",
        "a draw costs": "thin batches' gradients (50)",
        "memory": "13 vectors of the parameters",
        "choose it": "first, with minibatches",
    },
    notes="Exact for no target at a fixed step; the bias is of first order in learning_rate (a "
    "Gaussian's variance is 1 / (1 - e c / (2 (2 - friction))) too large, c its precision in the "
    "metric); that of the batch's noise is removed to the accuracy with which warm-up measured its "
    "variance, coordinate by coordinate. A draw costs thin gradients of a batch.",
)
def sghmc(options: SGHMCOptions) -> SGHMC:
    """The backend of these options."""
    return SGHMC(**dict(options), heating=SGHMC.default_warmup * options.thin // 4)
