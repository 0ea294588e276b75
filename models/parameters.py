"""What a prior needs to know of each parameter of a network: role, fan-in, gain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from flax import nnx

Role = Literal["kernel", "bias", "scale", "embedding"]

_ROLE_BY_NAME: dict[str, Role] = {"bias": "bias", "scale": "scale", "embedding": "embedding"}


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
    """

    path: str
    shape: tuple[int, ...]
    role: Role
    fan_in: int
    gain: float
    forward_scaled: bool

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
        owner = module
        for key in path[:-1]:
            owner = owner[key] if isinstance(key, int) else getattr(owner, str(key))
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
            )
        )
    return tuple(infos)


def _fan_in(owner: Any, shape: tuple[int, ...]) -> int:
    """Fan-in of a kernel, from the module that owns it.

    Kernels of equal rank differ: a convolution sums over every axis but the last, an attention
    projection (``LinearGeneral``) over as many leading axes as it contracts.
    """
    if isinstance(owner, nnx.LinearGeneral):
        contracted = owner.axis if isinstance(owner.axis, tuple) else (owner.axis,)
        batch = len(owner.batch_axis)
        return math.prod(shape[batch : batch + len(contracted)])
    return math.prod(shape[:-1])
