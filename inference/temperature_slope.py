"""Would a little colder predict better? The slope of the test log-likelihood, from one run."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array
from scipy import stats

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError
from bnnzoo.inference.evaluation import evaluate, log_volume
from bnnzoo.inference.precision import precision
from bnnzoo.inference.run import Run
from bnnzoo.inference.tree import tree_draws, unconstrained_draws
from bnnzoo.models.posterior import Posterior

__all__ = ["TemperatureSlope", "slope_of_draws", "temperature_slope"]

AXES = ("posterior_temperature", "likelihood_temperature")

BATCHES = 8
"""Of each chain, for the Monte Carlo error: more are shorter than draws remember."""


@dataclass(frozen=True)
class TemperatureSlope:
    """The derivative of the mean test log-likelihood by a temperature, at the run's own.

    Attributes:
        axis: ``posterior_temperature`` or ``likelihood_temperature``.
        temperature: where the slope was taken.
        value: nats a test row per unit of temperature; negative where colder predicts better.
        row_error: standard error over test rows.
        draw_error: Monte Carlo standard error, by a jackknife over batches of the chains or, where
            that is larger, over whole chains, which may lie in modes of their own.
        rows: number of test rows.
        chains: of the run.
    """

    axis: str
    temperature: float
    value: float
    row_error: float
    draw_error: float
    rows: int
    chains: int

    @property
    def standard_error(self) -> float:
        """Of both together, nats a row per unit of temperature."""
        return math.hypot(self.row_error, self.draw_error)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error (Welch & Satterthwaite): chains are few."""
        errors = (self.row_error, self.rows), (self.draw_error, self.chains)
        known = sum(error**4 / (number - 1) for error, number in errors if number > 1)
        return self.standard_error**4 / known if known > 0 else math.inf

    @property
    def probability_colder(self) -> float:
        """Of a negative slope, by Student's t, nothing known before."""
        if self.standard_error == 0:
            return float(self.value < 0)
        return float(stats.t.cdf(-self.value / self.standard_error, self.freedom))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """A two-sided interval for the slope, other test rows and other draws in mind.

        Args:
            level: of the interval.
        """
        half = float(stats.t.ppf(0.5 + level / 2, self.freedom)) * self.standard_error
        return self.value - half, self.value + half


def temperature_slope(run: Run, axis: str = "posterior_temperature") -> TemperatureSlope:
    """The slope of the mean test log-likelihood over a temperature, without another run.

    With target pi_T(w) and mean predictive p(y*) = E p(y*|w), d log p(y*) / dT is the covariance
    over draws of p(y*|w) / p(y*) and d log pi_T(w) / dT; for a posterior without hierarchies the
    latter is (energy of w) / T^2.

    Args:
        run: exact draws (of MCMC or SMC) of a model that has test rows.
        axis: which temperature.

    Returns:
        The slope at the run's own temperature, with both errors.

    Raises:
        OptionError: another axis.
        InputError: no test rows, or a backend whose draws are not of the posterior.
        RunError: the run's model is not from the registry, and was not given again.
    """
    if axis not in AXES:
        raise OptionError(f"axis = {axis!r}; choices: {', '.join(AXES)}")
    backend = run.spec.inference.backend
    if not registry.describe("backends", backend).tags.get("exact"):
        raise InputError(
            f"{run.label}: the slope is a covariance over draws of the posterior itself, and "
            f"{backend} is not exact; fit with hmc or nuts"
        )
    posterior = run.posterior
    data = posterior.data
    assert data is not None
    if data.x_test is None or data.y_test is None:
        raise InputError(f"{run.label}: the data have no test rows")
    values = tree_draws(run.tree, posterior)
    flat = unconstrained_draws(run.tree, posterior)
    mixture = run.tree["test_scores"]["log_density"].to_numpy().astype(float)
    mixture += log_volume(posterior)  # modelled units
    scaling, rows = posterior.scaling, len(data.x_test)
    chains, draws = run.tree["posterior"].sizes["chain"], run.tree["posterior"].sizes["draw"]
    sums = _Batches(chains, draws, rows)
    with precision(run.spec.inference.dtype):
        score = _scores(posterior, flat.all().reshape(chains * draws, -1), axis)
        sums.add_scores(score)
        x = scaling.transform_x(data.x_test)
        y = data.y_test if data.task == "classification" else scaling.transform_y(data.y_test)
        for at, chosen, part in evaluate(posterior, values, x, y, run.spec.inference.seed):
            ratio = np.exp(np.asarray(part.log_prob, float) - mixture[at])
            sums.add(at, chosen, ratio, score)
    return sums.slope(axis, float(getattr(posterior, axis)))


def slope_of_draws(
    log_prob: np.ndarray, score: np.ndarray, axis: str = AXES[0], temperature: float = 1.0
) -> TemperatureSlope:
    """The same from densities that are at hand.

    Args:
        log_prob: ``(chain, draw, row)``, log p(y*|w) of each test row.
        score: ``(chain, draw)``, d log pi_T(w) / dT.
        axis: which temperature ``score`` is the derivative by.
        temperature: where it was taken.
    """
    chains, draws, rows = log_prob.shape
    sums = _Batches(chains, draws, rows)
    flat, score = log_prob.reshape(-1, rows), score.reshape(-1)
    sums.add_scores(score)
    sums.add(slice(0, rows), slice(0, len(flat)), np.exp(flat - flat.max(0)), score)
    return sums.slope(axis, temperature)


@jax.jit
def _score(posterior: Posterior, u: Array, by_likelihood: Array) -> Array:
    def one(u: Array) -> Array:
        def target(temperatures: tuple[Any, Any]) -> Array:
            moved = copy.copy(posterior)
            moved.posterior_temperature, moved.likelihood_temperature = temperatures
            return moved.log_density(u)

        T, L = posterior.posterior_temperature, posterior.likelihood_temperature
        by_posterior, by_l = jax.grad(target)((T * 1.0, L * 1.0))
        return jax.numpy.where(by_likelihood, by_l, by_posterior)

    return jax.lax.map(one, u, batch_size=64)


def _scores(posterior: Posterior, u: np.ndarray, axis: str) -> np.ndarray:
    found = _score(posterior, jax.numpy.asarray(u), jax.numpy.asarray(axis == AXES[1]))
    score = np.asarray(found, float)
    return score - score.mean()  # a covariance does not see it, and rounding does


class _Batches:
    """Sums over draws, apart for each batch of each chain."""

    def __init__(self, chains: int, draws: int, rows: int) -> None:
        self.chains, self.number = chains, chains * min(BATCHES, draws)
        place = np.arange(draws) * min(BATCHES, draws) // draws
        every = np.arange(chains)[:, None] * min(BATCHES, draws) + place
        self.batch = every.reshape(-1)
        self.weight = np.zeros((self.number, rows))
        self.product = np.zeros((self.number, rows))
        self.count = np.bincount(self.batch, minlength=self.number).astype(float)
        self.score = np.zeros(self.number)

    def add_scores(self, score: np.ndarray) -> None:
        """``(draw,)`` of all draws."""
        self.score = np.bincount(self.batch, score, self.number)

    def add(self, rows: slice, draws: slice, ratio: np.ndarray, score: np.ndarray) -> None:
        """p(y*|w) up to a factor a row ``(draw, row)`` of some draws and rows."""
        np.add.at(self.weight[:, rows], self.batch[draws], ratio)
        np.add.at(self.product[:, rows], self.batch[draws], ratio * score[draws, None])

    def slope(self, axis: str, temperature: float) -> TemperatureSlope:
        """Of all draws, with the errors over rows and over batches or chains."""
        by_row = self.product.sum(0) / self.weight.sum(0) - self.score.sum() / self.count.sum()
        rows = len(by_row)
        return TemperatureSlope(
            axis,
            temperature,
            float(by_row.mean()),
            float(by_row.std(ddof=1) / math.sqrt(rows)) if rows > 1 else float("nan"),
            max(self._jackknife(self.number), self._jackknife(self.chains)),
            rows,
            self.chains,
        )

    def _jackknife(self, groups: int) -> float:
        """Standard error of the slope when each of some groups of batches is left out."""
        if groups == 1:
            return 0.0
        product, weight, score, count = (
            of.reshape(groups, -1, *of.shape[1:]).sum(1)
            for of in (self.product, self.weight, self.score, self.count)
        )
        left = (product.sum(0) - product) / (weight.sum(0) - weight)
        left -= ((score.sum() - score) / (count.sum() - count))[:, None]
        means = left.mean(1)
        return math.sqrt(float(((means - means.mean()) ** 2).sum()) * (groups - 1) / groups)
