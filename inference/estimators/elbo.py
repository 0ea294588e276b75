"""The evidence lower bound of a variational family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from bnnzoo import registry
from bnnzoo.errors import InputError, RunError, UnknownNameError
from bnnzoo.inference.backend import Backend
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.loop import run_chains
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options
from bnnzoo.registry import register

FAMILIES = ("mean-field-vi", "low-rank-vi", "full-rank-vi", "flow-vi", "last-layer-vi")
"""Backends whose draws report log p(y, u) - log q(u)."""


def _known(given: str) -> str:
    if given not in FAMILIES:
        raise ValueError(str(UnknownNameError("variational family", given, FAMILIES)))
    return given


VariationalFamily = Annotated[
    str,
    AfterValidator(_known),
    Field(description="A variational backend: " + ", ".join(FAMILIES)),
]


class BoundOptions(Options):
    """What bounds from a variational family share."""

    family: VariationalFamily = "full-rank-vi"
    restarts: Count = Field(2, description="Independent fits; the highest bound is given.")
    steps: Count = Field(5000, description="Optimisation steps of each.")
    draws: Count = Field(4000, description="Draws that estimate the bound after a fit.")
    options: dict[str, Any] = Field({}, description="Options of the backend, by name.")


@dataclass(frozen=True)
class Bound(Estimator):
    """Log density ratios of draws from the fitted family; what they come to is a subclass's."""

    backend: Backend
    restarts: int
    steps: int
    draws: int

    kind = "lower-bound"

    def check(self, posterior: Posterior) -> None:
        """What the backend refuses, and what is no bound."""
        refuse_points(self.backend)
        self.backend.check(posterior)

    def value(self, log_ratios: np.ndarray) -> tuple[float, float]:
        """The bound and its standard error from log p(y, u) - log q(u) ``(draw,)``."""
        return float(log_ratios.mean()), float(log_ratios.std(ddof=1) / np.sqrt(len(log_ratios)))

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The best restart, chosen on half of the draws and measured on the other."""
        chains = run_chains(
            self.backend.planned(self.steps),
            posterior,
            chains=self.restarts,
            draws=2 * self.draws,
            warmup=self.steps,
            seed=seed,
            dtype=dtype,
        )
        ratios = chains.stats["elbo"].astype(float)
        choose, measure = ratios[:, : self.draws], ratios[:, self.draws :]
        bounds = np.array([self.value(row)[0] for row in choose])
        if not np.isfinite(bounds).any():
            raise RunError("elbo: no restart ended with a finite bound; lower learning_rate")
        best = int(np.nanargmax(bounds))
        value, error = self.value(measure[best])
        diagnostics = {
            "restarts": bounds.tolist(),
            "remaining": float(chains.stats["remaining"][best, -1]),
        }
        warnings = tuple(flag.message for chain, flag in chains.flags if chain == best)
        gradients = sum(
            self.backend.gradients({name: v[c] for name, v in chains.warmup_stats.items()})
            for c in range(self.restarts)
        )
        return Estimate(value, error, gradients, diagnostics, warnings)


def refuse_points(backend: Backend) -> None:
    """A point for some weights leaves no bound: the joint density there has no limit.

    Args:
        backend: a variational one.

    Raises:
        InputError: it has points.
    """
    if getattr(backend, "others", "") == "point":
        raise InputError(
            "family 'last-layer-vi' with a point for the other layers is no bound on the evidence; "
            "give options.others = 'mean-field'"
        )


def backend_of(options: BoundOptions) -> Backend:
    """The backend that options name, with those they give it."""
    made: Backend = registry.get("backends", options.family).build(options.options, "options")
    return made


@register(
    "estimators",
    "elbo",
    summary="The bound a variational family reaches: below the evidence by KL(q, posterior).",
    options=BoundOptions,
    references=(
        "Jordan et al. (1999), An Introduction to Variational Methods for Graphical Models",
        "Blei, Kucukelbir & McAuliffe (2017), Variational Inference: A Review, eq. 13",
    ),
    tags={"kind": "lower-bound", "family": "optimisation"},
    facts={
        "number": "lower bound",
        "standard error": "of the bound's average over draws",
        "wrong when": "models are ranked whose gaps differ: wider networks, other families; the "
        "mean-field bound prefers weights at the prior",
        "choose it": "a floor under the others, or hyper-parameters by gradients",
    },
    notes="Its gap is the divergence of the fitted density from the posterior, which no number "
    "here shows: a bound of one family is not to be ranked against that of another.",
)
def elbo(options: BoundOptions) -> Bound:
    """The estimator of these options."""
    return Bound(backend_of(options), options.restarts, options.steps, options.draws)
