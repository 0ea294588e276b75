"""What priors with correlated elements of a kernel share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from pydantic import Field

from bnnzoo.models.correlated import CorrelatedNormal, Groups, coloured
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior, PriorOptions
from bnnzoo.models.scaled_gaussian import centre_of
from bnnzoo.options import Positive

Factors = tuple[Any, ...]


class CorrelatedOptions(PriorOptions):
    """Options of priors whose kernels have correlated elements."""

    std: Positive = Field(
        1.0, description="Standard deviation of an element, in units of gain/sqrt(fan-in)."
    )
    absolute: bool = Field(False, description="Take std as it is, without gain and fan-in.")
    bias_std: Positive = Field(1.0, description="Standard deviation of the Gaussian on biases.")
    centred: bool = Field(
        False,
        description="Sample the kernels themselves. Otherwise independent values are sampled, as "
        "<path>.base, and a kernel is a linear map of them: samplers then need not know the "
        "correlations. Structured Laplace, local reparameterisation and mc-dropout need true.",
    )


class CorrelatedPrior(Prior):
    """Kernels with one covariance factor for each of some groups of axes.

    Embeddings count as kernels of fan-in 1, without correlations; biases are N(0, bias_std^2) and
    normalisation scales N(1, bias_std^2).
    """

    scale: Leaf
    bias_std: Leaf
    absolute: bool
    centred: bool

    @abstractmethod
    def groups(self, info: ParameterInfo) -> Groups:
        """Groups of a kernel's axes that vary together; none where its elements do not.

        Args:
            info: a kernel or embedding.
        """

    @abstractmethod
    def factors(self, info: ParameterInfo) -> Factors:
        """Lower Cholesky factor of each group's covariance.

        Args:
            info: a kernel or embedding.
        """

    def law(
        self, info: ParameterInfo, scale: Leaf, groups: Groups, factors: Factors
    ) -> dist.Distribution:
        """Distribution of a kernel with these factors.

        Args:
            info: a kernel or embedding.
            scale: of its elements.
            groups: of its axes.
            factors: one a group; of the identity for the independent values behind a kernel.
        """
        return CorrelatedNormal(info.shape, scale, groups, factors)

    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """See :meth:`Prior.distribution`."""
        if not self._is_ours(info, direct):
            element = dist.Normal(centre_of(info), self.bias_std)
            return element.expand(info.shape).to_event(len(info.shape))
        return self.law(info, self._scale(info), self.groups(info), self.factors(info))

    def sample_parameter(self, info: ParameterInfo, direct: bool = False) -> Array:
        """The parameter under its path; if not centred, first what it is made of."""
        if self.centred or not self._is_ours(info, direct) or not self.groups(info):
            return super().sample_parameter(info, direct)
        groups, factors = self.groups(info), self.factors(info)
        whites = tuple(jnp.eye(factor.shape[0]) for factor in factors)
        base = numpyro.sample(f"{info.path}.base", self.law(info, 1.0, groups, whites))
        value = self._scale(info) * coloured(base, groups, factors, len(info.shape))
        return numpyro.deterministic(info.path, value)

    def _is_ours(self, info: ParameterInfo, direct: bool) -> bool:
        return direct or info.role in ("kernel", "embedding")

    def _scale(self, info: ParameterInfo) -> Leaf:
        return self.scale if self.absolute else self.scale * info.unit
