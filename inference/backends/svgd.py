"""Stein variational gradient descent."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float
from pydantic import Field

from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.minibatches import check_batch_size, draw_batch
from bnnzoo.inference.variational import LEAST_STEPS, cosine
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register


class SVGDOptions(Options):
    """Options of ``svgd``."""

    particles: Annotated[int, Field(gt=1)] = Field(
        100, description="Particles of each chain; draw i is particle i."
    )
    learning_rate: Positive = Field(
        0.05, description="Step of Adam at the start; it falls to a hundredth along a cosine."
    )
    batch_size: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Training rows per gradient, drawn without replacement; all if not given."
    )
    at_once: Annotated[int, Field(gt=0)] = Field(
        128, description="Particles whose gradients are in memory at the same time."
    )


class SVGDState(NamedTuple):
    """The particles, and how they move.

    Attributes:
        u: particles ``(particle, dim)``.
        optimiser: Adam's state.
        done: updates so far; the particles are drawn in the first.
        update: length of the last one in units of the particles' spread.
        cursor: the particle the next step shows.
    """

    u: Array
    optimiser: Any
    done: Array
    update: Array
    cursor: Array


def stein_direction(
    u: Float[Array, "particle dim"], gradients: Float[Array, "particle dim"]
) -> Float[Array, "particle dim"]:
    """The direction of steepest descent of KL(particles || target) in the kernel's space.

    phi(u_i) = mean_j k(u_j, u_i) grad log p(u_j) + grad_j k(u_j, u_i), k(a, b) =
    exp(-|a - b|^2 / h), h = median of |u_i - u_j|^2 over pairs / log(particles).

    Args:
        u: particles.
        gradients: of the log density at each.

    Source: Liu & Wang (2016), Stein Variational Gradient Descent, eq. 8 and sec. 5.
    """
    count = len(u)
    # Centred: the squares of far-off positions would swallow their differences.
    centred = u - u.mean(0)
    lengths = jnp.sum(centred**2, axis=1)
    squares = jnp.maximum(lengths[:, None] + lengths[None] - 2.0 * centred @ centred.T, 0.0)
    pairs = squares[np.tril_indices(count, -1)]
    width = jnp.median(pairs) / jnp.log(count)
    width = jnp.maximum(width, jnp.finfo(u.dtype).tiny)
    kernel = jnp.exp(-squares / width)
    repulsion = 2.0 / width * (kernel.sum(1)[:, None] * centred - kernel @ centred)
    return (kernel @ gradients + repulsion) / count


@functools.partial(
    register_dataclass,
    data_fields=("learning_rate", "steps"),
    meta_fields=("particles", "batch_size", "at_once"),
)
@dataclass(frozen=True)
class SVGD(Backend):
    """Particles moved together towards the tempered posterior.

    ``steps`` is the number of updates the learning rate's schedule is laid over.
    """

    learning_rate: Leaf
    steps: Leaf
    particles: int
    batch_size: int | None
    at_once: int

    splits_rows = True
    stats = ("lp", "update", "gradients", "particles")
    default_warmup = 2000

    def schedule(self, warmup: int) -> np.ndarray:
        """Every warm-up step is one update of all particles."""
        return np.full(warmup, Stage.SLOW, np.int32)

    def planned(self, warmup: int) -> SVGD:
        """The learning rate falls over exactly these steps."""
        return dataclasses.replace(self, steps=max(warmup, 1))

    def check(self, posterior: Posterior) -> None:
        """The batch is no larger than the data, and rows are free of latent sites."""
        check_batch_size(posterior, self.batch_size)

    def init(self, posterior: Posterior, u: Array) -> SVGDState:
        """All at the start; the first update draws them."""
        particles = jnp.broadcast_to(u, (self.particles, u.size))
        zero = jnp.zeros((), u.dtype)
        optimiser = optax.scale_by_adam().init(particles)
        return SVGDState(particles, optimiser, zero, zero, jnp.zeros((), jnp.int32))

    def step(
        self, posterior: Posterior, state: SVGDState, stage: Array, key: Array
    ) -> tuple[SVGDState, Step]:
        """One update of all particles, or the next particle once sampling."""
        return jax.lax.cond(
            stage == Stage.SAMPLE,
            lambda: self._show(posterior, state),
            lambda: self._update(posterior, state, key),
        )

    def _show(self, posterior: Posterior, state: SVGDState) -> tuple[SVGDState, Step]:
        u = state.u[state.cursor]
        real = u.dtype
        stats = {
            "lp": posterior.log_density(u),
            "update": state.update,
            "gradients": jnp.zeros((), real),
            "particles": jnp.asarray(self.particles, real),
        }
        cursor = (state.cursor + 1) % self.particles
        return state._replace(cursor=cursor), Step(u, stats)

    def _update(self, posterior: Posterior, state: SVGDState, key: Array) -> tuple[SVGDState, Step]:
        key_start, key_batch = jax.random.split(key)
        begin = (state.done == 0).astype(jnp.int32)
        # A loop of no or one pass, not cond: vmapped over chains, cond would draw at every step.
        u = jax.lax.fori_loop(0, begin, lambda *_: self._start(posterior, key_start), state.u)
        batch = draw_batch(posterior, self.batch_size, key_batch)

        def one(u: Array) -> tuple[Array, Array]:
            return jax.value_and_grad(lambda u: posterior.log_density(u, batch))(u)

        lp, gradients = jax.lax.map(one, u, batch_size=min(self.at_once, self.particles))
        # A particle in a place without density is carried by the others.
        gradients = jnp.where(jnp.isfinite(gradients), gradients, 0.0)
        phi = stein_direction(u, gradients)
        direction, optimiser = optax.scale_by_adam().update(phi, state.optimiser)
        u = u + cosine(self.learning_rate, state.done, self.steps) * direction
        size = jnp.sqrt(jnp.mean((phi * jnp.std(u, axis=0)) ** 2))
        state = SVGDState(u, optimiser, state.done + 1.0, size, state.cursor)
        stats = {
            "lp": lp.mean(),
            "update": size,
            "gradients": jnp.asarray(self.particles, u.dtype),
            "particles": jnp.asarray(self.particles, u.dtype),
        }
        return state, Step(u[state.cursor], stats)

    def _start(self, posterior: Posterior, key: Array) -> Array:
        """Particles from the prior, one by one: batched, its samplers take seconds to compile."""
        return jax.lax.map(posterior.initial, jax.random.split(key, self.particles))

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """One a particle and update."""
        return int(np.nansum(stats["gradients"])) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Particles still on their way, and particles shown more than once."""
        found = []
        steps, particles = len(warmup.get("update", ())), int(stats["particles"][-1])
        update, bar = float(stats["update"][-1]), particles**-0.5
        if steps < LEAST_STEPS:
            message = f"{steps} updates are too few to judge the particles; raise warmup"
            found.append(Flag("unconverged", message))
        elif not update < bar:
            message = (
                f"particles would still move by {update:.2g} of their spread an update; "
                f"{bar:.2g} is what independent exact draws would show; raise warmup or "
                "learning_rate"
            )
            found.append(Flag("unconverged", message))
        draws = len(stats["lp"])
        if draws > particles:
            message = (
                f"{draws} draws show {particles} particles again and again: no more than "
                f"{particles} are different; raise particles or ask for fewer draws"
            )
            found.append(Flag("warning", message))
        return found


@register(
    "backends",
    "svgd",
    summary="Particles pushed to the posterior and away from each other: no randomness left.",
    options=SVGDOptions,
    references=(
        "Liu & Wang (2016), Stein Variational Gradient Descent, alg. 1",
        "Ba et al. (2021), Understanding the Variance Collapse of SVGD in High Dimensions",
    ),
    tags={"exact": False, "family": "variational", "gradients": "minibatch"},
    facts={
        "exact for": "no finite number of particles",
        "bias": "parameters / particles: variances too small",
        "a draw costs": "nothing, after the fit",
        "memory": "four sets of particles, and particles squared",
        "choose it": "few parameters in a bent posterior",
    },
    notes="A chain is one set of particles that begin as draws of the prior; a warm-up step moves "
    "all of them by Adam along the Stein direction of a Gaussian kernel, bandwidth by the median. "
    "Draw i is particle i: ask for as many draws as particles. Exact for none with finitely many "
    "particles; the bias falls with their number, and where there are more parameters than "
    "particles variances collapse (Ba et al. 2021). Particles are spread out evenly, not "
    "independent: the effective draws and standard errors of a report do not apply. Cost: "
    "particles gradients a step, nothing a draw but one density; memory: four sets of particles "
    "and a square matrix of them. Take it for a few parameters in a bent or multimodal posterior, "
    "when few points are to stand for it.",
)
def svgd(options: SVGDOptions) -> SVGD:
    """The backend of these options."""
    return SVGD(
        options.learning_rate,
        SVGD.default_warmup,
        options.particles,
        options.batch_size,
        options.at_once,
    )
