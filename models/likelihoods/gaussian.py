"""Gaussian noise: fixed, learned, or a second output of the network."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float
from pydantic import Field

from bnnzoo.errors import OptionError
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.likelihood import Likelihood
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register

NOISE_FLOOR = 1e-3
"""Smallest heteroscedastic noise, in modelled units: keeps the density bounded."""


class GaussianOptions(Options):
    """Options of ``gaussian``."""

    noise: Literal["learned", "fixed", "heteroscedastic"] = Field(
        "learned",
        description="One sampled standard deviation an output, a known one, or a function of x.",
    )
    noise_std: Positive | None = Field(
        None,
        description="The known standard deviation (fixed only), in modelled (scaled) target units.",
    )
    noise_scale: Positive | None = Field(
        None, description="Scale of the half-normal prior on it (learned only); 1 if not given."
    )
    outputs: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Number of targets; read from the data where they are given."
    )


@functools.partial(register_dataclass, data_fields=("number",), meta_fields=("noise", "outputs"))
@dataclass(frozen=True)
class Gaussian(Likelihood):
    """y = f(x) + noise.

    Attributes:
        number: the fixed noise std, or the scale of the learned one's half-normal prior.
        noise: which of the three.
        outputs: targets, if an option fixed them.
    """

    number: Leaf
    noise: str
    outputs: int | None

    task = "regression"

    @property
    def label(self) -> str:
        """For tables."""
        return f"gaussian ({self.noise} noise)"

    def head(self, outputs: int) -> int:
        """One mean an output; heteroscedastic: a raw noise as well."""
        return 2 * outputs if self.noise == "heteroscedastic" else outputs

    def sample_noise(self, outputs: int) -> Any:
        """Standard deviation ``()``, or ``(output,)`` for several; None if it depends on x."""
        if self.noise == "heteroscedastic":
            return None
        if self.noise == "fixed":
            return self.number
        prior = dist.HalfNormal(self.number)
        return numpyro.sample(
            "noise_std", prior if outputs == 1 else prior.expand((outputs,)).to_event(1)
        )

    def function(self, head: Float[Array, "row head"]) -> Float[Array, "row output"]:
        """The means."""
        return head[:, : head.shape[1] // 2] if self.noise == "heteroscedastic" else head

    def distribution(self, head: Float[Array, "row head"], noise: Any) -> dist.Distribution:
        """Normal with the given or the network's own standard deviation."""
        mean = self.function(head)
        if self.noise == "heteroscedastic":
            noise = jax.nn.softplus(head[:, mean.shape[1] :]) + NOISE_FLOOR
            noise = noise[:, 0] if mean.shape[1] == 1 else noise
        if mean.shape[1] == 1:
            return dist.Normal(mean[:, 0], noise)
        return dist.Normal(mean, noise).to_event(1)


@register(
    "likelihoods",
    "gaussian",
    summary="Real targets with Gaussian noise.",
    options=GaussianOptions,
    references=("Nix & Weigend (1994) for heteroscedastic noise",),
    tags={"task": "regression"},
    notes="Noise is in modelled units: with scale = auto a standard deviation of 1 is that of the "
    "training targets. Heteroscedastic noise is softplus of a second output plus 0.001.",
)
def gaussian(options: GaussianOptions) -> Gaussian:
    """The likelihood of these options."""
    if options.noise == "fixed" and options.noise_std is None:
        raise OptionError("likelihood.noise = 'fixed': give likelihood.noise_std as well")
    for name, owner in (("noise_std", "fixed"), ("noise_scale", "learned")):
        if getattr(options, name) is not None and options.noise != owner:
            raise OptionError(
                f"likelihood.{name} has no effect with likelihood.noise = {options.noise!r}; "
                f"it belongs to noise = {owner!r}"
            )
    number = options.noise_std if options.noise == "fixed" else options.noise_scale
    return Gaussian(1.0 if number is None else number, options.noise, options.outputs)
