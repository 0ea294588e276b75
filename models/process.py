"""Gaussian processes that a prior over functions may be asked to follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.models.leaf import Leaf
from bnnzoo.options import Options, Positive

JITTER = 4.0
"""Added to the diagonal, in units of the rounding of n points, so that close ones have a factor: of
100 points in float32 it is 5e-5 of the variance."""

VARIANCE_SPREAD = 1.0
VARIANCE_LOG_MEAN = 0.1
LENGTH_SPREAD = 1.0
"""The log-normal hyper-priors of Tran et al. (2022): lengthscales exp(N(log sqrt(2 D), 1)) for each
input, variance exp(N(0.1, 1)), as their code has them."""


class Hyper(NamedTuple):
    """What a process has to be told besides its inputs.

    Attributes:
        length_scale: of every input ``(feature,)``, modelled units.
        variance: of a function value, modelled units squared.
    """

    length_scale: Array
    variance: Array


class ProcessOptions(Options):
    """Options every process has."""

    length_scale: Positive | tuple[Positive, ...] | None = Field(
        None,
        description="Distance over which functions change, in modelled units: one number, or one "
        "an input; sqrt(number of inputs) if not given.",
    )
    variance: Positive = Field(1.0, description="Variance of a function value, modelled units.")
    hyper: Literal["fixed", "log-normal", "fitted"] = Field(
        "fixed",
        description="log-normal: every function has lengthscales exp(N(log(length_scale), 1)) of "
        "its own, one an input, and a variance exp(N(log(variance), 1)); length_scale is then "
        "sqrt(2 * inputs) and variance exp(0.1) if not given. fitted: a lengthscale an input and "
        "the variance maximise the exact evidence of the training targets under Gaussian noise, "
        "from length_scale and variance on (regression; the prior then depends on the targets).",
    )


@dataclass(frozen=True)
class Process(ABC):
    """A Gaussian process of mean 0, with lengthscales and a variance.

    Attributes:
        options: lengthscales, variance, whether they are random.
    """

    options: ProcessOptions

    @abstractmethod
    def correlation(
        self, x: Float[Array, "row feature"], z: Float[Array, "other feature"], hyper: Hyper
    ) -> Float[Array, "row other"]:
        """Correlation of function values.

        Args:
            x: inputs, modelled units.
            z: more of them.
            hyper: lengthscales and variance.
        """

    def hyper(self, features: int) -> Hyper:
        """Lengthscales and variance, or the medians of random ones.

        Args:
            features: number of inputs.

        Raises:
            InputError: lengthscales for another number of inputs, or none yet.
        """
        if self.options.hyper == "fitted":
            raise InputError(
                "process.hyper = 'fitted': its lengthscales are not known before it is fitted "
                "(bnnzoo.match_prior does, or bnnzoo.inference.fit_process)"
            )
        given = self.options.length_scale
        random = self.options.hyper == "log-normal"
        if given is None:
            given = float(np.sqrt((2.0 if random else 1.0) * features))
        scales = np.asarray(given, float)
        if scales.ndim and scales.size != features:
            raise InputError(
                f"process.length_scale has {scales.size} numbers, but there are {features} inputs"
            )
        variance = self.options.variance
        if random and "variance" not in self.options.model_fields_set:
            variance = float(np.exp(VARIANCE_LOG_MEAN))
        return Hyper(jnp.broadcast_to(jnp.asarray(scales), (features,)), jnp.asarray(variance))

    def draw_hyper(self, key: Array, features: int) -> Hyper:
        """Lengthscales and variance of one function.

        Args:
            key: a typed random key.
            features: number of inputs.
        """
        middle = self.hyper(features)
        if self.options.hyper == "fixed":
            return middle
        for_length, for_variance = jax.random.split(key)
        scale = LENGTH_SPREAD * jax.random.normal(for_length, middle.length_scale.shape)
        variance = VARIANCE_SPREAD * jax.random.normal(for_variance)
        return Hyper(middle.length_scale * jnp.exp(scale), middle.variance * jnp.exp(variance))

    def covariance(self, x: Float[Array, "row feature"], hyper: Hyper) -> Float[Array, "row row"]:
        """Covariance of function values.

        Args:
            x: inputs, modelled units.
            hyper: lengthscales and variance.
        """
        return hyper.variance * self.correlation(x, x, hyper)

    def draw(
        self, key: Array, x: Float[Array, "row feature"], count: int
    ) -> Float[Array, "count row"]:
        """Functions, each with hyper-parameters of its own where they are random.

        Args:
            key: a typed random key.
            x: inputs, modelled units.
            count: how many functions.
        """

        def one(own: Array) -> Array:
            for_hyper, for_function = jax.random.split(own)
            hyper = self.draw_hyper(for_hyper, x.shape[1])
            return self._factor(x, hyper) @ jax.random.normal(for_function, (x.shape[0],))

        if self.options.hyper == "fixed":
            factor = self._factor(x, self.hyper(x.shape[1]))
            return jax.random.normal(key, (count, x.shape[0])) @ factor.T
        return jax.vmap(one)(jax.random.split(key, count))

    def second_moment(
        self, key: Array, x: Float[Array, "row feature"], count: int = 256
    ) -> Float[Array, "row row"]:
        """E[f f'], over random hyper-parameters from this many of them.

        Args:
            key: a typed random key.
            x: inputs, modelled units.
            count: how many hyper-parameters, where they are random.
        """
        if self.options.hyper == "fixed":
            return self.covariance(x, self.hyper(x.shape[1]))

        def one(own: Array) -> Array:
            return self.covariance(x, self.draw_hyper(own, x.shape[1]))

        return jnp.mean(jax.lax.map(one, jax.random.split(key, count), batch_size=32), axis=0)

    def _factor(self, x: Array, hyper: Hyper) -> Array:
        covariance = self.covariance(x, hyper)
        n = x.shape[0]
        jitter = JITTER * n * jnp.finfo(covariance.dtype).eps * jnp.mean(jnp.diagonal(covariance))
        return jnp.linalg.cholesky(covariance + jitter * jnp.eye(n))


def squared_distance(x: Array, z: Array, length_scale: Leaf) -> Array:
    """Squared distance of every pair ``(row, other)`` in lengthscales, never below 0.

    Args:
        x: inputs ``(row, feature)``.
        z: more of them ``(other, feature)``.
        length_scale: of every input ``(feature,)``.
    """
    a, b = x / length_scale, z / length_scale
    cross = a @ b.T
    return jnp.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * cross, 0.0)
