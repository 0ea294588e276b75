"""What ``laplace`` is told of its Gaussian, alike for draws, evidence and tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference.kfac import matrices
from bnnzoo.inference.laplace_structures import (
    DENSE,
    Flavour,
    bytes_held,
    coordinates,
    has_few_rows,
    has_network,
)
from bnnzoo.inference.network_layers import find_layers
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options


class CurvatureOptions(Options):
    """The Gaussian at a mode: what draws, evidence and tuning share."""

    structure: Literal["full", "kron", "diagonal", "last-layer", "low-rank"] = Field(
        "full",
        description="How the curvature is held: dense, a Kronecker product a layer, its "
        "diagonal, dense for the last layer alone (the others stay at the mode), or its leading "
        "eigenvectors.",
    )
    curvature: Literal["ggn", "empirical-fisher", "hessian"] = Field(
        "ggn",
        description="Of the likelihood: generalised Gauss-Newton, sum of outer products of the "
        "rows' gradients, or exact second derivatives.",
    )
    sharing: Literal["expand", "reduce"] = Field(
        "expand",
        description="kron: whether positions that share a kernel (in convolutions, sequences) "
        "count as rows of their own, or are summed first.",
    )
    rank: Count = Field(20, description="low-rank: eigenvectors kept.")
    memory_bytes: Annotated[int, Field(gt=0)] = Field(
        512 * 2**20,
        description="Most memory for a block of rows' Jacobians, and for a dense matrix.",
    )

    def flavour(self) -> Flavour:
        """What they name."""
        return Flavour(self.structure, self.curvature, self.sharing, self.rank, self.memory_bytes)

    def check(self, posterior: Posterior, section: str) -> None:
        """What :func:`check_flavour` refuses, in the words of whoever has these options."""
        check_flavour(posterior, self.flavour(), section)


class ModeOptions(CurvatureOptions):
    """And where it is."""

    noise: Literal["marginal", "joint"] = Field(
        "marginal",
        description="Where a learned Gaussian noise is, with curvature ggn and structure full "
        "or kron: at the mode of its own marginal, the weights integrated by this approximation "
        "at each noise (MacKay; all outputs have an equal share of the determined weights), or "
        "where weights and noise are highest together. With others it is the latter.",
    )


def check_flavour(posterior: Posterior, flavour: Flavour, section: str) -> None:
    """Raise where a posterior has no such Gaussian, or the memory no room for it.

    Args:
        posterior: the target.
        flavour: curvature and structure.
        section: of the options: ``inference``, ``estimator`` or ``tuner``.

    Raises:
        InputError: what is in the way.
    """
    if not has_network(posterior):
        if flavour.curvature == "ggn":
            raise InputError(
                "laplace: a hand-written model has no network outputs for the Gauss-Newton "
                f"matrix; give {section}.curvature = 'hessian' or 'empirical-fisher'"
            )
        if flavour.structure in ("kron", "last-layer"):
            raise InputError(
                f"laplace: a hand-written model has no layers for structure "
                f"{flavour.structure!r}; give {section}.structure = 'full', 'diagonal' or "
                "'low-rank'"
            )
    if flavour.structure == "kron" and flavour.curvature == "hessian":
        raise InputError(
            "laplace: an exact Hessian is no Kronecker product; with structure 'kron' give "
            f"{section}.curvature = 'ggn' or 'empirical-fisher'"
        )
    if flavour.curvature != "hessian" or flavour.structure == "low-rank":
        posterior.check_rows_are_free()
    if flavour.structure == "kron":
        try:
            matrices(posterior, find_layers(posterior))
        except InputError as error:
            raise InputError(str(error).replace("inference.", f"{section}.")) from None
    if (needed := bytes_held(posterior, flavour)) > flavour.memory_bytes:
        where, rest = coordinates(posterior, flavour)
        dense = len(where) if flavour.structure in DENSE else len(rest)
        few = flavour.structure in DENSE and has_few_rows(posterior, flavour)
        what = "what makes a dense matrix" if few else "a dense matrix"
        raise InputError(
            f"laplace: {what} of {dense} coordinates takes {needed / 2**20:.0f} MiB, "
            f"more than {section}.memory_bytes = {flavour.memory_bytes}; give {section}."
            "structure = 'kron', 'low-rank', 'last-layer' or 'diagonal'"
        )
