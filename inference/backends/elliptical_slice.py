"""Elliptical slice sampling: likelihood evaluations alone, nothing to tune.

BlackJAX's kernel is not used: it accepts a proposal whose log-likelihood is NaN, and its loop does
not end where the slice level rounds to the current log-likelihood, which in float32 happens once in
some thousand slices as soon as the log-likelihood is of order 1e4.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.models import score, tempering
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.score import Scored, Site
from bnnzoo.options import Options
from bnnzoo.registry import register

MOST_SHRINKS = 100
"""Proposals of a slice: each halves the bracket or so, and 60 exhaust float64's resolution."""

GRID = np.linspace(-15.0, 15.0, 301)
"""Values of log x over which moments of a positive site's prior are summed."""

LEAST_MOVED = 10.0
"""Turns of a chain, in independent draws from the reference, under which it counts as stuck."""


class EllipticalSliceOptions(Options):
    """Options of ``elliptical-slice``."""

    sweeps: Annotated[int, Field(gt=0)] = Field(
        10, description="Slices a kept draw, each of a few likelihood evaluations."
    )


class SliceState(NamedTuple):
    """Position ``(dim,)``, and log target over reference there."""

    u: Array
    remainder: Array


class Reference(NamedTuple):
    """The target as a Gaussian times a remainder, in ``u``.

    Attributes:
        mean: of the Gaussian ``(dim,)``.
        deviation: a draw from it less its mean ``(dim,)``, from a key.
        remainder: log target less log Gaussian, up to a constant, from ``u``.
    """

    mean: Array
    deviation: Callable[[Array], Array]
    remainder: Callable[[Array], Array]


@functools.partial(register_dataclass, data_fields=("sweeps",), meta_fields=())
@dataclass(frozen=True)
class EllipticalSlice(Backend):
    """Slices on ellipses through the position and a draw from the tempered prior."""

    sweeps: Leaf

    splits_rows = True
    stats = ("lp", "n_steps", "angle")

    def schedule(self, warmup: int) -> np.ndarray:
        """Nothing is tuned: warm-up lets the start be forgotten."""
        return np.full(warmup, Stage.FAST, np.int32)

    def check(self, posterior: Posterior) -> None:
        """Sites are Gaussian or log-normal, or positive and free of other sites."""

        def trace(u: Array) -> Array:
            seen = _seen(posterior, u)
            for site in posterior.sites:
                _refuse(site, seen)
            return u

        jax.eval_shape(trace, jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype))

    def init(self, posterior: Posterior, u: Array) -> SliceState:
        """The remainder at the start."""
        return SliceState(u, reference(posterior).remainder(u))

    def step(
        self, posterior: Posterior, state: SliceState, stage: Array, key: Array
    ) -> tuple[SliceState, Step]:
        """``sweeps`` slices."""
        target = reference(posterior)

        def sweep(i: Array, carry: tuple[SliceState, Array, Array]) -> Any:
            state, evaluations, angles = carry
            state, tried, angle = slice_once(target, state, jax.random.fold_in(key, i))
            return state, evaluations + tried, angles + jnp.abs(angle)

        zero = jnp.zeros((), state.u.dtype)
        state, evaluations, angles = jax.lax.fori_loop(0, self.sweeps, sweep, (state, zero, zero))
        stats = {
            "lp": posterior.log_density(state.u),
            "n_steps": evaluations + 1.0,  # the last line's
            "angle": angles / self.sweeps,
        }
        return state, Step(state.u, stats)

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """None: ``n_steps`` counts likelihood evaluations."""
        return 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """A chain whose slices turn by next to nothing.

        A turn by an angle keeps cos(angle) of the position: to forget it takes
        1 / (1 - cos(angle)) slices.
        """
        moved = float(np.sum(1.0 - np.cos(stats["angle"]))) * float(self.sweeps)
        if moved < LEAST_MOVED:
            angle = float(np.mean(stats["angle"]))
            message = (
                f"slices turn by {angle:.2g} rad on average, {moved:.2g} independent draws in all: "
                "the data say far more than the prior; use hmc or nuts"
            )
            return [Flag("stuck", message)]
        return []


def slice_once(target: Reference, state: SliceState, key: Array) -> tuple[SliceState, Array, Array]:
    """One slice on an ellipse (Murray, Adams & MacKay 2010, fig. 2).

    A proposal whose remainder is not a number is outside the slice. Where the bracket has shrunk to
    nothing the chain stays.

    Args:
        target: Gaussian and remainder.
        state: where the chain stands.
        key: typed key.

    Returns:
        The next state, the number of evaluations, and the angle turned by.
    """
    key_other, key_level, key_angle, key_shrink = jax.random.split(key, 4)
    here = state.u - target.mean
    other = target.deviation(key_other)
    level = state.remainder + jnp.log(jax.random.uniform(key_level, dtype=here.dtype))
    first = jax.random.uniform(key_angle, dtype=here.dtype, maxval=2.0 * math.pi)

    def at(angle: Array) -> tuple[Array, Array]:
        u = target.mean + here * jnp.cos(angle) + other * jnp.sin(angle)
        return u, target.remainder(u)

    def outside(carry: Any) -> Array:
        tried, _, _, _, _, value = carry
        return ~(value >= level) & (tried < MOST_SHRINKS)

    def shrink(carry: Any) -> Any:
        tried, angle, low, high, _, _ = carry
        low = jnp.where(angle < 0, angle, low)
        high = jnp.where(angle < 0, high, angle)
        own = jax.random.fold_in(key_shrink, tried)
        angle = jax.random.uniform(own, dtype=here.dtype, minval=low, maxval=high)
        return tried + 1, angle, low, high, *at(angle)

    begin = (jnp.ones((), jnp.int32), first, first - 2.0 * math.pi, first, *at(first))
    tried, angle, _, _, u, value = jax.lax.while_loop(outside, shrink, begin)
    inside = value >= level
    state = SliceState(jnp.where(inside, u, state.u), jnp.where(inside, value, state.remainder))
    return state, tried.astype(here.dtype), jnp.where(inside, angle, 0.0)


def reference(posterior: Posterior) -> Reference:
    """The tempered target as a Gaussian in ``u`` times a remainder; traced.

    A Gaussian site's tempered prior N(m, T s^2) is its reference, and a log-normal's is Gaussian in
    log x: what remains is the likelihood to the power 1/(T L). A positive site of another family
    has the mean and deviation of its tempered prior in log x as reference, and the ratio of both
    densities in the remainder.

    Args:
        posterior: one that :meth:`EllipticalSlice.check` lets pass.
    """
    T, L = posterior.posterior_temperature, posterior.likelihood_temperature
    seen = _seen(posterior, jnp.zeros(posterior.dimension, posterior.x.dtype))
    gaussians = {s.name: _gaussian(seen.fns[s.name], T) for s in posterior.sites}
    mean = jnp.concatenate([jnp.ravel(gaussians[s.name].mean) for s in posterior.sites])

    def deviation(key: Array) -> Array:
        draws = [
            jnp.ravel(gaussians[s.name].sample(jax.random.fold_in(key, i)))
            for i, s in enumerate(posterior.sites)
        ]
        return jnp.concatenate(draws) - mean

    def remainder(u: Array) -> Array:
        total = posterior.log_likelihood(u) / (T * L)
        for site in posterior.sites:
            fn = seen.fns[site.name]
            if not _is_gaussian(fn):
                log_x = site.take(u)
                total += jnp.sum(fn.log_prob(jnp.exp(log_x))) / T + jnp.sum(log_x)
                total -= jnp.sum(gaussians[site.name].log_prob(log_x))
        return total

    return Reference(mean, deviation, remainder)


def _seen(posterior: Posterior, u: Array) -> Scored:
    supply = score.from_vector(u, posterior.sites)
    return score.run(posterior.model, posterior.x, posterior.y, supply)


def _inner(fn: dist.Distribution) -> dist.Distribution:
    """The family inside expansions and declared events; a mask stays, as it is no Gaussian."""
    while isinstance(fn, (dist.Independent, dist.ExpandedDistribution)):
        fn = fn.base_dist
    return fn


def _is_gaussian(fn: dist.Distribution) -> bool:
    """Whether it is Gaussian in ``u``."""
    return tempering.is_gaussian(fn) or type(_inner(fn)) is dist.LogNormal


def _gaussian(fn: dist.Distribution, T: Leaf) -> dist.Distribution:
    """The reference of one site, in its unconstrained coordinates."""
    T = jnp.asarray(T)
    tempered = tempering.tempered(fn, T) if _is_gaussian(fn) else None
    if tempered is None:
        loc, scale = _log_moments(_inner(fn), T)
    elif isinstance(inner := _inner(tempered), dist.LogNormal):
        loc, scale = inner.loc, inner.scale
    else:
        return tempered
    return dist.Normal(jnp.broadcast_to(loc, fn.shape()), jnp.broadcast_to(scale, fn.shape()))


def _log_moments(fn: dist.Distribution, T: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of log x under the tempered prior of a positive x, about.

    They need not be right for the sampler to be exact.
    """
    log_x = GRID.reshape(-1, *(1,) * len(fn.batch_shape))
    weight = jax.nn.softmax(fn.log_prob(jnp.exp(log_x)) / T + log_x, axis=0)
    mean = jnp.sum(weight * log_x, axis=0)
    return mean, jnp.sqrt(jnp.sum(weight * (log_x - mean) ** 2, axis=0))


def _refuse(site: Site, seen: Scored) -> None:
    fn = seen.fns[site.name]
    inner = _inner(fn)
    positive = inner.support is dist.constraints.positive
    if not site.conditional and (_is_gaussian(fn) or positive):
        return
    family = type(score.base(fn)).__name__
    depends = " that depends on other sites" if site.conditional else ""
    raise InputError(
        f"elliptical-slice: site {site.name!r} has a {family} prior{depends}; it needs Gaussian or "
        "log-normal priors, and positive ones that depend on no site, as of noise (backends that "
        "can: nuts, hmc, mean-field-vi)"
    )


@register(
    "backends",
    "elliptical-slice",
    summary="Elliptical slice sampling: exact for Gaussian priors, without gradients or tuning.",
    options=EllipticalSliceOptions,
    references=("Murray, Adams & MacKay (2010), Elliptical Slice Sampling, fig. 2",),
    tags={"exact": True, "family": "mcmc", "gradients": "none"},
    facts={
        "exact for": "Gaussian weights, any temperature",
        "bias": "none",
        "a draw costs": "a few likelihoods, no gradient",
        "memory": "two vectors of the parameters",
        "choose it": "data are few, or there are no gradients",
    },
    notes="Exact at every temperature, for Gaussian weights alone: the tempered prior N(m, T s^2) "
    "is sampled exactly and the likelihood to the power 1/(T L) decides. A positive site of other "
    "family (learned noise: half-normal) gets a Gaussian reference in log x with its prior's "
    "moments there, and the ratio of prior to reference joins the likelihood, which keeps the "
    "sampler exact. n_steps counts likelihood evaluations; a run's gradients are 0. Good where the "
    "data say little; where they say much, a slice turns by little and hmc is far better.",
)
def elliptical_slice(options: EllipticalSliceOptions) -> EllipticalSlice:
    """The backend of these options."""
    return EllipticalSlice(options.sweeps)
