"""Draws of a posterior for an estimator that starts from them: how many, by what, how good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from bnnzoo import registry
from bnnzoo.errors import RunError, UnknownNameError
from bnnzoo.inference.backend import Backend
from bnnzoo.inference.loop import run_chains
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options

SAMPLERS = ("nuts", "hmc")
"""Backends whose draws are those of the posterior, with their log density."""

LARGEST_RHAT = 1.05
"""Above it chains have not drawn from one distribution."""


class DrawsOptions(Options):
    """Options of estimators that start from posterior draws."""

    backend: str = Field("nuts", description="The sampler: " + ", ".join(SAMPLERS) + ".")
    chains: Annotated[int, Field(ge=2)] = Field(4, description="Independent chains.")
    draws: Annotated[int, Field(ge=100)] = Field(1000, description="Kept draws of each.")
    warmup: Count = Field(1000, description="Warm-up steps of each.")
    options: dict[str, Any] = Field({}, description="Options of the sampler, by name.")

    @field_validator("backend")
    @classmethod
    def _known(cls, given: str) -> str:
        if given not in SAMPLERS:
            raise ValueError(str(UnknownNameError("sampler", given, SAMPLERS)))
        return given


class Drawn(NamedTuple):
    """Draws of the chains that stayed finite.

    Attributes:
        u: unconstrained ``(chain, draw, dim)``.
        lp: their log densities ``(chain, draw)``.
        gradients: that all chains took.
        lost: chains that turned NaN.
        divergent: share of draws that diverged.
    """

    u: np.ndarray
    lp: np.ndarray
    gradients: int
    lost: int
    divergent: float


@dataclass(frozen=True)
class Sampler:
    """A backend with the numbers of its chains, draws and warm-up steps."""

    backend: Backend
    chains: int
    draws: int
    warmup: int

    def __call__(self, posterior: Posterior, seed: int, dtype: str) -> Drawn:
        """Run the chains.

        Args:
            posterior: the target.
            seed: of every random number.
            dtype: ``float32`` or ``float64``.

        Raises:
            RunError: fewer than two chains stayed finite.
        """
        chains = run_chains(
            self.backend.planned(self.warmup),
            posterior,
            chains=self.chains,
            draws=self.draws,
            warmup=self.warmup,
            seed=seed,
            dtype=dtype,
        )
        u = np.asarray(chains.u.all(), np.float64)
        going = np.isfinite(u).all((1, 2))
        if going.sum() < 2:
            raise RunError(f"{going.sum()} of {self.chains} chains stayed finite; 2 are needed")
        return Drawn(
            u[going],
            np.asarray(chains.stats["lp"], np.float64)[going],
            sum(
                self.backend.gradients({name: values[c] for name, values in stats.items()})
                for stats in (chains.stats, chains.warmup_stats)
                for c in range(self.chains)
            ),
            int(self.chains - going.sum()),
            float(np.nanmean(chains.stats["diverging"])),
        )


def sampler_of(options: DrawsOptions) -> Sampler:
    """The sampler that options name, with those they give it."""
    made: Backend = registry.get("backends", options.backend).build(options.options, "options")
    return Sampler(made, options.chains, options.draws, options.warmup)


def largest_rhat(*values: np.ndarray) -> float:
    """The largest of scalars ``(chain, draw)``: of functions, since weights have equal copies."""
    from arviz_stats.base import array_stats

    return max(float(array_stats.rhat(value)) for value in values)


def mean_error(values: np.ndarray) -> float:
    """Standard error of the mean of ``(chain, draw)``, by their autocorrelation."""
    from arviz_stats.base import array_stats

    if np.ptp(values) == 0:
        return 0.0
    return float(values.std(ddof=1) / np.sqrt(float(array_stats.ess(values, method="mean"))))
