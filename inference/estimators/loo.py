"""Leave-one-out cross-validation from posterior draws."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field
from scipy.special import logsumexp

from bnnzoo.errors import InputError
from bnnzoo.inference.bridging import LEAST_OVERLAP, Bridge, bridge
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.importance import LARGEST_KHAT
from bnnzoo.inference.leave_one_out import Left, left_out, matched, relative_efficiency
from bnnzoo.inference.posterior_draws import (
    LARGEST_RHAT,
    DrawsOptions,
    Sampler,
    largest_rhat,
    mean_error,
    sampler_of,
)
from bnnzoo.inference.symmetries import gathered, hidden_layers, nearest
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register

AIM = 0.3
"""k-hat over which draws are moved, and that is aimed at: it is an estimate, and weights that need
no help by 0.7 are biased by more than their error well before."""

LARGEST = 10**8
"""Log-likelihoods that are in memory at a time, one a draw and row."""


class LOOOptions(DrawsOptions):
    """Options of ``loo``."""

    matching: bool = Field(
        True, description="Move draws to the moments that a row with k-hat over 0.3 asks for."
    )
    refits: Annotated[int, Field(ge=0)] = Field(
        0, description="Most rows that are left out by sampling anew where k-hat stays over 0.7."
    )


@dataclass(frozen=True)
class LeaveOneOut(Estimator):
    """Smoothed importance weights, moment matching, then exact refits."""

    sampler: Sampler
    matching: bool
    refits: int

    kind = "predictive"

    def check(self, posterior: Posterior) -> None:
        """Rows have likelihoods of their own, and their log-likelihoods fit the memory."""
        self.sampler.backend.check(posterior)
        jax.eval_shape(posterior.pointwise_log_likelihood, jnp.zeros(posterior.dimension))
        chains, draws = self.sampler.chains, self.sampler.draws
        count = chains * draws * posterior.rows
        if count > LARGEST:
            raise InputError(
                f"loo: {chains} chains of {draws} draws on {posterior.rows} rows are "
                f"{count} log-likelihoods; at most {LARGEST}: take fewer draws"
            )
        if self.refits:
            posterior.check_rows_are_free()
            if posterior.rows < 3:
                raise InputError("loo: refits need 3 rows or more")

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The sum over rows of log p(y_i | the other rows)."""
        drawn = self.sampler(posterior, seed, dtype)
        us, lp, gradients = drawn.u.reshape(-1, posterior.dimension), drawn.lp, drawn.gradients
        shape = lp.shape
        likelihood = _rows(posterior, us)
        shares = [relative_efficiency(row.reshape(shape)) for row in likelihood.T]
        rows = [left_out(-row, row, share) for row, share in zip(likelihood.T, shares, strict=True)]
        first = np.array([row.khat for row in rows])
        limit = min(1.0 - 1.0 / np.log10(lp.size), LARGEST_KHAT)
        moved = 0
        if self.matching:
            points = _arranged(posterior, us, lp.ravel()) if np.any(first > AIM) else us
            for i in np.flatnonzero(first > AIM).tolist():
                closer = matched(points, _densities_of(posterior, i), AIM, shares[i])
                if closer.khat < rows[i].khat:
                    rows[i], moved = closer, moved + 1
        khats = np.array([row.khat for row in rows])
        worst = np.argsort(-khats, kind="stable")[: self.refits]
        refitted = [int(i) for i in worst if khats[i] > limit]
        variance = 0.0
        values = np.array([row.log_density for row in rows])
        apart = []
        for i in refitted:
            found, spent = self._refit(posterior, i, likelihood[:, i].reshape(shape), seed, dtype)
            values[i], gradients = found.log_z, gradients + spent
            variance += found.standard_error**2
            if found.overlap < LEAST_OVERLAP:
                apart.append(i)
        by_weights = [row for i, row in enumerate(rows) if i not in refitted]
        standard_error = float(np.sqrt(variance + _error(by_weights, shape) ** 2))
        left = [i for i in np.flatnonzero(khats > limit).tolist() if i not in refitted]
        rhat = largest_rhat(lp, likelihood.sum(1).reshape(shape))
        diagnostics = {
            "rhat": rhat,
            "largest_khat": float(khats.max()),
            "largest_khat_before_matching": float(first.max()),
            "matched": moved,
            "refitted": refitted,
            "standard_error_over_rows": float(np.sqrt(len(values) * values.var(ddof=1))),
            "effective_parameters": float(
                np.sum(logsumexp(likelihood, axis=0) - np.log(lp.size)) - values.sum()
            ),
            "rows": values.tolist(),
        }
        said = []
        if drawn.lost:
            said.append(f"{drawn.lost} chains turned NaN and were left out")
        if left:
            said.append(
                f"k-hat over {limit:.2g} for {len(left)} rows ({_named(left)}): their weights are "
                "unreliable; raise refits or draws"
            )
        if apart:
            said.append(
                f"the posteriors with and without rows {_named(apart)} hardly meet: what they "
                "predict, and its error, are rough; raise draws"
            )
        if not rhat <= LARGEST_RHAT:
            said.append(f"chains disagree (R-hat {rhat:.2f}): more draws")
        return Estimate(float(values.sum()), standard_error, gradients, diagnostics, tuple(said))

    def _refit(
        self, posterior: Posterior, row: int, likelihood: np.ndarray, seed: int, dtype: str
    ) -> tuple[Bridge, int]:
        """One row by a bridge from draws without it to those with it ``(chain, draw)``.

        The ratio of the two posteriors is the row's likelihood and that of their normalisers is
        log p(y_i | other rows). A mean of the likelihood over draws without the row would rest on
        the few that foretell an outlier.
        """
        without = copy.copy(posterior)
        without.x, without.y = (jnp.delete(a, row, axis=0) for a in (posterior.x, posterior.y))
        drawn = self.sampler(without, seed + 1 + row, dtype)
        logs = _densities_of(posterior, row)(drawn.u.reshape(-1, posterior.dimension))[1]
        return bridge(likelihood, logs.reshape(drawn.lp.shape)), drawn.gradients


def _arranged(posterior: Posterior, us: np.ndarray, lp: np.ndarray) -> np.ndarray:
    """Draws in one arrangement of hidden units: moments over equal copies would mean nothing."""
    layers = hidden_layers(posterior)
    if not layers:
        return us
    return nearest(layers, us, gathered(layers, us, us[np.argmax(lp)]))[0]


def _error(rows: list[Left], shape: tuple[int, ...]) -> float:
    """Standard error of a sum over rows, which share their draws."""
    if not rows:
        return 0.0
    return mean_error(np.sum([row.influence for row in rows], axis=0).reshape(shape))


def _named(rows: list[int], most: int = 5) -> str:
    return ", ".join(map(str, rows[:most])) + (", ..." if len(rows) > most else "")


def _rows(posterior: Posterior, us: np.ndarray) -> np.ndarray:
    found = _all_rows(posterior, jnp.asarray(us, posterior.x.dtype))
    return np.asarray(found, np.float64)


@jax.jit
def _all_rows(posterior: Posterior, us: Array) -> Array:
    return jax.lax.map(posterior.pointwise_log_likelihood, us, batch_size=32)


def _densities_of(posterior: Posterior, row: int) -> Any:
    def densities(us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = _one_row(posterior, jnp.asarray(us, posterior.x.dtype), jnp.asarray([row]))
        density, likelihood = (np.asarray(part, np.float64) for part in found)
        return density, likelihood

    return densities


@jax.jit
def _one_row(posterior: Posterior, us: Array, row: Array) -> tuple[Array, Array]:
    def both(u: Array) -> tuple[Array, Array]:
        return posterior.log_density(u), posterior.pointwise_log_likelihood(u, row)[0]

    return jax.lax.map(both, us, batch_size=32)


@register(
    "estimators",
    "loo",
    summary="Leave-one-out: how well each row is predicted from the others. No evidence.",
    options=LOOOptions,
    references=(
        "Vehtari, Gelman & Gabry (2017), Practical Bayesian Model Evaluation Using Leave-One-Out "
        "Cross-Validation and WAIC",
        "Vehtari et al. (2024), Pareto Smoothed Importance Sampling",
        "Paananen et al. (2021), Implicitly Adaptive Importance Sampling",
    ),
    tags={"kind": "predictive", "family": "cross-validation"},
    facts={
        "number": "predictive",
        "standard error": "Monte Carlo alone; over rows in standard_error_over_rows",
        "wrong when": "rows that alone hold the fit (k-hat), or it is taken for evidence: it "
        "hardly sees a prior that is too wide",
        "choose it": "predictions near the training rows are the aim, and all rows are alike",
    },
    notes="Draws of the whole posterior are weighted by 1 / p(y_i | u), the tail of the weights "
    "smoothed. Where k-hat is over 0.3 the draws are moved to the row's moments, hidden units in "
    "one arrangement; where that leaves it over 0.7 (less for fewer than 2000 draws), up to refits "
    "rows are left out by sampling anew. Of modelled targets.",
)
def loo(options: LOOOptions) -> LeaveOneOut:
    """The estimator of these options."""
    return LeaveOneOut(sampler_of(options), options.matching, options.refits)
