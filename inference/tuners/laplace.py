"""Hyper-parameters by Laplace's evidence: at a mode that follows them."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jax import Array

from bnnzoo.errors import InputError
from bnnzoo.inference.backends.laplace import CurvatureOptions
from bnnzoo.inference.hyper_parameters import Groups, Hyper
from bnnzoo.inference.laplace_structures import Flavour, log_normaliser
from bnnzoo.inference.tuners._following import (
    Following,
    FollowingOptions,
    Objective,
    value_and_slope,
)
from bnnzoo.models.model import Model
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.priors.grouped_gaussian import GroupedGaussian
from bnnzoo.registry import register


class LaplaceTunerOptions(FollowingOptions, CurvatureOptions):
    """Options of ``laplace``."""


@dataclass(frozen=True)
class OfCurvature:
    """Laplace's log evidence in one structure."""

    flavour: Flavour

    def __call__(self, posterior: Posterior, u: Array, key: Array) -> Array:
        """Of all rows: nothing is random in it."""
        return log_normaliser(posterior, u, self.flavour)


@dataclass(frozen=True)
class LaplaceTuner(Following):
    """Laplace's evidence."""

    options: LaplaceTunerOptions

    def objective(self, last: bool) -> Objective:
        """The same on the way and at the end."""
        return OfCurvature(self.options.flavour())

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
    return value_and_slope(posterior, groups, hyper, u, jax.random.key(0), OfCurvature(flavour))


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
