"""A bound of the evidence by how fast a model learns: losses of rows before they are learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import logsumexp

from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.gaussian_rows import GaussianRows, check_room, gaussian_rows
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options
from bnnzoo.registry import register


class TrainingSpeedOptions(Options):
    """Options of ``training-speed``."""

    k: Count = Field(20, description="Draws inside each logarithm; the bound rises with them.")
    groups: Annotated[int, Field(ge=2)] = Field(
        200, description="Groups of k draws, each trained on the rows one by one."
    )


@dataclass(frozen=True)
class TrainingSpeed(Estimator):
    """Sum over rows of E log (1/k) sum_j p(y_i | u_j), the u_j trained on the rows before."""

    k: int
    groups: int

    kind = "lower-bound"
    dtype = "float64"

    def check(self, posterior: Posterior) -> None:
        """There is room."""
        check_room(posterior, "training-speed")

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The mean over groups, which are independent."""
        rows = gaussian_rows(posterior, "training-speed")
        rng = np.random.default_rng(seed)
        order = rng.permutation(rows.number)
        gains = _gains(rows, order, self.k, self.groups, rng)
        totals = gains.sum(1)
        diagnostics = {
            "log_evidence": rows.log_z(np.arange(rows.number)),
            "one_draw": one_draw(rows, order),
            "last_quarter": float(gains[:, -max(rows.number // 4, 1) :].sum(1).mean()),
        }
        error = float(totals.std(ddof=1) / np.sqrt(self.groups))
        return Estimate(float(totals.mean()), error, 0, diagnostics)


def _gains(
    rows: GaussianRows, order: np.ndarray, k: int, groups: int, rng: np.random.Generator
) -> np.ndarray:
    """Log mean likelihood of each row before it is learned ``(group, row)``.

    A draw is a trained network: the minimiser of a loss whose prior term is centred at a draw of
    the prior and whose targets carry noise. Both enter its gradient at the origin as Gaussian noise
    with the covariance of the term's curvature, which stays as rows are added.
    """
    dim, draws = len(rows.slope), k * groups
    noise = rng.standard_normal((draws, dim)) @ np.linalg.cholesky(rows.precision).T
    slope, precision = rows.slope + noise, rows.precision.copy()
    found = np.empty((groups, rows.number))
    for place, row in enumerate(order):
        us = np.linalg.solve(precision, slope.T).T
        seen = rows.log_likelihood(int(row), us).reshape(groups, k)
        found[:, place] = logsumexp(seen, axis=1) - np.log(k)
        # A row's curvature has the rank of its outputs: its root by eigenvalues, zeros and all.
        values, vectors = np.linalg.eigh(rows.curvatures[row])
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        slope = slope + rows.slopes[row] + rng.standard_normal((draws, dim)) @ root.T
        precision = precision + rows.curvatures[row]
    return found


def one_draw(rows: GaussianRows, order: np.ndarray) -> float:
    """The bound for k = 1, in closed form.

    Args:
        rows: of the model.
        order: in which they are learned ``(row,)``.
    """
    slope, precision, total = rows.slope, rows.precision, 0.0
    for row in order:
        covariance = np.linalg.inv(precision)
        mean, curvature = covariance @ slope, rows.curvatures[row]
        spread = np.sum(curvature * covariance) + mean @ curvature @ mean
        total += float(rows.values[row] + rows.slopes[row] @ mean - 0.5 * spread)
        slope, precision = slope + rows.slopes[row], precision + curvature
    return total


@register(
    "estimators",
    "training-speed",
    summary="Losses of rows not yet learned, summed: a bound for linear models, and a lesson.",
    options=TrainingSpeedOptions,
    references=(
        "Lyle et al. (2020), A Bayesian Perspective on Training Speed and Model Selection",
        "Matthews et al. (2017), Sample-then-optimize Posterior Sampling for Bayesian Linear "
        "Models",
    ),
    tags={"kind": "lower-bound", "family": "optimisation"},
    facts={
        "number": "lower bound",
        "standard error": "over independent groups of trained draws",
        "wrong when": "models are ranked whose gaps differ: with few rows a weight the gap of "
        "k = 1 is hundreds of nats and ranks wide models last",
        "choose it": "to see why fast learning is evidence; exact is as cheap here",
    },
    notes="Linear models with Gaussian prior and noise only, where training from a draw of the "
    "prior on noisy targets gives exact posterior draws; each draw's loss on a row is taken before "
    "the row is learned. The order of the rows is drawn by seed. diagnostics have the bound of "
    "k = 1 and the evidence in closed form. For networks see training-losses, a heuristic.",
)
def training_speed(options: TrainingSpeedOptions) -> TrainingSpeed:
    """The estimator of these options."""
    return TrainingSpeed(options.k, options.groups)
