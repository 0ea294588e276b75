"""Hyper-parameters by held-out rows, the gradient through the trained weights implicitly."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference.climbing import ascend
from bnnzoo.inference.curvature import prior_widths
from bnnzoo.inference.hyper_parameters import Groups, Hyper, placed
from bnnzoo.inference.implicit import pull_on_mode
from bnnzoo.inference.progress import through
from bnnzoo.inference.start import find_start
from bnnzoo.inference.tuning import ADAM, FARTHEST, Found, Tuner, falling
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Fraction, Options, Positive
from bnnzoo.registry import register


class HoldoutOptions(Options):
    """Options of ``holdout``."""

    share: Fraction = Field(0.2, description="Of the training rows, held out; drawn by the seed.")
    rounds: Count = Field(60, description="Steps of Adam on the hyper-parameters.")
    steps: Count = Field(100, description="Steps of L-BFGS to the mode before each.")
    learning_rate: Positive = Field(
        0.2, description="Of Adam, on logarithms; it falls to a tenth along a cosine."
    )
    solves: Count = Field(100, description="Steps of conjugate gradients of each implicit solve.")


@dataclass(frozen=True)
class Holdout(Tuner):
    """Log-likelihood of held-out rows at the mode of the others."""

    options: HoldoutOptions

    def check(self, posterior: Posterior, groups: Groups) -> None:
        """Rows can be told apart, and there are enough of them."""
        posterior.check_rows_are_free()
        held = round(self.options.share * posterior.rows)
        if not 0 < held < posterior.rows:
            raise InputError(
                f"tune: tuner.share = {self.options.share:g} of {posterior.rows} rows leaves "
                "nothing on one side"
            )

    def search(
        self, posterior: Posterior, groups: Groups, hyper: Hyper, seed: int, progress: bool
    ) -> Found:
        """Modes of the rows that are kept, and steps by the implicit gradient."""
        given = self.options
        order = np.random.default_rng(seed).permutation(posterior.rows)
        held = np.zeros(posterior.rows, bool)
        held[order[: round(given.share * posterior.rows)]] = True
        weights = jnp.asarray(held, posterior.x.dtype)
        u = find_start(posterior, jax.random.key(seed), "tune")
        rates = falling(given.learning_rate, given.rounds)
        state, start = ADAM.init(hyper), hyper
        trace, spent, best, highest = [], 0, hyper, -np.inf
        for rate in through(rates.tolist(), "tune", progress):
            u, used = mode_of_kept(posterior, groups, hyper, u, weights, given.steps)
            value, slope = held_out_and_slope(posterior, groups, hyper, u, weights, given.solves)
            trace.append(float(value))
            spent += int(used) + given.solves
            if trace[-1] > highest:
                best, highest = hyper, trace[-1]
            update, state = ADAM.update(slope, state)
            hyper = {
                name: jnp.clip(
                    hyper[name] + rate * jnp.where(jnp.isfinite(d), d, 0.0),
                    start[name] - FARTHEST,
                    start[name] + FARTHEST,
                )
                for name, d in update.items()
            }
        return Found(best, np.asarray([*trace, highest]), spent)


@functools.partial(jax.jit, static_argnames=("groups", "steps"))
def mode_of_kept(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, held: Array, steps: int
) -> tuple[Array, Array]:
    """The mode of the rows that are not held out.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        groups: which parameters share a width.
        hyper: logarithms.
        u: where to begin ``(dim,)``.
        held: 1 for rows that are held out, else 0 ``(row,)``.
        steps: of L-BFGS.

    Returns:
        The mode, and gradients taken.
    """
    variances = prior_widths(placed(posterior, groups, hyper), u) ** 2

    def density(u: Array) -> Array:
        return kept_density(posterior, groups, hyper, u, held)

    return ascend(density, u, steps, lambda v: variances * v)


@functools.partial(jax.jit, static_argnames=("groups", "solves"))
def held_out_and_slope(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, held: Array, solves: int
) -> tuple[Array, Hyper]:
    """Mean log-likelihood of held-out rows at a mode of the others, and its hyper-gradient.

    The latter is its own derivative and that through the mode, by conjugate gradients on exact
    products from the prior's variances.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        groups: which parameters share a width.
        hyper: logarithms.
        u: the mode ``(dim,)``.
        held: 1 for rows that are held out, else 0 ``(row,)``.
        solves: steps of conjugate gradients at most.

    Source: as of :func:`bnnzoo.inference.implicit.pull_on_mode`.
    """

    def score(u: Array, hyper: Hyper) -> Array:
        terms = placed(posterior, groups, hyper).pointwise_log_likelihood(u)
        return jnp.sum(held * terms) / jnp.sum(held)

    def density(u: Array, hyper: Hyper) -> Array:
        return kept_density(posterior, groups, hyper, u, held)

    value, (by_u, by_hyper) = jax.value_and_grad(score, argnums=(0, 1))(u, hyper)
    variances = prior_widths(placed(posterior, groups, hyper), u) ** 2
    pull = pull_on_mode(lambda v: density(v, hyper), u, by_u, lambda v: variances * v, solves)
    through = jax.grad(lambda h: pull @ jax.grad(density)(u, h))(hyper)
    return value, jax.tree.map(jnp.add, by_hyper, through)


def kept_density(
    posterior: Posterior, groups: Groups, hyper: Hyper, u: Array, held: Array
) -> Array:
    """Log density of the weights given the rows that are not held out; traced.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        groups: which parameters share a width.
        hyper: logarithms.
        u: where ``(dim,)``.
        held: 1 for rows that are held out, else 0 ``(row,)``.
    """
    here = placed(posterior, groups, hyper)
    kept = jnp.sum((1.0 - held) * here.pointwise_log_likelihood(u))
    return here.log_prior_density(u) + kept


@register(
    "tuners",
    "holdout",
    summary="Held-out rows at the mode of the others: validation's rival to evidence.",
    options=HoldoutOptions,
    references=(
        "Lorraine, Vicol & Duvenaud (2020), Optimizing Millions of Hyperparameters by Implicit "
        "Differentiation, eq. 2",
    ),
    tags={"kind": "predictive", "family": "optimisation"},
    notes="The score is the mean log-likelihood of the held-out rows at the mode of the others, no "
    "evidence; with many widths it may overfit the held-out rows. The gradient goes through the "
    "mode by conjugate gradients on exact second derivatives, so that it needs a mode: raise steps "
    "where the trace is rough. Where the loss is not convex at that point, or the solve comes no "
    "closer, the part through the mode is left out of the step. The best of all rounds is given.",
)
def holdout(options: HoldoutOptions) -> Holdout:
    """The tuner of these options."""
    return Holdout(options)
