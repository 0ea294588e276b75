"""Predictions of a run: the mixture over its draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.special import entr

from bnnzoo import metrics
from bnnzoo.errors import InputError
from bnnzoo.inference.draws import Draws, RepeatedDraws
from bnnzoo.inference.evaluation import Evaluated, evaluate, log_volume
from bnnzoo.inference.precision import precision
from bnnzoo.models.posterior import Posterior

FEWEST_TARGETS = 1000
"""Quantiles and CRPS are of so many targets at least: an ensemble of a few members, or a mode,
gives several each."""


class Prediction:
    """Predictive distribution of the target at some rows: the equal mixture over draws.

    Never tempered. Everything is computed when it is asked for, a block of rows and a chunk of
    draws at a time, so that memory does not grow with their product; only :attr:`f`, :attr:`draws`
    and :attr:`probability_draws` hold one value a draw and row.

    Args:
        posterior: bound to the training data.
        values: constrained draws by site.
        x: rows ``(row, *in_shape)``, original units.
        seed: of the noise in :attr:`draws`.
        dtype: precision of the run.
    """

    def __init__(
        self,
        posterior: Posterior,
        values: Draws,
        x: np.ndarray,
        seed: int,
        dtype: str,
    ) -> None:
        self._posterior = posterior
        self._values, self._shape, self._count = values, values.shape, values.count
        self._x = posterior.scaling.transform_x(np.asarray(x, float))
        self._seed, self._dtype = seed, dtype
        self._scored: tuple[bytes, _Scores] | None = None

    def __repr__(self) -> str:
        return f"<Prediction: rows={self.rows}, draws={self._count}>"

    @property
    def rows(self) -> int:
        """Number of rows predicted."""
        return self._x.shape[0]

    # -- one value a draw ----------------------------------------------------------------------

    @property
    def f(self) -> np.ndarray:
        """Noise-free function ``(chain, draw, row, output)``: original units, logits, log rates."""
        return self._scale(self._collect("f"))

    @property
    def draws(self) -> np.ndarray:
        """One target a draw: ``(chain, draw, row)``, or with a last axis of outputs."""
        return self._scale(self._collect("draw"))

    @property
    def probability_draws(self) -> np.ndarray:
        """Class probabilities of each draw ``(chain, draw, row, class)``."""
        self._need_classes("probability_draws", "f")
        return self._collect("mean")

    # -- the mixture ---------------------------------------------------------------------------

    @property
    def mean(self) -> np.ndarray:
        """Predictive mean ``(row,)`` or ``(row, output)``; class probabilities for classes."""
        return self._moments.mean

    @property
    def std(self) -> np.ndarray:
        """Predictive standard deviation, noise included, shaped as :attr:`mean`."""
        return self._moments.std

    @property
    def probabilities(self) -> np.ndarray:
        """Class probabilities ``(row, class)``."""
        self._need_classes("probabilities", "mean")
        return self._moments.mean

    @property
    def aleatoric(self) -> np.ndarray:
        """The part of the uncertainty that more data would leave.

        Regression: root mean variance of the noise over draws, shaped as :attr:`std`, whose square
        is ``aleatoric**2 + epistemic**2``. Classes: expected entropy over draws ``(row,)``, nats.
        """
        return self._moments.aleatoric

    @property
    def epistemic(self) -> np.ndarray:
        """The part of the uncertainty that more data would take away.

        Regression: standard deviation over draws of the mean of y, shaped as :attr:`std`. Classes:
        mutual information of y and the draw ``(row,)``, nats (BALD): the entropy of
        :attr:`probabilities` less :attr:`aleatoric`.
        """
        return self._moments.epistemic

    def quantile(self, q: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Quantiles of :attr:`draws` over chains and draws; of more targets where draws are few.

        Args:
            q: probability or probabilities, 0 to 1.

        Returns:
            The shape of ``q``, then ``(row,)`` or ``(row, output)``, in units of y.

        Raises:
            InputError: the targets are classes, or a probability outside [0, 1].
        """
        if self._classes:
            raise InputError("classes have no quantiles; choices: probabilities")
        q = np.asarray(q, float)
        if not ((q >= 0) & (q <= 1)).all():
            raise InputError(f"q = {q.tolist()}: probabilities between 0 and 1 are needed")
        parts = []
        for _, draws, counts in self._target_blocks():
            # Between two counts there is none: quantiles of counts are counts.
            method: Any = "inverted_cdf" if counts else "linear"
            parts.append(np.quantile(draws, q, axis=0, method=method))
        return np.concatenate(parts, axis=q.ndim)

    def interval(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the central predictive interval, each shaped as :attr:`mean`.

        Args:
            level: probability inside, such as 0.9.

        Raises:
            InputError: a level outside [0, 1], or as :meth:`quantile`.
        """
        if not 0 <= level <= 1:
            share = f"; {level:g} % is {level / 100:g}" if 1 < level <= 100 else ""
            raise InputError(f"level = {level!r}: a number between 0 and 1 is needed{share}")
        lower, upper = self.quantile([(1 - level) / 2, (1 + level) / 2])
        return lower, upper

    # -- scores --------------------------------------------------------------------------------

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density ``(row,)`` of the mixture at some targets.

        Args:
            y: targets ``(row,)`` or ``(row, output)``, original units; classes by number.

        Raises:
            InputError: another shape, or a number that is no class.
        """
        return self._scores(y).log_density

    def chain_log_prob(self, y: Any) -> np.ndarray:
        """Log density ``(chain, row)`` of each chain's own mixture at ``y``, original units.

        How far chains differ in it says how well their number determines :meth:`log_prob`.

        Args:
            y: targets ``(row,)`` or ``(row, output)``.

        Raises:
            InputError: as :meth:`log_prob`.
        """
        return self._scores(y).of_chains

    def pit(self, y: Any) -> np.ndarray | None:
        """P(target <= y) ``(row,)`` under the mixture; None where targets are not single numbers.

        For counts it is drawn uniformly between P(target < y) and P(target <= y), with the seed of
        the run, and so is uniform where the model is right (Czado, Gneiting & Held 2009, sec. 2).

        Args:
            y: targets ``(row,)``, original units.

        Raises:
            InputError: as :meth:`log_prob`.
        """
        return self._scores(y).pit

    def crps(self, y: Any) -> np.ndarray:
        """Continuous ranked probability score ``(row,)``, in units of y, of the same targets.

        Args:
            y: targets ``(row,)`` or ``(row, output)``, original units.

        Raises:
            InputError: the targets are classes, or of another shape.
        """
        if self._classes:
            raise InputError("classes have no crps; choices: metrics.brier, metrics.nll")
        y = self._targets(y).astype(float)
        blocks = self._target_blocks()
        parts = [metrics.crps(draws, y[rows], per_row=True) for rows, draws, _ in blocks]
        return np.concatenate([np.atleast_1d(part) for part in parts])

    # -- passes over draws and rows --------------------------------------------------------------

    @property
    def _classes(self) -> bool:
        data = self._posterior.data
        return data is not None and data.task == "classification"

    def _need_classes(self, name: str, instead: str) -> None:
        if not self._classes:
            raise InputError(f"a regression has no {name}; choices: {instead}")

    def _scale(self, values: np.ndarray) -> np.ndarray:
        return self._posterior.scaling.inverse_y(values)

    def _evaluate(
        self, y: Any, values: Draws | None = None
    ) -> Iterator[tuple[slice, slice, Evaluated]]:
        values = self._values if values is None else values
        with precision(self._dtype):
            yield from evaluate(self._posterior, values, self._x, y, self._seed)

    def _collect(self, field: str) -> np.ndarray:
        """One field of every draw at every row, in the shape of chains."""
        made: np.ndarray | None = None
        for rows, draws, part in self._evaluate(None):
            values = getattr(part, field)
            if made is None:
                made = np.empty((self._count, self.rows, *values.shape[2:]), values.dtype)
            made[draws, rows] = values
        assert made is not None
        return made.reshape(*self._shape, *made.shape[1:])

    def _target_blocks(self) -> Iterator[tuple[slice, np.ndarray, bool]]:
        """Target draws ``(draw, row, ...)`` of one block of rows after the other.

        With them, whether they are whole numbers by their law. Every draw gives as many.
        """
        times = -(-FEWEST_TARGETS // self._count)
        values = self._values if times == 1 else RepeatedDraws(self._values, times)
        block: np.ndarray | None = None
        for rows, draws, part in self._evaluate(None, values):
            if block is None or draws.start == 0:
                block = np.empty((values.count, *part.draw.shape[1:]))
            block[draws] = part.draw
            if draws.stop == values.count:
                yield rows, self._scale(block), part.draw.dtype.kind in "iu"

    @cached_property
    def _moments(self) -> _Moments:
        return self._pass(None)[0]

    def _targets(self, y: Any) -> np.ndarray:
        """One for each predicted row, in the shape of the training targets."""
        y = np.asarray(y)
        wanted = (self.rows, *self._posterior.y.shape[1:])
        if y.shape == (*wanted, 1) and len(wanted) == 1:  # a column of one output
            y = y[:, 0]
        if y.shape != wanted or y.dtype.kind not in "biuf":
            raise InputError(
                f"y is of shape {y.shape} and type {y.dtype}: numbers of shape {wanted} are "
                "needed, a target for each predicted row"
            )
        if self._classes:
            assert self._posterior.data is not None
            count = len(self._posterior.data.class_names)
            wrong = y[~np.isin(y, np.arange(count))]
            if wrong.size:
                raise InputError(f"y = {wrong[0]} is no class; choices: 0 to {count - 1}")
        return y

    def _scores(self, y: Any) -> _Scores:
        y = self._targets(y)
        if self._scored is None or self._scored[0] != y.tobytes():
            moments, scores = self._pass(y)
            assert scores is not None
            self.__dict__.setdefault("_moments", moments)
            self._scored = (y.tobytes(), scores)
        return self._scored[1]

    def _pass(self, y: np.ndarray | None) -> tuple[_Moments, _Scores | None]:
        """Moments and, given targets, mixture scores."""
        scaling = self._posterior.scaling
        sums = _Sums(self.rows, *self._shape, scored=y is not None)
        for rows, draws, part in self._evaluate(None if y is None else scaling.transform_y(y)):
            sums.add(rows, draws, part)
        moments = sums.of_classes(self._count) if self._classes else sums.of_numbers(self._count)
        spreads = (scaling.inverse_y(spread, std=True) for spread in moments[1:])
        moments = moments if self._classes else _Moments(self._scale(moments.mean), *spreads)
        scores = sums.scores(self._seed, log_volume(self._posterior)) if sums.scored else None
        return moments, scores


class _Moments(NamedTuple):
    mean: np.ndarray
    std: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


class _Scores(NamedTuple):
    log_density: np.ndarray
    of_chains: np.ndarray
    pit: np.ndarray | None


class _Sums:
    """Running sums over draws, modelled units."""

    def __init__(self, rows: int, chains: int, draws: int, scored: bool) -> None:
        self.rows, self.draws, self.scored = rows, draws, scored
        self.mean = self.square = self.variance = np.zeros(())
        self.entropy = np.zeros(rows)
        self.log_sums = np.full((chains if scored else 0, rows), -np.inf)
        self.cdf, self.below = np.zeros((2, rows))
        self.has_cdf = True

    def add(self, rows: slice, draws: slice, part: Evaluated) -> None:
        mean = np.asarray(part.mean, float)
        if self.mean.ndim == 0:
            self.mean, self.square, self.variance = np.zeros((3, self.rows, *mean.shape[2:]))
        self.mean[rows] += mean.sum(0)
        self.square[rows] += (mean**2).sum(0)
        if part.variance is None:
            self.entropy[rows] += entr(mean).sum((0, 2))
        else:
            self.variance[rows] += np.asarray(part.variance, float).sum(0)
        if not self.scored:
            return
        chains = np.arange(draws.start, draws.stop) // self.draws
        for chain in range(chains[0], chains[-1] + 1):
            terms = np.asarray(part.log_prob, float)[chains == chain]
            with np.errstate(invalid="ignore"):  # NaN draws make NaN scores, on purpose
                self.log_sums[chain, rows] = np.logaddexp(
                    self.log_sums[chain, rows], _log_sum_exp(terms)
                )
        self.has_cdf &= part.cdf is not None
        if part.cdf is not None:
            below = part.cdf if part.cdf_below is None else part.cdf_below
            self.cdf[rows] += np.asarray(part.cdf, float).sum(0)
            self.below[rows] += np.asarray(below, float).sum(0)

    def of_numbers(self, count: int) -> _Moments:
        mean = self.mean / count
        between = np.maximum(self.square / count - mean**2, 0.0)
        within = self.variance / count
        return _Moments(mean, np.sqrt(within + between), np.sqrt(within), np.sqrt(between))

    def of_classes(self, count: int) -> _Moments:
        p = self.mean / count
        spread = np.sqrt(np.maximum(self.square / count - p**2, 0.0))
        expected = self.entropy / count
        return _Moments(p, spread, expected, np.maximum(entr(p).sum(1) - expected, 0.0))

    def scores(self, seed: int, volume: float) -> _Scores:
        count, pit = len(self.log_sums) * self.draws, None
        if self.has_cdf:
            between = np.random.default_rng(seed).uniform(size=self.rows)
            pit = (self.below + between * (self.cdf - self.below)) / count
        total = _log_sum_exp(self.log_sums) - np.log(count)
        return _Scores(total - volume, self.log_sums - np.log(self.draws) - volume, pit)


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Over the first axis; -inf where all are, NaN where one is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        peak = values.max(0)
        safe = np.where(np.isneginf(peak), 0.0, peak)
        return safe + np.log(np.exp(values - safe).sum(0))
