"""Networks trained by maximum likelihood from independent starts: no prior, no weight decay."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import Float

from bnnzoo.inference import minibatches, optimising
from bnnzoo.inference.minibatches import Batches
from bnnzoo.inference.optimising import Descent
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior

Optimiser = Literal["sgd", "adam"]

MOMENTUM = 0.9
"""Of ``sgd``."""


class Trained(NamedTuple):
    """Networks before and after.

    Attributes:
        start: unconstrained vectors ``(network, dim)``.
        end: the same after training.
        loss: minus the mean log-likelihood of a training row, nats, before and after ``(network,
            2)``.
        refused: steps whose loss was not finite ``(network,)``.
    """

    start: Float[Array, "network dim"]
    end: Float[Array, "network dim"]
    loss: Float[Array, "network 2"]
    refused: Float[Array, " network"]


def train_networks(
    posterior: Posterior,
    networks: int,
    seed: int,
    optimiser: Optimiser,
    steps: int,
    learning_rate: float,
    batch_size: int | None,
) -> Trained:
    """Train networks from kernels of scale gain / sqrt(fan-in), biases 0.

    What the likelihood samples of its own (a noise scale) stays at 1: its likelihood grows without
    bound as a network fits its data ever closer.

    Args:
        posterior: of the network under a Gaussian prior of std 1, from which starts are drawn and
            which is used for nothing else.
        networks: how many.
        seed: of starts and batches.
        optimiser: gradient descent with momentum, or Adam.
        steps: of each network.
        learning_rate: of the first step, falling to nothing along a cosine; of the mean loss.
        batch_size: rows of a gradient, in passes over shuffled rows; None takes all.
    """
    assert posterior.network is not None
    roles = {info.path: info.role for info in posterior.network.infos}
    kept, shift = np.zeros((2, posterior.dimension))
    moving = np.zeros(posterior.dimension, bool)
    for site in posterior.sites:
        place = slice(site.offset, site.offset + site.size)
        role = roles.get(site.name)
        moving[place] = role is not None
        kept[place] = role in ("kernel", "embedding")
        shift[place] = role == "scale"
    for_start, for_batches = jax.random.split(jax.random.key(seed))
    real = posterior.x.dtype
    return _train(
        posterior,
        jax.random.split(for_start, networks),
        jax.random.split(for_batches, networks),
        jnp.asarray(kept, real),
        jnp.asarray(shift, real),
        jnp.asarray(moving),
        jnp.asarray(steps),
        jnp.asarray(learning_rate, real),
        optimiser,
        batch_size,
    )


@functools.partial(jax.jit, static_argnames=("optimiser", "batch_size"))
def _train(
    posterior: Posterior,
    for_start: Array,
    for_batches: Array,
    kept: Array,
    shift: Array,
    moving: Array,
    steps: Array,
    rate: Leaf,
    optimiser: Optimiser,
    batch_size: int | None,
) -> Trained:
    direction = optax.trace(MOMENTUM) if optimiser == "sgd" else optax.scale_by_adam()

    def one(keys: tuple[Array, Array]) -> Trained:
        start = kept * posterior.initial(keys[0]) + shift

        def on(u: Array, rows: Array | None = None) -> Array:
            u = jnp.where(moving, u, start)
            return -posterior.log_likelihood(u, rows) / posterior.rows

        def body(i: Array, carry: tuple[Descent, Batches]) -> tuple[Descent, Batches]:
            here, batches = carry
            key = jax.random.fold_in(keys[1], i)
            rows = None
            if batch_size is not None:
                rows, batches = minibatches.next_batch(batches, batch_size, key)
            pace = rate * optimising.cosine(i.astype(start.dtype), steps)
            moved, _ = optimising.advance(direction, here, lambda u, _: on(u, rows), pace, key)
            return moved, batches

        begin = (optimising.start(direction, start), minibatches.begin(posterior.rows))
        here, _ = jax.lax.fori_loop(0, steps, body, begin)
        end = optimising.settle(here, lambda u, _: on(u), keys[1])
        return Trained(start, end, jnp.stack([on(start), on(end)]), here.refused)

    return jax.lax.map(one, (for_start, for_batches))
