"""A user's own NumPyro model, taken wherever a zoo model goes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bnnzoo.errors import InputError, brief
from bnnzoo.specs import Component, RunSpec

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset
    from bnnzoo.models.model import Model


DEEPEST = 3
"""How many functions inside functions :func:`source_hash` looks into."""


@jax.tree_util.register_pytree_node_class
class HandwrittenModel:
    """A NumPyro model ``fn(x, y=None)`` with the interface of a zoo model.

    Its function values are a deterministic site ``f`` if there is one, else the mean of ``y``.

    Args:
        fn: the model; the same function object shares compiled programs between fits, so numbers
            it takes from outside are read once: define it anew to change them.
    """

    handwritten = True
    scales_target = True

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    @property
    def label(self) -> str:
        """The function's name."""
        fn = self.fn.func if isinstance(self.fn, functools.partial) else self.fn
        return getattr(fn, "__name__", type(fn).__name__)

    @property
    def spec(self) -> RunSpec:
        """Its name and a hash of its source: enough to recognise it, not to rebuild it."""
        return RunSpec(model=Component(name=self.label, options={"source": source_hash(self.fn)}))

    def bind(self, data: Dataset) -> HandwrittenModel:
        """The same model: there is nothing to fix.

        Args:
            data: the data set; not looked at.
        """
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
    """``model`` if it is one of ours, else the hand-written NumPyro model it is.

    Raises:
        InputError: it cannot be called.
    """
    from bnnzoo.models.model import Model

    if isinstance(model, (Model, HandwrittenModel)):
        return model
    if not callable(model):
        raise InputError(
            f"model = {brief(model)}: one from make_model or load_model is needed, or a NumPyro "
            "model (x, y=None)"
        )
    return HandwrittenModel(model)


def source_hash(fn: Callable[..., Any]) -> str:
    """Hash of what a function is: its source, its defaults, and the plain values it closes over.

    A function whose source is not to be had (typed into a prompt) counts by its bytecode.
    """
    digest = hashlib.sha256()
    _feed(digest, fn, depth=0)
    return digest.hexdigest()[:16]


def _feed(digest: Any, value: Any, depth: int) -> None:
    if isinstance(value, functools.partial):
        value = (value.func, value.args, value.keywords)
    if isinstance(value, dict):
        value = sorted(value.items(), key=lambda item: repr(item[0]))
    digest.update(b";")  # (1, 23) is not (12, 3)
    if isinstance(value, (tuple, list)):
        for part in value:
            _feed(digest, part, depth)
    elif isinstance(value, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(value)
        digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    elif isinstance(value, (int, float, complex, str, bytes, bool, type(None))):
        digest.update(repr(value).encode())
    elif isinstance(value, CodeType):
        digest.update(value.co_code)
        _feed(digest, (value.co_names, value.co_consts), depth)
    elif callable(value) and depth < DEEPEST:
        code = getattr(value, "__code__", None)
        try:
            digest.update(inspect.getsource(value).encode())
        except (OSError, TypeError):
            _feed(digest, code or repr(type(value)), depth)
        _feed(digest, getattr(value, "__defaults__", None) or (), depth + 1)
        _feed(digest, getattr(value, "__kwdefaults__", None) or {}, depth + 1)
        if code is None and not inspect.isclass(value):  # an object that is called
            _feed(digest, getattr(value, "__dict__", {}), depth + 1)
        for cell in getattr(value, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # a cell that is still empty
                _feed(digest, cell.cell_contents, depth + 1)
