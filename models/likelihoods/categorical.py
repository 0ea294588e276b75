"""Class labels with softmax probabilities."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float
from pydantic import Field

from bnnzoo.models.likelihood import Likelihood
from bnnzoo.options import Options
from bnnzoo.registry import register


class CategoricalOptions(Options):
    """Options of ``categorical``."""

    outputs: Annotated[int, Field(gt=1)] | None = Field(
        None, description="Number of classes; read from the data where they are given."
    )


@functools.partial(register_dataclass, data_fields=(), meta_fields=("outputs",))
@dataclass(frozen=True)
class Categorical(Likelihood):
    """p(y = c | x) = softmax(f(x))_c."""

    outputs: int | None

    task = "classification"

    @property
    def label(self) -> str:
        """For tables."""
        return "categorical"

    def head(self, outputs: int) -> int:
        """One logit a class."""
        return outputs

    def sample_noise(self, outputs: int) -> Any:
        """Nothing is unknown besides the function."""
        return None

    def function(self, head: Float[Array, "row head"]) -> Float[Array, "row output"]:
        """The logits."""
        return head

    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """Categorical with these logits."""
        return dist.Categorical(logits=head)

    def curvature_root(self, head: Float[Array, "row head"]) -> Array | None:
        """diag(r) - p r' with r = sqrt(p): its product with itself is diag(p) - p p'."""
        log_p = jax.nn.log_softmax(head)
        p, r = jnp.exp(log_p), jnp.exp(0.5 * log_p)
        return r[:, None, :] * (jnp.eye(head.shape[1], dtype=head.dtype) - p[:, :, None])


@register(
    "likelihoods",
    "categorical",
    summary="Class labels with softmax probabilities.",
    options=CategoricalOptions,
    tags={"task": "classification", "target": "classes"},
    notes="One logit a class, none pinned to zero: the prior identifies them. Its tempered power "
    "is the likelihood temperature of the cold-posterior literature.",
)
def categorical(options: CategoricalOptions) -> Categorical:
    """The likelihood of these options."""
    return Categorical(options.outputs)
