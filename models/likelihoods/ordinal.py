"""Classes in an order: one latent score, cut into intervals."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float
from pydantic import Field

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.likelihood import Likelihood
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register

EDGE = 1e-6
"""Cumulative probabilities stay this far from 0 and 1, where a cut would be infinite."""

SMALLEST = 1e-6
"""Least distance of two cuts: rounding may make a class of tiny probability empty."""


class OrdinalOptions(Options):
    """Options of ``ordinal``."""

    concentration: Positive = Field(
        1.0,
        description="Of the Dirichlet prior of the class probabilities at f = 0, which the cuts "
        "follow from.",
    )
    outputs: Annotated[int, Field(gt=1)] | None = Field(
        None, description="Number of classes; read from the data where they are given."
    )


@functools.partial(register_dataclass, data_fields=("concentration",), meta_fields=("outputs",))
@dataclass(frozen=True)
class Ordinal(Likelihood):
    """P(y <= k | x) = sigmoid(c_k - f(x)), cuts c_1 < ... < c_(K-1).

    Attributes:
        concentration: of the Dirichlet prior.
        outputs: classes, if an option fixed them.
    """

    concentration: Leaf
    outputs: int | None

    task = "classification"

    @property
    def label(self) -> str:
        """For tables."""
        return "ordinal"

    def head(self, outputs: int) -> int:
        """One score, whatever the number of classes."""
        return 1

    def sample_noise(self, outputs: int) -> Any:
        """Cuts ``(class - 1,)``, through the probabilities of the classes at f = 0."""
        prior = dist.Dirichlet(self.concentration * jnp.ones(outputs))
        probabilities = numpyro.sample("base_probabilities", prior)
        below = jnp.clip(jnp.cumsum(probabilities)[:-1], EDGE, 1 - EDGE)
        return jnp.log(below) - jnp.log1p(-below)

    def function(self, head: Float[Array, "row head"]) -> Float[Array, "row output"]:
        """The score."""
        return head

    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """The class whose interval holds the score plus logistic noise.

        P(k) = sigmoid(a) - sigmoid(b) with a = c_k - f, b = c_(k-1) - f, written as
        sigmoid(a) sigmoid(-b) (1 - exp(b - a)), whose logarithm neither overflows nor cancels.
        """
        below = noise - head  # (row, class - 1)
        width = jnp.maximum(jnp.diff(noise), SMALLEST)
        edge = jnp.zeros((head.shape[0], 1))
        logits = (
            jnp.concatenate([jax.nn.log_sigmoid(below), edge], 1)
            + jnp.concatenate([edge, jax.nn.log_sigmoid(-below)], 1)
            + jnp.pad(jnp.log(-jnp.expm1(-width)), 1)  # the first and last class have one edge
        )
        return dist.Categorical(logits=logits)


@register(
    "likelihoods",
    "ordinal",
    summary="Ordered classes: cumulative logits of one score.",
    options=OrdinalOptions,
    tags={"task": "classification", "target": "ordered classes"},
    references=(
        "McCullagh (1980), Regression models for ordinal data, eq. 2.1",
        "Betancourt (2019), Ordinal regression, for the induced Dirichlet prior of the cuts",
    ),
    notes="The order is that of class_names: sorted labels, unless make_dataset was given another. "
    "Site base_probabilities holds the class probabilities at f = 0; the cuts are the logits of "
    "their cumulative sums.",
)
def ordinal(options: OrdinalOptions) -> Ordinal:
    """The likelihood of these options."""
    return Ordinal(options.concentration, options.outputs)
