"""One draw from a model's prior and likelihood, as a data set that keeps every latent value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpy.typing import ArrayLike

from bnnzoo.datasets import Dataset, make_dataset
from bnnzoo.datasets._check import as_inputs
from bnnzoo.errors import InputError
from bnnzoo.models.handwritten import HandwrittenModel, as_model
from bnnzoo.models.model import Model


def draw_dataset(
    model: Model | HandwrittenModel | Callable[..., Any],
    x: ArrayLike,
    x_test: ArrayLike | None = None,
    *,
    outputs: int | None = None,
    task: str | None = None,
    seed: int = 0,
    scale: str = "none",
    name: str = "drawn",
) -> Dataset:
    """Targets drawn from a model: its weights from their prior, then ``y`` from the likelihood.

    Drawn in float64. Training and test rows share one draw of the weights.

    Args:
        model: a zoo model, bound or not, or a hand-written NumPyro model ``(x, y=None)`` that
            samples a site ``y``.
        x: ``(row, *in_shape)`` training inputs; the model sees them as they are.
        x_test: ``(test_row, *in_shape)`` test inputs, or None.
        outputs: targets a row, or classes; None where the model knows, or for one target. For
            zoo models alone.
        task: ``"regression"`` or ``"classification"``; None for what the likelihood says, or for
            a hand-written model: classification where ``y`` is one of finitely many whole numbers.
        seed: of every random number; the same seed draws the same data.
        scale: of the data set. With ``"none"`` the model that is fitted sees the units it was drawn
            in, so that its prior is the right one.
        name: of the data set.

    Returns:
        The data. ``truth`` holds the constrained value of every latent site by name, and ``f``
        and ``f_test``, the noise-free function values ``(row,)`` or ``(row, output)`` (of a
        hand-written model: where it has a deterministic site ``f``).

    Raises:
        InputError: the number of classes is not known or disagrees with the model's own, or a
            hand-written model has no site ``y``.
        DataError: inputs that are not numbers, or a draw with one class only.
    """
    inputs = as_inputs(x, "x")
    rows = len(inputs)
    if x_test is not None:
        inputs = np.concatenate([inputs, as_inputs(x_test, "x_test", (), inputs.shape[1:])])
    chosen = _with_shapes(as_model(model), inputs.shape[1:], outputs)
    with jax.enable_x64(True):
        everything = jnp.asarray(inputs)
        seeded = numpyro.handlers.seed(chosen, jax.random.key(seed))
        sites = numpyro.handlers.trace(seeded).get_trace(everything)
        latent = {
            key: site["value"]
            for key, site in sites.items()
            if site["type"] == "sample" and not site["is_observed"] and key != "y"
        }
        f = _function(chosen, latent, everything, sites)
    if "y" not in sites or sites["y"]["type"] != "sample":
        raise InputError(f"model {chosen.label!r} has no sample site 'y' to draw targets from")
    classes = _classes(chosen, sites["y"]["fn"])
    if task is None:
        task = "regression" if classes is None else "classification"
    if task == "regression":
        classes = None
    y = np.asarray(sites["y"]["value"])
    truth = {key: np.asarray(value) for key, value in latent.items()}
    if f is not None:
        f = f[:, 0] if f.ndim == 2 and f.shape[1] == 1 else f
        truth["f"] = f[:rows]
        if x_test is not None:
            truth["f_test"] = f[rows:]
    return make_dataset(
        inputs[:rows],
        y[:rows],
        None if x_test is None else inputs[rows:],
        None if x_test is None else y[rows:],
        task=task,
        scale=scale,
        name=name,
        class_names=[str(k) for k in range(classes)] if classes else None,
        truth=truth,
    )


def _with_shapes(
    model: Model | HandwrittenModel, in_shape: tuple[int, ...], outputs: int | None
) -> Model | HandwrittenModel:
    if isinstance(model, HandwrittenModel):
        if outputs is not None:
            raise InputError("outputs is for zoo models: a hand-written one says itself what it is")
        return model
    fixed = model.outputs
    if outputs is None:
        outputs = fixed or (1 if model.likelihood.task == "regression" else None)
    if outputs is None:
        label = model.likelihood.label
        raise InputError(f"a {label} model does not know its number of classes: give outputs")
    if fixed not in (None, outputs):
        raise InputError(f"outputs = {outputs}, but the model's likelihood is for {fixed}")
    return model._bind(in_shape, outputs)


def _function(
    model: Model | HandwrittenModel, latent: dict[str, Any], x: Any, sites: dict[str, Any]
) -> np.ndarray | None:
    if isinstance(model, Model):
        # A parameter that its prior makes from other sites is no latent site itself.
        values = {k: site["value"] for k, site in sites.items() if site["type"] == "deterministic"}
        return np.asarray(model.function(values | latent, x))
    f = sites.get("f", {"type": ""})
    return np.asarray(f["value"]) if f["type"] == "deterministic" else None


def _classes(model: Model | HandwrittenModel, fn: Any) -> int | None:
    """Number of classes of the target, None for a regression."""
    if isinstance(model, Model):
        return model.outputs if model.likelihood.task == "classification" else None
    if not fn.support.is_discrete or fn.event_shape:
        return None
    if fn.support is numpyro.distributions.constraints.boolean:
        return 2
    upper = getattr(fn.support, "upper_bound", None)
    return None if upper is None else int(np.max(upper)) + 1
