"""The augmentation slot of a model: transformed copies of each input, and what they imply.

"With data augmentation" names at least four targets, and which of them is sampled decides whether
a cold posterior helps. For transforms t_1 ... t_K and a row (x, y):

- ``averaged-logits``: log p(y | mean_k f(t_k x)). A likelihood; the invariance is in the prior of
  the averaged function.
- ``averaged-probabilities``: log mean_k p(y | f(t_k x)). A likelihood; a mixture.
- ``average-log-likelihood``: mean_k log p(y | f(t_k x)). The usual practice of a random transform
  a step, in expectation; not the log of a distribution of y, so predictions are made at x itself.
- ``summed-log-likelihood``: the sum instead: K rows where there was one, so that the posterior is
  that of likelihood temperature 1/K; predictions as above.

Sources: van der Wilk et al. (2018), Learning invariances using the marginal likelihood; Nabarro et
al. (2022), Data augmentation in Bayesian neural networks and the cold posterior effect, sec. 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float
from pydantic import Field

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.likelihood import Likelihood
from bnnzoo.models.objective import CopiesMixture, OverCopies, of_copies
from bnnzoo.options import Options

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

PREDICTS_WITH_COPIES = ("averaged-logits", "averaged-probabilities")
"""Ways of combining copies that are distributions of the target."""


class AugmentationOptions(Options):
    """Options of every augmentation."""

    combine: Literal[
        "averaged-logits",
        "averaged-probabilities",
        "average-log-likelihood",
        "summed-log-likelihood",
    ] = Field(
        "averaged-logits",
        description="What the transformed copies of an input imply: two likelihoods, and two "
        "customary objectives that are none.",
    )


class Augmentation(ABC):
    """Copies of each input, and how they are combined; a pytree whose leaves are its numbers.

    Attributes:
        combine: one of the four of :class:`AugmentationOptions`.
        x_mean, x_std: of the scaling of the inputs, read off the data: transforms act on inputs
            in original units.
    """

    combine: str
    x_mean: Leaf
    x_std: Leaf

    @abstractmethod
    def copies(self, x: Float[Array, "row *input"]) -> Float[Array, "copy row *input"]:
        """The transformed copies, original units.

        Args:
            x: inputs, original units.
        """

    @abstractmethod
    def bind(self, data: Dataset) -> Augmentation:
        """The same for the inputs of a data set, with ``x_mean`` and ``x_std`` of its scaling.

        Args:
            data: the data set.

        Raises:
            DataError: inputs that it cannot transform.
        """

    @property
    @abstractmethod
    def label(self) -> str:
        """A few words for tables: the transform and what it implies."""

    @property
    def predicts_with_copies(self) -> bool:
        """Whether predictions use the copies, too; otherwise they are made at x alone."""
        return self.combine in PREDICTS_WITH_COPIES

    def modelled_copies(self, x: Float[Array, "row *input"]) -> Float[Array, "copy row *input"]:
        """Copies of inputs in modelled units, in modelled units.

        Args:
            x: inputs, modelled units.
        """
        made = self.copies(x * self.x_std + self.x_mean)
        return (made - self.x_mean) / self.x_std

    def function(self, likelihood: Likelihood, heads: Float[Array, "copy row head"]) -> Array:
        """Noise-free values ``(row, output)``: of the averaged head, or averaged over copies.

        Args:
            likelihood: of the target given one copy's head.
            heads: network outputs of each copy.
        """
        if self.combine == "averaged-logits":
            return likelihood.function(heads.mean(0))
        return jax.vmap(likelihood.function)(heads).mean(0)

    def distribution(
        self,
        likelihood: Likelihood,
        heads: Float[Array, "copy row head"],
        noise: Any,
        predicting: bool,
    ) -> dist.Distribution:
        """What the copies imply for the target, batch shape ``(row,)``.

        Args:
            likelihood: of the target given one copy's head.
            heads: network outputs of each copy.
            noise: what the likelihood sampled.
            predicting: new rows, not the training rows.
        """
        if self.combine == "averaged-logits":
            head = heads.mean(0)
            predict = likelihood.predictive if predicting else likelihood.distribution
            return predict(head, noise)
        if self.combine != "averaged-probabilities":
            mean = self.combine == "average-log-likelihood"
            return OverCopies(likelihood, heads, noise, mean)
        mixture = CopiesMixture(likelihood, heads, noise)
        if likelihood.task == "regression":
            return mixture
        log_p = of_copies(mixture, _class_log_probabilities)
        return dist.Categorical(logits=jax.nn.logsumexp(log_p, 0) - jnp.log(len(heads)))


def class_logits(fn: dist.Distribution) -> Array | None:
    """Logits ``(..., class)`` of a distribution over classes, 0 or 1 being two; None for others."""
    if isinstance(fn, (dist.BernoulliLogits, dist.BernoulliProbs)):
        logits = jnp.broadcast_to(fn.logits, fn.batch_shape)
        return jnp.stack([jnp.zeros_like(logits), logits], -1)
    if isinstance(fn, (dist.CategoricalLogits, dist.CategoricalProbs)):
        return jnp.broadcast_to(fn.logits, (*fn.batch_shape, fn.logits.shape[-1]))
    return None


def _class_log_probabilities(fn: dist.Distribution) -> Array:
    logits = class_logits(fn)
    assert logits is not None, f"{type(fn).__name__} is not a distribution over classes"
    return jax.nn.log_softmax(logits, -1)
