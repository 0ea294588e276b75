"""Evidence in closed form, where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.gaussian_integral import AGREES, gaussian_integral
from bnnzoo.inference.infinite import InfiniteNetwork
from bnnzoo.inference.output_layer import output_sites
from bnnzoo.models.handwritten import HandwrittenModel
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register

LARGEST = 4000
"""Coordinates of a dense matrix in float64 of 128 MB."""


class ExactOptions(Options):
    """Options of ``exact``."""

    over: Literal["weights", "last-layer", "infinite-width"] = Field(
        "weights",
        description="What is integrated out: all weights (of a model linear in them), those of "
        "the last layer (the others stay at a draw of their prior: random features), or those of "
        "infinitely wide hidden layers.",
    )
    noise_std: Positive | None = Field(
        None, description="infinite-width: of the noise, modelled units, where the model learns it."
    )


@dataclass(frozen=True)
class Exact(Estimator):
    """A Gaussian integral, or the evidence of a Gaussian or Student-t process."""

    options: ExactOptions

    kind = "exact"
    dtype = "float64"

    def check(self, posterior: Posterior) -> None:
        """The matrix fits the memory."""
        if self.options.over == "weights" and posterior.dimension > LARGEST:
            raise InputError(
                f"exact: {posterior.dimension} weights need a dense matrix of as many rows; at "
                f"most {LARGEST}"
            )

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The closed form that was asked for."""
        if self.options.over == "infinite-width":
            assert posterior.data is not None
            if isinstance(posterior.model, HandwrittenModel):
                raise InputError("exact: a hand-written model has no infinitely wide partner")
            partner = InfiniteNetwork(posterior.model, posterior.data, self.options.noise_std)
            return Estimate(partner.log_evidence, 0.0, 0, {"rows": posterior.rows})
        if self.options.over == "weights":
            return _all_weights(posterior)
        return _last_layer(posterior, seed)


def _all_weights(posterior: Posterior) -> Estimate:
    start = jnp.zeros(posterior.dimension)
    log_z, off = gaussian_integral(posterior, start, np.arange(posterior.dimension))
    if not off <= AGREES:
        raise InputError(
            "exact: the log posterior is not quadratic in the weights, so that no closed form is "
            "known; take over = 'last-layer' or 'infinite-width', or method = 'smc'"
        )
    return Estimate(log_z, 0.0, 0, {"dimension": posterior.dimension, "off_quadratic": off})


def _last_layer(posterior: Posterior, seed: int) -> Estimate:
    names = output_sites(posterior, None)
    where = np.concatenate(
        [
            np.arange(site.offset, site.offset + site.size)
            for site in posterior.sites
            if site.name in names
        ]
    )
    if len(where) > LARGEST:
        raise InputError(f"exact: a last layer of {len(where)} weights; at most {LARGEST}")
    start = posterior.initial(jax.random.key(seed)).at[where].set(0.0)
    log_z, off = gaussian_integral(posterior, start, where)
    if not off <= AGREES:
        raise InputError(
            "exact: the log posterior is not quadratic in the last layer's weights: that needs "
            "gaussian noise of known std (likelihood.noise = 'fixed') and a Gaussian "
            "prior; take method = 'smc'"
        )
    # The joint density holds the prior of what stays fixed, which is no part of p(y | features).
    fixed = _prior_of_others(posterior, start, frozenset(names))
    diagnostics = {"dimension": len(where), "off_quadratic": off, "features": "a draw of the prior"}
    return Estimate(log_z - fixed, 0.0, 0, diagnostics)


def _prior_of_others(posterior: Posterior, u: Array, names: frozenset[str]) -> float:
    seen = posterior._score(u)
    others = [n for n in seen.fns if n not in names]
    total = sum(float(jnp.sum(seen.fns[n].log_prob(seen.values[n]))) for n in others)
    return total + float(seen.log_jacobian)


@register(
    "estimators",
    "exact",
    summary="A closed form: linear models, random features, infinitely wide networks.",
    options=ExactOptions,
    references=(
        "Bishop (2006), Pattern Recognition and Machine Learning, eq. 3.86",
        "Lee et al. (2018), Deep Neural Networks as Gaussian Processes, sec. 2.4",
    ),
    tags={"kind": "exact", "family": "closed-form"},
    facts={
        "number": "exact",
        "standard error": "0",
        "wrong when": "rounding: a covariance near singular",
        "choose it": "whenever it applies; the yardstick of all others",
    },
    notes="Computed in float64. over = weights and last-layer take a Gaussian integral once the "
    "density was found quadratic at random points; anything else is refused. last-layer is the "
    "evidence given hidden layers at a draw of the prior (by seed), a model of its own: "
    "random features. infinite-width is the evidence of the model's infinitely wide partner.",
)
def exact(options: ExactOptions) -> Exact:
    """The estimator of these options."""
    return Exact(options)
