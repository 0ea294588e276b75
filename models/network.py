"""Networks: any ``flax.nnx`` module through a factory, bound to shapes and run functionally."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx
from jax import Array
from jax.extend.core import Jaxpr
from jaxtyping import Float

from bnnzoo.errors import InputError
from bnnzoo.models.ends import MOVING, body_of, with_ends
from bnnzoo.models.parameters import ParameterInfo, parameter_infos

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

Factory = Callable[..., nnx.Module]
"""Called as ``factory(in_shape, out_shape, rngs=rngs)``, gives a module that maps a batch of rows
``(row, *in_shape)`` to ``(row, *out_shape)``."""

NARROW = 25
"""Units of a layer up to which a processor is quicker with rows as the last axis, along which the
inner loop of a product runs: 1.3 to 3 times for a gradient; from about 32 on it gains nothing."""

MANY_ROWS = 64
"""Rows from which that holds."""


@dataclass(frozen=True)
class Network:
    """A module factory with the gain its priors should use.

    Attributes:
        factory: called as ``factory(in_shape, out_shape, rngs=rngs)``.
        gain: gain of the activation; see :mod:`bnnzoo.models.activations`.
        label: a few words for tables, such as ``mlp 50 tanh``.
        check: called with the data set that a model is bound to; raises ``InputError`` where the
            values of its inputs, not their shape alone, are none that the network can read.
    """

    factory: Factory
    gain: float = 1.0
    label: str = "network"
    check: Callable[[Dataset], None] | None = None
    _bound: dict[Any, BoundNetwork] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __getstate__(self) -> dict[str, Any]:
        # Bound modules hold functions of JAX, which cannot be pickled.
        return {**self.__dict__, "_bound": {}}

    def options_of[O](self, module: type[nnx.Module], options: type[O]) -> O | None:
        """The options that a registered network's module is built with.

        Args:
            module: its class.
            options: their class.

        Returns:
            None where this network builds another module.
        """
        found = getattr(self.factory, "keywords", {}).get("options")
        ours = getattr(self.factory, "func", None) is module and isinstance(found, options)
        return found if ours else None

    def bind(self, in_shape: tuple[int, ...], outputs: int) -> BoundNetwork:
        """Fix the shapes.

        Args:
            in_shape: shape of one input.
            outputs: number of values the network returns for it.

        Raises:
            InputError: the module keeps state that a pure function of its parameters cannot have
                (batch statistics, random streams), or does not accept these shapes.
        """
        # Kept: a module that holds a lambda is equal to no other, so that binding anew for every
        # fit would compile anew.
        if (in_shape, outputs) not in self._bound:
            self._bound[in_shape, outputs] = self._bind(in_shape, outputs)
        return self._bound[in_shape, outputs]

    def _bind(self, in_shape: tuple[int, ...], outputs: int) -> BoundNetwork:
        def build() -> nnx.Module:
            module = self.factory(in_shape, (outputs,), rngs=nnx.Rngs(0))
            _refuse_arrays(module, self.label)
            return module

        try:
            module = nnx.eval_shape(build)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{self.label}: cannot be built for inputs {in_shape}: {_line(error)}"
            ) from error
        graph, _, *rest = nnx.split(module, nnx.Param, ...)
        _refuse_state(rest[0], self.label)
        bound = BoundNetwork(graph, parameter_infos(module, self.gain), in_shape, outputs)
        if not bound.infos:
            raise InputError(f"{self.label}: the module has no nnx.Param to give a prior to")
        try:
            program, made = jax.make_jaxpr(bound.by_rows, return_shape=True)(
                {i.path: jax.ShapeDtypeStruct(i.shape, "float32") for i in bound.infos},
                jax.ShapeDtypeStruct((2, *in_shape), "float32"),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self.label}: does not run on inputs {in_shape}: {_line(error)}"
            ) from error
        if made.shape != (2, outputs):
            raise InputError(
                f"{self.label}: returns shape {made.shape} for 2 rows, where (2, {outputs}) is "
                "needed"
            )
        infos = with_ends(bound.infos, program.jaxpr)
        turns = hasattr(module, "rows_last") and all(
            max(i.shape[1:], default=0) <= NARROW for i in bound.infos
        )
        size = _row_size(program.jaxpr)
        return dataclasses.replace(bound, infos=infos, row_size=size, turns=turns)


@dataclass(frozen=True)
class BoundNetwork:
    """A network with its shapes fixed: hashable, equal for equal structure.

    Equality is what lets two fits of the same shapes share one compiled program.

    Attributes:
        graph: the module without its parameters.
        infos: its parameters.
        in_shape: shape of one input.
        outputs: number of values it returns for one.
        row_size: how many numbers it makes of one on the way; 0 where that is not known.
        turns: its layers are narrow, and its module can compute with rows as the last axis: it has
            a method ``rows_last`` with the arguments and the values of ``__call__``.
    """

    graph: nnx.GraphDef[Any]
    infos: tuple[ParameterInfo, ...]
    in_shape: tuple[int, ...]
    outputs: int
    row_size: int = field(default=0, kw_only=True)
    turns: bool = field(default=False, kw_only=True)

    def apply(self, parameters: Mapping[str, Array], x: Float[Array, "row *input"]) -> Array:
        """Run the network.

        Args:
            parameters: value of every parameter by path.
            x: inputs ``(row, *in_shape)``, modelled units.

        Returns:
            ``(row, output)``.
        """
        module = self._module(parameters)
        if self.turns and len(x) >= MANY_ROWS and jax.default_backend() == "cpu":
            return module.rows_last(x)
        return module(x)

    def by_rows(self, parameters: Mapping[str, Array], x: Array) -> Array:
        """As :meth:`apply`, by the module's own call: a program whose equations can be read.

        Args:
            parameters: value of every parameter by path.
            x: inputs ``(row, *in_shape)``, modelled units.
        """
        return self._module(parameters)(x)

    def read(self, parameters: Mapping[str, Array], x: Array, method: str) -> Array:
        """What another method of the module gives, such as ``parts`` of ``additive``.

        Args:
            parameters: value of every parameter by path.
            x: inputs ``(row, *in_shape)``, modelled units.
            method: its name.

        Raises:
            InputError: the module has no such method.
        """
        module = self._module(parameters)
        if not callable(found := getattr(module, method, None)):
            raise InputError(f"module {type(module).__name__!r} has no method {method!r}")
        return found(x)

    def _module(self, parameters: Mapping[str, Array]) -> Any:
        flat = [(i.keys, nnx.Param(parameters[i.path])) for i in self.infos]
        return nnx.merge(self.graph, nnx.from_flat_state(flat))


def _row_size(program: Jaxpr) -> int:
    """Numbers that all equations make of one of the two rows; loops are counted as one pass."""
    sizes = 0
    for equation in program.eqns:
        if equation.primitive.name in MOVING:
            continue
        inner = body_of(equation)
        if inner is not None:
            sizes += _row_size(inner)
        else:
            shapes = (getattr(v.aval, "shape", ()) for v in equation.outvars)
            sizes += sum(math.prod(s) // 2 for s in shapes if s and s[0] == 2)
    return sizes


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _refuse_arrays(module: nnx.Module, label: str) -> None:
    for path, value in nnx.iter_graph(module):
        if isinstance(value, (jax.Array, np.ndarray)):
            name = ".".join(map(str, path))
            raise InputError(
                f"{label}: {name!r} is an array that is not an nnx.Param, so equal networks could "
                "not be recognised; make it in __call__"
            )


def _refuse_state(rest: nnx.State, label: str) -> None:
    kinds = {type(value) for _, value in nnx.to_flat_state(rest)}
    if any(issubclass(kind, nnx.BatchStat) for kind in kinds):
        raise InputError(
            f"{label}: batch statistics make the likelihood of a row depend on its batch, so there "
            "is no posterior to sample; use a normalisation without them (LayerNorm, GroupNorm)"
        )
    if kinds:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(
            f"{label}: the module keeps state besides its parameters ({names}); build it without "
            "(for dropout, leave the layer out)"
        )
