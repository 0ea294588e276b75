"""Which kernels of a network meet its inputs first, and which are the last before its outputs.

The order in which a module holds its parameters says neither (it is that of names), so both are
read off the network's own program: a jaxpr, gone through forwards with what each value was made
from, and backwards with what each kernel's result goes to.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from bnnzoo.errors import InputError, hint
from bnnzoo.models.parameters import ParameterInfo

MOVING = frozenset(
    ("broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze", "transpose", "slice")
)
"""Operations that make nothing new: after them a kernel is still the same kernel."""


class _Seen(NamedTuple):
    """What a value was made from.

    Attributes:
        kernel: path of the kernel that it is, unchanged; else empty.
        inputs: some of the network's inputs are in it.
        kernels: it comes after a kernel.
    """

    kernel: str = ""
    inputs: bool = False
    kernels: bool = False


def _merged(seen: Sequence[_Seen]) -> _Seen:
    after = any(s.kernels or s.kernel for s in seen)
    return _Seen(inputs=any(s.inputs for s in seen), kernels=after)


def with_ends(infos: Sequence[ParameterInfo], program: Jaxpr) -> tuple[ParameterInfo, ...]:
    """The same parameters, with ``reads_input`` and ``writes_output`` filled in.

    Args:
        infos: the parameters of a network.
        program: of ``apply(parameters, x)``: one variable a parameter, in order of paths, and x.
    """
    paths = sorted(info.path for info in infos)
    kernels = {info.path for info in infos if info.role == "kernel"}
    given = [_Seen(kernel=path) if path in kernels else _Seen() for path in paths]
    walk = _Walk()
    walk.forwards(program, [*given, _Seen(inputs=True)])
    walk.backwards(program, [True] * len(program.outvars))
    return tuple(
        dataclasses.replace(
            info,
            reads_input=info.path in walk.first,
            writes_output=info.path in walk.last,
        )
        for info in infos
    )


class _Walk:
    """Both passes over one program; inner programs are gone into where they are calls or loops."""

    def __init__(self) -> None:
        self.first: set[str] = set()
        self.last: set[str] = set()
        self.values: dict[Any, _Seen] = {}
        self.inner: list[_Walk | None] = []

    def forwards(self, program: Jaxpr, given: Sequence[_Seen]) -> list[_Seen]:
        """What the results were made from; notes the kernels that meet inputs first."""
        seen: dict[Any, _Seen] = dict(zip(program.invars, given, strict=True))
        seen |= {v: _Seen() for v in program.constvars}
        self.values = seen

        def of(v: Any) -> _Seen:
            return _Seen() if isinstance(v, Literal) else seen[v]

        self.inner = []
        for equation in program.eqns:
            operands = [of(v) for v in equation.invars]
            body = body_of(equation)
            inner = _Walk() if body is not None else None
            self.inner.append(inner)
            if body is not None and inner is not None:
                made = self._through(equation, body, inner, operands)
                self.first |= inner.first
            elif equation.primitive.name in MOVING and operands[0].kernel:
                made = [operands[0]]
            else:
                here = {s.kernel for s in operands if s.kernel}
                fresh = [s for s in operands if s.inputs and not s.kernels]
                if here and fresh:
                    self.first |= here
                made = [_merged(operands)] * len(equation.outvars)
            seen.update(zip(equation.outvars, made, strict=True))
        return [of(v) for v in program.outvars]

    def _through(
        self, equation: Any, body: Jaxpr, inner: _Walk, operands: list[_Seen]
    ) -> list[_Seen]:
        if equation.primitive.name != "scan":
            return inner.forwards(body, operands)
        # What is carried round a loop comes to be made from what the loop makes.
        consts, carried = _constants_and_carried(equation, body)
        while True:
            inner.first.clear()
            made = inner.forwards(body, operands)
            start = operands[consts : consts + carried]
            after = [
                before if before == later else _merged([before, later])
                for before, later in zip(start, made[:carried], strict=True)
            ]
            if after == start:
                return made
            operands = [*operands[:consts], *after, *operands[consts + carried :]]

    def backwards(self, program: Jaxpr, wanted: Sequence[bool]) -> list[bool]:
        """Which arguments reach wanted results through no kernel; notes the kernels in between."""
        need = {v for v, w in zip(program.outvars, wanted, strict=True) if w and not _literal(v)}
        for equation, inner in zip(reversed(program.eqns), reversed(self.inner), strict=True):
            asked = [v in need for v in equation.outvars]
            if not any(asked):
                continue
            body = body_of(equation)
            if body is not None and inner is not None:
                if equation.primitive.name == "scan":
                    reached = self._round(equation, body, inner, asked)
                else:
                    reached = inner.backwards(body, asked)
                self.last |= inner.last
            else:
                kernels = {
                    self.values[v].kernel
                    for v in equation.invars
                    if not _literal(v) and self.values[v].kernel
                }
                if kernels and equation.primitive.name not in MOVING:
                    self.last |= kernels
                    continue
                reached = [True] * len(equation.invars)
            need |= {
                v for v, r in zip(equation.invars, reached, strict=True) if r and not _literal(v)
            }
        return [v in need for v in program.invars]

    def _round(self, equation: Any, body: Jaxpr, inner: _Walk, asked: list[bool]) -> list[bool]:
        consts, carried = _constants_and_carried(equation, body)
        while True:
            reached = inner.backwards(body, asked)
            again = [
                a or r for a, r in zip(asked, reached[consts : consts + carried], strict=False)
            ]
            if [*again, *asked[carried:]] == asked:
                return reached
            asked = [*again, *asked[carried:]]


def _literal(v: Any) -> bool:
    return isinstance(v, Literal)


def _constants_and_carried(scan: Any, body: Jaxpr) -> tuple[int, int]:
    """Number of each among the arguments of a loop's body; the others are sliced by the loop."""

    def whole(outside: Sequence[Any], inside: Sequence[Any]) -> int:
        pairs = zip(outside, inside, strict=True)
        return sum(a.aval.shape == b.aval.shape for a, b in pairs)

    carried = whole(scan.outvars, body.outvars)
    return whole(scan.invars, body.invars) - carried, carried


def body_of(equation: Any) -> Jaxpr | None:
    """The program inside a call or a loop over rows, its arguments those of the equation."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = equation.params.get(name)
        body = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        if isinstance(body, Jaxpr) and len(body.invars) == len(equation.invars):
            return body if len(body.outvars) == len(equation.outvars) else None
    return None


def chosen(
    infos: Sequence[ParameterInfo], pattern: str | None, end: str, option: str
) -> tuple[ParameterInfo, ...]:
    """The kernels at one end of a network, or those that a pattern names.

    Args:
        infos: of the network, or those a rule is for.
        pattern: shell-style pattern of paths, or None to take what the program says.
        end: attribute that says so, ``reads_input`` or ``writes_output``.
        option: name of the option that the pattern is, for messages.

    Raises:
        InputError: there is none.
    """
    kernels = [info for info in infos if info.role == "kernel"]
    if pattern is not None:
        found = [info for info in kernels if fnmatch.fnmatchcase(info.path, pattern)]
        if not found:
            paths = [info.path for info in kernels]
            raise InputError(
                f"prior.{option} = {pattern!r} matches no kernel{hint(pattern, paths)}"
            )
        return tuple(found)
    found = [info for info in kernels if getattr(info, end)]
    if not found:
        what = {
            "reads_input": "is applied to the network's inputs",
            "writes_output": "is the last before the network's outputs",
        }[end]
        raise InputError(
            f"no kernel of {', '.join(i.path for i in infos)} {what}; name it in prior.{option}"
        )
    return tuple(found)
