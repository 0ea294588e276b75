"""What a prior needs to know of each parameter of a network: role, fan-in, gain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flax import nnx

Role = Literal["kernel", "bias", "scale", "embedding"]

_ROLE_BY_NAME: dict[str, Role] = {
    "bias": "bias",
    "threshold": "bias",
    "scale": "scale",
    "embedding": "embedding",
    "position": "embedding",
    "class_token": "embedding",
}
"""By the last part of a path; every other name is a kernel."""


@dataclass(frozen=True)
class ParameterInfo:
    """One array of parameters.

    Attributes:
        path: where it lives, joined with dots: ``layers.0.kernel``.
        shape: its shape.
        role: ``kernel``, ``bias``, ``scale`` (of a normalisation, mean 1) or ``embedding``.
        fan_in: number of inputs summed into one output of its module; 1 where nothing is summed.
        gain: gain of the network's activation for a kernel, else 1.
        forward_scaled: the module multiplies by 1/sqrt(fan_in) itself (``ntk``).
        keys: the path as the module's own keys, whole numbers in lists.
        reads_input: a kernel that is applied to the network's inputs, no other kernel before it.
        writes_output: a kernel whose result goes to the network's outputs through no other.
        filter_axes: how many leading axes are positions of a convolution's filter; 0 for others.
    """

    path: str
    shape: tuple[int, ...]
    role: Role
    fan_in: int
    gain: float
    forward_scaled: bool
    keys: tuple[str | int, ...] = ()
    reads_input: bool = False
    writes_output: bool = False
    filter_axes: int = 0

    @property
    def unit(self) -> float:
        """What a ``std`` of 1 means for this parameter: gain / sqrt(fan_in), or the gain alone."""
        return self.gain if self.forward_scaled else self.gain / math.sqrt(self.fan_in)


def parameter_infos(module: nnx.Module, gain: float) -> tuple[ParameterInfo, ...]:
    """Describe every ``nnx.Param`` of a module, in the module's own order.

    Args:
        module: the network, concrete or abstract.
        gain: gain of its activation.
    """
    infos = []
    for path, value in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        owner: Any = module
        for key in path[:-1]:
            inside = isinstance(key, int) or isinstance(owner, Mapping)
            owner = owner[key] if inside else getattr(owner, str(key))
        shape = tuple(value.shape)
        role = _ROLE_BY_NAME.get(str(path[-1]), "kernel")
        fan_in = _fan_in(owner, shape) if role == "kernel" else 1
        infos.append(
            ParameterInfo(
                path=".".join(map(str, path)),
                shape=shape,
                role=role,
                fan_in=fan_in,
                gain=gain if role == "kernel" else 1.0,
                forward_scaled=role == "kernel" and bool(getattr(owner, "forward_scaled", False)),
                keys=tuple(key if isinstance(key, int) else str(key) for key in path),
                filter_axes=_filter_axes(owner) if role == "kernel" else 0,
            )
        )
    return tuple(infos)


def _filter_axes(owner: Any) -> int:
    """Number of a convolution's spatial axes, which its kernel begins with."""
    if not isinstance(owner, (nnx.Conv, nnx.ConvTranspose)):
        return 0
    size = owner.kernel_size
    return 1 if isinstance(size, int) else len(size)


def _fan_in(owner: Any, shape: tuple[int, ...]) -> int:
    """Fan-in of a kernel, from the module that owns it, which may say it as ``fan_in``.

    Kernels of equal rank differ: a convolution sums over every axis but the last, an attention
    projection (``LinearGeneral``) over as many leading axes as it contracts, an ``Einsum`` over the
    axes its output lacks.
    """
    if (declared := getattr(owner, "fan_in", None)) is not None:
        return int(declared)
    if isinstance(owner, nnx.LinearGeneral):
        contracted = owner.axis if isinstance(owner.axis, tuple) else (owner.axis,)
        batch = len(owner.batch_axis)
        return math.prod(shape[batch : batch + len(contracted)])
    if isinstance(owner, nnx.Einsum):
        operands, _, output = owner.einsum_str.partition("->")
        axes = operands.split(",")[1].replace("...", "")
        return math.prod(n for axis, n in zip(axes, shape, strict=False) if axis not in output)
    if isinstance(owner, nnx.ConvTranspose) and owner.transpose_kernel:
        return math.prod(shape) // shape[-2]
    return math.prod(shape[:-1])
