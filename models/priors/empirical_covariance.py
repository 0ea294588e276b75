"""The empirical-covariance prior: first-layer weights along directions in which inputs vary."""

from __future__ import annotations

import fnmatch
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.errors import InputError, hint
from bnnzoo.models.correlated import Groups
from bnnzoo.models.correlated_prior import CorrelatedOptions, CorrelatedPrior
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.options import Positive
from bnnzoo.registry import register

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

LARGEST = 8192
"""Inputs of a unit whose covariance is still formed: half a gigabyte."""

IMAGES = 64
"""How many images are cut into patches at a time."""


class EmpiricalCovarianceOptions(CorrelatedOptions):
    """Options of ``empirical-covariance``."""

    ridge: Positive = Field(
        1e-3,
        description="Added to the diagonal of the inputs' covariance, in units of its mean: what "
        "is left for directions in which training inputs do not vary.",
    )
    kernel: str | None = Field(
        None,
        description="Pattern of the path of the kernel that sees the inputs; the first whose size "
        "fits them if not given.",
    )


@functools.partial(
    register_dataclass,
    data_fields=("scale", "bias_std", "ridge", "bound"),
    meta_fields=("kernel", "absolute", "centred"),
)
@dataclass(frozen=True)
class EmpiricalCovariance(CorrelatedPrior):
    """Weights into each first-layer unit are N(0, s^2 (C + ridge I) / trace-mean).

    Attributes:
        bound: factor of the first kernel by its path, once the data are known.
    """

    scale: Leaf
    bias_std: Leaf
    ridge: Leaf
    kernel: str | None
    absolute: bool
    centred: bool
    bound: Mapping[str, Leaf] = field(default_factory=dict)

    def groups(self, info: ParameterInfo) -> Groups:
        """All axes but the last of the first kernel."""
        return (tuple(range(len(info.shape) - 1)),) if info.path in self._factors() else ()

    def factors(self, info: ParameterInfo) -> tuple[Array, ...]:
        """Of the inputs' covariance."""
        found = self._factors().get(info.path)
        return () if found is None else (jnp.asarray(found),)

    def bind(self, infos: Sequence[ParameterInfo], data: Dataset | None) -> EmpiricalCovariance:
        """With the covariance of the training inputs, in modelled units."""
        if data is None:
            return self  # an error where it is used: a network's shapes may be asked for before
        x = data.scaling_for(handwritten=False).transform_x(data.x)
        info = self._first(infos, x.shape[1:])
        found = _second_moments(x, info.shape, info.filter_axes)
        found = found / max(float(np.diagonal(found).mean()), np.finfo(float).tiny)
        found = (found + self.ridge * np.eye(len(found))) / (1.0 + self.ridge)
        return replace(self, bound={info.path: np.linalg.cholesky(found)})

    def _factors(self) -> Mapping[str, Leaf]:
        if not self.bound:
            raise InputError(
                "prior 'empirical-covariance' reads the training inputs: call model.bind(data)"
            )
        return self.bound

    def _first(self, infos: Sequence[ParameterInfo], in_shape: tuple[int, ...]) -> ParameterInfo:
        kernels = [i for i in infos if i.role == "kernel" and len(i.shape) > 1]
        if self.kernel is not None:
            kernels = [i for i in kernels if fnmatch.fnmatchcase(i.path, self.kernel)]
            if not kernels:
                near = hint(self.kernel, [i.path for i in infos if i.role == "kernel"])
                raise InputError(f"prior.kernel = {self.kernel!r} matches no kernel{near}")
        fits = [i for i in kernels if _fits(i, in_shape)]
        if not fits:
            raise InputError(
                f"prior 'empirical-covariance': no kernel takes inputs of shape {in_shape}; name "
                "the one that sees them by prior.kernel: it must be dense or a convolution"
            )
        if self.kernel is not None and len(fits) > 1:
            raise InputError(
                f"prior.kernel = {self.kernel!r} matches {len(fits)} kernels; one is needed"
            )
        inputs = math.prod(fits[0].shape[:-1])
        if inputs > LARGEST:
            raise InputError(
                f"prior 'empirical-covariance': units of {fits[0].path!r} have {inputs} inputs, "
                f"whose covariance is too large; at most {LARGEST}"
            )
        return fits[0]


def _fits(info: ParameterInfo, in_shape: tuple[int, ...]) -> bool:
    if info.filter_axes:
        return len(in_shape) == info.filter_axes + 1 and info.shape[-2] == in_shape[-1]
    return len(info.shape) == 2 and info.shape[0] == math.prod(in_shape)


def _second_moments(x: np.ndarray, shape: tuple[int, ...], filter_axes: int) -> np.ndarray:
    """Mean of x x' over training rows; of a convolution over the patches inside its images."""
    if not filter_axes:
        flat = x.reshape(len(x), -1)
        return flat.T @ flat / len(flat)
    window = shape[:filter_axes]
    if any(size > n for size, n in zip(window, x.shape[1:], strict=False)):
        raise InputError(
            f"prior 'empirical-covariance': filters of {window} have no patch inside inputs of "
            f"{x.shape[1:-1]}"
        )
    total, count = 0.0, 0
    spatial = tuple(range(1, 1 + filter_axes))
    for first in range(0, len(x), IMAGES):
        cut = np.lib.stride_tricks.sliding_window_view(x[first : first + IMAGES], window, spatial)
        # (row, *place, channel, *position) -> (row, *place, *position, channel)
        patches = np.moveaxis(cut, 1 + filter_axes, -1).reshape(-1, math.prod(shape[:-1]))
        total, count = total + patches.T @ patches, count + len(patches)
    return np.asarray(total / count)


@register(
    "priors",
    "empirical-covariance",
    summary="First-layer weights with the covariance of the training inputs; the rest Gaussian.",
    options=EmpiricalCovarianceOptions,
    references=(
        "Izmailov et al. (2021), Dangers of Bayesian Model Averaging under Covariate Shift, sec. 6",
    ),
    tags={"family": ("gaussian", "correlated"), "tails": "light", "data_dependent": True},
    notes="Weights into each unit of the first layer are N(0, s^2 (C + e I) / (1 + e)), s = "
    "std * gain / sqrt(fan-in), e = ridge, C = sum x x' / n over training inputs in modelled "
    "units (of a convolution: over their patches), divided by the mean of its diagonal; so the "
    "mean variance of a weight is that of gaussian. Directions that training inputs do not "
    "have, such as dead pixels, get next to no weight, and new inputs along them are not heard. "
    "Test inputs are not read. The prior depends on the data, so its evidence is of the targets "
    "given the inputs.",
)
def empirical_covariance(options: EmpiricalCovarianceOptions) -> EmpiricalCovariance:
    """The prior of these options."""
    return EmpiricalCovariance(
        options.std,
        options.bias_std,
        options.ridge,
        options.kernel,
        options.absolute,
        options.centred,
    )
