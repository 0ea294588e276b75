"""Hyper-parameters by the evidence lower bound, climbed together with the variational family."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from pydantic import Field

from bnnzoo import registry
from bnnzoo.inference.estimators.elbo import VariationalFamily, refuse_points
from bnnzoo.inference.hyper_parameters import Groups, Hyper, placed
from bnnzoo.inference.minibatches import draw_batch
from bnnzoo.inference.start import find_start
from bnnzoo.inference.tuning import FARTHEST, Found, Tuner
from bnnzoo.inference.variational import Variational, cosine
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register

SHOWN = 100
"""Points of the trace."""


class ElboTunerOptions(Options):
    """Options of ``elbo``."""

    family: VariationalFamily = "mean-field-vi"
    steps: Count = Field(5000, description="Optimisation steps.")
    learning_rate: Positive = Field(
        0.02, description="Of Adam, on logarithms; it falls to a hundredth along a cosine."
    )
    options: dict[str, Any] = Field(
        {}, description="Options of the backend, by name; batch_size is one."
    )


@dataclass(frozen=True)
class ElboTuner(Tuner):
    """One optimiser for the family's parameters and the logarithms."""

    backend: Variational
    steps: int
    learning_rate: float

    def check(self, posterior: Posterior, groups: Groups) -> None:
        """What the backend refuses, and what is no bound."""
        refuse_points(self.backend)
        self.backend.check(posterior)

    def search(
        self, posterior: Posterior, groups: Groups, hyper: Hyper, seed: int, progress: bool
    ) -> Found:
        """The mean of the last tenth's logarithms: single ones wander by the gradient's noise."""
        key_start, key_run = jax.random.split(jax.random.key(seed))
        u = find_start(posterior, key_start, "tune")
        backend = self.backend.planned(self.steps)
        assert isinstance(backend, Variational)
        end, trace = _climb(
            backend, posterior, groups, hyper, u, key_run, self.learning_rate, self.steps
        )
        trace = np.asarray(trace, float)
        blocks = np.array_split(trace, min(SHOWN, len(trace)))
        spent = self.steps * backend.samples
        failed = int(np.sum(~np.isfinite(trace)))
        warnings = (f"the bound was not finite at {failed} steps",) if failed else ()
        return Found(end, np.array([np.mean(b) for b in blocks]), spent, warnings)


@functools.partial(jax.jit, static_argnames=("groups", "steps"))
def _climb(
    backend: Variational,
    posterior: Posterior,
    groups: Groups,
    hyper: Hyper,
    u: Array,
    key: Array,
    rate: Array,
    steps: int,
) -> tuple[Hyper, Array]:
    family = backend.family(posterior)
    parameters = family.start(u, jnp.asarray(backend.initial_std, u.dtype))
    adam = optax.scale_by_adam()
    last = steps - steps // 10

    def loss(both: Any, own: Array, batch: Array | None) -> tuple[Array, Array]:
        parameters, hyper = both
        here = placed(posterior, groups, hyper)
        value, (_, bound, _) = backend.objective(here, parameters, batch, own)
        return value, bound

    def step(carry: Any, number: Array) -> tuple[Any, Array]:
        both, state, total = carry
        own, rows = jax.random.split(jax.random.fold_in(key, number))
        batch = draw_batch(posterior, backend.batch_size, rows)
        (_, bound), slope = jax.value_and_grad(loss, has_aux=True)(both, own, batch)
        slope = jax.tree.map(lambda s: jnp.where(jnp.isfinite(s), s, 0.0), slope)
        (by_family, by_hyper), state = adam.update(slope, state)
        done = number.astype(u.dtype)
        of_family = cosine(backend.learning_rate, done, backend.steps)
        of_hyper = cosine(rate, done, backend.steps)
        moved = jax.tree.map(lambda p, d: p - of_family * d, both[0], by_family)
        logs = {
            name: jnp.clip(
                both[1][name] - of_hyper * d, hyper[name] - FARTHEST, hyper[name] + FARTHEST
            )
            for name, d in by_hyper.items()
        }
        counted = (number >= last).astype(u.dtype)
        total = jax.tree.map(lambda t, v: t + counted * v, total, logs)
        return ((moved, logs), state, total), bound

    begin = ((parameters, hyper), adam.init((parameters, hyper)))
    none = jax.tree.map(jnp.zeros_like, hyper)
    (_, _, total), trace = jax.lax.scan(step, (*begin, none), jnp.arange(steps))
    return jax.tree.map(lambda t: t / (steps - last), total), trace


@register(
    "tuners",
    "elbo",
    summary="The evidence lower bound, climbed together with a variational family.",
    options=ElboTunerOptions,
    references=("Blundell et al. (2015), Weight Uncertainty in Neural Networks, sec. 3.3",),
    tags={"kind": "lower-bound", "family": "optimisation"},
    notes="The bound's gap depends on the hyper-parameters, and is tuned with it: a mean-field "
    "family prefers priors that are narrower than the evidence does. "
    "Works with minibatches (options.batch_size).",
)
def elbo(options: ElboTunerOptions) -> ElboTuner:
    """The tuner of these options."""
    backend = registry.get("backends", options.family).build(options.options, "options")
    return ElboTuner(backend, options.steps, options.learning_rate)
