"""What priors with a covariance over the positions of convolution filters share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.models.correlated import cholesky
from bnnzoo.models.correlated_prior import CorrelatedPrior
from bnnzoo.models.filter_covariance import Kernel, filter_covariance
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


class FilterPrior(CorrelatedPrior):
    """Filters are correlated over their positions by a kernel of their distance.

    Attributes:
        kernel: correlation at a distance.
        length_scale: in positions; None once the network's factors are known.
        bound: factor of every convolution's positions by path, once the network is known.
    """

    kernel: Kernel
    length_scale: float | None
    bound: Mapping[str, Leaf]

    def bind(self, infos: Sequence[ParameterInfo], data: Dataset | None) -> FilterPrior:
        """With the factors of the filters, so that another length-scale is only numbers."""
        if self.length_scale is None:
            return self
        factors = {i.path: self._factor(i) for i in infos if i.filter_axes}
        return replace(self, bound=factors, length_scale=None)  # type: ignore[type-var]

    def filter_factor(self, info: ParameterInfo) -> Array:
        """Lower Cholesky factor of a filter's positions.

        Args:
            info: the kernel of a convolution.
        """
        known = self.bound.get(info.path)
        return jnp.asarray(self._factor(info) if known is None else known)

    def _factor(self, info: ParameterInfo) -> np.ndarray:
        assert self.length_scale is not None
        shape = info.shape[: info.filter_axes]
        found = filter_covariance(shape, self.kernel, self.length_scale)
        size = "x".join(map(str, shape))
        what = f"prior.length_scale = {self.length_scale:g} on the {size} filters of {info.path!r}"
        return cholesky(found, what, "choose a shorter one, or prior.kernel = 'matern-1/2'")
