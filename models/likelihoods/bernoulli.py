"""Two classes and one logit."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float

from bnnzoo.errors import DataError
from bnnzoo.models.likelihood import Likelihood
from bnnzoo.registry import register

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


@functools.partial(register_dataclass, data_fields=(), meta_fields=())
@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """p(y = 1 | x) = sigmoid(f(x))."""

    task = "classification"
    outputs = 2

    @property
    def label(self) -> str:
        """For tables."""
        return "bernoulli"

    def head(self, outputs: int) -> int:
        """One logit, of the second class against the first."""
        return 1

    def sample_noise(self, outputs: int) -> Any:
        """Nothing is unknown besides the function."""
        return None

    def function(self, head: Float[Array, "row head"]) -> Float[Array, "row output"]:
        """The logit."""
        return head

    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """Bernoulli with this logit."""
        return dist.Bernoulli(logits=head[:, 0])

    def bind(self, data: Dataset) -> Bernoulli:
        """Two classes."""
        if len(data.class_names) != 2:
            raise DataError(
                f"likelihood 'bernoulli' is for 2 classes; data set {data.name!r} has "
                f"{len(data.class_names)} (nearest: 'categorical')"
            )
        return self


@register(
    "likelihoods",
    "bernoulli",
    summary="Two classes with one logit.",
    tags={"task": "classification", "target": "two classes"},
    notes="The logit is that of the second class. With independent Gaussian heads 'categorical' "
    "has the difference of two logits and so twice the prior variance; the two models differ.",
)
def bernoulli(options: Any) -> Bernoulli:
    """The likelihood."""
    return Bernoulli()
