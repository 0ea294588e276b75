"""The long short-term memory: a sequence read step by step, its last state to the output."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.models.network import Network
from bnnzoo.models.scaled_layers import PARAMETERISATION, Parameterisation, linear
from bnnzoo.models.token_inputs import Embedding, TokenOptions, real_positions, token_check
from bnnzoo.options import Count, Finite
from bnnzoo.registry import register


class LSTMOptions(TokenOptions):
    """Options of ``lstm``."""

    units: Count = Field(32, description="Size of the state, and of the memory.")
    depth: Count = Field(1, description="Layers; each reads the states of the one below.")
    embedding: Count = Field(
        32, description="Length of a number's vector; vocabulary must be given."
    )
    forget_bias: Finite = Field(
        1.0, description="Added to the forget gates before the sigmoid, so that memory lasts."
    )
    parameterisation: Parameterisation = Field("standard", description=PARAMETERISATION)


class _Cell(nnx.Module):
    """One layer: gates i, f, g, o in this order in the last axis of both kernels."""

    def __init__(self, inputs: int, o: LSTMOptions, rngs: nnx.Rngs) -> None:
        kinds = o.parameterisation
        self.inputs = linear(inputs, 4 * o.units, kinds, bias=False, rngs=rngs)
        self.recurrent = linear(o.units, 4 * o.units, kinds, rngs=rngs)
        self.units, self.forget_bias = o.units, o.forget_bias

    def __call__(self, x: Array, real: Array | None) -> Array:
        """States ``(row, step, unit)`` of a sequence ``(row, step, input)``."""
        given = self.inputs(x).swapaxes(0, 1)
        kept = None if real is None else real.T[..., None]
        start = jnp.zeros((x.shape[0], self.units), given.dtype)

        def step(state: tuple[Array, Array], now: tuple[Array, Array | None]) -> Any:
            h, c = state
            z, keep = now
            i, f, g, o = jnp.split(z + self.recurrent(h), 4, axis=-1)
            memory = jax.nn.sigmoid(f + self.forget_bias) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            out = jax.nn.sigmoid(o) * jnp.tanh(memory)
            if keep is not None:
                memory, out = jnp.where(keep, memory, c), jnp.where(keep, out, h)
            return (out, memory), out

        _, states = jax.lax.scan(step, (start, start), (given, kept))
        return states.swapaxes(0, 1)


class LSTM(nnx.Module):
    """Layers of cells, and a dense layer on the last state of the last.

    Args:
        in_shape: ``(step, feature)``, or ``(step,)`` of numbers.
        out_shape: ``(outputs,)``.
        options: of the network.
        rngs: random streams for the initial values, which a prior then replaces.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        options: LSTMOptions,
        rngs: nnx.Rngs,
    ) -> None:
        if len(in_shape) > 2:
            raise InputError(
                f"lstm: its inputs are sequences (step, feature), or (step,) of numbers, but these "
                f"have shape {in_shape}"
            )
        if options.vocabulary is not None and len(in_shape) != 1:
            raise InputError(
                f"lstm: network.vocabulary makes inputs sequences (step,) of whole numbers, but "
                f"these have shape {in_shape}: leave it out"
            )
        self.padding = options.padding
        if options.vocabulary is None:
            self.words, first = None, (*in_shape, 1)[1]
        else:
            self.words, first = Embedding(options.vocabulary, options.embedding), options.embedding
        sizes = (first, *(options.units,) * (options.depth - 1))
        self.cells = nnx.List(_Cell(size, options, rngs) for size in sizes)
        self.last = linear(options.units, out_shape[0], options.parameterisation, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Outputs ``(row, output)`` for inputs ``(row, *in_shape)``."""
        if self.words is not None:
            real, h = real_positions(x, self.padding), self.words(x)
        else:
            real, h = None, x.reshape(*x.shape[:2], -1)
        for cell in self.cells:
            h = cell(h, real)
        return self.last(h[:, -1])


@register(
    "networks",
    "lstm",
    summary="Long short-term memory: sequences of vectors, of numbers or of words.",
    options=LSTMOptions,
    references=(
        "Hochreiter & Schmidhuber (1997), Long short-term memory",
        "Gers, Schmidhuber & Cummins (2000), Learning to forget: continual prediction with LSTM, "
        "for the forget gate",
    ),
    tags={"inputs": ("sequences", "words"), "depth": "any"},
    notes="Inputs are (row, step, feature), (row, step) for one number a step, or with vocabulary "
    "(row, step) of whole numbers, unscaled, as imdb has them. A step of padding leaves the state "
    "as it is. A cell has one kernel of its inputs and one of the state below it, all four gates "
    "side by side; each takes the prior's std over the root of its own fan-in (gain 1), so that a "
    "gate's variance is that of both and of the bias, N(0, 1). Vectors of words have role "
    "embedding: N(0, std^2). 5 features, 32 units and one output are 4,897 parameters; with 20,000 "
    "words 648,353. Izmailov et al. (2021) put a convolution between the words and the cell; that "
    "network is not this one.",
)
def lstm(options: LSTMOptions) -> Network:
    """The network of these options."""
    extra = "" if options.depth == 1 else f" x {options.depth}"
    extra += "" if options.vocabulary is None else f" {options.vocabulary} words"
    extra += " ntk" if options.parameterisation == "ntk" else ""
    return Network(
        factory=functools.partial(LSTM, options=options),
        label=f"lstm {options.units}{extra}",
        check=token_check(options, "lstm"),
    )
