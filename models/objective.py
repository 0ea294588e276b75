"""What stands at the site ``y`` where it is not the likelihood's own distribution.

``Power`` and ``OverCopies`` are no distributions of the target: cold-posterior studies sample from
the probability that several labellers agree and from the mean log-likelihood over augmented inputs
all the same. They have a ``log_prob`` and nothing to draw from; models that train on them predict
with the likelihood itself. ``CopiesMixture`` is a distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.likelihood import Likelihood


class Power(dist.Distribution):
    """``power`` times the log density of another distribution."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (NumPyro's attribute)
    pytree_data_fields = ("base", "power")

    def __init__(self, base: dist.Distribution, power: Leaf) -> None:
        self.base, self.power = base, power
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.base.support

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        return self.power * self.base.log_prob(value)


class OverCopies(dist.Distribution):
    """The mean or the sum over copies of an input of the target's log density.

    Args:
        likelihood: of the target given the network's outputs.
        heads: outputs ``(copy, row, head)``.
        noise: what the likelihood sampled.
        mean: take the mean, not the sum.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    pytree_data_fields = ("likelihood", "heads", "noise")
    pytree_aux_fields = ("mean_of_copies",)

    def __init__(self, likelihood: Likelihood, heads: Array, noise: Any, mean: bool) -> None:
        self.likelihood, self.heads, self.noise, self.mean_of_copies = (
            likelihood,
            heads,
            noise,
            mean,
        )
        first = likelihood.distribution(heads[0], noise)
        super().__init__(first.batch_shape, first.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.likelihood.distribution(self.heads[0], self.noise).support

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        terms = of_copies(self, lambda fn: fn.log_prob(value))
        return terms.mean(0) if self.mean_of_copies else terms.sum(0)


class CopiesMixture(dist.Distribution):
    """The equal mixture over copies of an input of the target's distributions.

    Args:
        likelihood: of the target given the network's outputs.
        heads: outputs ``(copy, row, head)``.
        noise: what the likelihood sampled.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    pytree_data_fields = ("likelihood", "heads", "noise")

    def __init__(self, likelihood: Likelihood, heads: Array, noise: Any) -> None:
        self.likelihood, self.heads, self.noise = likelihood, heads, noise
        first = likelihood.distribution(heads[0], noise)
        super().__init__(first.batch_shape, first.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.likelihood.distribution(self.heads[0], self.noise).support

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        terms = of_copies(self, lambda fn: fn.log_prob(value))
        return jax.nn.logsumexp(terms, 0) - jnp.log(len(self.heads))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        def one(own: Array) -> Array:
            key_copy, key_y = jax.random.split(own)
            count, rows = self.heads.shape[:2]
            copy = jax.random.randint(key_copy, (rows,), 0, count)
            chosen = self.heads[copy, jnp.arange(rows)]
            return self.likelihood.distribution(chosen, self.noise).sample(key_y)

        keys = jax.random.split(key, math.prod(sample_shape))
        drawn = jax.vmap(one)(keys)
        return drawn.reshape(*sample_shape, *drawn.shape[1:])

    @property
    def mean(self) -> Array:
        return of_copies(self, lambda fn: fn.mean).mean(0)

    @property
    def variance(self) -> Array:
        within = of_copies(self, lambda fn: fn.variance).mean(0)
        return within + of_copies(self, lambda fn: fn.mean).var(0)


def of_copies(fn: Any, quantity: Callable[[dist.Distribution], Array]) -> Array:
    """A quantity ``(copy, row, ...)`` of each copy's distribution."""
    return jax.vmap(lambda head: quantity(fn.likelihood.distribution(head, fn.noise)))(fn.heads)
