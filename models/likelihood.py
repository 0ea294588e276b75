"""The contract of a likelihood: from network outputs to a distribution of the target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

Task = Literal["regression", "classification"]


class Likelihood(ABC):
    """How a target is distributed given the network's outputs.

    A subclass is a pytree whose leaves are its numbers.
    """

    task: Task
    outputs: int | None
    """Outputs fixed by an option, or None until data bind them."""

    scales_target: ClassVar[bool] = True
    """Whether it can model standardised targets; False where their values mean something."""

    is_distribution: ClassVar[bool] = True
    """Whether ``distribution`` is one of the target; if not, ``predictive`` is."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A few words for tables."""

    @abstractmethod
    def head(self, outputs: int) -> int:
        """How many values the network must return.

        Args:
            outputs: number of targets or classes.
        """

    @abstractmethod
    def sample_noise(self, outputs: int) -> Any:
        """Sample what the likelihood does not know besides the function, inside a NumPyro model.

        Args:
            outputs: number of targets or classes.

        Returns:
            What :meth:`distribution` takes as ``noise``.
        """

    @abstractmethod
    def function(self, head: Float[Array, "row head"]) -> Float[Array, "row output"]:
        """The noise-free function values, modelled units.

        Args:
            head: what the network returned, ``(row, head)``.
        """

    @abstractmethod
    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """The target's distribution, batch shape ``(row,)``.

        One output gives scalar targets ``(row,)``, several ``(row, output)`` as one event.

        Args:
            head: what the network returned, ``(row, head)``.
            noise: what :meth:`sample_noise` gave.
        """

    def predictive(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """The target's distribution at new rows.

        Another one than :meth:`distribution` where that is of how training rows were selected.

        Args:
            head: what the network returned, ``(row, head)``.
            noise: what :meth:`sample_noise` gave.
        """
        return self.distribution(head, noise)

    def curvature_root(self, head: Float[Array, "row head"]) -> Array | None:
        """A square root of the loss' Hessian in the heads, where one can be written down.

        Args:
            head: what the network returned, ``(row, head)``.

        Returns:
            S ``(row, head, column)`` with S S' = the Hessian of a row's -log p; None where it is
            left to a decomposition of that matrix.
        """
        return None

    def bind(self, data: Dataset) -> Likelihood:
        """This likelihood with what it reads off the training targets; most read nothing.

        Args:
            data: the data set.

        Raises:
            DataError: targets, training or test, to which it gives no density.
        """
        return self
