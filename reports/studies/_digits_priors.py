"""Heavy-tailed priors and a convolutional network, written so that HMC on a CPU gets through them.

Both are the library's own, in another form: heavy-tailed weights as Gaussian ones with a random
scale each, because chains of the direct form do not mix; convolutions as matrix products, because
XLA runs a convolution inside a loop, as a trajectory is one, many times slower.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from flax import nnx
from jax import Array
from jax.tree_util import register_dataclass

from bnnzoo.models import Model
from bnnzoo.models.prior import ElementwisePrior
from bnnzoo.models.priors.laplace import Laplace
from bnnzoo.models.priors.student_t import StudentT
from bnnzoo.models.tempering import tempered


class PatchesConv(nnx.Conv):
    """A 3 x 3 convolution as one matrix product with all patches."""

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        """Images ``(row, height, width, channel)``, their borders padded with 0."""
        assert self.bias is not None and out_sharding is None
        height, width = inputs.shape[1:3]
        padded = jnp.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
        parts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        kernel = self.kernel[...].reshape(-1, self.out_features)
        return jnp.concatenate(parts, -1) @ kernel + self.bias[...]


class SmallCNN(nnx.Module):
    """What ``cnn`` is with channels = [8, 8], convolutions written otherwise.

    Args:
        in_shape: height, width, channels, the first two divisible by 4.
        out_shape: ``(outputs,)``.
        rngs: random streams for the initial values, which the prior replaces.
    """

    def __init__(
        self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, rngs: nnx.Rngs
    ) -> None:
        height, width, channels = in_shape
        self.convs = nnx.List(PatchesConv(n, 8, (3, 3), rngs=rngs) for n in (channels, 8))
        self.dense = nnx.List([nnx.Linear(height * width // 16 * 8, out_shape[0], rngs=rngs)])

    def __call__(self, x: Array) -> Array:
        """Outputs ``(row, output)`` for images ``(row, height, width, channel)``."""
        for filters in self.convs:
            x = filters(x)
            left = jnp.maximum(x[:, ::2, ::2], x[:, 1::2, ::2])
            x = nnx.relu(jnp.maximum(left, jnp.maximum(x[:, ::2, 1::2], x[:, 1::2, 1::2])))
        return self.dense[0](x.reshape(x.shape[0], -1))


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
