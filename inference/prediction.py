"""Predictions of a run: the mixture over its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bnnzoo.inference.evaluation import evaluate, log_volume
from bnnzoo.inference.precision import precision
from bnnzoo.models.posterior import Posterior


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

    def _collect(self, field: str) -> np.ndarray:
        """One field of every draw at every row, in the shape of chains."""
        made: np.ndarray | None = None
        with precision(self._dtype):
            for rows, draws, part in self._evaluate(None):
                values = getattr(part, field)
                if made is None:
                    made = np.empty((self._count, self.rows, *values.shape[2:]), values.dtype)
                made[draws, rows] = values
        assert made is not None
        return made.reshape(*self._shape, *made.shape[1:])

    def _scale(self, values: np.ndarray) -> np.ndarray:
        return self._posterior.scaling.inverse_y(values)

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        if "moments" not in self._cached:
            self._run(None)
        return self._cached["moments"]

    def _scores(self, y: Any) -> dict[str, Any]:
        y = np.asarray(y)
        if self._cached.get("scored") != y.tobytes():
            self._run(y)
            self._cached["scored"] = y.tobytes()
        return self._cached["scores"]

    def _evaluate(self, y: Any) -> Any:
        return evaluate(self._posterior, self._values, self._x, y, self._seed)

    def _run(self, y: np.ndarray | None) -> None:
        """One pass over draws and rows for moments and, given targets, mixture scores."""
        scaling = self._posterior.scaling
        modelled = None if y is None else scaling.transform_y(y)
        first = second = np.zeros(())
        log_sum, cdf_sum = np.full(self.rows, -np.inf), np.zeros(self.rows)
        one_real = True
        with precision(self._dtype):
            for rows, _, part in self._evaluate(modelled):
                mean = np.asarray(part.mean, float)
                if first.ndim == 0:
                    first, second = np.zeros((2, self.rows, *mean.shape[2:]))
                first[rows] += mean.sum(0)
                variance = 0.0 if part.variance is None else np.asarray(part.variance, float)
                second[rows] += (mean**2 + variance).sum(0)
                with np.errstate(invalid="ignore"):  # NaN draws make NaN scores, on purpose
                    log_sum[rows] = np.logaddexp(log_sum[rows], _log_sum_exp(part.log_prob))
                one_real &= part.cdf is not None
                cdf_sum[rows] += 0.0 if part.cdf is None else np.asarray(part.cdf, float).sum(0)
        mean = first / self._count
        spread = np.sqrt(np.maximum(second / self._count - mean**2, 0.0))
        self._cached["moments"] = (scaling.inverse_y(mean), scaling.inverse_y(spread, std=True))
        if y is not None:
            log_density = log_sum - np.log(self._count) - log_volume(self._posterior)
            pit = cdf_sum / self._count if one_real else None
            self._cached["scores"] = {"log_prob": log_density, "pit": pit}


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Over the first axis; -inf where all are, NaN where one is."""
    values = np.asarray(values, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        peak = values.max(0)
        safe = np.where(np.isneginf(peak), 0.0, peak)
        return safe + np.log(np.exp(values - safe).sum(0))
