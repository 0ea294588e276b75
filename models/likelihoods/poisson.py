"""Counts with a Poisson law."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float
from pydantic import Field

from bnnzoo.errors import DataError
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.likelihood import Likelihood
from bnnzoo.options import Finite, Options
from bnnzoo.registry import register

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


HIGHEST = 18.0
"""Largest |log rate|: a draw from the prior may ask for more than a float32 holds."""


class PoissonOptions(Options):
    """Options of ``poisson``."""

    offset: Finite | None = Field(
        None,
        description="Added to the network's output to give the log rate; if not given, the log of "
        "the mean training count (0 with data.scale = none).",
    )
    outputs: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Number of targets; read from the data where they are given."
    )


@functools.partial(register_dataclass, data_fields=("offset",), meta_fields=("outputs",))
@dataclass(frozen=True)
class Poisson(Likelihood):
    """y ~ Poisson(exp(offset + network(x))).

    Attributes:
        offset: ``()`` or ``(output,)``; None before it is bound to data.
        outputs: targets, if an option fixed them.
    """

    offset: Leaf
    outputs: int | None

    task = "regression"
    scales_target = False

    @property
    def label(self) -> str:
        """For tables."""
        return "poisson"

    def head(self, outputs: int) -> int:
        """One log rate an output."""
        return outputs

    def sample_noise(self, outputs: int) -> Any:
        """Nothing is unknown besides the function."""
        return None

    def function(self, head: Float[Array, "row head"]) -> Float[Array, "row output"]:
        """The log rate."""
        return head + (0.0 if self.offset is None else self.offset)

    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """Poisson with rate exp(f), between 1e-8 and 7e7."""
        rate = jnp.exp(jnp.clip(self.function(head), -HIGHEST, HIGHEST))
        return dist.Poisson(rate[:, 0]) if head.shape[1] == 1 else dist.Poisson(rate).to_event(1)

    def bind(self, data: Dataset) -> Poisson:
        """With the offset read off the training counts."""
        for which, test, y in (("y", False, data.y), ("y_test", True, data.y_test)):
            if y is not None:
                _refuse_other_than_counts(which, data, test, y)
        if self.offset is not None:
            return self
        mean = data.y.mean(0)
        offset = np.log(np.where((mean > 0) & (data.scale != "none"), mean, 1.0))
        return replace(self, offset=offset)


def _refuse_other_than_counts(which: str, data: Dataset, test: bool, y: np.ndarray) -> None:
    wrong = (y < 0) | (y != np.round(y))
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DataError(
            f"likelihood 'poisson' needs counts (0, 1, 2, ...): {which} of data set {data.name!r} "
            f"is {y[index]:g} in {data.place(index[0], test)}; likelihoods 'gaussian' and "
            "'student-t' take any numbers"
        )


@register(
    "likelihoods",
    "poisson",
    summary="Counts: Poisson with the log rate a function of x.",
    options=PoissonOptions,
    tags={"task": "regression", "target": "counts"},
    references=("Nelder & Wedderburn (1972), Generalized linear models",),
    notes="Targets are never standardised; the offset takes the place of it, so that a prior of "
    "scale 1 speaks of factors around the mean count.",
)
def poisson(options: PoissonOptions) -> Poisson:
    """The likelihood of these options."""
    return Poisson(options.offset, options.outputs)
