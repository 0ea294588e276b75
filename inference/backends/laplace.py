"""The Laplace approximation and its linearised predictive."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from jax.typing import ArrayLike
from pydantic import Field

from bnnzoo.errors import InputError, setting
from bnnzoo.inference import noise_search, spectra
from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.climbing import Search, begin, climb_step
from bnnzoo.inference.laplace_evidence import (
    WIDEST,
    check_refit,
    linear_model,
    noise_coordinates,
    refit,
)
from bnnzoo.inference.laplace_options import ModeOptions, check_flavour
from bnnzoo.inference.laplace_structures import (
    DENSE,
    Blocks,
    Flavour,
    blocks,
    coordinates,
    has_network,
    inverse_of,
    log_volume,
    parts,
)
from bnnzoo.inference.noise_search import NoiseSearch
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register

UNCONVERGED_NATS = 0.1
"""Gain of a Newton step above which a point counts as no mode."""

METRICS = 20
"""Times in warm-up that the climb takes the curvature where it is for its metric: a network's is
very different where it starts and where it ends."""

AT_REST = 10.0
"""Rounding errors that a climb still gains where another metric is not worth its time."""

MOST_GAINED = 100.0
"""Nats that a Newton step is believed to gain, where heights of different noises are compared."""

CLIPPED = 0.01
"""Share of the loss' curvature left out that is worth a word."""


class LaplaceOptions(ModeOptions):
    """Options of ``laplace``."""

    predictive: Literal["linearised", "sampled"] = Field(
        "linearised",
        description="Functions of a draw: of the network linearised about its chain's mode, or of "
        "the network with the drawn weights.",
    )
    refit: Literal["none", "prior", "noise", "both"] = Field(
        "none",
        description="After training, without more of it, set the width of the Gaussian prior (one "
        "factor for all), that of the learned Gaussian noise, or both, by Laplace's evidence.",
    )


class LaplaceState(NamedTuple):
    """The search for the mode, and the Gaussian once it is found.

    Attributes:
        search: L-BFGS, from H^-1.
        found: the Gaussian's precision H.
        mode: where that was taken ``(dim,)``: on the way up, and at last at the mode.
        remaining: nats a Newton step would still gain, of the weights where the noise is searched.
        log_normaliser: Laplace's log integral of the target; refitted, the log evidence.
        mean: of the draws ``(dim,)``.
        factors: of the standard deviations of prior and noise ``(2,)``.
        noise: the search for that, None where it is none of its own.
    """

    search: Search
    found: Blocks
    mode: Array
    remaining: Array
    log_normaliser: Array
    mean: Array
    factors: Array
    noise: NoiseSearch | None


@functools.partial(
    register_dataclass,
    data_fields=(),
    meta_fields=("flavour", "predictive", "refit", "noise", "turns", "at_start", "drawn"),
)
@dataclass(frozen=True)
class Laplace(Backend):
    """N(mode, H^-1) in unconstrained coordinates, H the curvature of the tempered target there.

    ``turns``: times that the metric is taken anew. ``at_start``: there is no warm-up, so the start
    is taken for the mode. ``drawn``: the mode is not all that is wanted; the program is shorter
    without draws.
    """

    flavour: Flavour
    predictive: str
    refit: str = "none"
    noise: str = "marginal"
    turns: int = 0
    at_start: bool = False
    drawn: bool = True

    stats = (
        *("lp", "n_steps", "remaining", "log_normaliser", "flat", "clipped"),
        *("prior_factor", "noise_factor"),
    )
    default_warmup = 1000

    def schedule(self, warmup: int) -> np.ndarray:
        """Steps of L-BFGS in the metric of the curvature, which is found anew `METRICS` times.

        The last step takes the point for the mode, and finds the curvature there.
        """
        stages = np.full(warmup, Stage.FAST, np.int32)
        stages[np.arange(METRICS) * warmup // METRICS if warmup else []] = Stage.SLOW
        stages[-1:] = Stage.SLOW_END
        return stages

    def planned(self, warmup: int) -> Laplace:
        """Without warm-up the curvature is that of the start."""
        turns = int(np.sum(self.schedule(warmup) == Stage.SLOW))
        return dataclasses.replace(self, turns=turns, at_start=warmup == 0)

    def check(self, posterior: Posterior) -> None:
        """A network where one is needed, and matrices that fit the memory."""
        if not has_network(posterior) and self.predictive == "linearised":
            raise InputError(
                "laplace: a hand-written model has no network to linearise; give "
                "inference.predictive = 'sampled'"
            )
        check_flavour(posterior, self.flavour, "inference")
        if self.refit != "none":
            check_refit(posterior, self.refit, self.flavour.curvature)

    def init(self, posterior: Posterior, u: Array) -> LaplaceState:
        """At the starting position."""
        zero = jnp.zeros((), u.dtype)
        shapes = jax.eval_shape(lambda u: blocks(posterior, u, self.flavour), u)
        found = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        value, gradient = jax.value_and_grad(posterior.log_density)(u)
        search = begin(u, -value, -gradient)
        noise = noise_search.begin(u) if self._seeks_noise(posterior) else None
        state = LaplaceState(search, found, u, zero, zero, u, jnp.ones(2, u.dtype), noise)
        return self._settle(posterior, state, True) if self.at_start else state

    def step(
        self, posterior: Posterior, state: LaplaceState, stage: Array, key: Array
    ) -> tuple[LaplaceState, Step]:
        """One step uphill, with the curvature after the last one; a draw once sampling."""
        if not self.drawn:
            return self._climb(posterior, state, stage)
        return jax.lax.cond(
            stage == Stage.SAMPLE,
            lambda: self._draw(posterior, state, key),
            lambda: self._climb(posterior, state, stage),
        )

    def _seeks_noise(self, posterior: Posterior) -> bool:
        return self.noise == "marginal" and noise_search.is_searched(posterior, self.flavour)

    def _climb(
        self, posterior: Posterior, state: LaplaceState, stage: Array
    ) -> tuple[LaplaceState, Step]:
        last = stage == Stage.SLOW_END
        state = jax.lax.cond(
            stage == Stage.FAST, lambda s: s, lambda s: self._renewed(posterior, s, last), state
        )
        inverse = self._inverse(posterior, state)

        def climb(search: Search) -> tuple[Search, Array]:
            return climb_step(posterior.log_density, search, inverse)

        none = jnp.zeros((), jnp.result_type(int))
        search, spent = jax.lax.cond(
            last | state.search.resting, lambda s: (s, none), climb, state.search
        )
        state = state._replace(search=search)
        if state.noise is not None:
            spent = spent + (stage == Stage.SLOW)
        return state, self._report(state, search.u, -search.value, spent)

    def _renewed(self, posterior: Posterior, state: LaplaceState, last: Array) -> LaplaceState:
        """The curvature here, but where the climb is over and its metric not worth the time."""
        settle = functools.partial(self._settle, posterior, last=last)
        search, found = state.search, jnp.asarray(True)
        if state.noise is not None:
            found = noise_search.is_found(state.noise, self.turns)
        rounding = jnp.finfo(search.value.dtype).eps * jnp.abs(search.value)
        over = found & search.resting & (self._gain(posterior, state, search) < AT_REST * rounding)
        return jax.lax.cond(over & ~last, lambda s: s, settle, state)

    def _inverse(self, posterior: Posterior, state: LaplaceState) -> Callable[[Array], Array]:
        """H^-1 times a vector; a noise with a search of its own is no direction of the climb."""
        inverse = inverse_of(posterior, self.flavour, state.found, state.mode)
        if state.noise is None:
            return inverse
        return lambda v: noise_search.held(posterior, inverse(noise_search.held(posterior, v)))

    def _gain(self, posterior: Posterior, state: LaplaceState, search: Search) -> Array:
        """Nats that a Newton step gains."""
        return 0.5 * search.gradient @ self._inverse(posterior, state)(search.gradient)

    def _settle(self, posterior: Posterior, state: LaplaceState, last: Leaf) -> LaplaceState:
        """The Gaussian here: the metric of the search, or where it is the ``last``, the result."""
        u, value, gradient = state.search.u, state.search.value, state.search.gradient
        state = state._replace(found=blocks(posterior, u, self.flavour), mode=u, mean=u)
        normaliser = log_volume(posterior, self.flavour, state.found) - value
        state = state._replace(
            search=begin(u, value, gradient),
            remaining=self._gain(posterior, state, state.search),
            log_normaliser=normaliser,
        )
        if state.noise is not None:
            turned = functools.partial(self._turn_noise, posterior)
            state = jax.lax.cond(last, lambda s: s, turned, state)
        if self.refit == "none":
            return state
        return jax.lax.cond(last, lambda s: self._refit(posterior, s), lambda s: s, state)

    def _turn_noise(self, posterior: Posterior, state: LaplaceState) -> LaplaceState:
        """Another noise for the climb, and the curvature with it."""
        here, slope = state.search.u, -state.search.gradient
        still = jnp.minimum(state.remaining, MOST_GAINED)
        height = still - state.search.value - 0.5 * spectra.log_det(state.found.network)
        determined = state.found.network.total(lambda t: jnp.maximum(1.0 - 1.0 / t, 0.0))
        assert state.noise is not None
        noise, u = noise_search.turn(
            posterior, state.noise, here, slope, height, determined, self.turns
        )
        value, gradient = jax.value_and_grad(posterior.log_density)(u)
        where = noise_coordinates(posterior)
        data = jnp.exp(-2.0 * jnp.mean((u - here)[where]))
        # Not `spectra.scaled`: a prior that is not log-concave may leave values below 0.
        values = jax.tree.map(lambda s: jnp.where(s > 0, data * s, s), state.found.network.values)
        network = state.found.network._replace(values=values)
        return state._replace(
            search=begin(u, -value, -gradient),
            found=state.found._replace(network=network),
            mode=u,
            noise=noise,
        )

    def _refit(self, posterior: Posterior, state: LaplaceState) -> LaplaceState:
        """Widths of highest evidence, and the Gaussian with them.

        The linearised model has another mode with another prior, known where all of its curvature
        is; the network's is not known, and draws of its weights stay about where it was trained.
        """
        where, _ = coordinates(posterior, self.flavour)
        prior, noise = self.refit in ("prior", "both"), self.refit in ("noise", "both")
        model = linear_model(posterior, state.mode, where, state.found.network, noise)
        whole = self.flavour.curvature == "ggn" and self.flavour.structure in DENSE
        found = refit(model, prior, noise, whole)
        network = spectra.scaled(state.found.network, found.prior, found.noise)
        mean = state.mode
        if self.predictive == "linearised" and whole:
            mode = model.mode(found.prior, found.noise, posterior.likelihood_temperature)
            root = jnp.sqrt(state.found.network.precision * posterior.posterior_temperature)
            mean = mean.at[where].add((mode - model.x0) / root)
        if noise and (at := noise_coordinates(posterior)) is not None:
            mean = mean.at[at].add(-0.5 * jnp.log(found.noise))
        return state._replace(
            found=state.found._replace(network=network),
            log_normaliser=found.log_evidence,
            mean=mean,
            factors=jnp.stack([found.prior, found.noise]) ** -0.5,
        )

    def _draw(
        self, posterior: Posterior, state: LaplaceState, key: Array
    ) -> tuple[LaplaceState, Step]:
        noise = jax.random.normal(key, state.mean.shape, state.mean.dtype)
        u = state.mean
        for spectrum, where in parts(posterior, self.flavour, state.found):
            u = u.at[where].add(spectra.draw(spectrum, noise[where]))
        if self.refit in ("noise", "both"):  # set, not known with an error
            fixed = noise_coordinates(posterior)
            u = u if fixed is None else u.at[fixed].set(state.mean[fixed])
        return state, self._report(state, u, posterior.log_density(u), jnp.zeros((), int))

    def _report(self, state: LaplaceState, u: Array, lp: Array, steps: Array) -> Step:
        stats = {
            "lp": lp,
            "n_steps": steps.astype(u.dtype),
            "remaining": state.remaining,
            "log_normaliser": state.log_normaliser,
            "flat": state.found.flat,
            "clipped": state.found.clipped,
            "prior_factor": state.factors[0],
            "noise_factor": state.factors[1],
        }
        return Step(u, stats)

    def linearisation(self, state: LaplaceState) -> ArrayLike | None:
        """The mode, where the predictive is linearised."""
        return state.mode if self.predictive == "linearised" else None

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """Those of the line searches; the curvature's passes are not counted."""
        return int(np.nansum(stats["n_steps"])) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """A point that is no mode, directions without curvature, losses that are not convex."""
        found = []
        remaining, flat, clipped = (float(stats[n][-1]) for n in ("remaining", "flat", "clipped"))
        if not remaining <= UNCONVERGED_NATS:
            message = (
                f"no mode: a Newton step would still gain about {remaining:.3g} nats; raise "
                f"warmup, or take {setting('inference', 'dtype', 'float64')} (a prior with a kink, "
                "as 'laplace', has no smooth mode)"
            )
            found.append(Flag("unconverged", message))
        if flat:
            message = (
                f"the curvature is not positive definite: {flat:.0f} directions were given the "
                "precision of their prior; raise warmup, or take "
                + setting("inference", "curvature", "ggn")
            )
            found.append(Flag("warning", message))
        if clipped > CLIPPED:
            message = (
                f"the loss is not convex in the network's outputs: {100 * clipped:.0f} % of its "
                "curvature is negative and was left out; compare with a sampler such as hmc"
            )
            found.append(Flag("warning", message))
        for name in ("prior", "noise"):
            factor = float(stats[f"{name}_factor"][-1])
            if self.refit != "none" and abs(math.log(factor)) > 0.49 * WIDEST:
                message = (
                    f"refitting the {name} ran to the end of its range (standard deviation times "
                    f"{factor:.3g}): the evidence has no maximum; take "
                    + setting("inference", "refit", "none")
                )
                found.append(Flag("warning", message))
        return found


@register(
    "backends",
    "laplace",
    summary="A Gaussian at a mode, by the curvature there; predictions of the linearised network.",
    options=LaplaceOptions,
    references=(
        "MacKay (1992), A Practical Bayesian Framework for Backpropagation Networks",
        "Immer, Korzepa & Bauer (2021), Improving Predictions of Bayesian Neural Nets via Local "
        "Linearization, eq. 9",
        "Daxberger et al. (2021), Laplace Redux",
        "Eschenhagen et al. (2023), Kronecker-Factored Approximate Curvature for Modern Neural "
        "Network Architectures, eq. 8 and 11, for expand and reduce",
    ),
    tags={"exact": False, "family": "laplace", "gradients": "full-batch"},
    facts={
        "exact for": "Gaussian posteriors; regression linear in its parameters",
        "bias": "does not vanish: one mode, its curvature",
        "a draw costs": "nothing, after the optimisation and one curvature",
        "memory": "parameters squared, or twice times rows and outputs where that is less (full); "
        "layers squared (kron); a few vectors (diagonal)",
        "choose it": "a trained network that needs a width, or evidence over many models",
    },
    notes="A chain is an independent mode; warmup is the number of L-BFGS steps. Exact where the "
    "target is Gaussian: a linear model with Gaussian prior and known noise. The linearised "
    "predictive is kept with the run: group mode of its tree, one point a chain. Noise and "
    "hyper-parameters are a block of their own by the exact Hessian, without cross terms to the "
    "network's, but for structure full with curvature hessian. Directions without curvature (at "
    "no mode, or under priors that have none) are given their prior's precision, and flagged; "
    "curvature of the loss in the outputs that is negative (Student-t, heteroscedastic noise) "
    "is left out and flagged. With kron a prior whose precision differs within a row of a "
    "kernel (Student-t, Laplace) is averaged over it. log_normaliser in sample_stats is "
    "Laplace's log integral of the target, at temperatures of 1 the log evidence, of this one "
    "of the network's equivalent modes. A learned Gaussian noise is at the mode of its "
    "marginal, not where the target is highest, unless noise is joint (see there for which "
    "structures). Refitted widths are prior_factor and noise_factor there, factors of the "
    "standard deviations; log_normaliser is then the untempered log evidence with them, the "
    "noise held at its new value. With structure full or last-layer and curvature ggn "
    "linearised draws are about the linear model's new mode; elsewhere the mode stays. Draws of "
    "a refitted run follow the model with the new widths, and those of a sampled one the "
    "Gaussian, not the target: its virial ratio flags both. bnnzoo.inference.function_moments "
    "and probit_probabilities give a finished run's predictions without draws.",
)
def laplace(options: LaplaceOptions) -> Laplace:
    """The backend of these options."""
    return Laplace(options.flavour(), options.predictive, options.refit, options.noise)
