"""The layers of a network: where its kernels and biases stand in its own program.

A layer is a product of activations with a kernel: a dense product or a convolution whose right-hand
side is a parameter. A bias that is added to the result at once belongs to it; one that is added
elsewhere is a layer of its own. The program is evaluated an equation at a time, so that inputs can
be noted and results moved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Jaxpr, Literal

from bnnzoo.errors import InputError
from bnnzoo.models.posterior import Posterior

PASSING = ("convert_element_type", "copy")
"""What a parameter may go through and stay itself."""

SHAPING = ("reshape", "broadcast_in_dim", "squeeze", "expand_dims")
"""What a bias may go through besides."""

INSIDE = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat")
"""Calls that are looked into."""

PROBE = 7
"""Rows with which a network's program is looked at."""


class Layer(NamedTuple):
    """One use of a kernel or of a lone bias.

    Attributes:
        kernel: its path; None for a bias alone.
        bias: the path of a bias added to its result at once, or of the lone bias.
        kind: ``dense``, ``conv`` or ``bias``.
        places: for every entry of the kernel's matrix ``(input, output)`` its flat place.
        params: the equation's own.
    """

    kernel: str | None
    bias: str | None
    kind: str
    places: np.ndarray
    params: Mapping[str, Any]


class Evaluation:
    """One evaluation of a network's program with its layers' results moved and inputs noted.

    Args:
        moves: what is added to the result of each layer, in order; None to add nothing.
    """

    def __init__(self, moves: Sequence[Array] | None) -> None:
        self.moves = moves
        self.layers: list[Layer] = []
        self.inputs: list[Array] = []
        self.results: list[Array] = []
        self.bad: list[str] = []
        self.top: Any = None

    def evaluate(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], tags: Any) -> Any:
        """Values and parameter paths of the program's outputs."""
        values: dict[Any, Any] = {}
        path: dict[Any, str | None] = {}

        def read(v: Any) -> Any:
            return v.val if isinstance(v, Literal) else values[v]

        def tag(v: Any) -> str | None:
            return None if isinstance(v, Literal) else path.get(v)

        values |= dict(zip(jaxpr.constvars, consts, strict=True))
        values |= dict(zip(jaxpr.invars, args, strict=True))
        path |= {v: t for v, t in zip(jaxpr.invars, tags, strict=True) if t is not None}
        uses: dict[Any, int] = {}
        for equation in jaxpr.eqns:
            for v in equation.invars:
                if not isinstance(v, Literal):
                    uses[v] = uses.get(v, 0) + 1
        for v in jaxpr.outvars:
            if not isinstance(v, Literal):
                uses[v] = uses.get(v, 0) + 1
        made_by: dict[Any, int] = {}
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            given = [read(v) for v in equation.invars]
            named: list[Any] = [tag(v) for v in equation.invars]
            inner = _inner(equation.params)
            if not any(named):
                out = _bind(equation, given)
            elif name in INSIDE and inner is not None:
                out, out_tags = self.evaluate(inner.jaxpr, inner.consts, given, named)
                pairs = zip(equation.outvars, out_tags, strict=True)
                path |= {v: t for v, t in pairs if t is not None}
            elif name in PASSING or (name in SHAPING and _keeps_last(given, equation)):
                out = _bind(equation, given)
                path[equation.outvars[0]] = named[0]
            elif name in ("dot_general", "conv_general_dilated") and self._is_layer(
                name, named, given, equation.params
            ):
                out = [self._layer(name, given, str(named[1]), equation)]
                if uses.get(equation.outvars[0]) == 1:
                    made_by[equation.outvars[0]] = len(self.layers) - 1
            elif name == "add" and sum(t is not None for t in named) == 1:
                which = 0 if named[0] is not None else 1
                out = [self._bias(equation, given, str(named[which]), which, made_by)]
            else:
                self.bad += [t for t in named if t is not None]
                out = _bind(equation, given)
            values |= dict(zip(equation.outvars, out, strict=True))
        self.bad += [t for v in jaxpr.outvars if (t := tag(v)) and jaxpr is self.top]
        return [read(v) for v in jaxpr.outvars], [tag(v) for v in jaxpr.outvars]

    def _is_layer(self, name: str, named: Any, given: Any, params: Any) -> bool:
        if named[0] is not None or named[1] is None:
            return False
        if name == "conv_general_dilated":
            return params["feature_group_count"] == params["batch_group_count"] == 1
        (_, _), (left, right) = params["dimension_numbers"]
        return not left and not right

    def _layer(self, name: str, given: Any, path: str, equation: Any) -> Array:
        x, kernel = given
        dense = name == "dot_general"
        places = _places(kernel.shape, equation.params, dense)
        params = dict(equation.params)
        params["kernel_shape"] = tuple(kernel.shape)
        self.layers.append(Layer(path, None, "dense" if dense else "conv", places, params))
        self.inputs.append(x)
        return self._moved(_bind(equation, given)[0])

    def _bias(
        self, equation: Any, given: Any, path: str, which: int, made_by: dict[Any, int]
    ) -> Array:
        out = _bind(equation, given)[0]
        other = equation.invars[1 - which]
        owner = None if isinstance(other, Literal) else made_by.get(other)
        count = _features(given[which])
        if owner is not None:
            layer = self.layers[owner]
            if layer.bias is None and layer.places.shape[1] == count:
                self.layers[owner] = layer._replace(bias=path)
                return out
        self.layers.append(Layer(None, path, "bias", np.arange(count)[None], {}))
        self.inputs.append(jnp.ones(()))
        return self._moved(out)

    def _moved(self, out: Array) -> Array:
        self.results.append(out)
        return out if self.moves is None else out + self.moves[len(self.results) - 1]


def _inner(params: Mapping[str, Any]) -> Any:
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        found = params.get(name)
        if found is not None and hasattr(found, "consts"):
            return found
    return None


def _bind(equation: Any, given: Sequence[Any]) -> list[Any]:
    found = equation.primitive.get_bind_params(equation.params)
    inner, params = found if isinstance(found, tuple) else ((), found)  # a pair in JAX 0.11
    out = equation.primitive.bind(*inner, *given, **params)
    return out if equation.primitive.multiple_results else [out]


def _keeps_last(given: Any, equation: Any) -> bool:
    """A vector that stays one along the last axis."""
    before, after = jnp.shape(given[0]), equation.outvars[0].aval.shape
    if math.prod(before) == 1 and len(given) == 1:
        return math.prod(after) == 1
    return sum(n > 1 for n in before) == 1 and before[-1] == after[-1] > 1


def _features(bias: Array) -> int:
    return int(jnp.shape(bias)[-1]) if jnp.ndim(bias) else 1


def _places(shape: tuple[int, ...], params: Mapping[str, Any], dense: bool) -> np.ndarray:
    """Flat places of a kernel's entries, as a matrix ``(input, output)``."""
    flat = np.arange(math.prod(shape)).reshape(shape)
    if dense:
        summed = list(params["dimension_numbers"][0][1])
        kept = [axis for axis in range(len(shape)) if axis not in summed]
        count = math.prod(shape[a] for a in summed)
        return flat.transpose(*summed, *kept).reshape(count, -1)
    out, inside, *space = params["dimension_numbers"].rhs_spec
    # Patches have the channel first, then the window.
    return flat.transpose(inside, *space, out).reshape(-1, shape[out])


def network_program(network: Any, like: Mapping[str, Any], x: Any) -> tuple[Any, list[str]]:
    """The network's program, and the order of its parameters."""
    paths = [i.path for i in network.infos]

    def apply(parameters: list[Array], x: Array) -> Array:
        return network.by_rows(dict(zip(paths, parameters, strict=True)), x)

    return jax.make_jaxpr(apply)([like[p] for p in paths], x), paths


def find_layers(posterior: Posterior) -> list[Layer]:
    """The layers of a zoo model's network; each parameter in exactly one.

    Args:
        posterior: of a zoo model.

    Raises:
        InputError: a parameter that is used in no layer, in two, or in another way.
    """
    network = posterior.network
    assert network is not None
    real = posterior.x.dtype
    like = {i.path: jax.ShapeDtypeStruct(i.shape, real) for i in network.infos}
    closed, paths = network_program(
        network, like, jax.ShapeDtypeStruct((PROBE, *network.in_shape), real)
    )
    run = Evaluation(None)
    run.top = closed.jaxpr

    def trace(consts: Any, args: Any) -> Any:
        return run.evaluate(closed.jaxpr, consts, args, [*paths, None])[0]

    args = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
    jax.eval_shape(trace, closed.consts, args)
    used = [p for layer in run.layers for p in (layer.kernel, layer.bias) if p is not None]
    wrong: list[Any] = run.bad + [p for p in paths if used.count(p) != 1]
    if any(r.shape[0] % PROBE for r in run.results):
        which = [r.shape[0] % PROBE > 0 for r in run.results].index(True)
        wrong.append(str(run.layers[which].kernel))
    if wrong:
        raise InputError(
            f"laplace: parameter {wrong[0]!r} is no kernel or bias of one dense layer or "
            "convolution, so its curvature is no Kronecker product; give inference.structure = "
            "'full', 'diagonal' or 'low-rank'"
        )
    return run.layers


def reads_data_alone(posterior: Posterior, layers: Sequence[Layer]) -> list[bool]:
    """Whether each layer's input is made of the rows alone, so that no weight moves it.

    Args:
        posterior: of a zoo model.
        layers: of :func:`find_layers`.
    """
    network = posterior.network
    assert network is not None
    real = posterior.x.dtype
    like = {i.path: jax.ShapeDtypeStruct(i.shape, real) for i in network.infos}
    x = jax.ShapeDtypeStruct((PROBE, *network.in_shape), real)
    closed, paths = network_program(network, like, x)

    def inputs(parameters: list[Array], x: Array) -> list[Array]:
        run = Evaluation(None)
        run.evaluate(closed.jaxpr, closed.consts, [*parameters, x], [*paths, None])
        return run.inputs

    flat = jax.make_jaxpr(inputs)([like[p] for p in paths], x).jaxpr
    moved = set(flat.invars[: len(paths)])
    for equation in flat.eqns:
        if any(v in moved for v in equation.invars if not isinstance(v, Literal)):
            moved |= set(equation.outvars)
    assert len(flat.outvars) == len(layers)
    return [isinstance(v, Literal) or v not in moved for v in flat.outvars]


def last_layer(posterior: Posterior) -> np.ndarray:
    """Coordinates of the last layer's kernel and bias: of the module that owns the last product.

    Raises:
        InputError: there is no such layer.
    """
    network = posterior.network
    assert network is not None
    kernels = [layer.kernel for layer in find_layers(posterior) if layer.kernel is not None]
    if not kernels:
        raise InputError(
            "laplace: the network has no dense layer or convolution to be its last; give "
            "inference.structure = 'full'"
        )
    owner = kernels[-1].rpartition(".")[0]
    names = {i.path for i in network.infos if i.path.rpartition(".")[0] == owner}
    ours = [s for s in posterior.sites if s.name in names or s.name.removesuffix(".base") in names]
    return np.sort(np.concatenate([np.arange(s.offset, s.offset + s.size) for s in ours]))
