"""Inputs as sequences of whole numbers, such as words: their vectors, and what data must be."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.options import Count, Options

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


class TokenOptions(Options):
    """Options of networks whose inputs may be sequences of whole numbers."""

    vocabulary: Count | None = Field(
        None,
        description="Inputs are sequences of whole numbers below this, as words are; each number "
        "then has a vector of its own.",
    )
    padding: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Number that fills up short sequences and is passed over; imdb has 0."
    )


class Embedding(nnx.Module):
    """A vector for every number.

    Args:
        vocabulary: how many numbers there are.
        width: length of a vector.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        self.embedding = nnx.Param(jnp.zeros((vocabulary, width)))

    def __call__(self, x: Array) -> Array:
        """Vectors ``(row, position, width)`` of numbers ``(row, position)``; NaN for others."""
        table = self.embedding[...]
        numbers = x.astype(jnp.int32)
        numbers = jnp.where(numbers < 0, len(table), numbers)  # not counted from the end
        return jnp.take(table, numbers, axis=0, mode="fill", fill_value=jnp.nan)


def real_positions(x: Array, padding: int | None) -> Array | None:
    """Which positions ``(row, position)`` hold something; None where all do.

    Args:
        x: numbers ``(row, position)``.
        padding: the number that holds nothing.
    """
    return None if padding is None else x.astype(jnp.int32) != padding


def token_check(options: TokenOptions, network: str) -> Callable[[Dataset], None] | None:
    """What looks at the numbers of a data set before anything is compiled; None without words.

    Args:
        options: of the network.
        network: name in the registry, for messages.

    Raises:
        InputError: padding without a vocabulary, or outside it.
    """
    if options.vocabulary is None:
        if options.padding is not None:
            raise InputError(
                f"network.padding = {options.padding} has no effect on {network} without "
                "network.vocabulary"
            )
        return None
    if options.padding is not None and options.padding >= options.vocabulary:
        raise InputError(
            f"network.padding = {options.padding}: no number below network.vocabulary = "
            f"{options.vocabulary}"
        )
    return functools.partial(_check, options.vocabulary, network)


def _check(vocabulary: int, network: str, data: Dataset) -> None:
    scaling = data.scaling_for(handwritten=False)
    if np.any(np.asarray(scaling.x_mean) != 0) or np.any(np.asarray(scaling.x_std) != 1):
        raise InputError(
            f"{network}: network.vocabulary makes inputs numbers of words, but data set "
            f"{data.name!r} standardises them: load it with scale = 'none'"
        )
    for x in (data.x, data.x_test):
        if x is None:
            continue
        if (wrong := x[(x != np.floor(x)) | (x < 0)]).size:
            raise InputError(
                f"{network}: network.vocabulary makes inputs numbers of words, but data set "
                f"{data.name!r} holds {wrong[0]:g}"
            )
        if (largest := int(x.max())) >= vocabulary:
            raise InputError(
                f"{network}: data set {data.name!r} holds the number {largest}, but "
                f"network.vocabulary = {vocabulary} (nearest: {largest + 1})"
            )
