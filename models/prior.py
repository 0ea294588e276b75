"""The contract of a prior, the elementwise families' shared form, and rules by parameter."""

from __future__ import annotations

import fnmatch
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.options import Options, Positive
from bnnzoo.specs import Component

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

Match = Literal["variance", "scale", "iqr"]
"""Which width of a family ``std`` sets: see :class:`PriorOptions`."""

NORMAL_IQR = 1.3489795003921634
"""Interquartile range of N(0, 1)."""


class PriorOptions(Options):
    """Options every prior has."""

    rules: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Pattern of parameter paths -> options to change there (std = 2.0), or another "
        "prior (name = 'laplace'); the last pattern that matches a parameter decides.",
    )


class ElementwiseOptions(PriorOptions):
    """Options of priors that are independent over the elements of a kernel."""

    std: Positive = Field(
        1.0, description="Width of a kernel's elements, in units of gain/sqrt(fan-in)."
    )
    match: Match = Field(
        "variance",
        description="What std means: the standard deviation (variance), the family's own scale "
        "parameter (scale), or the interquartile range of a Gaussian of that std (iqr).",
    )
    absolute: bool = Field(False, description="Take std as it is, without gain and fan-in.")
    bias_std: Positive = Field(1.0, description="Standard deviation of the Gaussian on biases.")


class Prior(ABC):
    """A NumPyro distribution for every parameter of a network.

    A subclass is a pytree whose leaves are its numbers, so that a change of scale recompiles
    nothing. Priors with hyper-parameters of their own override :meth:`sample_parameter`, where they
    belong to one parameter, or :meth:`sample`.
    """

    @property
    def shapes_biases(self) -> bool:
        """Whether its options say more of biases and normalisation scales than ``bias_std``."""
        return False

    @property
    def fitted_to_targets(self) -> bool:
        """Whether the training targets had a say in its numbers: its evidence is data-dependent."""
        return False

    @abstractmethod
    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """Distribution of one parameter, its shape a single event.

        Where hyper-parameters are sampled too, it is that given scales of 1.

        Args:
            info: the parameter.
            direct: a rule asked for this family by name, so it holds for biases too.
        """

    def sample(
        self, infos: Sequence[ParameterInfo], direct: bool = False, within: str = "network"
    ) -> dict[str, Array]:
        """Sample every parameter under its path, inside a NumPyro model.

        A parameter that is made from other sites is a ``numpyro.deterministic`` under its path.

        Args:
            infos: the parameters this is the prior of: all of the network, or those of a rule.
            direct: as in :meth:`distribution`.
            within: beginning of the names of sites that belong to all of them.

        Returns:
            Value by path.
        """
        return {i.path: self.sample_parameter(i, direct) for i in infos}

    def sample_parameter(self, info: ParameterInfo, direct: bool = False) -> Array:
        """Sample one parameter, and first any hyper-parameter of its own, inside a NumPyro model.

        Args:
            info: the parameter.
            direct: as in :meth:`distribution`.

        Returns:
            Its value.
        """
        return numpyro.sample(info.path, self.distribution(info, direct))

    def bind(self, infos: Sequence[ParameterInfo], data: Dataset | None) -> Prior:
        """This prior with what it reads off the network and the training inputs; most read nothing.

        Args:
            infos: the parameters it is the prior of.
            data: the data set, of which training inputs alone may be read; None without one.

        Raises:
            InputError: it needs inputs and there are none, or cannot make a prior of them.
        """
        return self

    def check(self, infos: Sequence[ParameterInfo]) -> None:  # noqa: B027
        """Raise where this prior does not fit the network; most fit all.

        Args:
            infos: the parameters this is the prior of, as in :meth:`sample`.

        Raises:
            InputError: a parameter it cannot be a prior of.
        """

    def check_use(self, infos: Sequence[ParameterInfo]) -> None:  # noqa: B027
        """Raise where none of the parameters is what this prior is about.

        Args:
            infos: the parameters of this family, whatever numbers rules give them.

        Raises:
            InputError: it would be another prior under this one's name.
        """


class ElementwisePrior(Prior):
    """Independent elements of one location-scale family.

    Kernels have mean 0 and scale ``scale * gain / sqrt(fan_in)``; embeddings count as kernels of
    fan-in 1; biases are N(0, bias_std^2); normalisation scales are N(1, bias_std^2).
    """

    scale: Leaf
    bias_std: Leaf
    absolute: bool

    @abstractmethod
    def family(self, loc: float, scale: Leaf) -> dist.Distribution:
        """The family's scalar distribution.

        Args:
            loc: location parameter: 0, or 1 for the scale of a normalisation.
            scale: scale parameter, in the family's own sense.
        """

    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """See :meth:`Prior.distribution`."""
        loc = 1.0 if info.role == "scale" else 0.0
        if info.role in ("kernel", "embedding") or direct:
            scale = self.scale if self.absolute else self.scale * info.unit
            element = self.family(loc, scale)
        else:
            element = dist.Normal(loc, self.bias_std)
        return element.expand(info.shape).to_event(len(info.shape))


@functools.partial(
    register_dataclass, data_fields=("base", "priors"), meta_fields=("patterns", "direct")
)
@dataclass(frozen=True)
class RuledPrior(Prior):
    """A prior whose family or numbers differ between parameters.

    Attributes:
        base: for parameters that no pattern matches; None makes such a parameter an error.
        priors: one a pattern.
        patterns: shell-style patterns of paths; the last that matches decides.
        direct: whether the rule named its family, which then holds for biases too.
    """

    base: Prior | None
    priors: tuple[Prior, ...]
    patterns: tuple[str, ...]
    direct: tuple[bool, ...]

    @property
    def fitted_to_targets(self) -> bool:
        """See :attr:`Prior.fitted_to_targets`; one rule's prior is enough."""
        return any(p.fitted_to_targets for p in (self.base, *self.priors) if p is not None)

    def distribution(self, info: ParameterInfo, direct: bool = False) -> dist.Distribution:
        """See :meth:`Prior.distribution`."""
        prior, named = self._of(info)
        return prior.distribution(info, named)

    def sample(
        self, infos: Sequence[ParameterInfo], direct: bool = False, within: str = "network"
    ) -> dict[str, Array]:
        """See :meth:`Prior.sample`; each rule's parameters, and those of none, by themselves."""
        made: dict[str, Array] = {}
        groups = self._groups(infos)
        for info in infos:
            number = self._number(info)
            prior, named = self._rule(number)
            if type(prior).sample is Prior.sample:
                made[info.path] = prior.sample_parameter(info, named)
            elif info.path not in made:
                label = within if number is None else f"rule{number}"
                made |= prior.sample(groups[number], named, label)
        return made

    def _of(self, info: ParameterInfo) -> tuple[Prior, bool]:
        """The prior of one parameter, and whether a rule named it."""
        return self._rule(self._number(info))

    def _number(self, info: ParameterInfo) -> int | None:
        """Number of the rule that decides for a parameter; None is the base."""
        for number, pattern in reversed(list(enumerate(self.patterns))):
            if fnmatch.fnmatchcase(info.path, pattern):
                return number
        if self.base is None:
            raise InputError(f"no prior rule matches parameter {info.path!r}")
        return None

    def _rule(self, number: int | None) -> tuple[Prior, bool]:
        if number is None:
            assert self.base is not None
            return self.base, False
        return self.priors[number], self.direct[number]

    def _groups(self, infos: Sequence[ParameterInfo]) -> dict[int | None, list[ParameterInfo]]:
        """The parameters of each rule that decides for some, in the order they are met."""
        groups: dict[int | None, list[ParameterInfo]] = {}
        for info in infos:
            groups.setdefault(self._number(info), []).append(info)
        return groups

    def bind(self, infos: Sequence[ParameterInfo], data: Dataset | None) -> RuledPrior:
        """See :meth:`Prior.bind`; each prior sees the parameters that are its own."""
        groups = self._groups(infos)
        priors = tuple(
            prior.bind(groups[number], data) if number in groups else prior
            for number, prior in enumerate(self.priors)
        )
        base = self.base.bind(groups[None], data) if self.base and None in groups else self.base
        return replace(self, base=base, priors=priors)

    def check(self, infos: Sequence[ParameterInfo]) -> None:
        """Every pattern matches something, and every parameter has a prior."""
        paths = [i.path for i in infos]
        for pattern, prior, named in zip(self.patterns, self.priors, self.direct, strict=True):
            matched = [i for i in infos if fnmatch.fnmatchcase(i.path, pattern)]
            if not matched:
                raise InputError(
                    f"prior rule {pattern!r} matches no parameter{hint(pattern, paths)}"
                )
            if not named and self.base is not None and all(_plain(i) for i in matched):
                same = getattr(prior, "bias_std", None) == getattr(self.base, "bias_std", None)
                same = same and not (prior.shapes_biases or self.base.shapes_biases)
                if same and prior != self.base:
                    raise InputError(
                        f"prior rule {pattern!r} has no effect: it matches biases or normalisation "
                        "scales alone, whose width is bias_std; set that, or name a prior"
                    )
        for number, own in self._groups(infos).items():
            self._rule(number)[0].check(own)

    def check_use(self, infos: Sequence[ParameterInfo]) -> None:
        """See :meth:`Prior.check_use`; rules that name no family have the base's."""
        groups = self._groups(infos)
        family = [i for number, own in groups.items() if not self._named(number) for i in own]
        if self.base is not None and family:
            self.base.check_use(family)
        for number, own in groups.items():
            if self._named(number):
                self._rule(number)[0].check_use(own)

    def _named(self, number: int | None) -> bool:
        return number is not None and self.direct[number]


def _plain(info: ParameterInfo) -> bool:
    """A prior treats it as a bias: Gaussian, whatever its own family."""
    return info.role in ("bias", "scale")


def make_prior(component: Component) -> Prior:
    """The prior of a spec, with its rules applied.

    Raises:
        UnknownNameError: no such prior.
        OptionError: options it does not have, or neither a name nor rules.
    """
    options = dict(component.options)
    rules = options.pop("rules", {})
    if not isinstance(rules, Mapping):
        raise OptionError(f"prior.rules = {rules!r}: a table of pattern -> options is expected")
    if component.name is None and not rules:
        raise OptionError("prior: give a name, or rules that cover every parameter")
    if component.name is None and options:
        raise OptionError(f"prior.{next(iter(options))}: an option without a prior's name")
    base = registry.get("priors", component.name).build(options) if component.name else None
    if not rules:
        assert base is not None
        return base
    priors, direct = [], []
    for pattern, rule in rules.items():
        where = f'prior.rules."{pattern}"'
        if not isinstance(rule, Mapping):
            raise OptionError(f"{where} = {rule!r}: a table of options is expected")
        changes = dict(rule)
        if "rules" in changes:
            raise OptionError(f"{where}.rules: a rule has no rules of its own")
        own = changes.pop("name", None)
        name = own or component.name
        if name is None:
            raise OptionError(f"{where}: a name is needed, as the prior itself has none")
        given = changes if own is not None else {**options, **changes}
        priors.append(registry.get("priors", name).build(given, where))
        direct.append(own is not None)
    return RuledPrior(base, tuple(priors), tuple(rules), tuple(direct))
