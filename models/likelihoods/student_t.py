"""Student-t noise: a few targets far off do not drag the function after them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float
from numpyro.distributions.transforms import AffineTransform
from pydantic import Field

from bnnzoo.models.leaf import Leaf
from bnnzoo.models.noise import AdditiveNoise, NoiseOptions, known_or_prior_scale
from bnnzoo.options import Positive
from bnnzoo.registry import register

LEAST_DF = 2.0
"""Learned degrees of freedom are above it: below, predictions have no standard deviation."""


class StudentTOptions(NoiseOptions):
    """Options of ``student-t``."""

    scale: Positive | None = Field(
        None, description="The known scale (fixed only), in modelled (scaled) target units."
    )
    df: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = Field(
        None,
        description="Known degrees of freedom, above 1; if not given they are learned, with "
        "df - 2 ~ Gamma(2, 0.1).",
    )


@functools.partial(
    register_dataclass,
    data_fields=("number", "df"),
    meta_fields=("noise", "outputs"),
)
@dataclass(frozen=True)
class StudentT(AdditiveNoise):
    """y = f(x) + scale * t(df).

    Attributes:
        df: known degrees of freedom, or None where they are learned.
    """

    number: Leaf
    df: Leaf
    noise: str
    outputs: int | None

    site = "scale"

    @property
    def label(self) -> str:
        """For tables."""
        df = "" if self.df is None else f", df {self.df:g}"
        return f"student-t ({self.noise} noise{df})"

    def sample_noise(self, outputs: int) -> Any:
        """Scale as the Gaussian's, and degrees of freedom ``()``."""
        scale = self.sample_scale(outputs)
        if self.df is not None:
            return scale, self.df
        above = AffineTransform(LEAST_DF, 1.0, domain=dist.constraints.positive)
        prior = dist.TransformedDistribution(dist.Gamma(2.0, 0.1), above)
        return scale, numpyro.sample("df", prior)

    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """Student-t around the function; several outputs share the degrees of freedom."""
        mean, scale = self.location_and_scale(head, noise[0])
        student = dist.StudentT(noise[1], mean, scale)
        return student if mean.ndim == 1 else student.to_event(1)


@register(
    "likelihoods",
    "student-t",
    summary="Real targets with Student-t noise: robust to outliers.",
    options=StudentTOptions,
    references=(
        "Lange, Little & Taylor (1989), Robust statistical modeling using the t distribution",
        "Juarez & Steel (2010), Model-based clustering of non-Gaussian panel data, for the prior "
        "of the degrees of freedom",
    ),
    tags={"task": "regression", "target": "real"},
    notes="Learned degrees of freedom are above 2, so that predictions have a standard deviation. "
    "The scale is not one: noise has standard deviation scale * sqrt(df / (df - 2)). Known "
    "degrees of freedom between 1 and 2 are allowed; std is then infinite.",
)
def student_t(options: StudentTOptions) -> StudentT:
    """The likelihood of these options."""
    number = known_or_prior_scale(options, "scale")
    return StudentT(number, options.df, options.noise, options.outputs)
