"""Hyper-parameters by Laplace's evidence: at a mode that follows them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference import dense_evidence
from bnnzoo.inference.curvature import bytes_of_matrix
from bnnzoo.inference.hyper_parameters import Groups, Hyper
from bnnzoo.inference.kfac_evidence import hold, known_inputs, log_normaliser_of
from bnnzoo.inference.laplace_options import CurvatureOptions
from bnnzoo.inference.laplace_structures import (
    Flavour,
    blocks,
    coordinates,
    inverse_of,
    log_normaliser,
    log_volume,
)
from bnnzoo.inference.tuners._following import (
    Following,
    FollowingOptions,
    Moving,
    Objective,
    value_and_slope,
)
from bnnzoo.models.model import Model
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.priors.grouped_gaussian import GroupedGaussian
from bnnzoo.registry import register


class LaplaceTunerOptions(FollowingOptions, CurvatureOptions):
    """Options of ``laplace``."""

    solves: Annotated[int, Field(ge=0)] = Field(
        30,
        description="Steps of conjugate gradients a round for where the mode moves to; 0 leaves "
        "that out of the gradient, as is customary.",
    )


@dataclass(frozen=True)
class OfCurvature(Moving):
    """Laplace's log evidence in one structure."""

    flavour: Flavour
    solves: int = 0

    def shape(self, posterior: Posterior, u: Array) -> Array:
        """Half the log determinant of the curvature, which moves with the weights."""
        if dense_evidence.is_dense(self.flavour):
            held = self.hold(posterior, u, None)
            return dense_evidence.log_volume(posterior, u, self.flavour, held)
        return log_volume(posterior, self.flavour, blocks(posterior, u, self.flavour))

    def inverse(self, posterior: Posterior, u: Array) -> Callable[[Array], Array]:
        """The curvature's own."""
        if dense_evidence.is_dense(self.flavour):
            return dense_evidence.inverse(posterior, u, self.flavour)
        return inverse_of(posterior, self.flavour, blocks(posterior, u, self.flavour), u)

    def hold(self, posterior: Posterior, u: Array, once: Any) -> Any:
        """Kronecker factors, decomposed, or a dense matrix: no width is in them."""
        if dense_evidence.is_dense(self.flavour):
            return dense_evidence.data_matrix(posterior, u, self.flavour)
        if self.flavour.structure != "kron":
            return None
        known = known_inputs(posterior, self.flavour) if once is None else once
        return hold(posterior, u, self.flavour, known)

    def __call__(self, posterior: Posterior, u: Array, key: Array, held: Any) -> Array:
        """Of all rows: nothing is random in it."""
        if held is None:
            return log_normaliser(posterior, u, self.flavour)
        if dense_evidence.is_dense(self.flavour):
            volume = dense_evidence.log_volume(posterior, u, self.flavour, held)
            return posterior.log_density(u) + volume
        return log_normaliser_of(posterior, u, self.flavour, held)


@dataclass(frozen=True)
class LaplaceTuner(Following):
    """Laplace's evidence."""

    options: LaplaceTunerOptions

    def objective(self, last: bool) -> Objective:
        """The same on the way and at the end."""
        return OfCurvature(self.options.flavour(), self.options.solves)

    def once(self, posterior: Posterior) -> Any:
        """Kronecker factors of the inputs that are rows of the data."""
        flavour = self.options.flavour()
        return inputs_once(posterior, flavour) if flavour.structure == "kron" else None

    def check(self, posterior: Posterior, groups: Groups) -> None:
        """What the backend refuses, and widths that the structure averages away."""
        self.options.check(posterior, "tuner")
        flavour = self.options.flavour()
        size = len(coordinates(posterior, flavour)[0])
        # Its gradient is that of the dense matrix, however few the rows.
        if (
            dense_evidence.is_dense(flavour)
            and bytes_of_matrix(size, posterior) > flavour.memory_bytes
        ):
            raise InputError(
                f"tune: a dense matrix of {size} coordinates takes "
                f"{bytes_of_matrix(size, posterior) / 2**20:.0f} MiB, more than "
                f"tuner.memory_bytes = {flavour.memory_bytes}; give tuner.structure = 'kron' or "
                "'diagonal', or method 'laplace-ntk'"
            )
        if self.options.structure == "low-rank":
            raise InputError(
                "tune: the evidence of structure 'low-rank' has no gradient here; give "
                "tuner.structure = 'full', 'kron' or 'diagonal'"
            )
        if self.options.structure == "last-layer":
            raise InputError(
                "tune: with structure 'last-layer' the other layers have their density at the mode "
                "and no volume, which is largest where their widths go to zero; give "
                "tuner.structure = 'full', 'kron' or 'diagonal'"
            )
        assert isinstance(posterior.model, Model)
        assert isinstance(posterior.model.prior, GroupedGaussian)
        several = [n for n, v in posterior.model.prior.widths.items() if np.ndim(v) == 1]
        if several and self.options.structure == "kron":
            raise InputError(
                "tune: Kronecker factors average precisions over units; give tuner.structure = "
                "'full' or 'diagonal' with groups = 'unit'"
            )


@functools.partial(jax.jit, static_argnames=("flavour",))
def inputs_once(posterior: Posterior, flavour: Flavour) -> Any:
    """What :func:`evidence_and_slope` takes as ``once``: the same for all weights and widths.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        flavour: of structure ``kron``.
    """
    return known_inputs(posterior, flavour)


def evidence_and_slope(
    posterior: Posterior,
    groups: Groups,
    hyper: Hyper,
    u: Array,
    flavour: Flavour,
    once: Any = None,
) -> tuple[Array, Hyper]:
    """Laplace's log evidence at a point, and its gradient by the logarithms with the point held.

    At a mode the joint density's own part of the gradient is that of the evidence; what the
    curvature changes where the mode moves to is not in it, as is customary, and is the tuner's
    option ``solves``.

    Args:
        posterior: of a model with prior ``grouped-gaussian``.
        groups: which parameters share a width.
        hyper: logarithms.
        u: the mode ``(dim,)``.
        flavour: curvature and structure.
        once: of :func:`inputs_once`; without it structure ``kron`` finds it again.

    Source: Immer et al. (2021), Scalable Marginal Likelihood Estimation for Model Selection in Deep
    Learning, sec. 3.
    """
    objective = OfCurvature(flavour)
    return value_and_slope(posterior, groups, hyper, u, jax.random.key(0), objective, once)


@register(
    "tuners",
    "laplace",
    summary="Laplace's evidence at a mode that follows the hyper-parameters.",
    options=LaplaceTunerOptions,
    references=(
        "MacKay (1992), A Practical Bayesian Framework for Backpropagation Networks",
        "Immer et al. (2021), Scalable Marginal Likelihood Estimation for Model Selection in Deep "
        "Learning, alg. 1",
        "Lorraine, Vicol & Duvenaud (2020), Optimizing Millions of Hyperparameters by Implicit "
        "Differentiation, eq. 2",
    ),
    tags={"kind": "approximation", "family": "optimisation"},
    notes="Mode and hyper-parameters in turn: L-BFGS to the mode, then Adam on the logarithms by "
    "the evidence's gradient, which goes through the mode (solves = 0 holds it, as is customary: "
    "with many widths the evidence may then fall). Widths of weights that are not needed go to "
    "zero, which switches them off.",
)
def laplace(options: LaplaceTunerOptions) -> LaplaceTuner:
    """The tuner of these options."""
    return LaplaceTuner(options)
