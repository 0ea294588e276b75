"""Hyper-parameters by the exact evidence, where there is a closed form."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from pydantic import Field
from scipy import optimize

from bnnzoo.errors import InputError
from bnnzoo.inference.estimators.exact import LARGEST
from bnnzoo.inference.gaussian_integral import AGREES, gaussian_integral, log_integral
from bnnzoo.inference.hyper_parameters import NOISE, Groups, Hyper, grouped, placed
from bnnzoo.inference.infinite import InfiniteNetwork
from bnnzoo.inference.tuning import FARTHEST, Found, Tuner
from bnnzoo.models.model import Model
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options
from bnnzoo.registry import register

IMPOSSIBLE = 1e25
"""Minus an evidence that is not finite, for the search to turn back at."""


class ExactTunerOptions(Options):
    """Options of ``exact``."""

    over: Literal["weights", "infinite-width"] = Field(
        "weights",
        description="What is integrated out: the weights of a model linear in them, or those of "
        "infinitely wide hidden layers.",
    )
    steps: Count = Field(200, description="Steps of L-BFGS at most.")


@dataclass(frozen=True)
class ExactTuner(Tuner):
    """L-BFGS on the logarithms."""

    options: ExactTunerOptions

    dtype = "float64"

    def check(self, posterior: Posterior, groups: Groups) -> None:
        """There is a closed form."""
        if self.options.over == "infinite-width":
            if not groups.noise:
                raise InputError(
                    "tune: an infinitely wide network needs a noise that is tuned as well; give "
                    "noise = True, and a likelihood with additive noise"
                )
            return
        if posterior.dimension > LARGEST:
            raise InputError(
                f"tune: {posterior.dimension} weights need a dense matrix of as many rows; at most "
                f"{LARGEST}"
            )
        start = jnp.zeros(posterior.dimension)
        _, off = gaussian_integral(posterior, start, np.arange(posterior.dimension))
        if not off <= AGREES:
            raise InputError(
                "tune: the log posterior is not quadratic in the weights, so that no closed form "
                "is known; give tuner.over = 'infinite-width', or method = 'laplace'"
            )

    def search(
        self, posterior: Posterior, groups: Groups, hyper: Hyper, seed: int, progress: bool
    ) -> Found:
        """From the start alone: the evidence of few numbers is smooth."""
        flat, unflatten = ravel_pytree(hyper)
        at = np.asarray(flat, float)
        wide = self.options.over == "infinite-width"
        trace: list[float] = []

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            found = unflatten(jnp.asarray(x))
            value, slope = (_process if wide else _weights)(posterior, groups, found)
            gradient = np.asarray(ravel_pytree(slope)[0], np.float64)
            if not math.isfinite(value):
                return IMPOSSIBLE, np.zeros_like(x)
            trace.append(value)
            return -value, -gradient

        bounds = np.stack([at - FARTHEST, at + FARTHEST], axis=1)
        found = optimize.minimize(
            loss,
            at,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": self.options.steps, "ftol": 1e-12, "gtol": 1e-6},
        )
        warnings = () if found.success else (f"the search stopped early: {found.message}",)
        steps = np.maximum.accumulate([*trace, -found.fun])
        return Found(unflatten(jnp.asarray(found.x)), steps, len(trace), warnings)


def _weights(posterior: Posterior, groups: Groups, hyper: Hyper) -> tuple[float, Hyper]:
    value, slope = _of_weights(posterior, groups, hyper)
    return float(value), slope


@functools.partial(jax.jit, static_argnames="groups")
def _of_weights(posterior: Posterior, groups: Groups, hyper: Hyper) -> tuple[Array, Hyper]:
    def evidence(hyper: Hyper) -> Array:
        density = placed(posterior, groups, hyper).log_density
        origin = jnp.zeros(posterior.dimension)
        value, slope = jax.value_and_grad(density)(origin)
        precision = -jax.hessian(density)(origin)
        return log_integral(value, slope, 0.5 * (precision + precision.T), jnp)

    return jax.value_and_grad(evidence)(hyper)


def _process(posterior: Posterior, groups: Groups, hyper: Hyper) -> tuple[float, Hyper]:
    """The infinitely wide partner's, by the chain rule from widths to logarithms."""
    assert isinstance(posterior.model, Model) and posterior.data is not None
    model = grouped(posterior.model, groups, hyper)
    try:
        partner = InfiniteNetwork(model, posterior.data)
        slopes = partner.evidence_gradient
    except InputError:  # not positive definite: the search turns back
        return math.nan, {name: jnp.zeros_like(v) for name, v in hyper.items()}
    found: dict[str, Any] = {name: jnp.zeros_like(v) for name, v in hyper.items()}
    for path, name in groups.of_path:
        slope = slopes.get(f"prior.widths['{path}']", 0.0)
        found[name] = found[name] + slope * jnp.exp(hyper[name])
    found[NOISE] = slopes["noise_std"] * jnp.exp(hyper[NOISE])
    return partner.log_evidence, found


@register(
    "tuners",
    "exact",
    summary="The exact evidence of linear models and of infinitely wide networks.",
    options=ExactTunerOptions,
    references=(
        "MacKay (1992), Bayesian Interpolation, sec. 4",
        "Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, sec. 5.4.1",
    ),
    tags={"kind": "exact", "family": "closed-form"},
    notes="L-BFGS on the logarithms in float64. over = infinite-width needs fixed noise, tuned as "
    "well, and widths a layer; the widths found are those of the infinitely wide partner.",
)
def exact(options: ExactTunerOptions) -> ExactTuner:
    """The tuner of these options."""
    return ExactTuner(options)
