"""A user's own NumPyro model, taken wherever a zoo model goes."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from bnnzoo.specs import Component, RunSpec

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset
    from bnnzoo.models.model import Model


@jax.tree_util.register_pytree_node_class
class HandwrittenModel:
    """A NumPyro model ``fn(x, y=None)`` with the interface of a zoo model.

    Its function values are a deterministic site ``f`` if there is one, else the mean of ``y``.

    Args:
        fn: the model; the same function object shares compiled programs between fits.
    """

    handwritten = True

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    @property
    def label(self) -> str:
        """The function's name."""
        return getattr(self.fn, "__name__", type(self.fn).__name__)

    @property
    def spec(self) -> RunSpec:
        """Its name and a hash of its source: enough to recognise it, not to rebuild it."""
        return RunSpec(model=Component(name=self.label, options={"source": source_hash(self.fn)}))

    def bind(self, data: Dataset) -> HandwrittenModel:
        """Nothing to fix."""
        return self

    def __call__(self, x: Any, y: Any = None) -> None:
        """Run the model."""
        self.fn(x, y)

    def tree_flatten(self) -> tuple[tuple[()], tuple[Any, ...]]:
        """No leaves: numbers inside the function are constants."""
        return (), (self.fn,)

    @classmethod
    def tree_unflatten(cls, aux: tuple[Any, ...], children: tuple[()]) -> HandwrittenModel:
        """The same model."""
        return cls(*aux)


def as_model(model: Any) -> Model | HandwrittenModel:
    """``model`` if it is one of ours, else the hand-written NumPyro model it is."""
    from bnnzoo.models.model import Model

    return model if isinstance(model, (Model, HandwrittenModel)) else HandwrittenModel(model)


def source_hash(fn: Callable[..., Any]) -> str:
    """Hash of a function's source text, or of its name where there is none (a REPL)."""
    try:
        text = inspect.getsource(fn)
    except (OSError, TypeError):
        text = repr(getattr(fn, "__qualname__", type(fn)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
