"""Evidence by Laplace's method: the integral of the Gaussian at a mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from pydantic import Field

from bnnzoo.errors import InputError, RunError
from bnnzoo.inference import spectra
from bnnzoo.inference.backends.laplace import LaplaceState
from bnnzoo.inference.curvature import network_coordinates
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.laplace_modes import find_modes
from bnnzoo.inference.laplace_options import ModeOptions
from bnnzoo.inference.laplace_structures import parts
from bnnzoo.inference.network_layers import last_layer
from bnnzoo.inference.symmetries import HiddenLayer, hidden_layers, log_arrangements
from bnnzoo.inference.told_apart import ToldApart, log_told_apart
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count
from bnnzoo.registry import register

DRAWS = 64
"""Of the Gaussian about the mode, to count the arrangements that it tells apart."""

OF_LAST_LAYER = (
    "structure last-layer: the other layers have their prior density at the mode and no volume, "
    "which narrower priors raise without limit; do not choose a prior or a depth by it"
)


class LaplaceEvidenceOptions(ModeOptions):
    """Options of ``laplace``."""

    modes: Count = Field(4, description="Independent climbs; the highest evidence is given.")
    steps: Count = Field(1000, description="Steps of L-BFGS of each.")
    copies: Literal["one", "told-apart", "all"] = Field(
        "one",
        description="How many of a mode's equal copies (orders and signs of hidden units) the "
        "value counts: one, as many as the Gaussian about it tells apart, or all.",
    )


@dataclass(frozen=True)
class LaplaceEvidence(Estimator):
    """The ``laplace`` backend's normaliser at the best of several modes."""

    options: LaplaceEvidenceOptions

    kind = "approximation"

    def check(self, posterior: Posterior) -> None:
        """What the backend refuses, and copies of a mode that are not all sampled."""
        self.options.check(posterior, "estimator")
        if self.options.structure == "last-layer" and self.options.copies == "told-apart":
            raise InputError(
                "laplace: structure 'last-layer' holds the weights that tell hidden units apart; "
                "give estimator.copies = 'one'"
            )

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The highest of the modes' evidences."""
        given = self.options
        found = find_modes(
            posterior,
            given.flavour(),
            noise=given.noise,
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
        copies = {"one": (0.0, 0.0), "all": (log_arrangements(layers), 0.0)}
        if given.structure != "last-layer":
            told = self._told_apart(posterior, layers, found.states[best], seed)
            copies["told-apart"] = told
        log_copies, error = copies[given.copies]
        diagnostics: dict[str, Any] = {
            "modes": values.tolist(),
            "remaining": float(found.stats["remaining"][best]),
            "flat_directions": int(found.stats["flat"][best]),
            "log_arrangements": copies["all"][0],
            "with_all_arrangements": float(values[best]) + copies["all"][0],
        }
        if "told-apart" in copies:
            diagnostics["log_told_apart"], diagnostics["log_told_apart_error"] = told
            diagnostics["with_those_told_apart"] = float(values[best]) + copies["told-apart"][0]
        said = tuple(found.warnings[best])
        if given.structure == "last-layer" and _has_other_layers(posterior):
            said = (*said, OF_LAST_LAYER)
        value = float(values[best]) + log_copies
        return Estimate(value, error, found.gradients, diagnostics, said)

    def _told_apart(
        self,
        posterior: Posterior,
        layers: tuple[HiddenLayer, ...],
        state: LaplaceState,
        seed: int,
    ) -> ToldApart:
        """Arrangements that draws of the Gaussian about the mode tell apart."""
        if not layers:
            return ToldApart(0.0, 0.0)
        centre = np.asarray(state.mode)
        random = np.random.default_rng(seed)
        draws = np.repeat(centre[None], 2 * DRAWS, axis=0)
        for spectrum, where in parts(posterior, self.options.flavour(), state.found):
            noise = random.standard_normal((2 * DRAWS, len(where))).astype(centre.dtype)
            draws[:, where] += np.asarray(spectra.draw(spectrum, jnp.asarray(noise)))
        for_widths, told = np.split(draws.astype(float), 2)
        widths = np.sqrt(np.mean((for_widths - centre) ** 2, axis=0))
        return log_told_apart(layers, centre, widths, told)


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
        "standard error": "of copies told apart alone: Laplace's own error is not random",
        "wrong when": "the posterior is not one Gaussian: few rows, modes besides the best one's "
        "copies (see with_those_told_apart), a mode that is not reached",
        "choose it": "many candidates, or networks too large to sample",
    },
    notes="Exact for a Gaussian posterior. A network has 2^H H! copies of every mode for each "
    "hidden layer of H units with an odd activation, H! with another. Plain Laplace counts one; "
    "with_all_arrangements counts them as if they did not overlap, which is too many wherever "
    "units are alike or hardly used. with_those_told_apart counts what draws of the Gaussian tell "
    "of the copy they are from, a lower bound of their mutual information (Barber & Agakov 2003) "
    "with a standard error, the value's with copies = told-apart. A learned Gaussian noise is at "
    "the mode of its marginal (option noise), its logarithm's Gaussian that with the weights held."
    " Other modes are not counted: rank networks whose evidences are near with smc. With "
    "structure last-layer the other layers stay at the mode, and the value keeps their prior "
    "density there: it is neither the evidence of the whole network nor that of its last layer "
    "given the features, and says so as a warning.",
)
def laplace(options: LaplaceEvidenceOptions) -> LaplaceEvidence:
    """The estimator of these options."""
    return LaplaceEvidence(options)
