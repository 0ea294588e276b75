"""Priors over functions: widths of weights at which a network draws the functions of a process.

For ``gpi-h`` and ``gpi-nf`` more than widths: shapes of variances, and planar flows.

Two objectives. *wasserstein* is Tran et al.'s: the Wasserstein-1 distance of function values at
measurement points, through its dual, a critic with a gradient penalty. *moments* needs no critic:
the squared Frobenius distance of second moments E[f f'], estimated without bias from two halves
of the draws. It sees nothing of a function's law but those.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.network import BoundNetwork
from bnnzoo.models.planar import Flow, invertible, pushed
from bnnzoo.models.priors.gp_matched import width_unit
from bnnzoo.models.process import Process
from bnnzoo.models.scaled_gaussian import centre_of

CRITIC_WIDTH = 200
PENALTY = 10.0
CRITIC_RATE = 0.02
LOWEST_SHAPE = 1.0
"""Shapes of inverse-gamma variances stay above: at 1 a variance has no mean and its functions no
Wasserstein distance to anything."""


class Widths(NamedTuple):
    """What is matched, by parameter path.

    Attributes:
        log_width: logarithm of each width.
        shape: unconstrained shape of each variance (gpi-h): the shape is 1 + exp of it.
        flow: unconstrained planar steps (gpi-nf): see :func:`flow_of`.
    """

    log_width: dict[str, Array]
    shape: dict[str, Array]
    flow: dict[str, Flow] | None = None


class Trace(NamedTuple):
    """Where a match went.

    Attributes:
        widths: after the last step, or averaged over the last tenth of them.
        objective: at every step ``(step,)``.
    """

    widths: Widths
    objective: Array


def start(
    network: BoundNetwork, variant: str, flow_steps: int = 4, key: Array | None = None
) -> Widths:
    """Widths of 1; shapes of 3, the hierarchical prior's default; flows that move nothing.

    Args:
        network: with its shapes fixed.
        variant: gpi-g, gpi-h or gpi-nf.
        flow_steps: planar steps of each flow (gpi-nf).
        key: a typed random key, for their projections (gpi-nf).
    """
    zeros = {i.path: jnp.zeros(()) for i in network.infos}
    shapes = {path: jnp.log(jnp.asarray(2.0)) for path in zeros} if variant == "gpi-h" else {}
    if variant != "gpi-nf":
        return Widths(zeros, shapes)
    assert key is not None
    flows = {}
    for info, own in zip(network.infos, jax.random.split(key, len(zeros)), strict=True):
        size = (flow_steps, math.prod(info.shape))
        flows[info.path] = Flow(jnp.zeros(size), jax.random.normal(own, size), jnp.zeros(size[0]))
    return Widths(zeros, shapes, flows)


def flow_of(raw: Flow) -> Flow:
    """Planar steps from their unconstrained values.

    The vectors are divided by the root of their length, so that an optimiser that moves every
    element alike moves a parameter of any size as far as a single number.

    Args:
        raw: the unconstrained values.
    """
    u, w, b = map(jnp.asarray, raw)
    root = math.sqrt(u.shape[-1])
    return Flow(invertible(u / root, w / root), w / root, b)


def shape_of(raw: Array) -> Array:
    """Shape of an inverse-gamma variance from its unconstrained value."""
    return LOWEST_SHAPE + jnp.exp(raw)


def draw_functions(
    network: BoundNetwork, widths: Widths, key: Array, x: Array, count: int
) -> Float[Array, "count row output"]:
    """Functions of a network, differentiable in its widths.

    Args:
        network: with its shapes fixed.
        widths: of its parameters.
        key: a typed random key.
        x: inputs ``(row, *in_shape)``, modelled units.
        count: how many.
    """
    flows = None
    if widths.flow is not None:
        flows = {path: flow_of(raw) for path, raw in widths.flow.items()}

    paths = [info.path for info in network.infos]
    shapes = None
    if widths.shape:
        shapes = jnp.stack([shape_of(widths.shape[path]) for path in paths])

    def one(own: Array) -> Array:
        parameters = {}
        for_variances, *for_weights = jax.random.split(own, 1 + len(paths))
        spread = jnp.ones(len(paths), x.dtype)
        if shapes is not None:
            spread = jnp.sqrt(shapes / jax.random.gamma(for_variances, shapes))
        for number, info in enumerate(network.infos):
            width = jnp.exp(widths.log_width[info.path]) * width_unit(info) * spread[number]
            white = jax.random.normal(for_weights[number], info.shape, x.dtype)
            if flows is not None:
                white = pushed(flows[info.path], white.reshape(-1)).reshape(info.shape)
            parameters[info.path] = centre_of(info) + width * white
        return network.apply(parameters, x)

    return jax.vmap(one)(jax.random.split(key, count))


def moment_distance(first: Array, second: Array, target: Array) -> Array:
    """Unbiased estimate of |E[f f'] - target|_F^2 / |target|_F^2, mean over outputs.

    Args:
        first: functions ``(draw, row, output)``.
        second: others, independent of them.
        target: second moments of the process ``(row, row)``.
    """

    def gap(f: Array) -> Array:
        return jnp.einsum("dro,dso->ors", f, f) / f.shape[0] - target

    product = jnp.sum(gap(first) * gap(second), axis=(1, 2))
    return jnp.mean(product) / jnp.sum(target**2)


@functools.partial(
    register_dataclass, data_fields=("training", "low", "high"), meta_fields=("inside", "uniform")
)
@dataclass(frozen=True)
class Points:
    """Where functions are measured: some training inputs, and uniform points of their box.

    Attributes:
        training: inputs to choose from ``(row, *in_shape)``, modelled units.
        low: least of each input.
        high: greatest of each input.
        inside: how many training inputs a step takes.
        uniform: how many points of the box.
    """

    training: Array
    low: Array
    high: Array
    inside: int
    uniform: int

    def __call__(self, key: Array) -> Array:
        """Points of one step ``(inside + uniform, *in_shape)``.

        Args:
            key: a typed random key.
        """
        for_rows, for_box = jax.random.split(key)
        rows = jax.random.choice(for_rows, self.training.shape[0], (self.inside,), replace=False)
        shape = (self.uniform, *self.training.shape[1:])
        box = self.low + (self.high - self.low) * jax.random.uniform(for_box, shape)
        return jnp.concatenate([self.training[rows], box])


@functools.partial(jax.jit, static_argnames=("network", "process", "steps", "draws"))
def match_moments(
    network: BoundNetwork,
    process: Process,
    points: Points,
    widths: Widths,
    key: Array,
    steps: int,
    draws: int,
    rate: Leaf,
) -> Trace:
    """Adam on log widths, its rate falling to 0 as a cosine.

    Args:
        network: with its shapes fixed.
        process: what its functions should be like.
        points: where functions are measured.
        widths: where to start.
        key: a typed random key.
        steps: of the optimiser.
        draws: functions of each half of a step.
        rate: first learning rate.
    """
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def loss(now: Widths, own: Array) -> Array:
        for_points, for_target, for_first, for_second = jax.random.split(own, 4)
        x = points(for_points)
        target = process.second_moment(for_target, x.reshape(x.shape[0], -1))
        first = draw_functions(network, now, for_first, x, draws)
        second = draw_functions(network, now, for_second, x, draws)
        return moment_distance(first, second, target)

    return _descend(optimiser, jax.value_and_grad(loss), widths, jax.random.split(key, steps))


@functools.partial(
    jax.jit, static_argnames=("network", "process", "steps", "draws", "critic_steps")
)
def match_wasserstein(
    network: BoundNetwork,
    process: Process,
    points: Points,
    widths: Widths,
    key: Array,
    steps: int,
    draws: int,
    rate: Leaf,
    critic_steps: int,
) -> Trace:
    """Tran et al.'s saddle point: a critic anew for every step of RMSprop on the widths.

    Args:
        network: with its shapes fixed.
        process: what its functions should be like.
        points: where functions are measured.
        widths: where to start.
        key: a typed random key.
        steps: of the widths.
        draws: functions of either side a step.
        rate: learning rate of the widths, falling to 0 as a cosine.
        critic_steps: of Adagrad on the critic, each step of the widths.

    Source: Tran et al. (2022), algorithm 1; Gulrajani et al. (2017), eq. 3, for the penalty.
    """
    outer = optax.rmsprop(optax.cosine_decay_schedule(rate, steps), decay=0.99)
    inner = optax.adagrad(CRITIC_RATE)

    def flat(f: Array) -> Array:
        return f.reshape(f.shape[0], -1)

    def train(critic: Any, ours: Array, theirs: Array, own: Array) -> Any:
        def loss(now: Any, k: Array) -> Array:
            return -gap(now, ours, theirs) + PENALTY * penalty(now, ours, theirs, k)

        def step(carry: Any, k: Array) -> tuple[Any, None]:
            now, state = carry
            slope = jax.grad(loss)(now, k)
            change, state = inner.update(slope, state)
            return (optax.apply_updates(now, change), state), None

        begin = (critic, inner.init(critic))
        (critic, _), _ = jax.lax.scan(step, begin, jax.random.split(own, critic_steps))
        return critic

    def value_and_slope(now: Widths, own: Array) -> tuple[Array, Widths]:
        keys = jax.random.split(own, 6)
        x = points(keys[0])
        theirs = draw_process(process, keys[1], x, draws, network.outputs)
        ours = flat(draw_functions(network, now, keys[2], x, draws))
        critic = train(new_critic(keys[3], ours.shape[1]), ours, theirs, keys[4])

        def distance(at: Widths) -> Array:
            return gap(critic, flat(draw_functions(network, at, keys[5], x, draws)), theirs)

        return jax.value_and_grad(distance)(now)

    return _descend(outer, value_and_slope, widths, jax.random.split(key, steps))


def _descend(
    optimiser: Any, value_and_slope: Callable[..., Any], widths: Widths, keys: Array
) -> Trace:
    """A step of the widths for every key; the last tenth of them averaged."""

    def step(carry: tuple[Widths, Any], own: Array) -> tuple[tuple[Widths, Any], Any]:
        now, state = carry
        value, slope = value_and_slope(now, own)
        change, state = optimiser.update(slope, state)
        now = optax.apply_updates(now, change)
        return (now, state), (value, now)

    begin = (widths, optimiser.init(widths))
    _, (values, path) = jax.lax.scan(step, begin, keys)
    last = max(len(keys) // 10, 1)
    return Trace(jax.tree.map(lambda a: a[-last:].mean(0), path), values)


def draw_process(process: Process, key: Array, x: Array, count: int, outputs: int) -> Array:
    """Functions of a process ``(count, row * output)``, outputs independent.

    Args:
        process: the process.
        key: a typed random key.
        x: inputs ``(row, *in_shape)``, modelled units.
        count: how many functions.
        outputs: of each.
    """
    flat = x.reshape(x.shape[0], -1)
    drawn = process.draw(key, flat, count * outputs)
    return drawn.reshape(count, outputs, -1).swapaxes(1, 2).reshape(count, -1)


# -- the critic ------------------------------------------------------------------------------


def new_critic(key: Array, size: int) -> list[tuple[Array, Array]]:
    """Weights of a critic of two softplus layers.

    Args:
        key: a typed random key.
        size: of its input.
    """
    sizes = (size, CRITIC_WIDTH, CRITIC_WIDTH, 1)
    keys = jax.random.split(key, 3)
    shapes = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [(jax.random.normal(k, (m, n)) * m**-0.5, jnp.zeros(n)) for k, m, n in shapes]


def criticise(critic: list[tuple[Array, Array]], f: Array) -> Array:
    """The critic's value of functions ``(draw, size)``."""
    (w0, b0), (w1, b1), (w2, b2) = critic
    h = jax.nn.softplus(f @ w0 + b0)
    return (jax.nn.softplus(h @ w1 + b1) @ w2 + b2)[:, 0]


def gap(critic: list[tuple[Array, Array]], ours: Array, theirs: Array) -> Array:
    """How much higher the critic values their functions: the distance, at the best critic."""
    return criticise(critic, theirs).mean() - criticise(critic, ours).mean()


def penalty(critic: list[tuple[Array, Array]], ours: Array, theirs: Array, key: Array) -> Array:
    """Mean of (|gradient| - 1)^2 at random points between pairs."""
    share = jax.random.uniform(key, (ours.shape[0], 1), ours.dtype)
    between = share * ours + (1.0 - share) * theirs
    slope = jax.grad(lambda f: criticise(critic, f).sum())(between)
    return jnp.mean((jnp.sqrt(jnp.sum(slope**2, axis=1) + 1e-12) - 1.0) ** 2)
