"""Evidence by Laplace's method: the integral of the Gaussian at a mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from bnnzoo.errors import RunError
from bnnzoo.inference.backends.laplace import CurvatureOptions
from bnnzoo.inference.curvature import network_coordinates
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.laplace_modes import find_modes
from bnnzoo.inference.network_layers import last_layer
from bnnzoo.inference.symmetries import hidden_layers, log_arrangements
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count
from bnnzoo.registry import register

OF_LAST_LAYER = (
    "structure last-layer: the other layers have their prior density at the mode and no volume, "
    "which narrower priors raise without limit; do not choose a prior or a depth by it"
)


class LaplaceEvidenceOptions(CurvatureOptions):
    """Options of ``laplace``."""

    modes: Count = Field(4, description="Independent climbs; the highest evidence is given.")
    steps: Count = Field(1000, description="Steps of L-BFGS of each.")


@dataclass(frozen=True)
class LaplaceEvidence(Estimator):
    """The ``laplace`` backend's normaliser at the best of several modes."""

    options: LaplaceEvidenceOptions

    kind = "approximation"

    def check(self, posterior: Posterior) -> None:
        """What the backend refuses."""
        self.options.check(posterior, "estimator")

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The highest of the modes' evidences."""
        given = self.options
        found = find_modes(
            posterior,
            given.flavour(),
            modes=given.modes,
            steps=given.steps,
            seed=seed,
            dtype=dtype,
        )
        values = found.stats["log_normaliser"].astype(float)
        if not np.isfinite(values).any():
            raise RunError("laplace: no climb ended at a point of finite density and curvature")
        best = int(np.nanargmax(values))
        layers = hidden_layers(posterior)
        arrangements = log_arrangements(layers)
        diagnostics: dict[str, Any] = {
            "modes": values.tolist(),
            "remaining": float(found.stats["remaining"][best]),
            "flat_directions": int(found.stats["flat"][best]),
            "log_arrangements": arrangements,
            "with_all_arrangements": float(values[best]) + arrangements,
        }
        said = tuple(found.warnings[best])
        if given.structure == "last-layer" and _has_other_layers(posterior):
            said = (*said, OF_LAST_LAYER)
        return Estimate(float(values[best]), 0.0, found.gradients, diagnostics, said)


def _has_other_layers(posterior: Posterior) -> bool:
    return len(last_layer(posterior)) < len(network_coordinates(posterior))


@register(
    "estimators",
    "laplace",
    summary="The Gaussian at the best of several modes: quick, for ranking much alike models.",
    options=LaplaceEvidenceOptions,
    references=(
        "MacKay (1992), A Practical Bayesian Framework for Backpropagation Networks",
        "Immer et al. (2021), Scalable Marginal Likelihood Estimation for Model Selection in Deep "
        "Learning, eq. 5",
    ),
    tags={"kind": "approximation", "family": "optimisation"},
    facts={
        "number": "approximation",
        "standard error": "none: its error is not random",
        "wrong when": "the posterior is not one Gaussian: few rows, equivalent arrangements of "
        "hidden units (see with_all_arrangements), a mode that is not reached",
        "choose it": "many candidates, or networks too large to sample",
    },
    notes="Exact for a Gaussian posterior. A network has 2^H H! copies of every mode for each "
    "hidden layer of H units with an odd activation, H! with another. Plain Laplace counts one; "
    "with_all_arrangements counts them as if they did not overlap, which is too many wherever "
    "units are alike or hardly used. Ranking networks of different widths, neither is to be "
    "trusted: compare with smc. With structure last-layer the other layers stay at the mode, and "
    "the value keeps their prior density there: it is neither the evidence of the whole network "
    "nor that of its last layer given the features, and says so as a warning.",
)
def laplace(options: LaplaceEvidenceOptions) -> LaplaceEvidence:
    """The estimator of these options."""
    return LaplaceEvidence(options)
