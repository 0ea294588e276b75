"""Kronecker-factored curvature: the layers of a network, and the two factors of each.

A layer is a product of activations with a kernel, found in the network's own program: a dense
product or a convolution whose right-hand side is a parameter. Its input x and the derivative g of
the outputs in its result are all that the factors need. Where positions share a kernel (R of them a
row), ``expand`` takes A = sum_nr x x', B = sum_nr g g' / (N R) and ``reduce`` averages x and sums g
over the positions first (Eschenhagen et al. 2023, eq. 8 and 11). A bias that is added to the result
at once is one more input, of value 1; one that is added elsewhere is a layer of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Jaxpr, Literal

from bnnzoo.errors import InputError
from bnnzoo.inference import spectra
from bnnzoo.inference.curvature import block_rows, output_roots, over_rows, root_count
from bnnzoo.inference.network_heads import network_calls, network_of, network_parameters
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


class _Run:
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
        self.fresh: dict[Any, int] = {}

    def evaluate(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], tags: Any) -> Any:
        """Values and parameter paths of the program's outputs."""
        values: dict[Any, Any] = {}
        path: dict[Any, str] = {}

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
            named = [tag(v) for v in equation.invars]
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
                out = [self._layer(name, given, named[1], equation)]
                if uses.get(equation.outvars[0]) == 1:
                    made_by[equation.outvars[0]] = len(self.layers) - 1
            elif name == "add" and sum(t is not None for t in named) == 1:
                which = 0 if named[0] is not None else 1
                out = [self._bias(equation, given, named[which], which, made_by)]
            else:
                self.bad += [t for t in named if t is not None]
                out = _bind(equation, given)
            values |= dict(zip(equation.outvars, out, strict=True))
        self.bad += [t for v in jaxpr.outvars if (t := tag(v)) and jaxpr is self.top]
        return [read(v) for v in jaxpr.outvars], [tag(v) for v in jaxpr.outvars]

    top: Any = None

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
        layer = self.layers[owner] if owner is not None else None
        # Along the features of the result, which are its last axis in both kinds of layer.
        if (
            layer is not None
            and layer.bias is None
            and layer.places.shape[1] == _features(given[which])
        ):
            self.layers[owner] = layer._replace(bias=path)
            return out
        count = _features(given[which])
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


def _rows_of_input(layer: Layer, x: Array, rows: int) -> Array:
    """Inputs of a layer ``(row, position, input)``, with the 1 of a bias last."""
    if layer.kind == "bias":
        return jnp.ones((rows, 1, 1), x.dtype)
    if layer.kind == "dense":
        summed = list(layer.params["dimension_numbers"][0][0])
        kept = [axis for axis in range(x.ndim) if axis not in summed]
        x = x.transpose(*kept, *summed).reshape(rows, -1, len(layer.places))
    else:
        p, numbers = layer.params, layer.params["dimension_numbers"]
        window = [layer.params["kernel_shape"][axis] for axis in numbers.rhs_spec[2:]]
        x = jax.lax.conv_general_dilated_patches(
            x,
            window,
            p["window_strides"],
            p["padding"],
            p["lhs_dilation"],
            p["rhs_dilation"],
            jax.lax.ConvDimensionNumbers(numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec),
        )
        x = _features_last(x, numbers.out_spec).reshape(rows, -1, len(layer.places))
    if layer.bias is not None:
        x = jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)
    return x


def _features_last(x: Array, spec: Sequence[int]) -> Array:
    return x.transpose(spec[0], *spec[2:], spec[1])


def _rows_of_result(layer: Layer, g: Array, rows: int) -> Array:
    """Derivatives in a layer's result ``(row, position, output)``."""
    if layer.kind == "conv":
        g = _features_last(g, layer.params["dimension_numbers"].out_spec)
    return g.reshape(rows, -1, layer.places.shape[1])


def _program(network: Any, like: Mapping[str, Any], x: Any) -> tuple[Any, list[str]]:
    """The network's program, and the order of its parameters."""
    paths = [i.path for i in network.infos]

    def apply(parameters: list[Array], x: Array) -> Array:
        return network.apply(dict(zip(paths, parameters, strict=True)), x)

    return jax.make_jaxpr(apply)([like[p] for p in paths], x), paths


def find_layers(posterior: Posterior) -> list[Layer]:
    """The layers of a zoo model's network; each parameter in exactly one.

    Args:
        posterior: of a zoo model.

    Raises:
        InputError: a parameter that is used in no layer, in two, or in another way.
    """
    network = network_of(posterior)
    assert network is not None
    real = posterior.x.dtype
    like = {i.path: jax.ShapeDtypeStruct(i.shape, real) for i in network.infos}
    closed, paths = _program(network, like, jax.ShapeDtypeStruct((PROBE, *network.in_shape), real))
    run = _Run(None)
    run.top = closed.jaxpr

    def trace(consts: Any, args: Any) -> Any:
        return run.evaluate(closed.jaxpr, consts, args, [*paths, None])[0]

    args = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
    jax.eval_shape(trace, closed.consts, args)
    used = [p for layer in run.layers for p in (layer.kernel, layer.bias) if p is not None]
    wrong = run.bad + [p for p in paths if used.count(p) != 1]
    if any(r.shape[0] % PROBE for r in run.results):
        wrong.append(run.layers[[r.shape[0] % PROBE > 0 for r in run.results].index(True)].kernel)
    if wrong:
        raise InputError(
            f"laplace: parameter {wrong[0]!r} is no kernel or bias of one dense layer or "
            "convolution, so its curvature is no Kronecker product; give inference.structure = "
            "'full', 'diagonal' or 'low-rank'"
        )
    return run.layers


def last_layer(posterior: Posterior) -> np.ndarray:
    """Coordinates of the last layer's kernel and bias: of the module that owns the last product.

    Raises:
        InputError: there is no such layer.
    """
    network = network_of(posterior)
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


def matrices(posterior: Posterior, layers: Sequence[Layer]) -> list[np.ndarray]:
    """For every layer the coordinates in ``u`` of its matrix ``(input, output)``, bias last.

    Raises:
        InputError: a parameter whose coordinates are not its values.
    """
    sites = {s.name: s for s in posterior.sites}
    made = []
    for layer in layers:
        for path in (layer.kernel, layer.bias):
            if path is not None and (path not in sites or not sites[path].free):
                raise InputError(
                    f"laplace: the coordinates of {path!r} are not its values, so its curvature is "
                    "no Kronecker product; give inference.structure = 'full', 'diagonal' or "
                    "'low-rank'"
                )
        rows = []
        if layer.kernel is not None:
            rows.append(sites[layer.kernel].offset + layer.places)
        if layer.bias is not None:
            site = sites[layer.bias]
            rows.append(site.offset + np.arange(site.size)[None])
        made.append(np.concatenate(rows))
    return made


def factors(
    posterior: Posterior, u: Array, layers: Sequence[Layer], flavour: Any
) -> tuple[list[tuple[Array, Array]], Array]:
    """A ``(input, input)`` and B ``(output, output)`` of every layer; traced.

    A kron B is the layer's block of the likelihood's curvature, divided by T L.

    Args:
        posterior: of a zoo model.
        u: unconstrained vector ``(dim,)``.
        layers: of :func:`find_layers`.
        flavour: curvature, sharing and memory.

    Returns:
        The factors, and the share of the loss' curvature that was clipped.
    """
    network = network_of(posterior)
    assert network is not None
    parameters = network_parameters(posterior, posterior._score(u))
    sizes = [(len(m), m.shape[1]) for m in matrices(posterior, layers)]
    one = jax.eval_shape(lambda b: _tapped(posterior, u, parameters, b)[1], jnp.zeros(1, int))
    per_row = sum(math.prod(r.shape) for r in one[1]) * (
        1 + root_count(posterior, flavour.curvature)
    )
    per_row += sum(math.prod(x.shape) for x in _inputs_of(posterior, u, parameters, layers))
    size = block_rows(posterior, per_row, flavour.memory_bytes)
    zero = [(jnp.zeros((a, a), u.dtype), jnp.zeros((b, b), u.dtype)) for a, b in sizes]

    def add(total: Any, batch: Array, weights: Array) -> Any:
        pairs, clipped = total
        roots, share = output_roots(posterior, u, batch, flavour.curvature)
        pull, (inputs, _) = _tapped(posterior, u, parameters, batch)
        gradients = jax.vmap(pull, in_axes=2)(roots)
        copies = inputs_rows(posterior, batch)
        made = []
        for k, layer in enumerate(layers):
            x = _rows_of_input(layer, inputs[k], batch.shape[0] * copies)
            g = jax.vmap(lambda g, k=k: _rows_of_result(layers[k], g, batch.shape[0] * copies))(
                gradients[k]
            )
            x, g = _by_row(x, copies), jax.vmap(lambda g: _by_row(g, copies))(g)
            positions = g.shape[2]
            if layer.kind == "bias":
                x = jnp.ones((len(batch), positions, 1), x.dtype)
            if flavour.sharing == "reduce":
                x, g, positions = x.mean(1, keepdims=True), g.sum(2, keepdims=True), 1
            left, right = pairs[k]
            left = left + jnp.einsum("nri,nrj,n->ij", x, x, weights)
            right = right + jnp.einsum("cnri,cnrj,n->ij", g, g, weights) / positions
            made.append((left, right))
        return made, clipped + share @ weights

    pairs, clipped = over_rows(posterior, size, (zero, jnp.zeros(2, u.dtype)), add)
    scale = posterior.posterior_temperature * posterior.likelihood_temperature * posterior.rows
    share = jnp.where(clipped[1] > 0, clipped[0] / jnp.where(clipped[1] > 0, clipped[1], 1.0), 0.0)
    return [(left, right / scale) for left, right in pairs], share


def inputs_rows(posterior: Posterior, batch: Array) -> int:
    """How many inputs of the network one row makes: 1, or its copies under an augmentation."""
    like = jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype)
    out = jax.eval_shape(lambda u, b: network_calls(posterior, u, b)[2], like, batch)
    return int(out.shape[0]) // int(batch.shape[0])


def _by_row(x: Array, copies: int) -> Array:
    """Copies of a row as positions of it: they share the kernel as positions do."""
    if copies == 1:
        return x
    split = x.reshape(copies, -1, *x.shape[1:]).swapaxes(0, 1)
    return split.reshape(split.shape[0], -1, x.shape[-1])


def _inputs_of(posterior: Posterior, u: Array, parameters: Any, layers: Any) -> list[Any]:
    """Shapes of one row's inputs to every layer, windows laid out."""
    batch = jnp.zeros(1, int)

    def inputs() -> list[Array]:
        _, (found, _) = _tapped(posterior, u, parameters, batch)
        rows = inputs_rows(posterior, batch)
        return [_rows_of_input(layer, x, rows) for layer, x in zip(layers, found, strict=True)]

    return jax.eval_shape(inputs)


def _tapped(
    posterior: Posterior, u: Array, parameters: Mapping[str, Array], batch: Array
) -> tuple[Callable[[Array], Any], tuple[list[Array], list[Array]]]:
    """From cotangents of the heads ``(row, head)`` to those of the layers' results; the inputs."""
    network = network_of(posterior)
    assert network is not None
    _, x, out = network_calls(posterior, u, batch)
    closed, paths = _program(network, parameters, x)
    args = [*(parameters[p] for p in paths), x]
    tags = [*paths, None]
    first = _Run(None)
    shapes = jax.eval_shape(
        lambda: (first.evaluate(closed.jaxpr, closed.consts, args, tags)[0], first.results)[1]
    )
    moves = [jnp.zeros(s.shape, s.dtype) for s in shapes]
    rows = batch.shape[0]

    def moved(moves: list[Array]) -> tuple[Array, Any]:
        run = _Run(moves)
        (value,), _ = run.evaluate(closed.jaxpr, closed.consts, args, tags)
        heads = value.reshape(-1, rows, out.shape[-1]).swapaxes(0, 1).reshape(rows, -1)
        return heads, (run.inputs, run.results)

    _, pull, noted = jax.vjp(moved, moves, has_aux=True)
    return (lambda cotangent: pull(cotangent)[0]), noted


def kronecker(
    posterior: Posterior, u: Array, where: np.ndarray, precision: Array, flavour: Any
) -> tuple[spectra.Kronecker, Array]:
    """The Kronecker-factored spectrum of the network's block; traced.

    A kron B + D kron I with D diagonal over a kernel's inputs is
    D^(1/2) (D^(-1/2) A D^(-1/2) kron B + I) D^(1/2), so precisions that differ between inputs stay exact; those that differ between
    outputs are averaged.

    Args:
        posterior: of a zoo model.
        u: unconstrained vector ``(dim,)``.
        where: coordinates of the network.
        precision: the prior's ``(k,)``.
        flavour: curvature, sharing and memory.
    """
    layers = find_layers(posterior)
    place = np.full(posterior.dimension, -1)
    place[where] = np.arange(len(where))
    places = [place[m] for m in matrices(posterior, layers)]
    pairs, clipped = factors(posterior, u, layers, flavour)
    values, left, right = [], [], []
    for (a, b), own in zip(pairs, places, strict=True):
        rows = precision[own].mean(1)
        precision = precision.at[own].set(jnp.broadcast_to(rows[:, None], own.shape))
        root = jnp.sqrt(rows)
        of_a, basis_a = jnp.linalg.eigh(a / (root[:, None] * root))
        of_b, basis_b = jnp.linalg.eigh(b)
        values.append(jnp.maximum(of_a, 0.0)[:, None] * jnp.maximum(of_b, 0.0))
        left.append(basis_a)
        right.append(basis_b)
    held = tuple(jnp.asarray(p) for p in places)
    return spectra.Kronecker(precision, tuple(values), tuple(left), tuple(right), held), clipped
