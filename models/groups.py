"""Groups of weights that share a scale: the weights into a unit, or those out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jax import Array

from bnnzoo.errors import InputError
from bnnzoo.models.parameters import ParameterInfo

Group = Literal["element", "incoming", "outgoing"]
"""What has a scale of its own: an element, a unit's incoming weights (last axis of a kernel), or an
input's or unit's outgoing weights (last axis but one: rows of a matrix, channels of an image)."""

_AXIS = {"incoming": -1, "outgoing": -2}


def group_shape(info: ParameterInfo, group: Group) -> tuple[int, ...]:
    """Shape of a parameter's scales; a vector has one for each element, whatever the group.

    Args:
        info: the parameter.
        group: what has a scale.
    """
    if group == "element" or len(info.shape) < 2:
        return info.shape
    return (info.shape[_AXIS[group]],)


def along(scale: Array, info: ParameterInfo, group: Group) -> Array:
    """Scales in a shape that broadcasts to the parameter's.

    Args:
        scale: of :func:`group_shape`.
        info: the parameter.
        group: what has a scale.
    """
    wide = group == "outgoing" and len(info.shape) >= 2
    return scale[:, jnp.newaxis] if wide else scale


def check_groups(infos: Sequence[ParameterInfo], group: Group) -> None:
    """Raise where a kernel's axes are not those of dense layers and convolutions.

    Args:
        infos: of a network.
        group: what is to have a scale.

    Raises:
        InputError: such a kernel, with the rule that leaves it out.
    """
    if group == "element":
        return
    for info in infos:
        if info.role == "kernel" and not has_axes(info):
            raise InputError(
                f"kernel {info.path!r} of shape {info.shape} is no dense layer's or convolution's, "
                f"so its {group} weights are not one axis; give it a prior by a rule, "
                f"{{{info.path!r}: {{'name': 'gaussian'}}}}"
            )


def has_axes(info: ParameterInfo) -> bool:
    """Whether a kernel's last axis is that of outputs, and the one before it that of inputs."""
    return len(info.shape) >= 2 and info.fan_in == math.prod(info.shape[:-1])
