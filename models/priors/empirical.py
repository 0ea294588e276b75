"""The empirical prior: families and scales that the weights of trained networks have."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpyro.distributions as dist
from jax.tree_util import register_dataclass
from pydantic import Field, model_validator

from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.models.families import GeneralisedNormal
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior
from bnnzoo.models.priors.gp_matched import width_unit
from bnnzoo.models.scaled_gaussian import centre_of
from bnnzoo.options import Options, Positive
from bnnzoo.registry import register

Family = Literal["gaussian", "laplace", "student-t", "generalised-normal"]

SHAPES = {"student-t": "df", "generalised-normal": "beta"}
"""Families with a second number, and what it is called."""


class Law(Options):
    """Law of one parameter's elements."""

    family: Family = Field(description="Of the elements, which are independent.")
    scale: Positive = Field(
        description="The family's own scale parameter: of kernels in units of 1/sqrt(fan-in)."
    )
    df: Positive | None = Field(None, description="Degrees of freedom (student-t).")
    beta: Annotated[float, Field(ge=0.25, le=10.0)] | None = Field(
        None, description="Shape, 0.25 to 10 (generalised-normal)."
    )

    @model_validator(mode="after")
    def _own_shape(self) -> Law:
        needed = SHAPES.get(self.family)
        for name in SHAPES.values():
            given = getattr(self, name) is not None
            if given != (name == needed):
                verb = "has no" if given else "needs"
                raise ValueError(f"family {self.family!r} {verb} {name}")
        return self


class EmpiricalOptions(Options):
    """Options of ``empirical``: what ``bnnzoo.weight_statistics`` found."""

    laws: dict[str, Law] = Field(
        default_factory=dict,
        description="Pattern of parameter paths -> family (gaussian, laplace, student-t, "
        "generalised-normal), scale, and df or beta where the family has one; the last pattern "
        "that matches decides. The scale is the family's own, of kernels in units of "
        "1/sqrt(fan-in), of other parameters as it is.",
    )
    fitted_to: str = Field(
        "",
        description="What it was fitted to, in words; "
        "an evidence of the model is then marked as data-dependent.",
    )


@functools.partial(
    register_dataclass,
    data_fields=("scales", "shapes"),
    meta_fields=("patterns", "families", "fitted"),
)
@dataclass(frozen=True)
class Empirical(Prior):
    """Independent elements, of a family, scale and shape for every pattern of paths.

    Attributes:
        scales: one a pattern.
        shapes: degrees of freedom or beta, one a pattern; 0 for families without.
        patterns: shell-style patterns of paths; the last that matches decides.
        families: one a pattern.
        fitted: to weights of trained networks, whose training saw targets.
    """

    scales: tuple[Leaf, ...]
    shapes: tuple[Leaf, ...]
    patterns: tuple[str, ...]
    families: tuple[Family, ...]
    fitted: bool

    @property
    def fitted_to_targets(self) -> bool:
        """See :attr:`bnnzoo.models.prior.Prior.fitted_to_targets`."""
        return self.fitted

    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """See :meth:`Prior.distribution`; ``direct`` changes nothing: a law is for any role."""
        number = self._number(info)
        assert number is not None, "checked"
        loc, scale = centre_of(info), width_unit(info) * self.scales[number]
        shape = self.shapes[number]
        element: dist.Distribution
        match self.families[number]:
            case "gaussian":
                element = dist.Normal(loc, scale)
            case "laplace":
                element = dist.Laplace(loc, scale)
            case "student-t":
                element = dist.StudentT(shape, loc, scale)
            case "generalised-normal":
                element = GeneralisedNormal(shape, loc, scale)
        return element.expand(info.shape).to_event(len(info.shape))

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Every parameter has a law, and every pattern a parameter."""
        paths = [i.path for i in infos]
        for pattern in self.patterns:
            if not fnmatch.filter(paths, pattern):
                near = hint(pattern, paths)
                raise InputError(f"prior.laws: {pattern!r} matches no parameter{near}")
        if missing := [i.path for i in infos if self._number(i) is None]:
            raise InputError(
                f"prior 'empirical' has no law of parameter {missing[0]!r}: it was fitted to "
                "another network (bnnzoo.weight_statistics), or a pattern is missing"
            )

    def _number(self, info: ParameterInfo) -> int | None:
        found = [n for n, p in enumerate(self.patterns) if fnmatch.fnmatchcase(info.path, p)]
        return found[-1] if found else None


@register(
    "priors",
    "empirical",
    summary="Families and scales of trained networks' weights, by bnnzoo.weight_statistics.",
    options=EmpiricalOptions,
    references=("Fortuin et al. (2022), Bayesian Neural Network Priors Revisited, sec. 3",),
    tags={
        "family": ("gaussian", "heavy-tailed", "empirical"),
        "tails": "as fitted",
        "needs": "match",
    },
    notes="Made by bnnzoo.weight_statistics, and written as any other prior. Elements of a "
    "parameter are independent with location 0 (normalisation scales: 1) and of family gaussian N("
    "0, s^2), laplace exp(-|w| / s) / (2 s), student-t with df, or generalised-normal with density "
    "proportional to exp(-|w / s|^beta); s = scale / sqrt(fan-in) for kernels, scale for the rest. "
    "student-t needs T < df + 1. Where the weights were those of networks trained on the same "
    "data, the data are used twice: the posterior is narrower than it says.",
)
def empirical(options: EmpiricalOptions) -> Empirical:
    """The prior of these options."""
    if not options.laws:
        raise OptionError(
            "prior 'empirical' needs the laws that bnnzoo.weight_statistics, in Python, finds for "
            "a network and data"
        )
    laws = options.laws.values()
    shapes = tuple(float(getattr(w, SHAPES.get(w.family, ""), None) or 0.0) for w in laws)
    scales, families = tuple(w.scale for w in laws), tuple(w.family for w in laws)
    return Empirical(scales, shapes, tuple(options.laws), families, bool(options.fitted_to))
