"""Draws through compiled functions, in pieces of one size.

A piece is padded to a fixed number of draws (and, for zoo models, of rows), so that one program
serves every number of draws and rows, and memory does not grow with either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from bnnzoo.inference.draws import IN_MEMORY_BYTES, ArrayDraws, Draws
from bnnzoo.inference.processes import on_host
from bnnzoo.models import row_blocks
from bnnzoo.models.posterior import Posterior

DRAWS = 256
"""Most draws of a piece."""

ROWS = 128
"""Most rows of a piece, for models whose rows are independent given the parameters."""

FEWEST_ROWS = 16
"""Of a piece, however wide the network: fewer would not be worth the reading of its parameters."""

PIECE_BYTES = 12_000_000
"""Intermediates of a piece's rows at one draw, about a CPU's cache. The same on every device: a
drawn target is of its row's place in a piece."""

PIECE_PARAMETERS = 2**21
"""Parameters of all draws of a piece: a larger network is taken in fewer draws."""

WITH_CDF = (
    *(dist.Normal, dist.StudentT, dist.Laplace, dist.Logistic, dist.Gamma, dist.LogNormal),
    *(dist.Poisson, dist.GammaPoisson),
)
"""Families of one number whose distribution function NumPyro has."""

PIECE_TERMS = 2**18
"""Likelihood terms computed at once."""


class Evaluated(NamedTuple):
    """One piece of draws at some rows, modelled units; the first axis is the draw.

    Attributes:
        f: noise-free function ``(draw, row, output)``.
        mean: of the target given the draw; class probabilities for classes.
        variance: of the target given the draw; None for classes.
        draw: one target a draw and row.
        log_prob: log p(y | draw) ``(draw, row)``.
        cdf: P(target <= y | draw) ``(draw, row)``; None unless the target is one number.
        cdf_below: P(target < y | draw) ``(draw, row)`` of counts; None where it equals ``cdf``.
    """

    f: Array
    mean: Array
    variance: Array | None
    draw: Array
    log_prob: Array
    cdf: Array | None
    cdf_below: Array | None


@jax.jit
def _evaluate(
    posterior: Posterior,
    values: Mapping[str, Array],
    x: Array,
    y: Array,
    key: Array,
    index: Array,
    count: Array,
) -> Evaluated:
    def one(values: Mapping[str, Array], index: Array) -> Evaluated:
        f, target = posterior.predictive(values, x)
        log_prob = target.log_prob(y).reshape(x.shape[0], -1).sum(1)
        one_number = isinstance(target, WITH_CDF) and y.ndim == 1
        cdf = target.cdf(y) if one_number else None
        counts = one_number and target.support.is_discrete
        below = jnp.where(y > 0, target.cdf(y - 1.0), 0.0) if counts else None
        classes = target.support.is_discrete and hasattr(target, "probs") and target.probs.ndim == 2
        mean = target.probs if classes else target.mean
        variance = None if classes else target.variance
        draw = target.sample(jax.random.fold_in(key, index))
        return Evaluated(f, mean, variance, draw, log_prob, cdf, below)

    return over_draws(one, (values, index), count, draws_at_once(posterior, len(x)))


def evaluate(
    posterior: Posterior, values: Draws, x: np.ndarray, y: Any, seed: int
) -> Iterator[tuple[slice, slice, Evaluated]]:
    """Function, target and score of every draw at every row, piece by piece.

    Args:
        posterior: the model, bound to its data.
        values: constrained draws by site.
        x: rows ``(row, *in_shape)``, modelled units.
        y: targets to score, modelled units, or None.
        seed: of the target draws.

    Yields:
        The rows, the draws, and what was found for them, on the host.
    """
    x = np.asarray(x, posterior.x.dtype)
    # A zero stands in for targets that are not given: one program for both.
    shape = (len(x), *posterior.y.shape[1:])
    y = np.zeros(shape) if y is None else np.asarray(y)
    y = y.astype(posterior.y.dtype)
    # A hand-written model may let one row's prediction depend on the others, so it sees all.
    block = len(x) if posterior.model.handwritten else piece_rows(posterior)
    size = piece_draws(posterior)
    lean = posterior.for_new_rows()
    for number, first in enumerate(range(0, len(x), block)):
        rows = slice(first, min(first + block, len(x)))
        wanted = rows.stop - first
        pad = np.minimum(np.arange(first, first + block), len(x) - 1)
        key = jax.random.fold_in(jax.random.key(seed), number)

        def piece(
            own: Any, index: np.ndarray, count: np.int32, pad: np.ndarray = pad, key: Array = key
        ) -> Evaluated:
            return _evaluate(lean, own, x[pad], y[pad], key, index, count)

        for draws, out in in_pieces(piece, values, size):
            yield rows, draws, jax.tree.map(lambda leaf, n=wanted: leaf[:, :n], out)


def over_draws(
    function: Callable[..., Any], draws: tuple[Any, ...], count: Array, at_once: int
) -> Any:
    """A function of one draw on the first ``count`` of a piece; traced, one program for any number.

    Args:
        function: of one draw.
        draws: arguments, arrays whose first axis is the draw.
        count: how many are wanted; others may be left at zero.
        at_once: how many are vmapped.
    """
    size = len(jax.tree.leaves(draws)[0])
    each = jax.jit(jax.vmap(function))  # traced once, for its shapes and in the loop
    if at_once >= size:
        return each(*draws)

    def some(number: Array) -> tuple[Array, Any]:
        first = jnp.minimum(number * at_once, size - at_once)
        part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, at_once), draws)
        return first, each(*part)

    def add(number: Array, made: Any) -> Any:
        first, found = some(number)
        return jax.tree.map(
            lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, first, 0), made, found
        )

    shapes = jax.eval_shape(some, jax.ShapeDtypeStruct((), jnp.int32))[1]
    nothing = jax.tree.map(lambda s: jnp.zeros((size, *s.shape[1:]), s.dtype), shapes)
    return jax.lax.fori_loop(0, (count + at_once - 1) // at_once, add, nothing)


def in_pieces(
    function: Callable[[Any, np.ndarray, np.int32], Any], draws: Draws, size: int
) -> Iterator[tuple[slice, Any]]:
    """Call ``function`` on all draws, exactly ``size`` at once.

    Args:
        function: of some draws, their numbers, and how many of them are no padding; its outputs'
            first axis is the draw.
        draws: what to go over.
        size: draws of a piece; the last one is padded with its first.

    Yields:
        The slice without its padding, and the outputs for it on the host.
    """
    for start in range(0, draws.count, size):
        stop = min(start + size, draws.count)
        wanted = stop - start
        pad = np.arange(size) % wanted
        part = draws.read(start, stop)
        if wanted < size:
            part = jax.tree.map(lambda leaf, pad=pad: leaf[pad], part)
        out = on_host(function(part, (start + pad).astype(np.uint32), np.int32(wanted)))
        yield slice(start, stop), jax.tree.map(lambda leaf, n=wanted: leaf[:n], out)


@jax.jit
def _constrain(posterior: Posterior, u: Array) -> dict[str, Array]:
    return jax.vmap(posterior.constrain)(u)


@jax.jit
def _pointwise(posterior: Posterior, u: Array, count: Array) -> Array:
    at_once = draws_at_once(posterior, posterior.rows)
    return over_draws(posterior.pointwise_log_likelihood, (u,), count, at_once)


@jax.jit
def _totals(posterior: Posterior, u: Array, count: Array) -> Array:
    return over_draws(
        posterior.log_likelihood, (u,), count, draws_at_once(posterior, posterior.rows)
    )


class ConstrainedDraws(Draws):
    """Constrained values, by site, of unconstrained draws.

    Args:
        posterior: the model, bound to its data.
        u: unconstrained draws.

    Attributes:
        piece: how many are constrained at once.
    """

    def __init__(self, posterior: Posterior, u: Draws) -> None:
        self.shape = u.shape
        self.piece = piece_draws(posterior)
        self._posterior, self._u = posterior, u

    def take(self, chain: int, which: slice) -> dict[str, np.ndarray]:
        return self.constrain(self._u.take(chain, which))

    def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return self.constrain(self._u.read(start, stop))

    def select(self, chains: Sequence[int] | None = None, step: int = 1) -> Draws:
        return ConstrainedDraws(self._posterior, self._u.select(chains, step))

    def constrain(self, u: np.ndarray) -> dict[str, np.ndarray]:
        """Constrained values of ``(draw, dim)``."""
        lean = self._posterior.for_new_rows()
        pieces = in_pieces(lambda part, *_: _constrain(lean, part), ArrayDraws(u[None]), self.piece)
        made = [out for _, out in pieces]
        return made[0] if len(made) == 1 else jax.tree.map(lambda *p: np.concatenate(p), *made)


def constrain_draws(posterior: Posterior, u: Draws) -> Draws:
    """Constrained values, by site, of unconstrained draws; computed once if there are few."""
    values = ConstrainedDraws(posterior, u)
    few = u.count * posterior.dimension * posterior.x.dtype.itemsize <= IN_MEMORY_BYTES
    return ArrayDraws(values.all()) if few else values


def pointwise_log_likelihood(posterior: Posterior, u: Draws) -> np.ndarray:
    """``(chain, draw, row)`` untempered log-likelihood of training rows, original target units.

    Raises:
        InputError: the model has no terms a row.
    """
    terms = _of_all(
        lambda part, _, count: _pointwise(posterior, part, count), u, _term_draws(posterior)
    )
    return terms - log_volume(posterior)


def total_log_likelihood(posterior: Posterior, u: Draws) -> np.ndarray:
    """``(chain, draw)`` untempered log-likelihood of all training rows, original target units."""
    totals = _of_all(
        lambda part, _, count: _totals(posterior, part, count), u, _term_draws(posterior)
    )
    return totals - posterior.rows * log_volume(posterior)


def _of_all(
    function: Callable[[Any, np.ndarray, np.int32], Any], u: Draws, size: int
) -> np.ndarray:
    made = np.concatenate([out for _, out in in_pieces(function, u, size)])
    return made.reshape(*u.shape, *made.shape[1:])


def log_volume(posterior: Posterior) -> float:
    """Sum over outputs of log s: by how much target scaling raises one row's log density."""
    return float(np.sum(np.log(posterior.scaling.y_std)))


def piece_draws(posterior: Posterior) -> int:
    """Draws worked on at once, all their parameters."""
    return max(1, min(DRAWS, PIECE_PARAMETERS // posterior.dimension))


def piece_rows(posterior: Posterior) -> int:
    """Rows worked on at once, whatever their number."""
    return int(np.clip(PIECE_BYTES // max(posterior.row_bytes, 1), FEWEST_ROWS, ROWS))


def draws_at_once(posterior: Posterior, rows: int) -> int:
    """Draws vmapped at some rows: on a CPU as many as fit its cache, else all of a piece."""
    return row_blocks.fitting(rows * posterior.row_bytes, DRAWS)


def _term_draws(posterior: Posterior) -> int:
    return max(1, min(piece_draws(posterior), PIECE_TERMS // posterior.rows))
