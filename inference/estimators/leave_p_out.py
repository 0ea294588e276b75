"""Leave-p-out cross-validation in closed form, which becomes the evidence as p grows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from bnnzoo.errors import InputError
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.gaussian_rows import GaussianRows, check_room, gaussian_rows
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options
from bnnzoo.registry import register


class LeaveOutOptions(Options):
    """Options of ``leave-p-out``."""

    held_out: Count = Field(1, description="Rows left out together, p.")
    sets: Annotated[int, Field(ge=2)] = Field(
        500, description="Random sets of p rows; all of them where there are no more."
    )


@dataclass(frozen=True)
class LeaveOut(Estimator):
    """The mean of log p(p rows | the others) over sets of rows."""

    held_out: int
    sets: int

    kind = "predictive"
    dtype = "float64"

    def check(self, posterior: Posterior) -> None:
        """There are so many rows, and there is room."""
        check_room(posterior, "leave-p-out")
        if self.held_out > posterior.rows:
            raise InputError(
                f"leave-p-out: held_out = {self.held_out}, but there are {posterior.rows} rows"
            )

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """All sets, or as many random ones as were asked for."""
        rows = gaussian_rows(posterior, "leave-p-out")
        total = math.comb(rows.number, self.held_out)
        if total <= self.sets:
            kept = [
                _rest(rows, s) for s in itertools.combinations(range(rows.number), self.held_out)
            ]
        else:
            rng = np.random.default_rng(seed)
            kept = [rng.permutation(rows.number)[self.held_out :] for _ in range(self.sets)]
        whole = rows.log_z(np.arange(rows.number))
        found = whole - np.array([rows.log_z(rest) for rest in kept])
        every = total <= self.sets
        error = 0.0 if every else float(found.std(ddof=1) / np.sqrt(len(found)))
        diagnostics = {"sets": len(found), "all_sets": every, "log_evidence": whole}
        return Estimate(float(found.mean()), error, 0, diagnostics)


def _rest(rows: GaussianRows, held_out: tuple[int, ...]) -> np.ndarray:
    return np.setdiff1d(np.arange(rows.number), held_out)


@register(
    "estimators",
    "leave-p-out",
    summary="Rows predicted from the others in closed form: from leave-one-out to the evidence.",
    options=LeaveOutOptions,
    references=("Fong & Holmes (2020), On the Marginal Likelihood and Cross-Validation",),
    tags={"kind": "predictive", "family": "cross-validation"},
    facts={
        "number": "predictive",
        "standard error": "over random sets of rows; 0 where all sets were taken",
        "wrong when": "it is taken for the evidence, which also counts predictions from no rows",
        "choose it": "linear models, or to see how much of an evidence the prior alone decides",
    },
    notes="Linear models with Gaussian prior and noise only. The value is the mean over sets of "
    "log p(p rows | the others), the sum of the first p leave-out scores of Fong & Holmes: for "
    "held_out = 1 the mean leave-one-out score of a row, for all rows the log evidence. What "
    "lies between p and all rows is the part that a wide prior pays and cross-validation does not.",
)
def leave_p_out(options: LeaveOutOptions) -> LeaveOut:
    """The estimator of these options."""
    return LeaveOut(options.held_out, options.sets)
