"""A pre-norm block of a transformer: self-attention, then two dense layers on every position."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from bnnzoo.models.activations import get_activation
from bnnzoo.models.scaled_layers import Parameterisation, linear

UNSEEN = -1e30
"""Score of a position that holds nothing; finite, so that a row of nothing else has no NaN."""


class SelfAttention(nnx.Module):
    """Every position looks at all (Vaswani et al. 2017, eq. 1 and sec. 3.2.2).

    Args:
        width: length of a position's vector; ``heads`` must divide it.
        heads: how many.
        parameterisation: who divides by sqrt(fan-in).
        rngs: random streams for the initial values.
    """

    def __init__(
        self, width: int, heads: int, parameterisation: Parameterisation, *, rngs: nnx.Rngs
    ) -> None:
        self.heads = heads
        self.query = linear(width, width, parameterisation, rngs=rngs)
        # A bias here would move all scores of a query alike, which the softmax does not see.
        self.key = linear(width, width, parameterisation, bias=False, rngs=rngs)
        self.value = linear(width, width, parameterisation, rngs=rngs)
        self.out = linear(width, width, parameterisation, rngs=rngs)

    def __call__(self, x: Array, real: Array | None) -> Array:
        """Vectors ``(row, position, width)``; ``real`` says which positions hold something."""
        rows, positions, width = x.shape
        split = (rows, positions, self.heads, width // self.heads)
        q, k, v = (layer(x).reshape(split) for layer in (self.query, self.key, self.value))
        scores = jnp.einsum("rqhd,rkhd->rhqk", q, k) * split[-1] ** -0.5
        if real is not None:
            scores = jnp.where(real[:, None, None, :], scores, UNSEEN)
        seen = jnp.einsum("rhqk,rkhd->rqhd", jax.nn.softmax(scores, axis=-1), v)
        return self.out(seen.reshape(x.shape))


class EncoderBlock(nnx.Module):
    """x + attention(norm x), then x + dense(norm x) (Xiong et al. 2020, table 1, pre-LN).

    Args:
        width: length of a position's vector.
        heads: of the attention.
        hidden: units of the dense layer between.
        activation: its name.
        parameterisation: who divides by sqrt(fan-in).
        rngs: random streams for the initial values.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        activation: str,
        parameterisation: Parameterisation,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.first_norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = SelfAttention(width, heads, parameterisation, rngs=rngs)
        self.second_norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = linear(width, hidden, parameterisation, rngs=rngs)
        self.down = linear(hidden, width, parameterisation, rngs=rngs)
        self.activation = get_activation(activation).function

    def __call__(self, x: Array, real: Array | None) -> Array:
        """Vectors ``(row, position, width)``."""
        x = x + self.attention(self.first_norm(x), real)
        return x + self.down(self.activation(self.up(self.second_norm(x))))
