"""What a model says before it has seen data: functions, activations, class probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro import handlers

from bnnzoo.errors import InputError, OptionError
from bnnzoo.inference.network_layers import Evaluation, network_program
from bnnzoo.models.augmentation import class_logits
from bnnzoo.models.handwritten import as_model
from bnnzoo.models.score import base

if TYPE_CHECKING:
    pass

TOGETHER = 32
"""Draws of one evaluation: bounds the memory."""

ONE_CLASS, CERTAIN, FLAT = 0.9, 0.99, 1e-4
"""Where a prior counts as degenerate: the share of inputs that a draw gives to one class, the mean
of the highest probability, the share of a function's variance that is about the inputs."""

GROWTH = 1e3
"""A factor between the first and the last layer's results that leaves nothing to learn."""


@dataclass(frozen=True)
class PriorPredictive:
    """Draws from a model's prior, modelled units.

    Attributes:
        f: noise-free function values ``(draw, row, output)``; of classes, log-probabilities up to a
            constant.
        y: targets ``(draw, row)``, or ``(draw, row, output)`` for several; None where a
            hand-written model names none ``y``.
        probabilities: of classes ``(draw, row, class)``; None for numbers.
        layers: path of the kernel of every layer, in the order they are used; empty for a
            hand-written model.
        activations: root mean square of each layer's results, before bias and activation, over rows
            and units ``(draw, layer)``.
        warnings: what is degenerate, in words.
    """

    f: np.ndarray
    y: np.ndarray | None
    probabilities: np.ndarray | None
    layers: tuple[str, ...]
    activations: np.ndarray
    warnings: tuple[str, ...]


def prior_predictive(model: Any, x: Any, draws: int = 200, seed: int = 0) -> PriorPredictive:
    """Draw functions, targets and activations from a model's prior.

    Args:
        model: a zoo model or a hand-written NumPyro model; one of classes is bound to data first.
        x: a data set, whose training inputs are taken and to which the model is bound; or inputs
            ``(row, *in_shape)`` in modelled units.
        draws: how many.
        seed: of the draws.

    Returns:
        The draws, and a warning for each way in which they are degenerate: one class for all
        inputs, certain probabilities, functions that do not depend on the inputs, activations
        that explode or vanish with depth.

    Raises:
        InputError: a model that has to be bound to data and is not, or inputs that do not fit.
        OptionError: fewer than two draws.
    """
    if draws < 2:
        raise OptionError(f"draws = {draws}: a whole number above 1 is needed")
    ours, inputs = _inputs(as_model(model), x)
    found = jax.device_get(_draw(ours, inputs, jax.random.key(seed), draws))
    layers = () if ours.handwritten else _layer_names(ours, inputs)
    if not np.isfinite(found["f"]).all():
        warnings: tuple[str, ...] = (
            "functions of the prior are not finite: widths are far too large, or tails too heavy "
            "for this depth",
        )
    else:
        warnings = _warnings(found, layers)
    return PriorPredictive(
        f=found["f"],
        y=found.get("y"),
        probabilities=found.get("probabilities"),
        layers=layers,
        activations=found.get("activations", np.zeros((draws, 0))),
        warnings=warnings,
    )


def _inputs(model: Any, x: Any) -> tuple[Any, Array]:
    """The model, bound where it can be, and its inputs on the device."""
    from bnnzoo.datasets import Dataset

    if isinstance(x, Dataset):
        values = x.scaling_for(model.handwritten).transform_x(x.x)
        return model.bind(x), jnp.asarray(values, jnp.result_type(float))
    values = np.asarray(x, float)
    if values.ndim < 2 or 0 in values.shape:
        raise InputError(f"x has shape {values.shape}, where (row, *in_shape) is needed")
    inputs = jnp.asarray(values, jnp.result_type(float))
    if not model.handwritten and model.bound is None:
        model = model._bind_to_arrays(inputs, None)
    return model, inputs


@partial(jax.jit, static_argnames="draws")
def _draw(model: Any, x: Array, key: Array, draws: int) -> dict[str, Array]:
    def one(own: Array) -> dict[str, Array]:
        trace = handlers.trace(handlers.seed(model, own)).get_trace(x)
        values = {name: site["value"] for name, site in trace.items() if "value" in site}
        fn = trace["y"]["fn"] if "y" in trace else None
        found = {} if "y" not in values else {"y": values["y"]}
        if model.handwritten:
            f = values["f"] if "f" in values else _mean(fn)
        else:
            f = model.function(values, x)
            found["activations"] = _sizes(model, values, x)
        if fn is not None and (logits := class_logits(base(fn))) is not None:
            found["probabilities"] = jax.nn.softmax(logits, axis=-1)
        return found | {"f": jnp.reshape(f, (x.shape[0], -1))}

    return jax.lax.map(one, jax.random.split(key, draws), batch_size=TOGETHER)


def _mean(fn: dist.Distribution | None) -> Array:
    if fn is None:
        raise InputError("a model to draw from needs a target site named 'y'")
    return fn.mean


def _sizes(model: Any, values: dict[str, Array], x: Array) -> Array:
    """Root mean square of every layer's results ``(layer,)``."""
    run = _evaluated(model, values, x)
    kept = [r for r, layer in zip(run.results, run.layers, strict=True) if layer.kernel]
    return jnp.sqrt(jnp.stack([jnp.mean(r**2) for r in kept])) if kept else jnp.zeros(0)


def _layer_names(model: Any, x: Array) -> tuple[str, ...]:
    shapes = {i.path: jax.ShapeDtypeStruct(i.shape, x.dtype) for i in model.bound.infos}
    names: list[str] = []

    def trace(values: dict[str, Array], x: Array) -> Array:
        names.extend(layer.kernel for layer in _evaluated(model, values, x).layers if layer.kernel)
        return jnp.zeros(())

    jax.eval_shape(trace, shapes, x)
    return tuple(names)


def _evaluated(model: Any, values: dict[str, Array], x: Array) -> Evaluation:
    closed, paths = network_program(model.bound, values, x)
    run = Evaluation(None)
    run.top = closed.jaxpr
    run.evaluate(closed.jaxpr, closed.consts, [*(values[p] for p in paths), x], [*paths, None])
    return run


def _warnings(found: dict[str, np.ndarray], layers: tuple[str, ...]) -> tuple[str, ...]:
    said = []
    if (probabilities := found.get("probabilities")) is not None:
        classes = probabilities.shape[-1]
        chosen = probabilities.argmax(-1)
        share = np.median([np.bincount(row, minlength=classes).max() / row.size for row in chosen])
        if share > ONE_CLASS:
            said.append(
                f"a draw of the prior gives {share:.0%} of the inputs to one class (median over "
                "draws): its biases outweigh its inputs, or its widths are small"
            )
        certain = probabilities.max(-1).mean()
        if certain > CERTAIN:
            said.append(
                f"class probabilities are certain before any data (mean of the highest "
                f"{certain:.3f}): the widths are too large"
            )
    f = found["f"]
    about_inputs = float(f.var(axis=1).mean() / max(float((f**2).mean()), np.finfo(float).tiny))
    if f.shape[1] > 1 and about_inputs < FLAT:
        said.append(
            f"functions hardly depend on the inputs ({about_inputs:.1e} of their mean square): "
            "activations are saturated, or widths of kernels small beside those of biases"
        )
    if len(layers) > 1:
        sizes = found["activations"]
        growth = float(np.median(sizes[:, -1] / np.maximum(sizes[:, 0], np.finfo(float).tiny)))
        if not 1.0 / GROWTH < growth < GROWTH:
            said.append(
                f"results of layer {layers[-1]!r} are {growth:.1e} times those of {layers[0]!r}: "
                "they explode or vanish with depth; see the criticality notes of the network's card"
            )
    return tuple(said)
