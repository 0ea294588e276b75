"""The contract of a likelihood: from network outputs to a distribution of the target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float

Task = Literal["regression", "classification"]


class Likelihood(ABC):
    """How a target is distributed given the network's outputs.

    A subclass is a pytree whose leaves are its numbers.
    """

    task: Task
    outputs: int | None
    """Outputs fixed by an option, or None until data bind them."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A few words for tables."""

    @abstractmethod
    def head(self, outputs: int) -> int:
        """How many values the network must return for a target of this many outputs."""

    @abstractmethod
    def sample_noise(self, outputs: int) -> Any:
        """Sample what the likelihood does not know besides the function, inside a NumPyro model."""

    @abstractmethod
    def function(self, head: Float[Array, "row head"]) -> Float[Array, "row output"]:
        """The noise-free function values, modelled units."""

    @abstractmethod
    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """The target's distribution, batch shape ``(row,)``.

        One output gives scalar targets ``(row,)``, several ``(row, output)`` as one event.
        """
