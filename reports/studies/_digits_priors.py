"""The library's heavy-tailed priors in a form in which HMC gets through them.

Weights are Gaussian with a random scale each: chains of the direct form do not mix.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass

from bnnzoo.models import Model
from bnnzoo.models.prior import ElementwisePrior
from bnnzoo.models.priors.laplace import Laplace
from bnnzoo.models.priors.student_t import StudentT
from bnnzoo.models.tempering import tempered


@functools.partial(
    register_dataclass, data_fields=("scale", "df", "bias_std"), meta_fields=("absolute",)
)
@dataclass(frozen=True)
class Mixture(ElementwisePrior):
    """Laplace or Student-t weights as Gaussian ones, N(0, scale^2 v), of a random variance v each.

    v is 2 Exponential(1) for Laplace(scale), df / Gamma(df / 2, 1 / 2) for Student-t(df, scale).
    ``df`` is None for Laplace.
    """

    scale: Any
    df: Any
    bias_std: Any
    absolute: bool

    def family(self, loc: float, scale: Any) -> dist.Distribution:
        """Of an element given v = 1."""
        return dist.Normal(loc, scale)

    def sample_parameter(self, info: Any, direct: bool = False) -> Array:
        """First the variances, or their inverses, then Gaussian elements of scale 1."""
        if info.role != "kernel":
            return super().sample_parameter(info, direct)
        axes = len(info.shape)
        mixing = dist.Exponential(1.0) if self.df is None else dist.Gamma(self.df / 2, self.df / 2)
        drawn = numpyro.sample(f"{info.path}.mixing", mixing.expand(info.shape).to_event(axes))
        width = jnp.sqrt(2.0 * drawn) if self.df is None else 1.0 / jnp.sqrt(drawn)
        normal = dist.Normal(0.0, 1.0).expand(info.shape).to_event(axes)
        base = numpyro.sample(f"{info.path}.base", normal)
        unit = 1.0 if self.absolute else info.unit
        return numpyro.deterministic(info.path, self.scale * unit * width * base)


def as_mixture(model: Model, temperature: float = 1.0) -> Model:
    """The model with its Laplace or Student-t prior, to the power 1 / temperature, as a mixture.

    Tempering weights and mixing variables together would not temper the weights' law: a Student-t
    of df degrees of freedom would have (df - 2) / T + 2 of them, not (df + 1) / T - 1 (a Laplace
    would come out right). So the family is tempered first, which leaves it what it is, and then
    written as a mixture; with the likelihood at the same temperature that is the posterior at it.

    Args:
        model: a zoo model with the prior ``laplace`` or ``student-t``.
        temperature: of the prior, biases included.
    """
    given = model.prior
    assert isinstance(given, Laplace | StudentT), given
    assert model.network is not None and model.spec is not None
    at = jnp.asarray(temperature)
    cold: Any = tempered(given.family(0.0, given.scale), at)
    bias: Any = tempered(dist.Normal(0.0, given.bias_std), at)
    df = cold.df if isinstance(given, StudentT) else None
    prior = Mixture(cold.scale, df, bias.scale, given.absolute)
    made = Model(model.network, prior, model.likelihood, model.spec, model.augmentation)
    # The spec names the family, whose law this is; the form is not what the registry would build.
    made.external = model.external or f"mixture at {temperature:g}"
    return made
