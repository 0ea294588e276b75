"""The matrix-normal prior: rows and columns of a kernel are correlated."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError, OptionError
from bnnzoo.models.correlated import Groups, cholesky
from bnnzoo.models.correlated_prior import CorrelatedOptions, CorrelatedPrior
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.options import Finite
from bnnzoo.registry import register

Side = Finite | tuple[tuple[Finite, ...], ...]


class MatrixNormalOptions(CorrelatedOptions):
    """Options of ``matrix-normal``."""

    inputs: Side = Field(
        0.5,
        description="Correlation of two weights into one unit, or the covariance matrix of all of "
        "them, whose size must be the kernel's.",
    )
    outputs: Side = Field(
        0.0,
        description="Correlation of two weights out of one input, or the covariance matrix of all "
        "of them, whose size must be the kernel's.",
    )


@functools.partial(
    register_dataclass,
    data_fields=("scale", "bias_std", "inputs", "outputs"),
    meta_fields=("absolute", "centred"),
)
@dataclass(frozen=True)
class MatrixNormal(CorrelatedPrior):
    """Kernels with covariance scale^2 U (x) V over inputs and outputs.

    Attributes:
        inputs: a correlation, or the lower Cholesky factor of U.
        outputs: a correlation, or the lower Cholesky factor of V.
    """

    scale: Leaf
    bias_std: Leaf
    inputs: Any
    outputs: Any
    absolute: bool
    centred: bool

    def groups(self, info: ParameterInfo) -> Groups:
        """All axes but the last, and the last."""
        if info.role == "embedding" or len(info.shape) < 2:
            return ()
        last = len(info.shape) - 1
        return tuple(range(last)), (last,)

    def factors(self, info: ParameterInfo) -> tuple[Array, ...]:
        """Of U and V."""
        if not self.groups(info):
            return ()
        sizes = math.prod(info.shape[:-1]), info.shape[-1]
        given = self.inputs, self.outputs
        return tuple(_factor(side, n) for side, n in zip(given, sizes, strict=True))

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Matrices have the sizes of the kernels, and correlations leave them positive definite."""
        for info in infos:
            if not self.groups(info):
                continue
            sizes = math.prod(info.shape[:-1]), info.shape[-1]
            for name, n in zip(("inputs", "outputs"), sizes, strict=True):
                side = getattr(self, name)
                if np.ndim(side) == 2 and side.shape[0] != n:
                    raise InputError(
                        f"prior.{name} is a matrix of size {side.shape[0]}, but {info.path!r} has "
                        f"{n} {name}; give a correlation, or a matrix by prior.rules"
                    )
                if np.ndim(side) == 0 and n > 1 and not side > -1.0 / (n - 1):
                    raise InputError(
                        f"prior.{name} = {side:g}: {n} weights of {info.path!r} cannot all have "
                        f"this correlation, which must be above {-1.0 / (n - 1):.3g}"
                    )


def _factor(side: Any, n: int) -> Array:
    """Of a matrix, as given; of equal correlations r: L with L L' = (1 - r) I + r 11'."""
    if jnp.ndim(side) == 2:
        return jnp.asarray(side)
    # Cholesky in closed form, column by column: what is left of the variance after j of them.
    j = jnp.arange(n)
    left = (1.0 - side) * (1.0 + j * side) / (1.0 + (j - 1.0) * side)
    below = side * (1.0 - side) / (1.0 + (j - 1.0) * side) / jnp.sqrt(left)
    return jnp.tril(jnp.broadcast_to(below, (n, n)), -1) + jnp.diag(jnp.sqrt(left))


@register(
    "priors",
    "matrix-normal",
    summary="Gaussian kernels whose rows and columns are correlated.",
    options=MatrixNormalOptions,
    references=(
        "Gupta & Nagar (1999), Matrix Variate Distributions, ch. 2",
        "Louizos & Welling (2016), Structured and Efficient Variational Deep Learning with Matrix "
        "Gaussian Posteriors, sec. 3",
    ),
    tags={"family": ("gaussian", "correlated"), "tails": "light"},
    notes="cov(w[i, o], w[j, p]) = s^2 U[i, j] V[o, p], s = std * gain / sqrt(fan-in); a "
    "number r stands for the matrix of ones on the diagonal and r elsewhere. Inputs of a "
    "convolution are its positions and channels, all axes but the last. A shared correlation of "
    "inputs gives every unit a response to their sum that the gaussian prior of the same "
    "variance has not: the variance of the sum of n weights is s^2 n (1 + (n - 1) r).",
)
def matrix_normal(options: MatrixNormalOptions) -> MatrixNormal:
    """The prior of these options."""
    sides: list[Any] = []
    for name in ("inputs", "outputs"):
        side = getattr(options, name)
        if isinstance(side, float):
            if not side < 1.0:
                raise OptionError(f"prior.{name} = {side:g}: a correlation below 1 is needed")
            sides.append(side)
            continue
        rows = {len(row) for row in side}
        if rows != {len(side)}:
            raise OptionError(f"prior.{name}: a square matrix is needed")
        sides.append(cholesky(np.array(side), f"prior.{name}", "raise its diagonal"))
    return MatrixNormal(
        options.std, options.bias_std, sides[0], sides[1], options.absolute, options.centred
    )
