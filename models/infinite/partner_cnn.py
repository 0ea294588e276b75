"""The limit of a model of network ``cnn`` as its channels and hidden units grow without bound."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bnnzoo.errors import InputError
from bnnzoo.models.image_inputs import image_shape
from bnnzoo.models.infinite.convolutional import (
    Conv,
    ConvNetwork,
    Pool,
    conv_kernel,
    conv_variances,
)
from bnnzoo.models.infinite.laws import check_law, element_laws
from bnnzoo.models.infinite.moments import product_moment
from bnnzoo.models.networks.cnn import CNNOptions, each
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior


class CNNPartner(NamedTuple):
    """A convolutional network, and hidden dense layers after it.

    Attributes:
        network: up to the first dense layer.
        dense: of the layers after that, fan-in times the variance of a weight, and the bias's.
        image: height, width and channels of an input.
    """

    network: ConvNetwork
    dense: tuple[tuple[float, float], ...]
    image: tuple[int, int, int]

    def kernel(self, x: np.ndarray, x2: np.ndarray | None = None) -> np.ndarray:
        """Covariance of an output ``(row, row2)``.

        Args:
            x: inputs ``(row, *in_shape)``, modelled units.
            x2: others; None for ``x`` itself.
        """
        first, second = self._images(x), None if x2 is None else self._images(x2)
        cross = conv_kernel(self.network, first, second)
        if not self.dense:
            return cross
        own = np.diag(cross) if second is None else conv_variances(self.network, first)
        own2 = own if second is None else conv_variances(self.network, second)
        with jax.enable_x64(True):
            a, b, c = (jnp.asarray(v) for v in (own, own2, cross))
            for weight, bias in self.dense:
                c = bias + weight * self._moment(a[:, None], b, c)
                a, b = (bias + weight * self._moment(v, v, v) for v in (a, b))
            kernel = np.array(c)
        if second is None:  # rounding may differ between a pair and its mirror image
            lower = np.tril_indices(len(kernel), -1)
            kernel[lower] = kernel.T[lower]
        return kernel

    def variances(self, x: np.ndarray) -> np.ndarray:
        """Diagonal of the kernel, without the rest of it.

        Args:
            x: inputs ``(row, *in_shape)``, modelled units.
        """
        own = conv_variances(self.network, self._images(x))
        with jax.enable_x64(True):
            a = jnp.asarray(own)
            for weight, bias in self.dense:
                a = bias + weight * self._moment(a, a, a)
            return np.asarray(a)

    def _moment(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        return product_moment(self.network.activation, a, b, c)

    def _images(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, float).reshape(len(x), *self.image)


def cnn_partner(
    prior: Prior,
    options: CNNOptions,
    infos: tuple[ParameterInfo, ...],
    in_shape: tuple[int, ...],
    approximate_inputs: bool,
) -> CNNPartner:
    """The limit of a network and its prior.

    Args:
        prior: of its parameters.
        options: of the network.
        infos: its parameters.
        in_shape: of one input.
        approximate_inputs: as in :func:`nngp_kernel`.

    Raises:
        InputError: pooling by the maximum, or a prior without such a limit.
    """
    if options.pool == "max":
        raise InputError(
            "network.pool = 'max': the moments of a maximum over a window have no recursion that "
            "is known here; choose network.pool = 'average' or 'none'"
        )
    by_path = {info.path: info for info in infos}
    with jax.enable_x64(True):
        laws = element_laws(prior, infos, filters=True)
        for path, found in laws.items():
            first = path == "convs.0.kernel"
            check_law(found.law, by_path[path], first, approximate_inputs)

        def variances(layer: str) -> tuple[float, float]:
            kernel = by_path[f"{layer}.kernel"]
            times = 1.0 if kernel.forward_scaled else float(kernel.fan_in)
            bias = laws[f"{layer}.bias"].law.variance if f"{layer}.bias" in laws else 0.0
            weight = times * float(np.ravel(laws[kernel.path].law.variance)[0])
            return weight, float(np.ravel(bias)[0])

        count = len(options.channels)
        sides = each(options.kernel, count, "kernel")
        paddings = each(options.padding, count, "padding")
        layers: list[Conv | Pool] = []
        for number, (side, padding) in enumerate(zip(sides, paddings, strict=True)):
            covariance = laws[f"convs.{number}.kernel"].covariance
            layers.append(
                Conv(
                    (side, side),
                    *variances(f"convs.{number}"),
                    padding=padding.upper(),
                    covariance=None if covariance is None else np.asarray(covariance),
                )
            )
            if options.pool == "average":
                layers.append(Pool((options.window, options.window)))
        dense = [variances(f"dense.{number}") for number in range(len(options.dense) + 1)]
    network = ConvNetwork(tuple(layers), options.activation, *dense[0])
    return CNNPartner(network, tuple(dense[1:]), image_shape(in_shape, options.shape, "cnn"))
