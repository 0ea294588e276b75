"""Class labels on which several labellers agreed: the data that curation keeps."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float
from pydantic import Field

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.likelihoods.categorical import Categorical, CategoricalOptions
from bnnzoo.models.objective import Power
from bnnzoo.registry import register


class CuratedOptions(CategoricalOptions):
    """Options of ``curated``."""

    labellers: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        2.0, description="S: how many labellers agreed on each row; need not be whole."
    )
    predict: Literal["label", "consensus"] = Field(
        "label",
        description="Predict what one labeller would say, or what S would who agree: rows that "
        "were curated as the training rows were are of the second kind.",
    )


@functools.partial(
    register_dataclass, data_fields=("labellers",), meta_fields=("predict", "outputs")
)
@dataclass(frozen=True)
class Curated(Categorical):
    """p(S labellers say y | x) = softmax(f(x))_y^S.

    Attributes:
        labellers: S.
        predict: ``label`` or ``consensus``.
    """

    labellers: Leaf
    predict: str

    is_distribution = False

    @property
    def label(self) -> str:
        """For tables."""
        return f"curated ({self.labellers:g} labellers)"

    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """S labellers, independent given x, all say y; the rest of the mass is disagreement."""
        return Power(dist.Categorical(logits=head), self.labellers)

    def curvature_root(self, head: Float[Array, "row head"]) -> Array | None:
        """That of one label, whose loss counts S times."""
        root = super().curvature_root(head)
        return None if root is None else jnp.sqrt(self.labellers) * root

    def predictive(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """One labeller; or S given that they agree, p_y^S over its sum."""
        return dist.Categorical(
            logits=head * self.labellers if self.predict == "consensus" else head
        )


@register(
    "likelihoods",
    "curated",
    summary="Class labels on which S labellers agreed (curation).",
    options=CuratedOptions,
    tags={"task": "classification", "target": "classes"},
    references=(
        "Aitchison (2021), A statistical theory of cold posteriors in deep neural networks",
    ),
    notes="Rows on which labellers disagreed were dropped from the data; the probability of that "
    "is in the model, which is why p_y^S is not normalised over classes. The posterior is that of "
    "'categorical' at likelihood temperature 1/S; what is predicted differs.",
)
def curated(options: CuratedOptions) -> Curated:
    """The likelihood of these options."""
    return Curated(options.outputs, options.labellers, options.predict)
