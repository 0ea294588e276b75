"""Hyper-parameters by Laplace's evidence: at a mode that follows them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference.backends.laplace import CurvatureOptions
from bnnzoo.inference.climbing import ascend
from bnnzoo.inference.hyper_parameters import Groups, Hyper, placed
from bnnzoo.inference.laplace_structures import Flavour, log_normaliser
from bnnzoo.inference.start import find_start
from bnnzoo.inference.tuning import ADAM, FARTHEST, Found, Tuner, falling
from bnnzoo.models.model import Model
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.priors.grouped_gaussian import GroupedGaussian
from bnnzoo.options import Count, Positive
from bnnzoo.registry import register


class LaplaceTunerOptions(CurvatureOptions):
    """Options of ``laplace``."""

    restarts: Count = Field(3, description="Searches from modes of their own; the best is kept.")
    rounds: Count = Field(100, description="Times the mode is found again.")
    steps: Count = Field(100, description="Steps of L-BFGS to it, from where it was.")
    hyper_steps: Count = Field(3, description="Steps of Adam on the hyper-parameters at each mode.")
    learning_rate: Positive = Field(
        0.2, description="Of Adam, on logarithms; it falls to a tenth along a cosine."
    )


@dataclass(frozen=True)
class LaplaceTuner(Tuner):
    """The evidence's gradient with the mode held, and the mode found anew."""

    options: LaplaceTunerOptions

    def check(self, posterior: Posterior, groups: Groups) -> None:
        """What the backend refuses, and widths that the structure averages away."""
        self.options.check(posterior, "tuner")
        if self.options.structure == "low-rank":
            raise InputError(
                "tune: the evidence of structure 'low-rank' has no gradient here; give "
                "tuner.structure = 'full', 'kron', 'diagonal' or 'last-layer'"
            )
        assert isinstance(posterior.model, Model)
        assert isinstance(posterior.model.prior, GroupedGaussian)
        several = [n for n, v in posterior.model.prior.widths.items() if np.ndim(v) == 1]
        if several and self.options.structure == "kron":
            raise InputError(
                "tune: Kronecker factors average precisions over units; give tuner.structure = "
                "'full' or 'diagonal' with groups = 'unit'"
            )

    def search(self, posterior: Posterior, groups: Groups, hyper: Hyper, seed: int) -> Found:
        """The restart of highest evidence."""
        keys = jax.random.split(jax.random.key(seed), self.options.restarts)
        found = [self._from(posterior, groups, hyper, key) for key in keys]
        values = np.array([one.trace[-1] for one in found])
        best = found[int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))]
        return best._replace(gradients=sum(one.gradients for one in found))

    def _from(self, posterior: Posterior, groups: Groups, hyper: Hyper, key: Array) -> Found:
        """Modes and steps on the logarithms in turn."""
        given = self.options
        u = find_start(posterior, key, "tune")
        flavour = given.flavour()
        rates = falling(given.learning_rate, given.rounds)
        state = ADAM.init(hyper)
        start, trace, spent = hyper, [], 0
        for rate in rates:
            u, used = _mode(posterior, groups, hyper, u, given.steps)
            values, hyper, state = _improve(
                posterior, groups, hyper, start, u, state, rate, flavour, given.hyper_steps
            )
            trace.append(float(values[0]))
            spent += int(used) + given.hyper_steps
        u, used = _mode(posterior, groups, hyper, u, given.steps)
        value, slope = evidence_and_slope(posterior, groups, hyper, u, flavour)
        steep = max(float(jnp.max(jnp.abs(s))) for s in slope.values())
        warnings: tuple[str, ...] = ()
        if steep > 1.0 and not trace[-1] <= float(value) <= trace[-1] + 0.1:
            warnings = (f"the evidence still rises by {steep:.2g} nats a log-width; raise rounds",)
        return Found(hyper, np.asarray([*trace, float(value)]), spent + int(used), warnings)


def evidence_and_slope(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, flavour: Flavour
) -> tuple[Array, Hyper]:
    """Laplace's log evidence at a point, and its gradient by the logarithms with the point held.

    At a mode the joint density's own part of the gradient is that of the evidence; the curvature's
    dependence on where the mode moves to is left out, as is customary.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        groups: which parameters share a width.
        hyper: logarithms.
        u: the mode ``(dim,)``.
        flavour: curvature and structure.

    Source: Immer et al. (2021), Scalable Marginal Likelihood Estimation for Model Selection in Deep
    Learning, sec. 3.
    """
    return _evidence_and_slope(posterior, groups, hyper, u, flavour)


@functools.partial(jax.jit, static_argnames=("groups", "flavour"))
def _evidence_and_slope(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, flavour: Flavour
) -> tuple[Array, Hyper]:
    return jax.value_and_grad(lambda h: log_normaliser(placed(posterior, groups, h), u, flavour))(
        hyper
    )


@functools.partial(jax.jit, static_argnames=("groups", "steps"))
def _mode(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, steps: int
) -> tuple[Array, Array]:
    return ascend(placed(posterior, groups, hyper).log_density, u, steps)


@functools.partial(jax.jit, static_argnames=("groups", "flavour", "steps"))
def _improve(
    posterior: Posterior,
    groups: Groups,
    hyper: Hyper,
    start: Hyper,
    u: Array,
    state: Any,
    rate: Array,
    flavour: Flavour,
    steps: int,
) -> tuple[Array, Hyper, Any]:
    def step(carry: Any, _: None) -> tuple[Any, Array]:
        hyper, state = carry
        value, slope = _evidence_and_slope(posterior, groups, hyper, u, flavour)
        slope = jax.tree.map(lambda s: jnp.where(jnp.isfinite(s), s, 0.0), slope)
        update, state = ADAM.update(slope, state)
        moved = jax.tree.map(
            lambda h, d, s: jnp.clip(h + rate * d, s - FARTHEST, s + FARTHEST).astype(h.dtype),
            hyper,
            update,
            start,
        )
        return (moved, state), value

    (hyper, state), values = jax.lax.scan(step, (hyper, state), None, steps)
    return values, hyper, state


@register(
    "tuners",
    "laplace",
    summary="Laplace's evidence at a mode that follows the hyper-parameters.",
    options=LaplaceTunerOptions,
    references=(
        "MacKay (1992), A Practical Bayesian Framework for Backpropagation Networks",
        "Immer et al. (2021), Scalable Marginal Likelihood Estimation for Model Selection in Deep "
        "Learning, alg. 1",
    ),
    tags={"kind": "approximation", "family": "optimisation"},
    notes="Mode and hyper-parameters in turn: L-BFGS to the mode, then Adam on the logarithms by "
    "the evidence's gradient with the mode held. Widths of weights that are not needed go to zero, "
    "which switches them off.",
)
def laplace(options: LaplaceTunerOptions) -> LaplaceTuner:
    """The tuner of these options."""
    return LaplaceTuner(options)
