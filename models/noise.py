"""The scale of additive noise: known, learned, or a second output of the network.

Shared by the likelihoods of real targets: what differs between them is the family alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import numpyro
import numpyro.distributions as dist
from jax import Array
from pydantic import Field

from bnnzoo.errors import OptionError
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.likelihood import Likelihood
from bnnzoo.options import Options, Positive

NOISE_FLOOR = 1e-3
"""Smallest heteroscedastic noise, in modelled units: keeps the density bounded."""


class NoiseOptions(Options):
    """Options of every likelihood with additive noise."""

    noise: Literal["learned", "fixed", "heteroscedastic"] = Field(
        "learned",
        description="One sampled scale an output, a known one, or a function of x.",
    )
    noise_scale: Positive | None = Field(
        None, description="Scale of the half-normal prior on it (learned only); 1 if not given."
    )
    outputs: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Number of targets; read from the data where they are given."
    )


class AdditiveNoise(Likelihood):
    """y = f(x) + noise of some family.

    Attributes:
        number: the fixed scale, or the scale of the learned one's half-normal prior.
        noise: ``learned``, ``fixed`` or ``heteroscedastic``.
        outputs: targets, if an option fixed them.
        site: name of the sampled scale.
    """

    number: Leaf
    noise: str
    outputs: int | None
    site: str

    task = "regression"

    def head(self, outputs: int) -> int:
        """One mean an output; heteroscedastic: a raw scale as well."""
        return 2 * outputs if self.noise == "heteroscedastic" else outputs

    def function(self, head: Array) -> Array:
        """The means."""
        return head[:, : head.shape[1] // 2] if self.noise == "heteroscedastic" else head

    def sample_scale(self, outputs: int) -> Any:
        """Scale ``()``, or ``(output,)`` for several; None if it depends on x."""
        if self.noise == "heteroscedastic":
            return None
        if self.noise == "fixed":
            return self.number
        prior = dist.HalfNormal(self.number)
        return numpyro.sample(
            self.site, prior if outputs == 1 else prior.expand((outputs,)).to_event(1)
        )

    def location_and_scale(self, head: Array, scale: Any) -> tuple[Array, Any]:
        """Both ``(row,)`` for one output, else ``(row, output)``, or a scale that broadcasts."""
        mean = self.function(head)
        if self.noise == "heteroscedastic":
            scale = jax.nn.softplus(head[:, mean.shape[1] :]) + NOISE_FLOOR
            scale = scale[:, 0] if mean.shape[1] == 1 else scale
        return (mean[:, 0] if mean.shape[1] == 1 else mean), scale


def known_or_prior_scale(options: NoiseOptions, fixed: str) -> float:
    """The one number that the kind of noise needs.

    Args:
        options: with an option named ``fixed`` for the known scale.
        fixed: that name.

    Raises:
        OptionError: the known scale is missing, or an option is given that has no effect.
    """
    given: Mapping[str, float | None] = {
        fixed: getattr(options, fixed),
        "noise_scale": options.noise_scale,
    }
    if options.noise == "fixed" and given[fixed] is None:
        raise OptionError(f"likelihood.noise = 'fixed': give likelihood.{fixed} as well")
    for name, owner in ((fixed, "fixed"), ("noise_scale", "learned")):
        if given[name] is not None and options.noise != owner:
            raise OptionError(
                f"likelihood.{name} has no effect with likelihood.noise = {options.noise!r}; "
                f"it belongs to noise = {owner!r}"
            )
    number = given[fixed] if options.noise == "fixed" else options.noise_scale
    return 1.0 if number is None else number
