"""Evidence by bridge sampling from draws of a Markov chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import RunError
from bnnzoo.inference.bridging import LEAST_OVERLAP, Mixture, bridge, fit_mixture
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.posterior_draws import (
    LARGEST_RHAT,
    DrawsOptions,
    Sampler,
    largest_rhat,
    sampler_of,
)
from bnnzoo.inference.symmetries import gathered, hidden_layers, log_arrangements, nearest
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count
from bnnzoo.registry import register

FEWEST_EFFECTIVE = 100
"""Effective draws under which a standard error is not to be trusted itself."""

DIVERGENT = 0.005
"""Share of divergent draws from which on a part of the posterior may have been left out."""


class BridgeOptions(DrawsOptions):
    """Options of ``bridge``."""

    components: Count = Field(
        8, description="Most Gaussians of the proposal; held-out draws say how many there are."
    )


@dataclass(frozen=True)
class BridgeEvidence(Estimator):
    """A bridge from Gaussians fitted to half of the draws to the other half.

    Equivalent arrangements of hidden units would leave the proposal as many copies of every mode as
    there are. All draws are therefore taken to the one arrangement nearest to a common reference:
    a domain D that holds one point of every set of M equivalent ones. The posterior is the same on
    every copy of D, so that the draws that were taken there are draws of the posterior on D,
    whichever copies the chains had seen, and its integral over D is Z / M exactly. The proposal is
    a normalised density on the whole space; the bridge goes to p(u) times the indicator of D, which
    is 0 at draws of the proposal outside D. Reference and proposal depend on the first half of the
    draws alone.
    """

    sampler: Sampler
    components: int

    kind = "consistent"

    def check(self, posterior: Posterior) -> None:
        """What the backend refuses."""
        self.sampler.backend.check(posterior)

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """One bridge, with the standard error of its relative mean squared error."""
        drawn = self.sampler(posterior, seed, dtype)
        lp, half = drawn.lp, drawn.lp.shape[1] // 2
        first, second = drawn.u[:, :half], drawn.u[:, half : 2 * half]
        layers = hidden_layers(posterior)
        fitting = first.reshape(-1, posterior.dimension)
        reference = gathered(layers, fitting, fitting[np.argmax(lp[:, :half])])
        mixture = fit_mixture(nearest(layers, fitting, reference)[0], self.components, seed)
        there = nearest(layers, second.reshape(fitting.shape), reference)[0]
        proposed = mixture.sample(np.random.default_rng(seed), len(there))
        outside = nearest(layers, proposed, reference)[1]
        target, likelihood = _log_ratios(posterior, mixture, there)
        ratios = _log_ratios(posterior, mixture, proposed)[0]
        ratios = np.where(outside | np.isnan(ratios), -np.inf, ratios)
        if not np.isfinite(ratios).any():
            raise RunError(
                "bridge: no draw of the proposal has positive density: the posterior is not near "
                "any mixture of Gaussians; use smc"
            )
        shape = second.shape[:2]
        found = bridge(target.reshape(shape), ratios)
        rhat = largest_rhat(lp, likelihood.reshape(shape), target.reshape(shape))
        diagnostics = {
            "rhat": rhat,
            "divergent": drawn.divergent,
            "overlap": found.overlap,
            "effective_draws": found.effective[0],
            "effective_proposals": found.effective[1],
            "components": mixture.components,
            "inside": 1.0 - float(outside.mean()),
            "log_arrangements": log_arrangements(layers),
        }
        return Estimate(
            found.log_z + log_arrangements(layers),
            found.standard_error,
            drawn.gradients,
            diagnostics,
            _warnings(drawn.lost, diagnostics),
        )


def _log_ratios(
    posterior: Posterior, mixture: Mixture, us: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both log p(y, u) - log q(u) and log p(y | u) ``(draw,)`` of points ``(draw, dim)``."""
    density, likelihood = jax.device_get(_densities(posterior, jnp.asarray(us, posterior.x.dtype)))
    # The densities are of the rounded points that the model saw.
    return density - mixture.log_density(us), np.asarray(likelihood, np.float64)


@jax.jit
def _densities(posterior: Posterior, us: Array) -> tuple[Array, Array]:
    def both(u: Array) -> tuple[Array, Array]:
        return posterior.log_density(u), posterior.log_likelihood(u)

    return jax.lax.map(both, us, batch_size=32)


def _warnings(lost: int, found: dict[str, Any]) -> tuple[str, ...]:
    said = []
    if lost:
        said.append(f"{lost} chains turned NaN and were left out")
    if found["divergent"] > DIVERGENT:
        said.append(
            f"{found['divergent']:.1%} of the draws diverged: parts of the posterior were hardly "
            "entered; raise options.target_acceptance"
        )
    if not found["rhat"] <= LARGEST_RHAT:
        said.append(
            f"chains disagree (R-hat {found['rhat']:.2f}): they saw different modes, and the "
            "standard error is too small; more draws, or smc"
        )
    if found["overlap"] < LEAST_OVERLAP:
        said.append(
            f"overlap {found['overlap']:.2g}: the proposal hardly meets the posterior; raise "
            "components and draws, or use smc"
        )
    fewest = min(found["effective_draws"], found["effective_proposals"])
    if fewest < FEWEST_EFFECTIVE:
        said.append(f"the bridge rests on {fewest:.0f} effective draws; raise draws")
    return tuple(said)


@register(
    "estimators",
    "bridge",
    summary="From posterior draws of nuts or hmc: a second opinion by another road than smc.",
    options=BridgeOptions,
    references=(
        "Meng & Wong (1996), Simulating Ratios of Normalizing Constants via a Simple Identity",
        "Gronau et al. (2017), A Tutorial on Bridge Sampling",
        "Fruehwirth-Schnatter (2004), Estimating Marginal Likelihoods for Mixture and Markov "
        "Switching Models Using Bridge Sampling Techniques",
    ),
    tags={"kind": "consistent", "family": "sampling"},
    facts={
        "number": "consistent",
        "standard error": "relative mean squared error, draws counted by their autocorrelation",
        "wrong when": "chains miss a mode that is no mere rearrangement of units (chains that "
        "agree prove nothing), or a posterior that no few Gaussians come near (overlap)",
        "choose it": "draws of nuts are wanted anyway, up to some hundred weights",
    },
    notes="Draws are taken to one arrangement of hidden units and the logarithm of the number of "
    "arrangements is added: exact, whichever copies the chains saw. The proposal is a mixture of "
    "Gaussians in unconstrained space. Where sites beyond the weights tell units apart (a scale a "
    "unit), nothing is rearranged.",
)
def bridge_sampling(options: BridgeOptions) -> BridgeEvidence:
    """The estimator of these options."""
    return BridgeEvidence(sampler_of(options), options.components)
