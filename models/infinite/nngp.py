"""The Gaussian process that a model's network becomes as its hidden layers grow without bound.

The hidden layers are summed over by the central limit theorem, which asks of their weights and of
the last layer's only that they are independent, of mean 0 and of one finite variance. What is not
summed over without bound keeps its shape: weights on the inputs, which do not grow in number, and
biases. They have to be Gaussian.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bnnzoo.errors import InputError
from bnnzoo.models.infinite.dense import Dense, dense_kernel
from bnnzoo.models.infinite.laws import check_law, element_laws
from bnnzoo.models.infinite.partner_cnn import CNNPartner, cnn_partner
from bnnzoo.models.model import Model
from bnnzoo.models.networks.cnn import CNN, CNNOptions
from bnnzoo.models.networks.mlp import MLP, MLPOptions, residual_share
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior

OPTIONS = {"widths", "activation", "residual", "bias", "parameterisation"}
"""Options of ``mlp`` whose limit is known here."""


class Skeleton(NamedTuple):
    """What a kernel needs of an MLP besides the numbers of its prior: hashable.

    Attributes:
        activation: its name.
        residual: by layer, what the activation before it is multiplied by where that is added to
            its own layer's input; None where it is not.
        infos: kernel and bias of every layer, None where it has no bias.
        approximate_inputs: sums over inputs are taken as Gaussian.
    """

    activation: str
    residual: tuple[float | None, ...]
    infos: tuple[tuple[ParameterInfo, ParameterInfo | None], ...]
    approximate_inputs: bool


def nngp_kernel(
    model: Any, x: Any, x2: Any = None, *, approximate_inputs: bool = False
) -> np.ndarray:
    """Prior covariance of an output of a model whose hidden layers are infinitely wide.

    The function values of the network converge in law to a Gaussian process with this covariance
    and mean 0 as the widths grow, their numbers in ``widths`` being ignored; outputs are
    independent of each other. Computed in float64 whatever the precision of the caller.

    Priors need not be Gaussian on hidden and last layers: weights of finite variance have the limit
    of Gaussian weights of that variance. A residual connection around the first layer, which an MLP
    has where its width happens to be the number of inputs, is not there in the limit.

    Args:
        model: of network ``mlp``: any depth, activation and parameterisation; residual or not. Or
            of ``cnn``, with average pooling or none, whose channels and hidden units grow; the
            positions of its filters may be correlated (prior ``correlated-conv``).
        x: inputs ``(row, *in_shape)``, modelled units (as :meth:`Posterior.predict` takes original
            ones, scale them first, or use ``bnnzoo.inference.InfiniteNetwork``).
        x2: others, for the covariance between; None for ``x`` itself.
        approximate_inputs: take sums over the inputs as Gaussian though the prior of the first
            layer's weights is not: right for many inputs alike in size, and wrong for few.

    Returns:
        ``(row, row2)``, squared modelled units; symmetric to the last bit if ``x2`` is not given.

    Raises:
        InputError: a network or prior without such a limit, or inputs of another shape.

    Source: Lee et al. (2018), eq. 4 and 5; Matthews et al. (2018), theorem 4.
    """
    rows = _rows(x, "x")
    others = None if x2 is None else _rows(x2, "x2")
    if others is not None and others.shape[1] != rows.shape[1]:
        raise InputError(f"x2 has {others.shape[1]} features a row, but x {rows.shape[1]}")
    shape = np.shape(x)[1:] or (1,)
    skeleton = skeleton_of(model, shape, approximate_inputs)
    if isinstance(skeleton, CNNPartner):
        return skeleton.kernel(rows, others)
    with jax.enable_x64(True):
        given = None if others is None else jnp.asarray(others)
        return np.asarray(kernel_of(model.prior, skeleton, jnp.asarray(rows), given))


@functools.partial(jax.jit, static_argnums=1)
def kernel_of(
    prior: Prior,
    skeleton: Skeleton,
    x: Float[Array, "row feature"],
    x2: Float[Array, "row2 feature"] | None = None,
) -> Float[Array, "row row2"]:
    """The kernel, traceable in the numbers of the prior.

    Args:
        prior: of the parameters.
        skeleton: the network, checked by :func:`skeleton_of`.
        x: inputs ``(row, feature)``, modelled units.
        x2: others.
    """
    return dense_kernel(x, x2, _layers(prior, skeleton), skeleton.activation)


@functools.partial(jax.jit, static_argnums=1)
def variances_of(
    prior: Prior, skeleton: Skeleton, x: Float[Array, "row feature"]
) -> Float[Array, " row"]:
    """Diagonal of the kernel, without the rest of it.

    Args:
        prior: of the parameters.
        skeleton: the network, checked by :func:`skeleton_of`.
        x: inputs ``(row, feature)``, modelled units.
    """
    layers = _layers(prior, skeleton)
    return jax.vmap(lambda row: dense_kernel(row[None], None, layers, skeleton.activation)[0, 0])(x)


def skeleton_of(
    model: Any, in_shape: tuple[int, ...], approximate_inputs: bool
) -> Skeleton | CNNPartner:
    """What of a model its limit depends on, once it is known to have one.

    Args:
        model: the model, bound or not.
        in_shape: of one input.
        approximate_inputs: as in :func:`nngp_kernel`.

    Raises:
        InputError: a network or prior without a limit that is known here.

    Returns:
        For ``mlp`` what :func:`kernel_of` takes, for ``cnn`` the limit itself.
    """
    network = getattr(model, "network", None)
    if not isinstance(model, Model) or network is None:
        raise InputError(
            "a hand-written model has no infinitely wide partner that could be read off it; give "
            "one of make_model('mlp', ...), or compute its kernel by models.infinite.dense_kernel"
        )
    if model.augmentation is not None:
        raise InputError(
            f"augmentation {model.augmentation.label!r}: the likelihood of transformed copies is "
            "not that of a Gaussian process at the rows; leave the augmentation out"
        )
    convolutional = network.options_of(CNN, CNNOptions)
    options = network.options_of(MLP, MLPOptions)
    if convolutional is None and options is None:
        raise InputError(
            f"network {network.label!r} has no infinitely wide limit that is known here; "
            "choices: mlp, cnn (models.infinite has the kernels of other convolutions)"
        )
    if model.bound is not None and model.bound.in_shape != in_shape:
        raise InputError(f"inputs of shape {in_shape}, but the model's are {model.bound.in_shape}")
    bound = model.bound or network.bind(in_shape, model.likelihood.head(model.outputs or 1))
    model.prior.check(bound.infos)
    if options is None:
        assert convolutional is not None
        return cnn_partner(model.prior, convolutional, bound.infos, in_shape, approximate_inputs)
    for name, field in MLPOptions.model_fields.items():
        if name not in OPTIONS and getattr(options, name) != field.default:
            raise InputError(
                f"network.{name} = {getattr(options, name)!r}: its infinitely wide limit is not "
                f"known here; the default is {field.default!r}"
            )
    by_path = {info.path: info for info in bound.infos}
    count = len(options.widths) + 1
    pairs = tuple(
        (by_path[f"layers.{i}.kernel"], by_path.get(f"layers.{i}.bias")) for i in range(count)
    )
    blocks = [a == b for a, b in itertools.pairwise(options.widths)]
    share = residual_share(options.residual, sum(blocks))
    residual = [None, None, *(share if block else None for block in blocks)]
    found = Skeleton(options.activation, tuple(residual[:count]), pairs, approximate_inputs)
    _check(model.prior, found)
    return found


def _rows(x: Any, name: str) -> np.ndarray:
    rows = np.asarray(x, float)
    if rows.ndim == 0 or 0 in rows.shape:
        raise InputError(f"{name} of shape {rows.shape}: rows of inputs are needed")
    rows = rows.reshape(len(rows), -1)
    if not np.isfinite(rows).all():
        raise InputError(f"{name} holds a value that is not finite")
    return rows


# -- the numbers of a prior ----------------------------------------------------------------------


def _layers(prior: Prior, skeleton: Skeleton) -> list[Dense]:
    laws = {path: found.law for path, found in element_laws(prior, _infos(skeleton)).items()}
    layers = []
    for number, (kernel, bias) in enumerate(skeleton.infos):
        # ntk layers divide by the root of the fan-in themselves.
        times = 1.0 if kernel.forward_scaled else float(kernel.fan_in)
        variance = jnp.broadcast_to(laws[kernel.path].variance, kernel.shape)[:, 0]
        weight = times * (variance if number == 0 else variance[0])
        own = jnp.zeros(())
        if bias is not None:
            own = jnp.broadcast_to(laws[bias.path].variance, bias.shape)[0]
        layers.append(Dense(weight, own, skeleton.residual[number]))
    return layers


def _infos(skeleton: Skeleton) -> list[ParameterInfo]:
    return [info for pair in skeleton.infos for info in pair if info is not None]


def _check(prior: Prior, skeleton: Skeleton) -> None:
    """Raise where the limit is not Gaussian or its covariance not a recursion of variances."""
    with jax.enable_x64(True):
        laws = element_laws(prior, _infos(skeleton))
    for info in _infos(skeleton):
        first = info is skeleton.infos[0][0]
        check_law(laws[info.path].law, info, first, skeleton.approximate_inputs)
