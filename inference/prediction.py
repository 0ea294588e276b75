"""Predictions of a run: the mixture over its draws, computed in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from bnnzoo.inference.precision import precision
from bnnzoo.models.posterior import Posterior

CHUNK_ELEMENTS = 2_000_000
"""Function values computed at once: draws x rows x outputs."""


class Evaluated(NamedTuple):
    """One chunk of draws at some rows, modelled units; the first axis is the draw.

    Attributes:
        f: noise-free function ``(draw, row, output)``.
        mean, variance: of the target given the draw; class probabilities and None for classes.
        draw: one target a draw and row.
        log_prob: log p(y | draw), where y was given.
        cdf: P(target <= y | draw), where y was given and the target is one real number.
    """

    f: Array
    mean: Array
    variance: Array | None
    draw: Array
    log_prob: Array | None
    cdf: Array | None


@jax.jit
def _evaluate(
    posterior: Posterior, values: Mapping[str, Array], x: Array, y: Array | None, keys: Array
) -> Evaluated:
    def one(values: Mapping[str, Array], key: Array) -> Evaluated:
        f, target = posterior.predictive(values, x)
        log_prob = cdf = None
        if y is not None:
            log_prob = target.log_prob(y)
            log_prob = log_prob.reshape(x.shape[0], -1).sum(1)
            cdf = target.cdf(y) if isinstance(target, dist.Normal) and y.ndim == 1 else None
        classes = target.support.is_discrete and hasattr(target, "probs") and target.probs.ndim == 2
        mean = target.probs if classes else target.mean
        variance = None if classes else target.variance
        return Evaluated(f, mean, variance, target.sample(key), log_prob, cdf)

    return jax.vmap(one)(values, keys)


@jax.jit
def _constrain(posterior: Posterior, u: Array) -> dict[str, Array]:
    return jax.vmap(posterior.constrain)(u)


@jax.jit
def _pointwise(posterior: Posterior, u: Array) -> Array:
    return jax.vmap(posterior.pointwise_log_likelihood)(u)


def in_chunks(
    function: Callable[..., Any], arguments: tuple[Any, ...], draws: int, elements: int
) -> Iterator[tuple[slice, Any]]:
    """Call ``function`` on slices of every argument's first axis, each slice of one size.

    The last slice is padded with the first draws, so that one program serves all.

    Args:
        function: jitted, its outputs' first axis the draw.
        arguments: pytrees with first axis ``draws``.
        draws: their number.
        elements: array elements one draw needs.

    Yields:
        The slice, and the outputs for it on the host.
    """
    size = max(1, min(draws, CHUNK_ELEMENTS // max(1, elements)))
    for start in range(0, draws, size):
        stop = min(start + size, draws)
        index = np.arange(start, start + size) % draws
        chunk = jax.tree.map(lambda leaf, i=index: leaf[i], arguments)
        out = jax.device_get(function(*chunk))
        count = stop - start
        yield slice(start, stop), jax.tree.map(lambda leaf, n=count: leaf[:n], out)


def constrain_draws(posterior: Posterior, u: np.ndarray) -> dict[str, np.ndarray]:
    """Constrained values of flat draws ``(draw, dim)``, by site."""
    pieces = [
        out
        for _, out in in_chunks(
            lambda part: _constrain(posterior, part), (u,), len(u), posterior.dimension
        )
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)


def pointwise_log_likelihood(posterior: Posterior, u: np.ndarray) -> np.ndarray:
    """``(draw, row)`` untempered log-likelihood of the training rows, original target units."""
    pieces = [
        out
        for _, out in in_chunks(
            lambda part: _pointwise(posterior, part), (u,), len(u), posterior.rows * 50
        )
    ]
    return np.concatenate(pieces) - log_volume(posterior)


def log_volume(posterior: Posterior) -> float:
    """Sum over outputs of log s: by how much target scaling raises one row's log density."""
    return float(np.sum(np.log(posterior.scaling.y_std)))


class Prediction:
    """Predictive distribution of the target at some rows: the equal mixture over draws.

    Never tempered. Computed when asked for and in chunks of draws, so that memory does not grow
    with their number; only :attr:`draws` and :attr:`f` hold one value a draw.

    Args:
        posterior: bound to the training data.
        values: constrained draws by site, first axes ``(chain, draw)``.
        x: rows ``(row, *in_shape)``, original units.
        seed: of the noise in :attr:`draws`.
        dtype: precision of the run.
    """

    def __init__(
        self,
        posterior: Posterior,
        values: Mapping[str, np.ndarray],
        x: np.ndarray,
        seed: int,
        dtype: str,
    ) -> None:
        self._posterior = posterior
        self._shape = next(iter(values.values())).shape[:2]
        self._values = {k: v.reshape(-1, *v.shape[2:]) for k, v in values.items()}
        self._count = self._shape[0] * self._shape[1]
        self._x = posterior.scaling.transform_x(np.asarray(x, float))
        self._seed, self._dtype = seed, dtype
        self._cached: dict[str, Any] = {}

    @property
    def rows(self) -> int:
        """Number of rows predicted."""
        return self._x.shape[0]

    @property
    def f(self) -> np.ndarray:
        """Noise-free function ``(chain, draw, row, output)``: original units, or logits."""
        return self._scale(self._collect("f"))

    @property
    def draws(self) -> np.ndarray:
        """One target a draw: ``(chain, draw, row)``, or with a last axis of outputs."""
        return self._scale(self._collect("draw"))

    @property
    def mean(self) -> np.ndarray:
        """Predictive mean ``(row,)`` or ``(row, output)``; class probabilities for classes."""
        return self._moments()[0]

    @property
    def std(self) -> np.ndarray:
        """Predictive standard deviation, noise included, shaped as :attr:`mean`."""
        return self._moments()[1]

    @property
    def probabilities(self) -> np.ndarray:
        """Class probabilities ``(row, class)``."""
        return self._moments()[0]

    def quantile(self, q: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Quantiles of :attr:`draws` over chains and draws; shape of ``q``, then of one target."""
        flat = self.draws.reshape(self._count, *self.draws.shape[2:])
        return np.quantile(flat, q, axis=0)

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density ``(row,)`` of the mixture at targets ``y``, original units."""
        return self._scores(y)["log_prob"]

    def pit(self, y: Any) -> np.ndarray | None:
        """P(target <= y) ``(row,)`` under the mixture; None where targets are not single reals."""
        return self._scores(y)["pit"]

    def _chunks(self, y: Any = None) -> Iterator[tuple[slice, Evaluated]]:
        """Evaluate chunk by chunk, in the run's precision."""
        with precision(self._dtype):
            real = self._posterior.x.dtype
            x = jnp.asarray(self._x, real)
            keys = jax.random.split(jax.random.key(self._seed), self._count)
            elements = self.rows * 4
            yield from in_chunks(
                lambda values, keys: _evaluate(self._posterior, values, x, y, keys),
                (self._values, keys),
                self._count,
                elements,
            )

    def _collect(self, field: str) -> np.ndarray:
        pieces = np.concatenate([getattr(part, field) for _, part in self._chunks()])
        return pieces.reshape(*self._shape, *pieces.shape[1:])

    def _scale(self, values: np.ndarray) -> np.ndarray:
        return self._posterior.scaling.inverse_y(values)

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        if "moments" not in self._cached:
            self._run(None)
        return self._cached["moments"]

    def _scores(self, y: Any) -> dict[str, Any]:
        key = np.asarray(y).tobytes()
        if self._cached.get("scored") != key:
            self._run(np.asarray(y))
            self._cached["scored"] = key
        return self._cached["scores"]

    def _run(self, y: np.ndarray | None) -> None:
        """One pass over the draws for moments and, given targets, mixture scores."""
        with precision(self._dtype):
            modelled = None if y is None else self._modelled_target(y)
        first = second = log_sum = cdf_sum = None
        for _, part in self._chunks(modelled):
            mean = np.asarray(part.mean, float)
            first = _plus(first, mean.sum(0))
            variance = 0.0 if part.variance is None else np.asarray(part.variance, float)
            second = _plus(second, (mean**2 + variance).sum(0))
            if part.log_prob is not None:
                log_sum = _log_plus(log_sum, np.asarray(part.log_prob, float))
            if part.cdf is not None:
                cdf_sum = _plus(cdf_sum, np.asarray(part.cdf, float).sum(0))
        mean = first / self._count
        spread = np.sqrt(np.maximum(second / self._count - mean**2, 0.0))
        scaling = self._posterior.scaling
        self._cached["moments"] = (scaling.inverse_y(mean), scaling.inverse_y(spread, std=True))
        if log_sum is not None:
            log_density = log_sum - np.log(self._count) - log_volume(self._posterior)
            pit = None if cdf_sum is None else cdf_sum / self._count
            self._cached["scores"] = {"log_prob": log_density, "pit": pit}

    def _modelled_target(self, y: np.ndarray) -> Array:
        return jnp.asarray(self._posterior.scaling.transform_y(y), self._posterior.y.dtype)


def _plus(total: np.ndarray | None, part: np.ndarray) -> np.ndarray:
    return part if total is None else total + part


def _log_plus(total: np.ndarray | None, part: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        peak = part.max(0)
        safe = np.where(np.isfinite(peak), peak, 0.0)
        own = safe + np.log(np.exp(part - safe).sum(0))
        return own if total is None else np.logaddexp(total, own)
