"""A small encoder: words, patches, columns or vectors that look at each other."""

from __future__ import annotations

import functools
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError, OptionError
from bnnzoo.models.activations import ActivationName
from bnnzoo.models.image_inputs import ImageOptions, image_shape
from bnnzoo.models.network import Network
from bnnzoo.models.scaled_layers import PARAMETERISATION, Parameterisation, linear
from bnnzoo.models.self_attention import EncoderBlock
from bnnzoo.models.token_inputs import Embedding, TokenOptions, real_positions, token_check
from bnnzoo.options import Count
from bnnzoo.registry import register

Kind = Literal["columns", "vectors", "patches", "words"]


class TransformerOptions(ImageOptions, TokenOptions):
    """Options of ``transformer``."""

    tokens: Literal["auto", Kind] = Field(
        "auto",
        description="What an input is a sequence of. auto: words where vocabulary is given, "
        "patches where shape is, else columns of flat rows, vectors of (position, feature), "
        "patches of (height, width, channel).",
    )
    patch: Count = Field(4, description="Side of a patch in pixels; divides height and width.")
    width: Count = Field(32, description="Length of the vector of every token.")
    depth: Count = Field(2, description="Blocks of attention and dense layers.")
    heads: Count = Field(4, description="Heads of attention; divides width.")
    hidden: Count = Field(64, description="Units between the two dense layers of a block.")
    activation: ActivationName = Field("gelu", description="Activation between those two.")
    pool: Literal["mean", "class-token"] = Field(
        "mean", description="What the output reads: the mean of the tokens, or one more token."
    )
    parameterisation: Parameterisation = Field("standard", description=PARAMETERISATION)


class _Placed(nnx.Module):
    """What makes vectors of tokens, plus a learned vector of every position."""

    def __init__(self, positions: int, layer: nnx.Module, width: int) -> None:
        self.position = nnx.Param(jnp.zeros((positions, width)))
        self.layer = layer

    def __call__(self, x: Array) -> Array:
        return self.layer(x) + self.position[...]


class _Columns(nnx.Module):
    """A column's value times a vector of its own, plus another; nothing is summed."""

    fan_in = 1

    def __init__(self, columns: int, width: int) -> None:
        self.kernel = nnx.Param(jnp.zeros((columns, width)))
        self.bias = nnx.Param(jnp.zeros((columns, width)))

    def __call__(self, x: Array) -> Array:
        return x[..., None] * self.kernel[...] + self.bias[...]


class Transformer(nnx.Module):
    """Tokens to vectors, blocks, a last normalisation, the mean or a token, a dense layer.

    Args:
        in_shape: shape of one input.
        out_shape: ``(outputs,)``.
        options: of the network.
        rngs: random streams for the initial values, which a prior then replaces.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        options: TransformerOptions,
        rngs: nnx.Rngs,
    ) -> None:
        kinds, width = options.parameterisation, options.width
        self.padding, self.patch = options.padding, options.patch
        self.kind = _kind(in_shape, options)
        if self.kind == "columns":
            self.tokens: nnx.Module = _Columns(in_shape[0], width)
        elif self.kind == "words":
            assert options.vocabulary is not None
            self.tokens = _Placed(in_shape[0], Embedding(options.vocabulary, width), width)
        else:
            count, features = (
                in_shape if self.kind == "vectors" else self._patches(in_shape, options)
            )
            layer = linear(features, width, kinds, rngs=rngs)
            self.tokens = _Placed(count, layer, width)
        own = options.pool == "class-token"
        self.class_token = nnx.Param(jnp.zeros(width)) if own else None
        self.blocks = nnx.List(
            EncoderBlock(width, options.heads, options.hidden, options.activation, kinds, rngs=rngs)
            for _ in range(options.depth)
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.last = linear(width, out_shape[0], kinds, rngs=rngs)

    def _patches(self, in_shape: tuple[int, ...], options: TransformerOptions) -> tuple[int, int]:
        """How many patches an image has, and how many values a patch."""
        height, width, channels = self.image = image_shape(in_shape, options.shape, "transformer")
        if height % self.patch or width % self.patch:
            sides = [n for n in range(1, height + 1) if height % n == width % n == 0]
            raise InputError(
                f"network.patch = {self.patch} does not divide images of {height} x {width} "
                f"(choices: {', '.join(map(str, sides))})"
            )
        return height * width // self.patch**2, self.patch**2 * channels

    def __call__(self, x: Array) -> Array:
        """Outputs ``(row, output)`` for inputs ``(row, *in_shape)``."""
        rows = x.shape[0]
        real = real_positions(x, self.padding) if self.kind == "words" else None
        h = self.tokens(self._cut(x) if self.kind == "patches" else x)
        if self.class_token is not None:
            own = jnp.broadcast_to(self.class_token[...], (rows, 1, h.shape[-1]))
            h = jnp.concatenate([own, h], axis=1)
            if real is not None:
                real = jnp.concatenate([jnp.ones((rows, 1), bool), real], axis=1)
        for block in self.blocks:
            h = block(h, real)
        h = self.norm(h)
        if self.class_token is not None:
            return self.last(h[:, 0])
        if real is None:
            return self.last(h.mean(1))
        weights = real / jnp.maximum(real.sum(1, keepdims=True), 1)
        return self.last(jnp.einsum("rp,rpw->rw", weights.astype(h.dtype), h))

    def _cut(self, x: Array) -> Array:
        """Patches ``(row, patch, value)``, row by row of the image."""
        height, width, channels = self.image
        side = self.patch
        h = x.reshape(-1, height // side, side, width // side, side, channels)
        return h.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], -1, side * side * channels)


def _kind(in_shape: tuple[int, ...], options: TransformerOptions) -> Kind:
    """What an input of this shape is a sequence of."""
    kind = options.tokens
    if kind == "auto":
        if options.vocabulary is not None:
            kind = "words"
        elif options.shape is not None:
            kind = "patches"
        else:
            by_rank: dict[int, Kind] = {1: "columns", 2: "vectors", 3: "patches"}
            kind = by_rank.get(len(in_shape), "vectors")
    wanted = {"columns": (1, "(column,)"), "words": (1, "(position,)")}
    wanted["vectors"] = (2, "(position, feature)")
    if kind in wanted and len(in_shape) != wanted[kind][0]:
        raise InputError(
            f"transformer: network.tokens = {kind!r} is for inputs {wanted[kind][1]}, but these "
            f"have shape {in_shape}"
        )
    return kind


@register(
    "networks",
    "transformer",
    summary="Small pre-norm encoder of columns, vectors, image patches or words.",
    options=TransformerOptions,
    references=(
        "Vaswani et al. (2017), Attention is all you need",
        "Xiong et al. (2020), On layer normalization in the transformer architecture",
        "Dosovitskiy et al. (2021), An image is worth 16x16 words, for patches",
        "Gorishniy et al. (2021), Revisiting deep learning models for tabular data, for columns",
    ),
    tags={"inputs": ("flat", "sequences", "images", "words"), "depth": "any"},
    notes="Every kernel has gain 1, as normalisation sets what a block sees. Learned positions, "
    "the class token and the vectors of words have role embedding: N(0, std^2) each. Kernels of "
    "patches and vectors have the values of one token as their fan-in. A column's value is "
    "multiplied by a vector of its own, of fan-in 1, and its bias is another; columns have no "
    "positions besides. Keys have no bias, which attention would not see. Normalisation scales "
    "have mean 1. Words that are padding are neither attended to nor averaged. With the default "
    "options and one output, 13 columns are 17,953 parameters; 28 x 28 x 1 images and 10 classes "
    "19,530; 20,000 words of length 100 and 2 classes 660,354.",
)
def transformer(options: TransformerOptions) -> Network:
    """The network of these options."""
    if options.width % options.heads:
        divisors = [n for n in range(1, options.width + 1) if options.width % n == 0]
        nearest = min(divisors, key=lambda n: abs(n - options.heads))
        raise OptionError(
            f"network.heads = {options.heads} does not divide network.width = {options.width} "
            f"(nearest: {nearest})"
        )
    if (options.tokens == "words") != (options.vocabulary is not None) and options.tokens != "auto":
        raise OptionError(
            f"network.tokens = {options.tokens!r} and network.vocabulary = {options.vocabulary} "
            "contradict: words need a vocabulary, and nothing else has one"
        )
    extra = " ntk" if options.parameterisation == "ntk" else ""
    return Network(
        factory=functools.partial(Transformer, options=options),
        label=f"transformer {options.width}x{options.depth} {options.activation}{extra}",
        check=token_check(options, "transformer"),
    )
