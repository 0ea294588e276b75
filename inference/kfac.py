"""Kronecker-factored curvature: two factors a layer.

A layer's input x and the derivative g of the outputs in its result are all that they need. Where
positions share a kernel, R of them a row, ``expand`` takes A = sum_nr x x', B = sum_nr g g' / (N R)
and ``reduce`` averages x and sums g over the positions first (Eschenhagen et al. 2023, eq. 8 and
11). A bias of a layer is one more input, of value 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.errors import InputError
from bnnzoo.inference import spectra
from bnnzoo.inference.curvature import block_rows, over_rows, root_count, roots_at
from bnnzoo.inference.network_heads import network_calls, network_parameters, row_loss
from bnnzoo.inference.network_layers import Evaluation, Layer, find_layers, network_program
from bnnzoo.models.posterior import Posterior


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


class Sums(NamedTuple):
    """What one pass over all rows gives.

    Attributes:
        pairs: A ``(input, input)`` and B ``(output, output)`` of every layer; A is None where it
            was not asked for.
        clipped: share of the loss' curvature that was negative and left out.
        log_likelihood: of all rows, untempered.
    """

    pairs: list[tuple[Any, Array]]
    clipped: Array
    log_likelihood: Array


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
    found = row_sums(posterior, u, layers, flavour, [True] * len(layers))
    return found.pairs, found.clipped


def row_sums(
    posterior: Posterior, u: Array, layers: Sequence[Layer], flavour: Any, wanted: Sequence[bool]
) -> Sums:
    """The factors of :func:`factors` and the log-likelihood, by one forward pass; traced.

    Args:
        posterior: of a zoo model.
        u: unconstrained vector ``(dim,)``.
        layers: of :func:`find_layers`.
        flavour: curvature, sharing and memory.
        wanted: of which layers A is summed.
    """
    network = posterior.network
    assert network is not None
    parameters = network_parameters(posterior, posterior._score(u))
    sizes = [(len(m), m.shape[1]) for m in matrices(posterior, layers)]
    per_row = numbers_a_row(posterior, u, layers, flavour.curvature)
    size = block_rows(posterior, per_row, flavour.memory_bytes)
    zero = [
        (jnp.zeros((a, a), u.dtype) if asked else None, jnp.zeros((b, b), u.dtype))
        for (a, b), asked in zip(sizes, wanted, strict=True)
    ]
    loss = jax.vmap(lambda head, row: row_loss(posterior, u, head, row))

    def add(total: Any, batch: Array, weights: Array) -> Any:
        pairs, clipped, likelihood = total
        out, pull, (inputs, _) = _tapped(posterior, u, parameters, batch)
        roots, share = roots_at(posterior, u, out, batch, flavour.curvature)
        # Weights are 0 and 1: a row whose root is 0 adds nothing to B.
        gradients = jax.vmap(pull, in_axes=2)(roots * weights[:, None, None])
        copies = inputs_rows(posterior, batch)
        made = []
        for k, layer in enumerate(layers):
            left, right = pairs[k]
            g = jax.vmap(lambda g, k=k: _rows_of_result(layers[k], g, batch.shape[0] * copies))(
                gradients[k]
            )
            g = jax.vmap(lambda g: _by_row(g, copies))(g)
            positions = g.shape[2]
            if wanted[k]:
                x = _inputs_by_row(layer, inputs[k], len(batch), copies, positions)
                left = left + _gram(x, weights, flavour.sharing)
            if flavour.sharing == "reduce":
                g, positions = g.sum(2, keepdims=True), 1
            g = g.reshape(-1, g.shape[-1])
            made.append((left, right + g.T @ g / positions))
        return made, clipped + share @ weights, likelihood - loss(out, batch) @ weights

    start = (zero, jnp.zeros(2, u.dtype), jnp.zeros((), u.dtype))
    pairs, clipped, likelihood = over_rows(posterior, size, start, add)
    scale = posterior.posterior_temperature * posterior.likelihood_temperature * posterior.rows
    share = jnp.where(clipped[1] > 0, clipped[0] / jnp.where(clipped[1] > 0, clipped[1], 1.0), 0.0)
    return Sums([(left, right / scale) for left, right in pairs], share, likelihood)


def input_sums(
    posterior: Posterior, layers: Sequence[Layer], flavour: Any, wanted: Sequence[bool]
) -> list[Array | None]:
    """A ``(input, input)`` of the wanted layers, which read the rows alone; traced.

    Args:
        posterior: of a zoo model.
        layers: of :func:`find_layers`.
        flavour: curvature, sharing and memory.
        wanted: of which layers; None of the others.
    """
    u = jnp.zeros(posterior.dimension, posterior.x.dtype)
    parameters = network_parameters(posterior, posterior._score(u))
    per_row = numbers_a_row(posterior, u, layers, flavour.curvature)
    size = block_rows(posterior, per_row, flavour.memory_bytes)
    sizes = [len(m) for m in matrices(posterior, layers)]
    zero = [
        jnp.zeros((a, a), u.dtype) if asked else None
        for a, asked in zip(sizes, wanted, strict=True)
    ]

    def add(total: Any, batch: Array, weights: Array) -> Any:
        _, _, (inputs, results) = _tapped(posterior, u, parameters, batch)
        copies = inputs_rows(posterior, batch)
        made: list[Array | None] = []
        for k, layer in enumerate(layers):
            if not wanted[k]:
                made.append(None)
                continue
            positions = _by_row(
                _rows_of_result(layer, results[k], len(batch) * copies), copies
            ).shape[1]
            x = _inputs_by_row(layer, inputs[k], len(batch), copies, positions)
            made.append(total[k] + _gram(x, weights, flavour.sharing))
        return made

    found: list[Array | None] = over_rows(posterior, size, zero, add)
    return found


def _inputs_by_row(layer: Layer, x: Array, rows: int, copies: int, positions: int) -> Array:
    """Inputs ``(row, position, input)`` with a row's copies as positions of it."""
    if layer.kind == "bias":
        return jnp.ones((rows, positions, 1), x.dtype)
    return _by_row(_rows_of_input(layer, x, rows * copies), copies)


def _gram(x: Array, weights: Array, sharing: str) -> Array:
    """Sum of x x' over rows of weight 1 and their positions, or of their mean over positions."""
    x = x.mean(1, keepdims=True) if sharing == "reduce" else x
    kept = x * weights[:, None, None]
    return kept.reshape(-1, x.shape[-1]).T @ x.reshape(-1, x.shape[-1])


def numbers_a_row(posterior: Posterior, u: Array, layers: Sequence[Layer], curvature: str) -> int:
    """Numbers that one row takes in :func:`factors`: inputs, results and their derivatives.

    Args:
        posterior: of a zoo model.
        u: unconstrained vector ``(dim,)``.
        layers: of :func:`find_layers`.
        curvature: ``ggn`` or ``empirical-fisher``.
    """
    parameters = network_parameters(posterior, posterior._score(u))
    one = jax.eval_shape(lambda b: _tapped(posterior, u, parameters, b)[2], jnp.zeros(1, int))
    results = sum(math.prod(r.shape) for r in one[1]) * (1 + root_count(posterior, curvature))
    return results + sum(math.prod(x.shape) for x in _inputs_of(posterior, u, parameters, layers))


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
        _, _, (found, _) = _tapped(posterior, u, parameters, batch)
        rows = inputs_rows(posterior, batch)
        return [_rows_of_input(layer, x, rows) for layer, x in zip(layers, found, strict=True)]

    return jax.eval_shape(inputs)


def _tapped(
    posterior: Posterior, u: Array, parameters: Mapping[str, Array], batch: Array
) -> tuple[Array, Callable[[Array], Any], tuple[list[Array], list[Array]]]:
    """Heads ``(row, head)``; from their cotangents to the layers' results'; inputs and results."""
    network = posterior.network
    assert network is not None
    _, x, out = network_calls(posterior, u, batch)
    closed, paths = network_program(network, parameters, x)
    args = [*(parameters[p] for p in paths), x]
    tags = [*paths, None]
    first = Evaluation(None)
    shapes = jax.eval_shape(
        lambda: (first.evaluate(closed.jaxpr, closed.consts, args, tags)[0], first.results)[1]
    )
    moves = [jnp.zeros(s.shape, s.dtype) for s in shapes]
    rows = batch.shape[0]

    def moved(moves: list[Array]) -> tuple[Array, Any]:
        run = Evaluation(moves)
        (value,), _ = run.evaluate(closed.jaxpr, closed.consts, args, tags)
        heads = value.reshape(-1, rows, out.shape[-1]).swapaxes(0, 1).reshape(rows, -1)
        return heads, (run.inputs, run.results)

    made, pull, noted = jax.vjp(moved, moves, has_aux=True)
    return made, (lambda cotangent: pull(cotangent)[0]), noted


def kronecker(
    posterior: Posterior, u: Array, where: np.ndarray, precision: Array, flavour: Any
) -> tuple[spectra.Kronecker, Array]:
    """The Kronecker-factored spectrum of the network's block; traced.

    A kron B + D kron I with D diagonal over a kernel's inputs is
    D^(1/2) (D^(-1/2) A D^(-1/2) kron B + I) D^(1/2), so precisions that differ between inputs stay
    exact; those that differ between outputs are averaged.

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
