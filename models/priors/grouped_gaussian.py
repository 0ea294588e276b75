"""Gaussian weights in groups, each with a width of its own."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.tree_util import register_dataclass
from pydantic import Field, model_validator

from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior
from bnnzoo.models.priors.gp_matched import width_unit
from bnnzoo.models.scaled_gaussian import centre_of
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register


class Widths(Options):
    """Widths within one array of parameters."""

    input: tuple[Positive, ...] | None = Field(None, description="One an input of the kernel.")
    unit: tuple[Positive, ...] | None = Field(None, description="One an output of the kernel.")

    @model_validator(mode="after")
    def _one(self) -> Widths:
        if (self.input is None) == (self.unit is None):
            raise ValueError("give widths by input or by unit, not both")
        return self

    def array(self) -> np.ndarray:
        """In a shape that broadcasts to the kernel's ``(..., input, unit)``."""
        if self.input is not None:
            return np.asarray(self.input)[:, None]
        return np.asarray(self.unit)


class GroupedGaussianOptions(Options):
    """Options of ``grouped-gaussian``: what ``bnnzoo.tune`` finds."""

    widths: dict[str, Positive | Widths] = Field(
        default_factory=dict,
        description="By parameter path: standard deviation of a kernel's elements in units of "
        "1/sqrt(fan-in), of other parameters as it is; one number, or {input = [...]} or {unit = "
        "[...]} for one an input or an output of a kernel.",
    )
    fitted_to: str = Field(
        "",
        description="What the widths were fitted to, in words; an evidence of the model is then "
        "marked as data-dependent.",
    )


@functools.partial(register_dataclass, data_fields=("widths",), meta_fields=("fitted",))
@dataclass(frozen=True)
class GroupedGaussian(Prior):
    """w ~ N(0, (width unit)^2), width broadcast over the parameter."""

    widths: Mapping[str, Leaf]
    fitted: bool

    @property
    def fitted_to_targets(self) -> bool:
        """See :attr:`bnnzoo.models.prior.Prior.fitted_to_targets`."""
        return self.fitted

    @property
    def shapes_biases(self) -> bool:
        """Every parameter has a width of its own."""
        return True

    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """See :meth:`Prior.distribution`; ``direct`` changes nothing: every parameter has one."""
        scale = jnp.broadcast_to(width_unit(info) * jnp.asarray(self.widths[info.path]), info.shape)
        return dist.Normal(centre_of(info), scale).to_event(len(info.shape))

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Every parameter has widths that fit it, and every width a parameter."""
        paths = [i.path for i in infos]
        if unknown := [path for path in self.widths if path not in paths]:
            near = hint(unknown[0], paths)
            raise InputError(f"prior.widths names {unknown[0]!r}, no parameter here{near}")
        for info in infos:
            if info.path not in self.widths:
                raise InputError(
                    f"prior 'grouped-gaussian' has no width of parameter {info.path!r}: it was "
                    "tuned for another network (bnnzoo.tune, bnnzoo tune)"
                )
            shape = np.shape(self.widths[info.path])
            try:
                fits = np.broadcast_shapes(shape, info.shape) == info.shape
            except ValueError:
                fits = False
            if not fits:
                raise InputError(
                    f"prior.widths of {info.path!r} are {int(np.prod(shape))}, which does not fit "
                    f"its shape {info.shape}"
                )


@register(
    "priors",
    "grouped-gaussian",
    summary="Gaussian weights with a width for every group, as bnnzoo.tune finds them.",
    options=GroupedGaussianOptions,
    references=(
        "MacKay (1992), A Practical Bayesian Framework for Backpropagation Networks, sec. 3, for a "
        "width a class of weights",
        "Neal (1996), Bayesian Learning for Neural Networks, sec. 1.2.3, for one an input",
    ),
    tags={"family": "gaussian", "tails": "light", "needs": "match"},
    notes="Made by bnnzoo.tune or bnnzoo tune, and written as any other prior. An element is N(0, "
    "(width / sqrt(fan-in))^2) in kernels, N(0, width^2) elsewhere (mean 1 for the scale of a "
    "normalisation). Widths that were tuned on the training rows have seen the targets: evidences "
    "are marked as data-dependent.",
)
def grouped_gaussian(options: GroupedGaussianOptions) -> GroupedGaussian:
    """The prior of these options."""
    if not options.widths:
        raise OptionError(
            "prior 'grouped-gaussian' needs widths by parameter path, as tuning finds them: "
            "bnnzoo.tune in Python, bnnzoo tune in a shell"
        )
    widths: dict[str, Any] = {
        path: given.array() if isinstance(given, Widths) else float(given)
        for path, given in options.widths.items()
    }
    return GroupedGaussian(widths, bool(options.fitted_to))
